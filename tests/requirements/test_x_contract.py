"""X: JSON of commands, request ids, audit, ledger, methods; every route is billed or free on paper (X-04 … X-07, X-10)."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from daemon.api.billable import UNIFIED, URL_NAMED
from daemon.app import create_app, make_gateway
from db import engine, secrets
from db.settings import Settings
from gatewayctl import cli
from tests.support.gateway import CHAT, Home, ask, make_home
from tests.support.world import World, dump, error_of, execute, raw_exchange

# ------------------------------------------------------------------------------------------------


def list_commands() -> list[str]:
    """Every `… list` of the command line, as it is built."""
    found = []
    for noun in cli.NOUNS:
        commands = getattr(cli.load(noun), "commands", {})
        if "list" in commands:
            found.append(noun)
    return found


@pytest.mark.parametrize("noun", list_commands())
def test_x_04_every_list_is_one_json_document(world: World, noun: str) -> None:
    listed = world.home.run(noun, "list", "--json")
    assert listed.code == 0, listed.err
    assert isinstance(json.loads(listed.out), list)
    before = world.home.run("--json", noun, "list")
    assert isinstance(json.loads(before.out), list)


def test_x_04_in_a_shell_the_document_stands_alone(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.user("alice")
    script = (
        f"set -e -o pipefail; for noun in users keys models; do {sys.executable} -m gatewayctl $noun list --json | {{}}; done"
    )
    command = script.replace("{}", f"{sys.executable} -m json.tool")
    done = subprocess.run(["bash", "-c", command], env=home.environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_x_04_errors_have_their_exit_code_and_keep_stdout_clean(world: World) -> None:
    cases = [
        (("users", "show", "nobody"), 3),
        (("topup", "nobody", "5"), 3),
        (("keys", "create", "--user", "nobody"), 3),
        (("models", "show", "nothing"), 3),
        (("users", "create", "alice"), 4),
        (("providers", "add", "openai"), 4),
        (("topup", "alice", "-5"), 2),
        (("topup", "alice", "five"), 2),
        (("users", "list", "--no-such-option"), 2),
        (("balances", "adjust", "alice", "-100000", "--reason", "x", "--yes"), 5),
    ]
    for command, code in cases:
        result = world.home.run(*command)
        assert (result.code, result.out) == (code, ""), (command, result)
        assert result.err.startswith("Error: ") or code == 2
        with_json = world.home.run(*command, "--json")
        assert with_json.code == code
        assert set(with_json.json["error"]) == {"code", "message", "hint"}


def stored(home: Home) -> list[str]:
    """What is in the database, but for the heartbeat of the daemon."""
    return [line for line in dump(home).splitlines() if not line.startswith('INSERT INTO "processes"')]


def test_x_04_what_destroys_needs_yes(own: World) -> None:
    made = own.home.json("keys", "create", "--user", "alice")
    own.home.ok("providers", "add", "groq")
    before = stored(own.home)
    for command in (
        ("users", "delete", "bob"),
        ("groups", "delete", "g2"),
        ("keys", "revoke", made["id"]),
        ("providers", "delete", "groq"),
        ("credentials", "delete", "openai/default"),
        ("models", "delete", CHAT),
        ("balances", "adjust", "alice", "-1", "--reason", "x"),
    ):
        result = own.home.run(*command)
        assert result.code == 5, (command, result)
        assert "--yes" in result.err
    assert stored(own.home) == before
    assert own.home.run("users", "delete", "bob", "--yes").code == 0


def test_x_04_creating_twice_can_be_accepted(own: World) -> None:
    commands = [
        ("users", "create", "alice"),
        ("groups", "create", "g1"),
        ("providers", "add", "openai", "--protocol", "openai"),
        ("models", "add", CHAT, "--provider", "openai"),
        ("credentials", "add", "openai", "--from-env", "S"),
    ]
    before = stored(own.home)
    for command in commands:
        assert own.home.run(*command, env={"S": "sk-x-1234567890"}).code == 4, command
        assert own.home.run(*command, "--if-not-exists", env={"S": "sk-x-1234567890"}).code == 0, command
    assert stored(own.home) == before


# ------------------------------------------------------------------------------------------------


def test_x_05_a_sane_id_comes_back_and_is_found(world: World) -> None:
    mine = world.name("my-own-id.1:x")
    for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
        identifier = f"{mine}-{len(path)}"
        reply = world.gateway.post(path, world.alice.key, ask(), headers={"X-Request-Id": identifier})
        assert reply.headers["x-request-id"] == identifier
        rows = world.home.usage("--request-id", identifier)
        assert [(row["request_id"], row["endpoint"]) for row in rows] == [(identifier, path)]
        assert identifier in {event.get("request_id") for event in world.gateway.events}


def test_x_05_otherwise_one_is_made(world: World) -> None:
    replies = [
        world.gateway.chat(world.alice.key),
        world.gateway.chat(world.alice.key, stream=True),
        world.gateway.chat("wrong"),
        world.gateway.chat(world.alice.key, model="nope"),
        world.gateway.get("/v1/models"),
        world.gateway.get("/health"),
        world.gateway.get("/nowhere"),
        world.gateway.get("/v1/chat/completions"),
        world.gateway.client.options("/v1/models"),
        world.gateway.client.head("/"),
        *(world.gateway.get("/health", headers={"X-Request-Id": bad}) for bad in ("", "a b", "x" * 129, "<script>", "a;b")),
    ]
    ids = [reply.headers["x-request-id"] for reply in replies]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9._:-]{8,128}", identifier) for identifier in ids)


def test_x_05_an_id_that_was_used_is_not_charged_or_recorded_twice(world: World) -> None:
    mine = world.name("used-twice")
    replies = [world.gateway.post("/v1/chat/completions", world.alice.key, ask(), headers={"X-Request-Id": mine}) for _ in "12"]
    assert [reply.status_code for reply in replies] == [200, 200]
    ids = [reply.headers["x-request-id"] for reply in replies]
    assert ids[0] == mine
    assert ids[1] != mine
    assert ids[1].startswith(mine)
    for identifier in ids:
        assert world.home.record_of(identifier)["charged"] == "0.000015"


# ------------------------------------------------------------------------------------------------


def test_x_06_each_act_leaves_one_row(own: World) -> None:
    home = own.home
    made = home.json("keys", "create", "--user", "bob", "--name", "probe")
    acts: list[tuple[tuple[str, ...], str, str]] = [
        (("topup", "alice", "5", "--ref", "inv-1"), "topup", "alice"),
        (("groups", "deny", "g1", CHAT), "deny", "g1"),
        (("groups", "allow", "g1", CHAT), "allow", "g1"),
        (("providers", "pause", "openai", "--reason", "x"), "pause", "openai"),
        (("providers", "resume", "openai"), "resume", "openai"),
        (("models", "update", CHAT, "--output-price", "3"), "price", CHAT),
        (("keys", "create", "--user", "alice"), "create", ""),
        (("keys", "revoke", made["id"], "--yes"), "revoke", made["id"]),
        (("balances", "adjust", "alice", "-1", "--reason", "x", "--yes"), "adjust", "alice"),
        (("users", "suspend", "bob"), "suspend", "bob"),
        (("multipliers", "set", "--user", "alice", "2"), "", "alice"),
    ]
    for command, verb, subject in acts:
        before = home.json("audit", "list", "--limit", "1000")
        assert home.ok(*command)
        after = home.json("audit", "list", "--limit", "1000")
        assert len(after) == len(before) + 1, command
        row = after[0]
        assert row["actor"].startswith("cli:")
        assert verb in row["action"] or verb in json.dumps([row["before"], row["after"]]), row
        assert subject in row["subject"] or subject in json.dumps([row["before"], row["after"]]), row
        at = datetime.fromisoformat(row["at"])
        assert abs((datetime.now(UTC) - at).total_seconds()) < 60
        assert row["before"] is not None or row["after"] is not None
    price = next(row for row in home.json("audit", "list") if "price" in json.dumps(row) and row["subject"] == CHAT)
    assert "2.4" in json.dumps(price["before"]) or "2400000000" in json.dumps(price["before"])
    assert "3" in json.dumps(price["after"])


# ------------------------------------------------------------------------------------------------


def test_x_07_the_ledger_explains_every_balance(world: World) -> None:
    for _ in range(3):
        world.gateway.chat(world.alice.key)
    verified = world.home.json("ledger", "verify")
    assert (verified["ok"], verified["drift"], verified["stale_holds"]) == (True, [], [])
    findings = {one["name"]: one for one in world.home.run("doctor", "--json").json["checks"]}
    assert findings["ledger"]["status"] == "ok"
    assert findings["stale holds"]["status"] == "ok"


def entries(home: Home) -> list[str]:
    return [line for line in dump(home).splitlines() if line.startswith('INSERT INTO "ledger_entries"')]


def test_x_07_no_row_of_the_ledger_changes(own: World) -> None:
    assert own.gateway.chat(own.alice.key).status_code == 200
    before = entries(own.home)
    assert len(before) == 2
    for statement in ("UPDATE ledger_entries SET amount_nanos = 0", "DELETE FROM ledger_entries"):
        with pytest.raises((sqlite3.IntegrityError, psycopg.Error), match="append-only"):
            execute(own.home, statement)
    own.home.ok("topup", "alice", "1")
    own.home.ok("balances", "adjust", "alice", "-1", "--reason", "x", "--yes")
    assert own.gateway.chat(own.alice.key).status_code == 200
    after = entries(own.home)
    assert after[:2] == before
    assert len(after) == 5


def test_x_07_a_tampered_balance_is_found(own: World) -> None:
    execute(own.home, "UPDATE users SET balance_nanos = balance_nanos + 1 WHERE name = ?", "alice")
    verified = own.home.run("ledger", "verify", "--json")
    assert verified.code == 1
    assert verified.json["ok"] is False
    assert "alice" in json.dumps(verified.json["drift"])
    doctor = own.home.run("doctor", "--json")
    assert doctor.code == 1
    assert {one["name"]: one["status"] for one in doctor.json["checks"]}["ledger"] == "fail"


# ------------------------------------------------------------------------------------------------


def test_x_10_methods(world: World) -> None:
    for path in sorted(UNIFIED):
        reply = world.gateway.get(path, world.alice.key)
        error_of(reply, 405, "method_not_allowed")
        assert reply.headers["allow"] == "POST"
    for path in ("/health", "/", "/api/status", "/v1/models", "/api/hello"):
        head = world.gateway.client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
    for path in ("/health", "/v1/models", "/v1/provider"):
        reply = world.gateway.post(path, world.alice.key, {})
        error_of(reply, 405, "method_not_allowed")
        assert "GET" in reply.headers["allow"]


def test_x_10_a_websocket_is_answered_426_in_json(world: World) -> None:
    upgrade = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    )
    for path in ("/v1/responses", "/v1/chat/completions"):
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\nAuthorization: Bearer {world.alice.key}\r\n\r\n"
        status, headers, body = raw_exchange(world.gateway, head.encode())
        assert (status, headers["content-type"]) == (426, "application/json")
        assert json.loads(body)["error"]["code"] == "upgrade_required"
        assert headers["x-request-id"]


# ------------------------------------------------------------------------------------------------ the URL map

# Routes that cost nothing upstream. Whoever adds a route adds it here, or the walk below wants it billed.
FREE = {
    ("GET", "/v1/models"),
    ("GET", "/v1/models/<path:name>"),
    ("GET", "/v1/<slug>/models"),
    ("GET", "/v1/<slug>/models/<path:name>"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/models/<path:name>:countTokens"),
    ("POST", "/v1beta/models/<path:name>:countTokens"),
    ("GET", "/v1beta/models"),
    ("GET", "/v1beta/models/<path:name>"),
    ("GET", "/v1/<slug>/v1beta/models"),
    ("GET", "/v1/<slug>/v1beta/models/<path:name>"),
    ("GET", "/v1/provider"),
    ("GET", "/v1/key"),
    ("GET", "/v1/credits"),
    ("GET", "/v1/usage"),
    ("GET", "/openapi.json"),
    ("GET", "/docs/pricing"),
    ("GET", "/health"),
    ("GET", "/api/status"),
    ("GET", "/metrics"),
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/api/hello"),
    ("HEAD", "/api/hello"),
}
PREFIXED = "/v1/<provider:slug>/<path:endpoint>"


def routes(home: Home) -> set[tuple[str, str]]:
    """(method, rule) of every route of the app."""

    async def walk() -> set[tuple[str, str]]:
        gateway = await make_gateway(Settings(), secrets.load_master_keys(home.home / "master.key"))
        app = create_app(gateway)
        found = {
            (method, rule.rule)
            for rule in app.url_map.iter_rules()
            for method in rule.methods or ()
            if (method, rule.rule) in FREE or method not in ("HEAD", "OPTIONS")
        }
        await gateway.store.close()
        gateway.tokens.close()
        return found

    engine.open_database(home.database)
    try:
        return asyncio.run(walk())
    finally:
        engine.close_connection()


@pytest.fixture
def models(world: World) -> dict[str, str]:
    """A priced model of each kind."""
    made = {"chat": CHAT}
    for kind in ("embedding", "image", "audio", "moderation", "rerank"):
        made[kind] = world.name(kind)
        world.home.ok(
            "models", "add", made[kind], "--provider", "openai", "--type", kind, "--price", "input=1", "--group", "g1"
        )
    return made


def body_of(path: str, models: dict[str, str]) -> dict[str, Any] | bytes:
    """A small request of the kind that an endpoint takes; bytes: a form."""
    if path.endswith("/transcriptions"):
        named = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n' % models["audio"].encode()
        return named + b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n?\r\n--x--\r\n'
    if path.endswith("/responses"):
        return {"model": CHAT, "input": "x"}
    if path.endswith("/messages"):
        return ask() | {"max_tokens": 50}
    kinds = {"images": "image", "audio": "audio", "embeddings": "embedding", "moderations": "moderation", "rerank": "rerank"}
    kind = next((kind for part, kind in kinds.items() if part in path), "chat")
    return ask(model=models[kind]) | {"input": "x", "prompt": "x", "query": "x", "documents": ["y"]}


def test_every_route_is_billed_or_written_down_as_free(world: World, tmp_path: Path, models: dict[str, str]) -> None:
    found = routes(make_home(tmp_path))
    assert found >= FREE, "a route of the table is gone"
    billed = {rule for method, rule in found - FREE if method == "POST"}
    assert found - FREE == {("POST", rule) for rule in billed}, "a route that is neither POST nor in the table"
    assert billed == set(UNIFIED) | set(URL_NAMED) | {PREFIXED}

    poor = world.person(balance=None)
    rich = world.person()
    own = ("v1/embeddings", "any/thing", *(path.removeprefix("/v1/") for path in UNIFIED))
    spellings = [*UNIFIED, *(f"/v1/openai/{endpoint}" for endpoint in own)]

    def post(path: str, key: str | None) -> httpx.Response:
        body = body_of(path, models)
        headers = {"Content-Type": "multipart/form-data; boundary=x"} if isinstance(body, bytes) else {}
        return world.gateway.post(path, key, body, headers=headers)

    for path in spellings:
        error_of(post(path, None), 401, "missing_api_key")
        error_of(post(path, poor.key), 402, "insufficient_balance")
        assert world.openai.requests == []
    for number, path in enumerate(spellings, 1):
        assert post(path, rich.key).status_code == 200, path
        assert len(world.openai.requests) == number
    assert world.home.balance(rich.name) != "5"


@pytest.mark.parametrize("rule", URL_NAMED)
def test_what_names_its_model_in_the_url_is_billed_too(world: World, rule: str) -> None:
    path, body = rule.replace("<path:name>", CHAT), {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    poor, rich = world.person(balance=None), world.person()
    for key, status in ((None, 401), (poor.key, 402)):
        refused = world.gateway.post(path, key, body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, status)
    assert world.openai.requests == []
    reply = world.gateway.post(path, rich.key, body)
    assert reply.status_code == 200, reply.text
    assert world.home.record_of(reply.headers["x-request-id"])["cost"] != "0"
    assert world.home.balance(rich.name) != "5"


@pytest.mark.parametrize("path", ["/v1/chat%2Fcompletions", "/v1/messages%2Fcount_tokens", "/v1/openai%2Fx", "/v1%2Fmessages"])
def test_an_escaped_slash_makes_another_path(world: World, path: str) -> None:
    reply = world.gateway.post(path, world.alice.key, ask())
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_url")
    assert world.openai.requests == []
