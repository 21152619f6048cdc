"""S4: the provider's own routes, what may pass through them, keys in headers, bodies (S4-01, S4-05 … S4-10, S4-22)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import CHAT, CLAUDE, OPENAI_SECRET, SECRET, ask
from tests.support.upstream import json_reply
from tests.support.world import World, build, data_lines, error_of, raw_exchange

# ------------------------------------------------------------------------------------------------ S4-01

# The examples of the reference document, unmodified but for the host. The second one is mis-quoted there, too.
CURL = """
curl -X POST "{host}/v1/openai/chat/completions" \\
  -H "Authorization: Bearer $APP_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{
    "model": "gpt-4o",
    "messages": [{{"role":"user","content":"Tell me a joke."}}],
    "max_tokens": 50
  }}'
"""
CURL_STREAM = """
curl -N "{host}/v1/openai/chat/completions" \\
  -H "Authorization: Bearer $APP_API_KEY" \\
  -H "Content-Type": "application/json" \\
  -H "Accept": "text/event-stream" \\
  -d '{{
    "model": "gpt-4o",
    "messages": [{{"role":"user","content":"Stream a tiny haiku."}}],
    "stream": true
  }}'
"""
PYTHON = """
import os, requests
BASE_URL = os.getenv("BASE_URL", "http://127.0.0.1:8000")
API_KEY = os.getenv("APP_API_KEY")
url = f"{BASE_URL}/v1/openai/chat/completions"
headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
payload = {"model": "gpt-4o", "messages": [{"role":"user","content":"Tell me a joke."}]}
r = requests.post(url, headers=headers, json=payload, timeout=60)
print(r.status_code, r.json())
"""
NODE = """
const BASE_URL = process.env.BASE_URL || "http://127.0.0.1:8000";
const API_KEY = process.env.APP_API_KEY;
const res = await fetch(`${BASE_URL}/v1/openai/chat/completions`, {
  method: "POST",
  headers: {
    Authorization: `Bearer ${API_KEY}`,
    "Content-Type": "application/json",
    "Accept": "text/event-stream",
  },
  body: JSON.stringify({
    model: "gpt-4o",
    messages: [{ role: "user", content: "Stream a tiny haiku." }],
    stream: true,
  }),
});
for await (const chunk of res.body) process.stdout.write(chunk.toString());
"""
LANGCHAIN = """
from langchain_openai import ChatOpenAI
from langchain_core.messages import SystemMessage, HumanMessage
llm = ChatOpenAI(base_url="http://127.0.0.1:8000/v1/openai", api_key="YOUR_PROXY_API_KEY", model="gpt-4o")
msgs = [SystemMessage(content="Be brief."), HumanMessage(content="One-line proxy joke.")]
print(llm.invoke(msgs).content)
for ch in llm.stream(msgs):
    if ch.content: print(ch.content, end="")
