"""S5: groups, keys and their rotation, routing, limits of models, transient failures (S5-01 … S5-06, S5-09 … S5-21)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import node
from tests.support.gateway import ALIAS, CHAT, CLAUDE, EMBEDDING, OPENAI_SECRET, SECRET
from tests.support.upstream import (
    Answer,
    Received,
    Reset,
    Stall,
    chat_reply,
    closed_port_url,
    default_answer,
    error_reply,
    json_reply,
    usage_of,
)  # fmt: skip
from tests.support.world import World, build, error_of

TEXT = "Hello from the scripted upstream."

# ------------------------------------------------------------------------------------------------ S5-01

# The two snippets of the reference document with its request, and a line each that prints the answer.
PYTHON = """
from openai import OpenAI

client = OpenAI(
    base_url="https://your-control-layer-instance/ai/v1",
    api_key="your-control-layer-api-key"
)
response = client.chat.completions.create(
  model="gpt-4",  # Or any model you have access to
  messages=[{"role": "user", "content": "Hello!"}]
)
print(response.choices[0].message.content)
stream = client.chat.completions.create( model="gpt-4",
messages=[{"role": "user", "content": "Tell me a story"}], stream=True)

for chunk in stream:
    if chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="")
"""


def test_s5_01_the_python_snippet_runs(world: World) -> None:
    world.home.ok("models", "add", "gpt-4", "--provider", "openai", "--group", "g1", "--if-not-exists")
    code = PYTHON.replace("https://your-control-layer-instance", world.gateway.url)
    code = code.replace("your-control-layer-api-key", world.alice.key)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{TEXT}\n{TEXT}", done.stderr


def test_s5_01_the_node_snippet_runs(world: World) -> None:
    world.home.ok("models", "add", "gpt-4", "--provider", "openai", "--group", "g1", "--if-not-exists")
    done = node.run("snippet.mjs", {"BASE_URL": f"{world.gateway.url}/ai/v1", "API_KEY": world.alice.key})
    assert done.stdout == f"{TEXT}\n", done.stderr


# ------------------------------------------------------------------------------------------------ S5-02


def ids(world: World, key: str) -> set[str]:
    return {item["id"] for item in world.gateway.get("/v1/models", key).json()["data"]}


def test_s5_02_groups_decide_and_a_change_counts_at_once(own: World) -> None:
    alice, bob = own.alice.key, own.bob.key
    own.home.ok("topup", "bob", "5")
    assert CHAT in ids(own, alice)
    own.home.ok("groups", "deny", "g1", CHAT)
    error_of(own.gateway.chat(alice), 404, "model_not_found")
    error_of(own.gateway.chat(alice, model=ALIAS), 404, "model_not_found")
    assert not {CHAT, ALIAS, f"OpenAI#{CHAT}"} & ids(own, alice)
    own.home.ok("groups", "allow", "g1", CHAT)
    assert own.gateway.chat(alice).status_code == 200

    error_of(own.gateway.chat(bob), 404, "model_not_found")
    own.home.ok("groups", "add-user", "g1", "bob")
    assert [own.gateway.chat(bob, model=model).status_code for model in (CHAT, CLAUDE, SECRET)] == [200, 200, 200]
    assert {CHAT, CLAUDE, SECRET} <= ids(own, bob)  # the union of both
    own.home.ok("groups", "remove-user", "g1", "bob")
    error_of(own.gateway.chat(bob), 404, "model_not_found")

    own.home.ok("groups", "delete", "g1", "--yes")
    error_of(own.gateway.chat(alice), 404, "model_not_found")
    own.home.ok("users", "delete", "bob", "--yes")
    error_of(own.gateway.chat(bob, model=SECRET), 401, "invalid_api_key")


# ------------------------------------------------------------------------------------------------ S5-03


def test_s5_03_usage_is_counted_by_key(world: World) -> None:
    user = world.person(balance="5", key=("--name", "one"))
    two = world.home.json("keys", "create", "--user", user.name, "--name", "two")
    assert world.home.json("keys", "show", two["id"])["last_used_at"] is None
    for key, calls in ((user.key, 2), (two["key"], 3)):
        for _ in range(calls):
            assert world.gateway.chat(key).status_code == 200
    by_key = {row["key_id"]: row for row in world.home.json("usage", "by", "key")}
    assert by_key[user.key_id]["requests"] == 2
    assert by_key[two["id"]]["requests"] == 3
    listed = {key["name"]: key for key in world.home.json("keys", "list", "--user", user.name)}
    assert {name: key["spend"] for name, key in listed.items()} == {"one": "0.00003", "two": "0.000045"}
    assert all(key["last_used_at"] for key in listed.values())


# ------------------------------------------------------------------------------------------------ S5-04


def test_s5_04_several_keys_are_active_at_once(world: World) -> None:
    user = world.person()
    made = [world.home.json("keys", "create", "--user", user.name) for _ in range(3)]
    assert [world.gateway.chat(key["key"]).status_code for key in made] == [200] * 3
    world.home.ok("keys", "revoke", made[1]["id"], "--yes")
    assert [world.gateway.chat(key["key"]).status_code for key in made] == [200, 401, 200]


# ------------------------------------------------------------------------------------------------ S5-05


class Loop(threading.Thread):
    """Twenty calls a second with the current key."""

    def __init__(self, world: World, key: str) -> None:
        super().__init__(daemon=True)
        self.world, self.key = world, key
        self.statuses: list[int] = []
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.wait(0.05):
            self.statuses.append(self.world.gateway.chat(self.key).status_code)


def test_s5_05_rotation_has_no_gap_and_ends_the_old_secret_after_the_grace(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = build(stack, tmp_path / "home", fake_clock=True)
        first = world.home.json("keys", "create", "--user", "alice", "--model", CHAT, "--rpm", "6000", "--name", "app")
        loop = Loop(world, first["key"])
        loop.start()
        time.sleep(0.6)
        second = world.home.json("keys", "rotate", first["id"], "--grace", "24h")
        time.sleep(0.3)  # the old one is still in use somewhere
        loop.key = second["key"]
        time.sleep(0.6)
        loop.enough.set()
        loop.join(10)
        assert len(loop.statuses) > 15
        assert set(loop.statuses) == {200}
        assert second["key"] != first["key"]
        same = ("id", "user", "name", "models", "rpm")
        assert {name: second[name] for name in same} == {name: first[name] for name in same}
        usage = world.home.json("usage", "by", "key")
        assert [row["requests"] for row in usage if row["key_id"] == first["id"]] == [len(loop.statuses)]

        world.home.clock.forward(24 * 3600 - 30)
        assert [world.gateway.chat(key["key"]).status_code for key in (first, second)] == [200, 200]
        world.home.clock.forward(24 * 3600 + 1)
        error_of(world.gateway.chat(first["key"]), 401, "invalid_api_key")
        assert world.gateway.chat(second["key"]).status_code == 200
        error_of(world.gateway.chat(second["key"], model=CLAUDE), 404, "model_not_found")  # the same allow-list


def test_s5_05_now_ends_the_old_secret_at_once_and_a_revoked_key_stays_dead(world: World) -> None:
    first = world.home.json("keys", "create", "--user", world.alice.name)
    assert world.gateway.chat(first["key"]).status_code == 200
    second = world.home.json("keys", "rotate", first["id"], "--now")
    error_of(world.gateway.chat(first["key"]), 401, "invalid_api_key")
    assert world.gateway.chat(second["key"]).status_code == 200
    world.home.ok("keys", "revoke", first["id"], "--yes")
    refused = world.home.run("keys", "rotate", first["id"])
    assert (refused.code, refused.out) == (4, "")
    error_of(world.gateway.chat(second["key"]), 401, "invalid_api_key")


# ------------------------------------------------------------------------------------------------ S5-06


def test_s5_06_the_debug_log_holds_no_secret(own: World) -> None:
    user = own.person()
    own.openai.script(
        error_reply(401, f"Incorrect API key: {OPENAI_SECRET}"), error_reply(500, f"{OPENAI_SECRET}"), chat_reply("x", None)
    )
    for _ in range(3):
        own.gateway.chat(user.key)
    own.gateway.chat(user.key, model=user.key)
    own.gateway.chat(user.key[:-1])
    own.gateway.post("/v1/chat/completions", user.key, b"{")
    own.gateway.get(f"/v1/models/{user.key}?key={user.key}")
    own.gateway.get(f"/v1/openai/{user.key}", user.key)
    assert own.gateway.stop() == 0
    assert len(own.gateway.events) > 8
    for secret in (user.key, user.key.partition("_")[2], OPENAI_SECRET):
        assert secret not in own.gateway.log


# ------------------------------------------------------------------------------------------------ S5-07

# One script, pointed at a provider or at the gateway by its environment alone.
ONE_SCRIPT = """
import json, os, anthropic, openai
model, asked = os.environ["MODEL"], [{"role": "user", "content": "one two"}]
client = openai.OpenAI()
print(client.chat.completions.create(model=model, messages=asked).to_json())
for chunk in client.chat.completions.create(model=model, messages=asked, stream=True, stream_options={"include_usage": True}):
    print(chunk.to_json())
