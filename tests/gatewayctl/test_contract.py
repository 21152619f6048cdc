"""The JSON keys, the key format and the exit codes that scripts rely on."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from db import secrets
from tests.support.cli import Gateway

KEY_CREATE = {
    "id", "user", "name", "key", "prefix", "created_at", "expires_at", "models", "rpm", "tpm", "max_parallel",
    "budget", "budget_period",
}  # fmt: skip
KEY_LIST = (KEY_CREATE - {"key"}) | {"status", "last_used_at", "spend"}
USER_SHOW = {"name", "email", "status", "groups", "multiplier", "balance", "held", "available", "fair_use"}


@pytest.fixture
def ready(gateway: Gateway) -> Gateway:
    """A user and a model with an alias."""
    gateway.ok("providers", "add", "openai")
    gateway.ok("models", "add", "gpt-4o-mini", "--provider", "openai", "--input-price", "0.15", "--output-price", "0.60")
    gateway.ok("models", "alias", "mini", "gpt-4o-mini")
    gateway.ok("users", "create", "alice")
    return gateway


def test_keys_create_and_list(ready: Gateway) -> None:
    made = ready.json(
        "keys", "create", "--user", "alice", "--name", "ci", "--model", "mini", "--expires", "30d", "--rpm", "60",
        "--tpm", "1000", "--max-parallel", "3", "--budget", "12.50", "--budget-period", "week",
        "--metadata", "team=a",
    )  # fmt: skip
    assert set(made) >= KEY_CREATE
    assert (made["user"], made["name"], made["models"]) == ("alice", "ci", ["gpt-4o-mini"])
    assert (made["rpm"], made["tpm"], made["max_parallel"]) == (60, 1000, 3)
    assert (made["budget"], made["budget_period"]) == ("12.5", "week")
    assert made["id"].isdecimal()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["created_at"])
    [row] = ready.json("keys", "list")
    assert set(row) >= KEY_LIST
    assert "key" not in row
    assert row["spend"] == "0"
    assert row["prefix"] == made["prefix"] == made["key"][:14]
    for reference in (made["id"], made["prefix"], made["prefix"].removeprefix("sk-gw-")):
        shown = ready.ok("keys", "show", reference, "--json")
        assert shown.json["id"] == made["id"]
        assert made["key"] not in shown.out


def test_key_format(ready: Gateway) -> None:
    texts = [ready.ok("keys", "create", "--user", "alice", "--quiet").out for _ in range(2)]
    assert len(set(texts)) == 2
    for text in texts:
        assert re.fullmatch(r"sk-gw-[0-9A-Za-z]{8}_[0-9A-Za-z]{32,}[0-9A-Za-z]{6}\n", text)
        key = text.strip()
        assert secrets.public_id_of(key) == key[6:14]
        assert secrets.public_id_of(key[:-1] + ("0" if key[-1] != "0" else "1")) is None


def test_users_show(ready: Gateway) -> None:
    ready.ok("users", "update", "alice", "--fair-use", "200/day", "--throttle", "10m", "--email", "a@example.org")
    shown = ready.json("users", "show", "alice")
    assert set(shown) >= USER_SHOW
    assert shown["fair_use"] == {"limit": 200, "used_today": 0, "throttled_until": None}
    assert (shown["balance"], shown["held"], shown["available"], shown["multiplier"]) == ("0", "0", "0", "1")
    assert shown["groups"] == ["everyone"]


def test_rotate_keeps_id_and_limits_and_refuses_a_revoked_key(ready: Gateway) -> None:
    made = ready.json("keys", "create", "--user", "alice", "--rpm", "7")
    fresh = ready.json("keys", "rotate", made["id"], "--grace", "24h")
    assert (fresh["id"], fresh["rpm"]) == (made["id"], 7)
    assert fresh["key"] != made["key"]
    assert ready.ok("keys", "rotate", made["prefix"], "--now", "--quiet").out.startswith("sk-gw-")
    assert ready.run("keys", "rotate", made["id"], "--now", "--grace", "1h").code == 2
    assert ready.run("keys", "revoke", made["id"]).code == 5  # nobody can answer
    ready.ok("keys", "revoke", made["id"], "--yes")
    for words in (("rotate", made["id"]), ("enable", made["id"]), ("update", made["id"], "--rpm", "1")):
        assert ready.run("keys", *words).code == 4


def test_create_if_not_exists(ready: Gateway) -> None:
    for words in (
        ("users", "create", "alice"),
        ("groups", "create", "everyone"),
        ("providers", "add", "openai"),
        ("models", "add", "gpt-4o-mini", "--provider", "openai", "--input-price", "9", "--output-price", "9"),
    ):
        assert ready.run(*words).code == 4, words
        again = ready.ok(*words, "--if-not-exists", "--json")
        assert "nothing was changed" in again.err
    assert ready.json("models", "show", "mini")["prices"] == {"input": "0.15", "output": "0.6"}
    taken = ready.run(
        "models", "add", "mini", "--provider", "openai", "--input-price", "1", "--output-price", "1", "--if-not-exists"
    )
    assert taken.code == 4  # an alias has the name: that is not the same thing


def test_prices_of_long_requests_and_of_kinds(ready: Gateway) -> None:
    ready.ok("models", "update", "mini", "--price", "input@200000=0.30", "--price", "hosted_call/web_search=0.01")
    shown = ready.json("models", "show", "mini")
    assert list(shown["prices"].items()) == [
        ("input", "0.15"), ("input@200000", "0.3"), ("output", "0.6"), ("hosted_call/web_search", "0.01"),
    ]  # fmt: skip
    assert "input@200000=0.3" in ready.ok("models", "show", "mini").out
    assert "200000" not in ready.ok("models", "list").out  # a table has room for the plain meters
    assert ready.run("models", "update", "mini", "--price", "image@200000=1").code == 2
    assert ready.run("models", "update", "mini", "--price", "output=none").code == 5
    ready.ok("models", "update", "mini", "--price", "input@200000=none", "--price", "hosted_call/web_search=none")
    assert ready.json("models", "show", "mini")["prices"] == {"input": "0.15", "output": "0.6"}
    assert [row["meter"] for row in ready.json("models", "show", "mini", "--prices")].count("input@200000") == 1
    words = ("models", "add", "own", "--provider", "openai", "--input-price", "none", "--output-price", "1")
    assert ready.run(*words).code == 2


def test_tiers_of_a_model(ready: Gateway) -> None:
    words = ("--provider", "openai", "--input-price", "1", "--output-price", "1")
    assert ready.json("models", "add", "tiered", *words, "--tier", "priority=1.75")["service_tiers"] == {"priority": "1.75"}
    shown = ready.json("models", "update", "tiered", "--tier", "flex=0.5", "--tier", "priority=2")
    assert shown["service_tiers"] == {"flex": "0.5", "priority": "2"}
    assert "flex=0.5, priority=2" in ready.ok("models", "show", "tiered").out
    assert ready.json("models", "update", "tiered", "--tier", "flex=none")["service_tiers"] == {"priority": "2"}
    assert "service_tiers" not in ready.json("models", "update", "tiered", "--tier", "priority=none")
    for wrong in ("fast", "fast=x", "fast=-1", "fast=none", "Fast=1"):
        assert ready.run("models", "update", "tiered", "--tier", wrong).code == 2, wrong


def test_hosted_tools_of_a_model(ready: Gateway) -> None:
    shown = ready.json("models", "update", "mini", "--hosted-tool", "web_search=5", "--hosted-tool", "mcp=1")
    assert shown["hosted_tools"] == {"web_search": 5, "mcp": 1}
    assert ready.json("models", "update", "mini", "--hosted-tool", "mcp=none")["hosted_tools"] == {"web_search": 5}
    for wrong in ("mcp", "mcp=-1", "mcp=x", "mcp=1.5", "mcp=9999999999", "mcp=none", "MCP=1"):
        assert ready.run("models", "update", "mini", "--hosted-tool", wrong).code == 2, wrong


def test_a_known_model_brings_its_prices_of_long_requests(ready: Gateway) -> None:
    ready.ok("providers", "add", "gemini")
    made = ready.json("models", "add", "gemini-2.5-pro", "--provider", "gemini")
    assert {"input@200000", "output@200000", "cached_input@200000"} <= set(made["prices"])
    by_hand = ("--upstream", "gemini-2.5-pro", "--provider", "gemini", "--input-price", "1")
    some = ready.json("models", "add", "half", *by_hand)["prices"]
    assert set(some) == {"input", "output", "output@200000"}  # the input's price was written, so it is meant without steps


def test_key_if_not_exists_prints_no_secret(ready: Gateway) -> None:
    words = ("keys", "create", "--user", "alice", "--name", "ci", "--if-not-exists")
    first = ready.json(*words)
    again = ready.json(*words)
    assert first["id"] == again["id"]
    assert "key" not in again
    assert ready.ok(*words, "--quiet").out == ""
    assert ready.run("keys", "create", "--user", "alice", "--if-not-exists").code == 2


def test_quiet_prints_only_the_id(ready: Gateway) -> None:
    for words, printed in (
        (("users", "create", "bob"), "bob"),
        (("groups", "create", "g1"), "g1"),
        (("providers", "add", "groq"), "groq"),
        (("models", "show", "mini"), "gpt-4o-mini"),
        (("providers", "list"), "groq\nopenai"),
    ):
        result = ready.ok(*words, "--quiet")
        assert result.out == f"{printed}\n"
        assert result.err == ""


def test_no_secret_is_stored_or_shown(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "home")
    canary = "sk-canary-0123456789abcdef"
    shown = gateway.ok("init").out
    gateway.ok("providers", "add", "openai")
    shown += gateway.ok("credentials", "add", "openai", "--from-env", "SECRET", env={"SECRET": canary}).out
    shown += gateway.ok("credentials", "add", "openai", "--from-file", "-", "--name", "b", stdin=f"{canary}\n").out
    gateway.ok("users", "create", "alice")
    key = gateway.ok("keys", "create", "--user", "alice", "--quiet").out.strip()
    rotated = gateway.ok("keys", "rotate", "1", "--quiet").out.strip()
    for words in (
        ("credentials", "list"), ("credentials", "list", "--json"), ("keys", "list"), ("keys", "show", "1"),
        ("providers", "show", "openai"), ("users", "show", "alice"),
    ):  # fmt: skip
        result = gateway.ok(*words)
        shown += result.out + result.err
    with sqlite3.connect(gateway.home / "gateway.db") as connection:
        dump = "\n".join(connection.iterdump())
    raw = b"".join(path.read_bytes() for path in gateway.home.glob("gateway.db*"))
    master = (gateway.home / "master.key").read_text().strip()
    for secret in (canary, key, rotated, master, key.rsplit("_", 1)[1]):
        assert secret not in shown
        assert secret not in dump
        assert secret.encode() not in raw
    assert "sk-…def" in shown


def test_secrets_come_from_exactly_one_place(ready: Gateway) -> None:
    assert ready.run("credentials", "add", "openai").code == 2
    assert ready.run("credentials", "add", "openai", "--from-env", "NOT_SET").code == 2
    assert ready.run("credentials", "add", "openai", "--from-env", "A", "--from-file", "-").code == 2
    assert ready.run("credentials", "add", "openai", "--from-file", "/nonexistent").code == 2
    assert ready.run("credentials", "add", "nobody", "--from-env", "A", env={"A": "secret-secret"}).code == 3


def test_known_model_needs_no_price_and_an_unknown_one_is_refused(ready: Gateway) -> None:
    result = ready.ok("models", "add", "gpt-4o", "--provider", "openai", "--json")
    assert {"input", "output", "cached_input"} <= set(result.json["prices"])
    assert result.json["context_length"] == 128_000
    assert "genai-prices" in result.err
    assert result.json["price_sources"][0].startswith("genai-prices")
    assert result.json["price_dates"]
    unknown = ready.run("models", "add", "no-such-model", "--provider", "openai")
    assert unknown.code == 5
    assert "--price" in unknown.err
    only_half = ready.run("models", "add", "no-such-model", "--provider", "openai", "--input-price", "1")
    assert only_half.code == 5
    free = ready.json("models", "add", "free", "--provider", "openai", "--price", "input=0", "--price", "output=0")
    assert free["prices"] == {"input": "0", "output": "0"}
    assert ready.run("models", "add", "x", "--provider", "openai", "--price", "input=-1").code == 2
    assert ready.run("models", "add", "x", "--provider", "openai", "--price", "inputs=1").code == 2


def test_a_price_for_one_unit_is_stored_as_such(ready: Gateway) -> None:
    made = ready.json("models", "add", "pics", "--provider", "openai", "--type", "image", "--price", "image=0.04")
    assert made["prices"] == {"image": "0.04"}
    assert made["type"] == "image"


def test_endpoints_lists_every_base_url(ready: Gateway) -> None:
    out = ready.ok("endpoints", env={"GATEWAYCTL_PUBLIC_BASE_URL": "https://gw.example.org/"}).out
    root = "https://gw.example.org"
    urls = {line.split()[0] for line in out.splitlines()[1:]}
    assert urls >= {f"{root}{path}" for path in ("", "/v1", "/api", "/api/v1", "/ai/v1", "/v1/openai", "/v1/anthropic")}


def test_init_is_idempotent_and_private(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "deep" / "home")
    assert gateway.json("init")["created"] == ["home", "database", "master key", "group everyone"]
    assert gateway.home.stat().st_mode & 0o777 == 0o700
    for name in ("gateway.db", "master.key"):
        assert (gateway.home / name).stat().st_mode & 0o777 == 0o600

    def content() -> tuple[str, str]:
        with sqlite3.connect(gateway.home / "gateway.db") as connection:
            return "\n".join(connection.iterdump()), (gateway.home / "master.key").read_text()

    before = content()
    assert gateway.json("init")["created"] == []
    assert content() == before
    (gateway.home / "master.key").chmod(0o644)
    assert gateway.run("init").code != 0


def test_demo_model_once(gateway: Gateway) -> None:
    assert "model demo-chat" in gateway.json("init", "--demo")["created"]
    assert gateway.json("init", "--demo")["created"] == []
    assert gateway.json("models", "show", "demo-chat")["prices"] == {"input": "0.1", "output": "0.4"}


def test_quickstart_prepares_everything_twice_with_one_top_up(local: Gateway) -> None:
    first = local.json("quickstart", "--no-serve", "--port", "8123")
    second = local.json("quickstart", "--no-serve", "--port", "8123")
    assert first["key"] != second["key"]
    assert "http://127.0.0.1:8123/v1/chat/completions" in first["curl"]
    assert len(local.json("keys", "list")) == 1
    assert local.json("users", "show", "demo")["balance"] == "5"


def test_snippets(ready: Gateway) -> None:
    for lang in ("curl", "python", "node"):
        assert "mini" in ready.ok("models", "snippet", "mini", "--lang", lang).out
    assert ready.run("models", "snippet", "mini", "--lang", "cobol").code == 2