"""
TEXT = "Hello from the scripted upstream."


@pytest.fixture
def joker(world: World) -> World:
    """A world with the model that the examples name."""
    world.home.ok("models", "add", "gpt-4o", "--provider", "openai", "--group", "g1", "--if-not-exists")
    return world


def run(world: World, command: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    example = {"BASE_URL": world.gateway.url, "APP_API_KEY": world.alice.key, "RES_OPTIONS": "attempts:1 timeout:1"}
    return subprocess.run(command, input=stdin, env=clean | example, capture_output=True, text=True, timeout=60)


def test_s4_01_curl(joker: World) -> None:
    done = run(joker, ["bash", "-c", CURL.format(host=joker.gateway.url)])
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == TEXT, done.stderr


def test_s4_01_curl_with_the_misquoted_headers_streams(joker: World) -> None:
    done = run(joker, ["bash", "-c", CURL_STREAM.format(host=joker.gateway.url)])
    lines = data_lines(done.stdout)
    assert lines[-1] == "[DONE]", done.stderr
    assert "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines[:-1]) == TEXT


def test_s4_01_python_requests(joker: World) -> None:
    pytest.importorskip("requests")
    done = run(joker, [sys.executable, "-c", PYTHON])
    assert done.stdout.startswith("200 {"), done.stderr
    assert TEXT in done.stdout


def test_s4_01_node_fetch(joker: World) -> None:
    if not shutil.which("node"):
        pytest.skip("node is not installed: apt install nodejs")
    done = run(joker, ["node", "--input-type=module"], NODE)
    printed = done.stdout  # chunk.toString() of a Uint8Array prints numbers: that is how the example is written
    received = (
        bytes(int(number) for number in printed.replace("\n", ",").split(",") if number) if "data" not in printed else b""
    )
    assert data_lines(received.decode() or printed)[-1] == "[DONE]", done.stderr


def test_s4_01_langchain(joker: World) -> None:
    pytest.importorskip("langchain_openai")
    code = LANGCHAIN.replace("http://127.0.0.1:8000", joker.gateway.url).replace("YOUR_PROXY_API_KEY", joker.alice.key)
    done = run(joker, [sys.executable, "-c", code])
    assert done.stdout == f"{TEXT}\n{TEXT}", done.stderr


# ------------------------------------------------------------------------------------------------ S4-05


def test_s4_05_an_endpoint_passes_with_its_query_and_body(world: World) -> None:
    voice = world.name("voice")
    world.home.ok(
        "models", "add", voice, "--provider", "openai", "--type", "audio", "--price", "character=0.000015", "--group", "g1"
    )
    world.openai.script(json_reply({"audio": "beep"}))
    body = b'{ "model":"%s",  "input":"four", "voice":"alloy","x":1.0e0 }' % voice.encode()
    reply = world.gateway.post("/v1/openai/audio/speech?x=1", world.alice.key, body)
    assert (reply.status_code, reply.json()) == (200, {"audio": "beep"})
    request = world.openai.requests[0]
    assert (request.method, request.target, request.body) == ("POST", "/v1/audio/speech?x=1", body)
    assert reply.headers["x-gateway-cost"] == "0.00006"  # four characters


def test_s4_05_v1_is_never_doubled(world: World) -> None:
    for base in (world.openai.url, f"{world.openai.url}/v1", f"{world.openai.url}/v1/"):
        slug = world.name("host")
        world.home.ok("providers", "add", slug, "--protocol", "openai", "--base-url", base, "--no-auth")
        model = world.model(provider=slug)
        for path in (f"/v1/{slug}/chat/completions", f"/v1/{slug}/v1/chat/completions", "/v1/chat/completions"):
            assert world.gateway.chat(world.alice.key, model=model, path=path).status_code == 200
    assert {request.path for request in world.openai.requests} == {"/v1/chat/completions"}


def test_s4_05_a_new_provider_works_at_once_and_an_unknown_one_is_404(world: World) -> None:
    unknown = world.gateway.post("/v1/brandnew/chat/completions", world.alice.key, ask())
    assert error_of(unknown, 404, "unknown_provider")["message"].startswith("Unknown request URL: POST /v1/brandnew/")
    world.home.ok("providers", "add", "brandnew", "--protocol", "openai", "--base-url", f"{world.openai.url}/v1", "--no-auth")
    model = world.model(provider="brandnew")
    assert world.gateway.chat(world.alice.key, model=model, path="/v1/brandnew/chat/completions").status_code == 200


# ------------------------------------------------------------------------------------------------ S4-06


def test_s4_06_nothing_passes_unpriced_unless_it_is_allowed(own: World) -> None:
    requests: list[tuple[str, str, Any]] = [
        ("GET", "/v1/openai/files", None),
        ("GET", "/v1/openai/organization/usage", None),
        ("DELETE", "/v1/openai/files/file-1", None),
        ("POST", "/v1/openai/files", b"--boundary\r\nnot json"),
        ("POST", "/v1/openai/fine_tuning/jobs", json.dumps({"training_file": "x"}).encode()),
        ("PUT", "/v1/openai/chat/completions", json.dumps(ask()).encode()),
        ("GET", "/v1/openai/v1/files", None),
        ("GET", "/api/v1/openai/files", None),
        ("GET", "/v1/openai/files?x=%2e%2e/models", None),
    ]
    for method, path, body in requests:
        reply = own.gateway.client.request(method, path, headers=own.gateway.headers(own.alice.key), content=body)
        error_of(reply, 403, "endpoint_not_allowed")
    assert own.openai.requests == []

    own.home.ok("providers", "update", "openai", "--allow-endpoint", "GET files")
    reply = own.gateway.get("/v1/openai/files?limit=2", own.alice.key)
    assert reply.status_code == 200
    request = own.openai.requests[0]
    assert (request.method, request.target) == ("GET", "/v1/files?limit=2")
    assert request.header("authorization") == f"Bearer {OPENAI_SECRET}"
    error_of(own.gateway.get("/v1/openai/files/file-1", own.alice.key), 403, "endpoint_not_allowed")
    error_of(own.gateway.post("/v1/openai/files", own.alice.key, b"{}"), 403, "endpoint_not_allowed")
    error_of(own.gateway.get("/v1/openai/files"), 401, "missing_api_key")
    assert len(own.openai.requests) == 1
    record = own.home.record_of(reply.headers["x-request-id"])
    assert (record["cost"], record["endpoint"]) == ("0", "/v1/openai/files")


# ------------------------------------------------------------------------------------------------ S4-07


def test_s4_07_a_providers_models_are_answered_here(world: World) -> None:
    for key in (None, world.alice.key):
        body = world.gateway.get("/v1/openai/models", key).json()
        ids = {item["id"] for item in body["data"]}
        assert body["object"] == "list"
        assert CHAT in ids
        assert CLAUDE not in ids
        assert SECRET not in ids
        assert {item["owned_by"] for item in body["data"]} == {"openai"}
    assert {item["id"] for item in world.gateway.get("/v1/anthropic/models").json()["data"]} == {CLAUDE, f"Claude#{CLAUDE}"}
    assert world.gateway.get(f"/v1/openai/models/{CHAT}").json()["id"] == CHAT
    error_of(world.gateway.get(f"/v1/openai/models/{CLAUDE}"), 404, "model_not_found")
    error_of(world.gateway.get("/v1/nobody/models"), 404, "unknown_provider")
    assert world.openai.requests == world.claude.requests == []


# ------------------------------------------------------------------------------------------------ S4-09


def test_s4_09_x_api_key_is_accepted_and_authorization_wins(world: World) -> None:
    good, bad = world.alice.key, "sk-gw-wrong"

    def status(headers: dict[str, str], path: str = "/v1/chat/completions") -> int:
        return world.gateway.post(path, None, ask(), headers=headers).status_code

    for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
        assert status({"x-api-key": good}, path) == 200
        assert status({"x-goog-api-key": good}, path) == 200
        assert status({"x-api-key": bad}, path) == 401
        assert status({"Authorization": f"Bearer {good}", "x-api-key": bad}, path) == 200
        assert status({"Authorization": f"Bearer {bad}", "x-api-key": good}, path) == 401
    assert world.gateway.get("/v1/key", headers={"x-api-key": good}).status_code == 200
    error_of(world.gateway.post(f"/v1/chat/completions?key={good}", None, ask()), 401, "missing_api_key")


# ------------------------------------------------------------------------------------------------ S4-10


def bare_post(world: World, body: bytes, extra: str = "") -> tuple[int, dict[str, str], bytes]:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {world.alice.key}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    )
    return raw_exchange(world.gateway, head.encode() + body)


def test_s4_10_the_body_is_json_whatever_the_headers_say(world: World) -> None:
    streamed = json.dumps(ask(stream=True)).encode()
    for extra in ("", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"):
        status, headers, body = bare_post(world, streamed, extra)
        assert status == 200, body
        assert headers["content-type"].startswith("text/event-stream")
        assert b"data: [DONE]" in body


@pytest.mark.parametrize("body", [b"", b"hello", b'{"model":', b"[]", b'"x"', b'{"model":"a","model":"b"}', b"\xff\xfe{}"])
def test_s4_10_what_is_not_json_is_400(world: World, body: bytes) -> None:
    status, _, reply = bare_post(world, body, "Content-Type: application/json\r\n")
    assert status == 400, reply
    assert json.loads(reply)["error"]["code"] == "invalid_json"
    assert world.openai.requests == []


# ------------------------------------------------------------------------------------------------ S4-22

MIB = 1024 * 1024


def image_message(size: int) -> dict[str, Any]:
    url = "data:image/png;base64," + "A" * size
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    return {"model": CHAT, "messages": [{"role": "user", "content": parts}], "max_tokens": 10}


def test_s4_22_an_image_of_17_mb_passes(world: World) -> None:
    body = image_message(17 * MIB)
    for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
        assert world.gateway.post(path, world.alice.key, body).status_code == 200
        assert world.openai.requests[-1].json == body


@pytest.mark.parametrize(("key", "size", "status"), [("wrong", 17 * MIB, 401), ("right", 65 * MIB, 413)])
def test_s4_22_a_refusal_reaches_even_a_client_that_sends_everything_first(
    world: World, key: str, size: int, status: int
) -> None:
    for _ in range(3):
        with closing(HTTPConnection("127.0.0.1", world.gateway.port, timeout=30)) as connection:
            bearer = world.alice.key if key == "right" else "sk-gw-wrong"
            connection.request("POST", "/v1/chat/completions", b" " * size, {"Authorization": f"Bearer {bearer}"})
            reply = connection.getresponse()
            assert reply.status == status
            assert json.loads(reply.read())["error"]


def test_s4_22_over_the_limit_is_413_in_json(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = build(stack, tmp_path / "home", env={"GATEWAYCTL_MAX_BODY_BYTES": str(MIB)})
        assert world.gateway.post("/v1/chat/completions", world.alice.key, image_message(MIB // 2)).status_code == 200
        large = json.dumps(image_message(MIB)).encode()

        def in_chunks() -> Iterator[bytes]:
            for at in range(0, len(large), 65536):
                yield large[at : at + 65536]

        headers = world.gateway.headers(world.alice.key)
        for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
            error = error_of(world.gateway.post(path, world.alice.key, large), 413, "payload_too_large")
            assert str(MIB) in error["message"]
            chunked = world.gateway.client.post(path, content=in_chunks(), headers=headers)
            error_of(chunked, 413, "payload_too_large")
        assert len(world.openai.requests) == 1
        assert world.gateway.chat(world.alice.key).status_code == 200