print(client.embeddings.create(model=os.environ["EMBEDDER"], input=["a", "b"]).data[1].embedding)
try:
    client.chat.completions.create(model=model, messages=asked, max_tokens=10**7, temperature="hot")
except openai.BadRequestError as error:
    print(type(error).__name__, error.status_code)
other = anthropic.Anthropic()
print(other.messages.create(model=os.environ["CLAUDE"], max_tokens=50, messages=asked).to_json())
with other.messages.stream(model=os.environ["CLAUDE"], max_tokens=50, messages=asked) as stream:
    for event in stream:
        print(event.to_json())
"""


def shaped(request: Received) -> Answer:
    """A provider that checks as the real ones do."""
    if request.path.endswith("/embeddings"):
        vectors = [{"object": "embedding", "index": n, "embedding": "AACAPwAAAEA="} for n in range(len(request.json["input"]))]
        return json_reply({"object": "list", "data": vectors, "model": "e", "usage": {"prompt_tokens": 2, "total_tokens": 2}})
    if request.method == "POST" and isinstance(request.json.get("temperature"), str):
        return error_reply(400, "temperature must be a number", type="invalid_request_error")
    return default_answer(request)


def test_s5_07_official_sdks_need_another_url_and_key_and_nothing_else(world: World) -> None:
    world.openai.always(shaped)
    slug = world.name("host")
    world.home.ok("providers", "add", slug, "--protocol", "anthropic", "--base-url", f"{world.claude.url}/v1", "--no-auth")
    claude = world.model(provider=slug)
    models = {"MODEL": CHAT, "CLAUDE": claude, "EMBEDDER": EMBEDDING}

    def run(openai_url: str, anthropic_url: str, key: str) -> str:
        env = {
            "OPENAI_BASE_URL": openai_url,
            "OPENAI_API_KEY": key,
            "ANTHROPIC_BASE_URL": anthropic_url,
            "ANTHROPIC_API_KEY": key,
        }
        clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        command = [sys.executable, "-c", ONE_SCRIPT]
        done = subprocess.run(command, env=clean | env | models, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    direct = run(f"{world.openai.url}/v1", world.claude.url, "sk-of-the-provider")
    gateway = world.gateway.url
    assert run(f"{gateway}/ai/v1", gateway, world.alice.key).replace(claude, "CLAUDE") == direct.replace(claude, "CLAUDE")
    assert "BadRequestError 400" in direct


def test_s5_07_nor_does_node(world: World) -> None:
    world.home.ok("models", "add", "gpt-4", "--provider", "openai", "--group", "g1", "--if-not-exists")
    direct = node.run("snippet.mjs", {"BASE_URL": f"{world.openai.url}/v1", "API_KEY": "sk-of-the-provider"})
    through = node.run("snippet.mjs", {"BASE_URL": f"{world.gateway.url}/ai/v1", "API_KEY": world.alice.key})
    assert (through.stdout, through.stderr) == (direct.stdout, direct.stderr)
    assert direct.stdout == f"{TEXT}\n"


# ------------------------------------------------------------------------------------------------ S5-09


def test_s5_09_every_listed_id_works_exactly_as_listed(own: World) -> None:
    listed = own.gateway.get("/v1/models", own.alice.key).json()["data"]
    chat = [item["id"] for item in listed if item["type"] == "chat"]
    assert set(chat) == {CHAT, ALIAS, f"OpenAI#{CHAT}", CLAUDE, f"Claude#{CLAUDE}"}
    for name in chat:
        reply = own.gateway.chat(own.alice.key, model=name)
        assert (reply.status_code, reply.json()["model"]) == (200, name)
        streamed = own.gateway.chat(own.alice.key, model=name, stream=True).text
        models = {json.loads(line[6:])["model"] for line in streamed.splitlines() if line.startswith("data: {")}
        assert models == {name}
        assert own.gateway.get(f"/v1/models/{name.replace('#', '%23')}").json()["id"] == name


# ------------------------------------------------------------------------------------------------ S5-10


def test_s5_10_a_model_moves_to_another_provider(world: World) -> None:
    model = world.model()
    assert world.gateway.chat(world.alice.key, model=model).headers["x-gateway-provider"] == "openai"
    world.home.ok("models", "update", model, "--provider", "anthropic", "--upstream", "their-name")
    reply = world.gateway.chat(world.alice.key, model=model)
    assert (reply.status_code, reply.json()["model"]) == (200, model)
    assert (len(world.openai.requests), len(world.claude.requests)) == (1, 1)
    assert world.claude.requests[0].json["model"] == "their-name"


# ------------------------------------------------------------------------------------------------ S5-14


def test_s5_14_a_model_that_cannot_stream_says_so(world: World) -> None:
    model = world.model()
    world.home.ok("models", "update", model, "--no-streaming")
    error = error_of(world.gateway.chat(world.alice.key, model=model, stream=True), 400, "unsupported_parameter")
    assert error["param"] == "stream"
    assert world.openai.requests == []
    assert world.gateway.chat(world.alice.key, model=model).status_code == 200
    world.home.ok("models", "update", model, "--streaming")
    assert world.gateway.chat(world.alice.key, model=model, stream=True).status_code == 200


# ------------------------------------------------------------------------------------------------ S5-16


def test_s5_16_only_what_is_clearly_too_long_is_refused(world: World) -> None:
    model = world.model("--context-length", "100")
    before = world.home.balance("alice")
    error = error_of(world.gateway.chat(world.alice.key, "word " * 1000, model=model), 400, "context_length_exceeded")
    assert "100" in error["message"]
    assert len([part for part in error["message"].split() if part.isdigit()]) >= 2
    error_of(world.gateway.chat(world.alice.key, model=model, max_tokens=101), 400, "context_length_exceeded")
    assert world.openai.requests == []
    assert world.home.balance("alice") == before
    assert world.gateway.chat(world.alice.key, "x" * 300, model=model, max_tokens=10).status_code == 200


def test_s5_16_more_output_than_the_model_has_is_400(world: World) -> None:
    model = world.model("--max-output", "500")
    error = error_of(world.gateway.chat(world.alice.key, model=model, max_tokens=501), 400, "invalid_value")
    assert error["param"] == "max_tokens"
    assert "500" in error["message"]
    assert "501" in error["message"]
    assert world.gateway.chat(world.alice.key, model=model, max_tokens=500).status_code == 200


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422])
def test_s5_16_the_providers_own_refusal_of_a_request_passes(world: World, status: int) -> None:
    theirs = {"message": "maximum context length is 128000 tokens", "type": "invalid_request_error",
              "param": "messages", "code": "context_length_exceeded"}  # fmt: skip
    world.openai.always(json_reply({"error": theirs}, status))
    before = world.home.balance("alice")
    for stream in (False, True):
        reply = world.gateway.chat(world.alice.key, stream=stream)
        assert (reply.status_code, reply.json()) == (status, {"error": theirs})
    assert world.home.balance("alice") == before


# ------------------------------------------------------------------------------------------------ S5-17


class Crowded:
    """A provider whose queue of connections is full, so that the kernel refuses to take another, until `open()`."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.filler = socket.create_connection(self.socket.getsockname())
        self.served = 0

    def open(self) -> None:
        """Take who waits, and serve one chat."""
        self.socket.accept()[0].close()
        connection, _ = self.socket.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(next(iter(chat_reply("at last", usage_of(3, 2)))))
            self.served += 1
            connection.recv(1)


