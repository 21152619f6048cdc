"""S4: which secrets go where: never the client's key upstream, never the provider's to a client (S4-13, S4-14, S4-37)."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import Any

import pytest

from tests.support.gateway import ALIAS, CHAT, OPENAI_SECRET, Home, User, ask
from tests.support.upstream import Answer, Received, chat_stream, error_reply, json_reply, usage_of
from tests.support.world import World, dump, error_of, only_sqlite

UNIFIED, PREFIXED = "/v1/chat/completions", "/v1/openai/chat/completions"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


# ------------------------------------------------------------------------------------------------ S4-13


def test_s4_13_the_clients_key_is_never_forwarded(world: World) -> None:
    key = world.alice.key
    places = [
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"bearer   {key}"},
        {"x-api-key": key},
        {"x-goog-api-key": key},
        {"Authorization": f"Bearer {key}", "x-api-key": key, "api-key": key, "X-Custom": key, "User-Agent": f"app/{key}"},
        {"Authorization": f"Bearer {key}", "Cookie": f"session={key}", "X-Forwarded-For": "10.1.2.3",
         "Forwarded": "for=10.1.2.3", "X-Forwarded-Host": "inner.example", "X-Real-Ip": "10.1.2.3",
         "Proxy-Authorization": "Basic abcdefgh", "OpenAI-Organization": "org-of-client", "Referer": f"http://x/?k={key}",
         "Idempotency-Key": key, "Accept": f"application/json; k={key}"},
    ]  # fmt: skip
    queries = ["", f"?key={key}", f"?api_key={key}&x=1", f"?access_token={key}", f"?x={key}", f"?x=a{key}b&y=2"]
    bodies: list[dict[str, Any]] = [ask(), ask(stream=True), ask(model=ALIAS), ask() | {"tools": [TOOL]}]
    for headers in places:
        for body in bodies:
            for path in (UNIFIED, PREFIXED):
                reply = world.gateway.post(path, None, body, headers=headers)
                assert reply.status_code == 200, reply.text
    for query in queries:
        for path in (UNIFIED, PREFIXED):
            assert world.gateway.post(f"{path}{query}", key, ask()).status_code == 200
    assert len(world.openai.requests) == len(places) * len(bodies) * 2 + len(queries) * 2
    for request in world.openai.requests:
        for hidden in (key, key.partition("_")[2], "10.1.2.3", "inner.example", "org-of-client", "session=", "abcdefgh"):
            assert hidden.encode() not in request.everything
        assert request.header("authorization") == f"Bearer {OPENAI_SECRET}"
        assert request.header("host") == f"127.0.0.1:{world.openai.port}"


def test_s4_13_nor_by_an_allowed_endpoint(own: World) -> None:
    own.home.ok("providers", "update", "openai", "--allow-endpoint", "GET files")
    key = own.alice.key
    reply = own.gateway.get(f"/v1/openai/files?key={key}&x={key}&limit=1", key, headers={"Cookie": key, "x-api-key": key})
    assert reply.status_code == 200
    assert key.encode() not in own.openai.requests[0].everything
    assert own.openai.requests[0].target == "/v1/files?limit=1"


# ------------------------------------------------------------------------------------------------ S4-14


def echo(status: int, stream: bool = False) -> Any:
    """A server that repeats the credential in a header of its reply and in its body."""

    def answer(request: Received) -> Answer:
        secret = request.header("authorization") or ""
        own_headers = [
            ("X-Echo", secret), ("X-Request-Id", f"id-{secret[-13:]}"), ("Set-Cookie", "a=b"), ("Server", "nginx"),
            ("OpenAI-Organization", "org-1"), ("OpenAI-Project", "proj-1"), ("X-RateLimit-Limit-Requests", "99999"),
            ("X-RateLimit-Limit", "99999"), ("CF-Ray", "1"), ("Via", "1.1 x"), ("OpenAI-Processing-Ms", "7"),
        ]  # fmt: skip
        if status != 200:
            return error_reply(status, f"Incorrect API key provided: {secret} at {request.header('host')}", headers=own_headers)
        return json_reply({"choices": [{"message": {"content": "ok"}}], "usage": usage_of(1, 1)}, 200, own_headers)

    return answer


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 429, 500, 503])
@pytest.mark.parametrize("path", [UNIFIED, PREFIXED])
def test_s4_14_the_credential_does_not_reach_the_client(world: World, status: int, path: str) -> None:
    world.openai.always(echo(status))
    for stream in (False, True):
        reply = world.gateway.chat(world.alice.key, path=path, stream=stream)
        shown = reply.text + "\n".join(f"{name}: {value}" for name, value in reply.headers.items())
        assert OPENAI_SECRET not in shown
        assert "sk-upstream" not in shown
        assert f"127.0.0.1:{world.openai.port}" not in shown
        for name in ("x-echo", "set-cookie", "server", "openai-organization", "openai-project", "cf-ray", "via",
                     "x-ratelimit-limit-requests", "x-ratelimit-limit"):  # fmt: skip
            assert name not in reply.headers, name
        if status == 200:
            assert reply.headers["openai-processing-ms"] == "7"


def test_s4_14_an_error_in_a_stream_is_masked_too(world: World) -> None:
    frames = chat_stream(["a"], None, done=False)[0]
    assert isinstance(frames, bytes)
    message = f"Incorrect API key provided: {OPENAI_SECRET} for 127.0.0.1"
    event = b'data: {"error":{"message":"%s","type":"server_error"}}\n\n' % message.encode()
    whole = frames.removesuffix(b"0\r\n\r\n") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event)
    world.openai.always([whole])
    for path in (UNIFIED, PREFIXED):
        reply = world.gateway.chat(world.alice.key, path=path, stream=True)
        assert "error" in reply.text
        assert OPENAI_SECRET not in reply.text
        assert "127.0.0.1" not in reply.text


def test_s4_14_it_is_masked_in_listings_and_encrypted_at_rest(world: World) -> None:
    secret = "sk-upstream-CANARY-4711-abcdefgh"
    slug = world.provider(secret=secret)
    world.openai.always(echo(401))
    world.gateway.chat(world.alice.key, model=world.model(provider=slug))
    texts = [
        world.home.ok("credentials", "list").out,
        world.home.ok("credentials", "list", "--json").out,
        world.home.ok("providers", "list", "--json").out,
        world.home.ok("providers", "show", slug, "--json").out,
        world.home.ok("audit", "list", "--json", "--limit", "500").out,
        world.home.ok("catalog", "export").out,
        world.gateway.get("/api/status").text,
        world.gateway.get("/metrics").text,
        world.gateway.log,
        dump(world.home),
    ]
    for text in texts:
        assert secret not in text
        assert "CANARY-4711" not in text
    shown = next(one for one in json.loads(texts[1]) if one["provider"] == slug)
    assert "sk-…fgh" in shown.values()
    only_sqlite(world.home)
    database = (world.home.home / "gateway.db").read_bytes() + (world.home.home / "gateway.db-wal").read_bytes()
    assert secret.encode() not in database
    assert b"CANARY-4711" not in database


# ------------------------------------------------------------------------------------------------ S4-37


class Caller(threading.Thread):
    """Calls again and again; notes when each call began and what came of it."""

    def __init__(self, world: World, key: str) -> None:
        super().__init__(daemon=True)
        self.world, self.key = world, key
        self.calls: list[tuple[float, int]] = []
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            began = time.monotonic()
            self.calls.append((began, self.world.gateway.chat(self.key).status_code))


@pytest.mark.parametrize("command", ["revoke", "disable"])
def test_s4_37_a_revoked_key_is_refused_from_the_very_next_call(world: World, command: str) -> None:
    user = world.person()
    made = world.home.json("keys", "create", "--user", user.name)
    caller = Caller(world, made["key"])
    caller.start()
    time.sleep(0.2)
    yes = ["--yes"] if command == "revoke" else []
    world.home.ok("keys", command, made["id"], *yes)
    after = time.monotonic()
    time.sleep(0.2)
    caller.enough.set()
    caller.join(10)
    late = [status for began, status in caller.calls if began >= after]
    assert 200 in {status for _, status in caller.calls}
    assert len(late) > 5
    assert set(late) == {401}
    assert world.gateway.chat(user.key).status_code == 200  # the user's other key


def test_s4_37_revoking_asks_and_is_for_good(world: World) -> None:
    made = world.home.json("keys", "create", "--user", world.alice.name)
    assert world.home.run("keys", "revoke", made["id"]).code == 5  # nobody can answer
    assert world.gateway.chat(made["key"]).status_code == 200
    world.home.ok("keys", "revoke", made["id"], "--yes")
    assert world.home.run("keys", "enable", made["id"]).code == 4
    error_of(world.gateway.chat(made["key"]), 401, "invalid_api_key")


# ------------------------------------------------------------------------------------------------ canaries

COMMANDS = (
    "users list", "users show alice", "groups list", "keys list", "keys list --all", "providers list", "providers show openai",
    "credentials list", "models list", f"models show {CHAT}", "multipliers list", "balances list", "balances show alice",
    "ledger list", "ledger verify", "usage summary", "usage timeline", "usage by key", "usage log", "usage export --format csv",
    "catalog export", "endpoints", "config show", "db status", "doctor", "audit list", f"models snippet {CHAT}",
    "keys create --user nobody", "keys show 9999", "credentials list nobody",
)  # fmt: skip


def mixed_run(world: World, user: User, canary: str) -> list[str]:
    """Good and bad calls of every kind; what the client saw."""
    gateway, seen = world.gateway, []
    for stream in (False, True):
        for path in (UNIFIED, PREFIXED, "/v1/openai/responses", "/v1/openai/files", f"/v1/{user.key}/x"):
            for status in (200, 400, 401, 429, 500):
                world.openai.always(echo(status) if status != 200 else json_reply({"usage": usage_of(1, 1), "choices": []}))
                seen.append(gateway.chat(user.key, path=path, stream=stream))
    seen.append(gateway.chat(user.key + "x"))
    seen.append(gateway.chat(user.key, model=canary))
    seen.append(gateway.post(f"{UNIFIED}?key={user.key}", None, ask()))
    seen.append(gateway.post(UNIFIED, user.key, f'{{"model": "{user.key}", bad json'.encode()))
    seen.append(gateway.get(f"/v1/models/{user.key}", user.key))
    seen.append(gateway.get(f"/{user.key}?key={user.key}", user.key))
    seen.append(gateway.get("/v1/key", None, headers={"x-api-key": user.key}))
    seen.append(gateway.get("/v1/key", None, headers={"Authorization": f"Basic {user.key}", "X-Request-Id": user.key}))
    for path in ("/v1/models", "/v1/credits", "/v1/usage", "/api/status", "/metrics"):
        seen.append(gateway.get(path, user.key))
    return [reply.headers["content-type"] + reply.text + str(sorted(reply.headers.items())) for reply in seen]


def test_canaries_show_nowhere(own: World) -> None:
    """The provider's credential, the client's key and the master key, after a mixed run at log level debug."""
    home: Home = own.home
    master = (home.home / "master.key").read_text().strip()
    user = own.person()
    replies = mixed_run(own, user, "sk-not-a-model-0123456789")
    processes = subprocess.run(["ps", "-eww", "-o", "args", "e"], capture_output=True, text=True, check=True).stdout
    metrics = own.gateway.get("/metrics").text
    listings = []
    for command in COMMANDS:
        for more in ((), ("--json",)):
            result = home.run(*command.split(), *more, env={"GATEWAYCTL_DEBUG": "1"})
            listings.append(result.out + result.err)
    assert own.gateway.stop() == 0
    places = {
        "log": own.gateway.log,
        "metrics": metrics,
        "ps": processes,
        "dump": dump(home),
        **{f"listing {number}": text for number, text in enumerate(listings)},
    }
    key_secret = user.key.partition("_")[2]
    secrets = {"credential": OPENAI_SECRET, "key": key_secret, "master key": master.split(":")[-1]}
    found = [(place, name) for place, text in places.items() for name, secret in secrets.items() if secret in text]
    assert found == []
    for reply in replies:
        assert OPENAI_SECRET not in reply
        assert master not in reply
    level = {event["level"] for event in own.gateway.events}
    assert {"info", "warning"} <= level