def test_s5_17_when_the_first_connection_fails_the_second_serves(world: World) -> None:
    crowded = Crowded()
    model = world.model(provider=world.provider("--connect-timeout", "1.5", url=crowded.url))
    user = world.person()
    threading.Timer(1.25, crowded.open).start()  # too late for the first attempt: the kernel asks after 0 and 1 s
    reply = world.gateway.chat(user.key, model=model)
    assert (reply.status_code, crowded.served) == (200, 1)
    shown = world.home.json("usage", "show", reply.headers["x-request-id"])
    assert [attempt["error"] for attempt in shown["attempts"]] == ["timeout_connect", None]
    entries = world.home.json("ledger", "list", "--user", user.name)
    assert [entry["kind"] for entry in entries].count("charge") == 1


def test_s5_17_only_connections_are_tried_again_and_only_once(world: World) -> None:
    world.openai.always([Reset()])  # after the request was read: it may have been served
    user = world.person()
    error_of(world.gateway.chat(user.key), 502, "upstream_error")
    assert len(world.openai.requests) == 1
    gone = world.model(provider=world.provider(url=closed_port_url()))
    reply = world.gateway.chat(user.key, model=gone)
    error_of(reply, 502, "upstream_error")
    assert len(world.home.json("usage", "show", reply.headers["x-request-id"])["attempts"]) == 2
    assert world.home.balance(user.name) == "5"


def test_s5_17_after_a_read_timeout_nothing_is_sent_again(world: World) -> None:
    model = world.model(provider=world.provider("--read-timeout", "1", "--first-byte-timeout", "1"))
    user = world.person()
    world.openai.always([Stall()])
    for stream in (False, True):
        error_of(world.gateway.chat(user.key, model=model, stream=stream), 504, "upstream_timeout")
    assert len(world.openai.requests) == 2
    assert world.home.balance(user.name) == "5"


# ------------------------------------------------------------------------------------------------ S5-21


def test_s5_21_a_provider_has_its_own_header_for_its_credential(world: World) -> None:
    slug = world.provider("--auth-header", "X-API-Key", "--auth-prefix", "", secret="sk-first-of-its-kind")
    model = world.model(provider=slug)
    assert world.gateway.chat(world.alice.key, model=model).status_code == 200
    request = world.openai.requests[-1]
    assert request.header("x-api-key") == "sk-first-of-its-kind"
    assert request.header("authorization") is None

    world.home.ok("providers", "update", slug, "--auth-header", "Authorization", "--auth-prefix", "Token")
    assert world.gateway.chat(world.alice.key, model=model).status_code == 200
    assert world.openai.requests[-1].header("authorization") == "Token sk-first-of-its-kind"


def test_s5_21_a_credential_is_replaced_without_touching_the_provider(world: World) -> None:
    slug = world.provider(secret="sk-first-of-its-kind")
    model = world.model(provider=slug)
    world.home.ok("credentials", "add", slug, "--name", "new", "--from-file", "-", stdin="sk-second-of-its-kind\n")
    world.home.ok("credentials", "delete", f"{slug}/default", "--yes")
    for _ in range(2):
        assert world.gateway.chat(world.alice.key, model=model).status_code == 200
        assert world.openai.requests[-1].header("authorization") == "Bearer sk-second-of-its-kind"


def test_s5_21_the_secret_is_never_taken_from_the_command_line(world: World) -> None:
    for option in ("--secret", "--key", "--value"):
        assert world.home.run("credentials", "add", "openai", option, "sk-in-argv").code == 2
    assert world.home.run("credentials", "add", "openai", "--from-env", "NOT_SET_ANYWHERE").code != 0
