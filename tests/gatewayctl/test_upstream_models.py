"""`providers test` and `sync-models` against a scripted provider on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from gatewayctl import upstream_list
from tests.support.cli import Gateway
from tests.support.upstream import (
    Answer,
    Close,
    Received,
    Reply,
    ScriptedUpstream,
    Stall,
    closed_port_url,
    error_reply,
    gzip_reply,
    html_reply,
    json_reply,
)  # fmt: skip

SECRET = "sk-upstream-canary-000"
KEYS = {"provider", "dry_run", "added", "existing", "unpriced", "gone", "skipped"}


@pytest.fixture
def up() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture
def ready(local: Gateway, up: ScriptedUpstream) -> Gateway:
    local.ok("init")
    add(local, "openai", f"{up.url}/v1")
    return local


def add(home: Gateway, slug: str, url: str, *options: str) -> None:
    home.ok("providers", "add", slug, "--base-url", url, *options)
    home.ok("credentials", "add", slug, "--from-env", "S", env={"S": SECRET})


def ids(*names: str) -> Reply:
    return json_reply({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


def synced(home: Gateway, slug: str = "openai", *options: str) -> dict[str, Any]:
    report: dict[str, Any] = home.json("providers", "sync-models", slug, *options)
    assert set(report) == KEYS
    assert report["provider"] == slug
    return report


# ------------------------------------------------------------------------------------------------ the list


def test_a_provider_that_answers(ready: Gateway, up: ScriptedUpstream) -> None:
    up.always(ids("gpt-4o-mini", "gpt-4o", "gpt-4o"))
    result = ready.json("providers", "test", "openai")
    assert (result["ok"], result["models"]) == (True, 2)
    assert up.requests[0].target == "/v1/models"
    assert up.requests[0].header("authorization") == f"Bearer {SECRET}"


def test_the_header_and_prefix_that_were_set_are_used(ready: Gateway, up: ScriptedUpstream) -> None:
    up.always(ids())
    ready.ok("providers", "update", "openai", "--auth-header", "X-Key", "--auth-prefix", "")
    ready.ok("providers", "test", "openai")
    assert up.requests[0].header("x-key") == SECRET
    assert up.requests[0].header("authorization") is None


@pytest.mark.parametrize(
    ("protocol", "base", "target"),
    [
        ("openai", "", "/v1/models"),
        ("openai", "/v1", "/v1/models"),
        ("openai", "/v1beta/openai", "/v1beta/openai/models"),
        ("openai", "/api/paas/v4", "/api/paas/v4/models"),
        ("openai", "/openai", "/openai/v1/models"),
        ("anthropic", "", "/v1/models?limit=1000"),
        ("anthropic", "/proxy/v1", "/proxy/v1/models?limit=1000"),
        ("gemini", "", "/v1beta/models?pageSize=1000"),
        ("gemini", "/v1beta", "/v1beta/models?pageSize=1000"),
    ],
)
def test_where_the_list_stands(local: Gateway, up: ScriptedUpstream, protocol: str, base: str, target: str) -> None:
    local.ok("init")
    add(local, "host", f"{up.url}{base}", "--protocol", protocol)
    up.always(json_reply({"data": [], "models": []}))
    assert local.json("providers", "test", "host")["models"] == 0
    assert [request.target for request in up.requests] == [target]
    header = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}[protocol]
    assert str(up.requests[0].header(header)).endswith(SECRET)
    assert up.requests[0].header("anthropic-version") == ("2023-06-01" if protocol == "anthropic" else None)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (error_reply(401, SECRET), "refuses the credential"),
        (error_reply(500, SECRET), "HTTP 500"),
        (Reply(302, [("Location", "/elsewhere")]), "HTTP 302"),
        (json_reply([1]), "no list"),
        (json_reply({"data": "x"}), "no list"),
        (json_reply({"data": [{"name": SECRET}]}), "no list"),
        (json_reply({}), "no list"),
        (Reply(body=b"[" * 5000), "no list"),
        (html_reply(), "no list"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", Close()], "does not answer"),
    ],
)
def test_a_provider_that_does_not_answer_as_it_should(ready: Gateway, up: ScriptedUpstream, answer: Answer, word: str) -> None:
    up.always(answer)
    for command in ("test", "sync-models"):
        result = ready.run("providers", command, "openai")
        assert (result.code, result.out) == (1, "")
        assert word in result.err
        assert SECRET not in result.err
    assert len(up.requests) == 2  # a redirect is not followed


def test_nobody_listens_or_no_credential(ready: Gateway) -> None:
    ready.ok("providers", "update", "openai", "--base-url", f"{closed_port_url()}/v1")
    assert ready.run("providers", "test", "openai").code == 1
    ready.ok("credentials", "disable", "openai/default")
    assert ready.run("providers", "test", "openai").code == 4
    assert ready.run("providers", "sync-models", "openai").code == 4
    assert ready.run("providers", "sync-models", "nobody").code == 3


def test_a_provider_that_falls_silent_or_never_ends_is_left(
    ready: Gateway, up: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_list, "SILENCE_S", 0.2)
    up.always([Stall()])
    assert ready.run("providers", "test", "openai").code == 1
    monkeypatch.setattr(upstream_list, "MAX_BYTES", 1000)
    for answer in (ids("x" * 2000), gzip_reply({"data": [{"id": "x" * 5000}]})):  # gzip is small on the wire
        up.always(answer)
        result = ready.run("providers", "test", "openai")
        assert (result.code, "does not answer" in result.err) == (1, True)


# ------------------------------------------------------------------------------------------------ pages


def anthropic_pages(request: Received) -> Answer:
    assert request.header("x-api-key") == SECRET
    names = ["claude-3-5-haiku-20241022", "claude-sonnet-4-20250514", "claude-opus-9"]
    query = parse_qs(request.query)
    start = names.index(query["after_id"][0]) + 1 if "after_id" in query else 0
    item = {"type": "model", "id": names[start], "display_name": names[start].title(), "created_at": "2025-01-01T00:00:00Z"}
    item |= {"max_input_tokens": 123_000, "max_tokens": 4_000} if start == 0 else {}
    return json_reply({"data": [item], "has_more": start < 2, "first_id": names[start], "last_id": names[start]})


def test_anthropics_pages_are_read_with_their_limits(local: Gateway, up: ScriptedUpstream) -> None:
    local.ok("init")
    add(local, "anthropic", f"{up.url}/v1")
    up.always(anthropic_pages)
    report = synced(local, "anthropic")
    assert report["added"] == ["claude-3-5-haiku-20241022", "claude-sonnet-4-20250514"]
    assert report["unpriced"] == ["claude-opus-9"]
    assert [request.query for request in up.requests] == [
        "limit=1000", "limit=1000&after_id=claude-3-5-haiku-20241022", "limit=1000&after_id=claude-sonnet-4-20250514",
    ]  # fmt: skip
    told = local.json("models", "show", "claude-3-5-haiku-20241022")
    assert (told["display_name"], told["context_length"], told["max_output"]) == ("Claude-3-5-Haiku-20241022", 123_000, 4_000)
    known = local.json("models", "show", "claude-sonnet-4-20250514")
    assert known["context_length"] >= 200_000
    assert known["max_output"] == 64_000
    assert {"streaming", "tools", "reasoning"} <= set(known["features"])


def gemini_pages(request: Received) -> Answer:
    page = int(parse_qs(request.query).get("pageToken", ["0"])[0])
    if page == 2:
        return json_reply({})  # an empty page, as Google writes it
    names = [["gemini-2.5-pro"], ["gemini-2.5-flash", "gemini-unheard-of"]][page]
    models = [{"name": f"models/{name}", "displayName": name.upper(), "inputTokenLimit": 1_048_576} for name in names]
    return json_reply({"models": models, "nextPageToken": str(page + 1)})


def test_geminis_pages_are_read(local: Gateway, up: ScriptedUpstream) -> None:
    local.ok("init")
    add(local, "gemini", f"{up.url}/v1beta")
    up.always(gemini_pages)
    report = synced(local, "gemini")
    assert (report["added"], report["unpriced"]) == (["gemini-2.5-flash", "gemini-2.5-pro"], ["gemini-unheard-of"])
    assert [request.header("x-goog-api-key") for request in up.requests] == [SECRET] * 3
    shown = local.json("models", "show", "gemini-2.5-pro")
    assert (shown["display_name"], shown["context_length"]) == ("GEMINI-2.5-PRO", 1_048_576)


def test_pages_without_end_are_refused(local: Gateway, up: ScriptedUpstream) -> None:
    local.ok("init")
    add(local, "gemini", f"{up.url}/v1beta")
    up.always(json_reply({"models": [{"name": "models/gemini-2.5-pro"}], "nextPageToken": "again"}))
    result = local.run("providers", "sync-models", "gemini")
    assert (result.code, "more than 50 pages" in result.err) == (1, True)
    assert len(up.requests) == 50
    assert local.json("models", "list") == []


# ------------------------------------------------------------------------------------------------ sync


def test_new_existing_unpriced_and_gone_are_told_apart(ready: Gateway, up: ScriptedUpstream) -> None:
    up.always(ids("gpt-4o-mini", "gpt-4o", "no-such-model", "text-embedding-3-small"))
    ready.ok("models", "add", "gpt-4o", "--provider", "openai", "--price", "input=1", "--price", "output=1")
    ready.ok("models", "add", "mine", "--provider", "openai", "--upstream", "gpt-3.5-turbo")
    wanted = {
        "provider": "openai", "dry_run": True, "added": ["gpt-4o-mini", "text-embedding-3-small"], "existing": ["gpt-4o"],
        "unpriced": ["no-such-model"], "gone": ["mine"], "skipped": [],
    }  # fmt: skip
    assert synced(ready, "openai", "--dry-run") == wanted
    assert len(ready.json("models", "list")) == 2  # nothing was changed
    assert synced(ready) == wanted | {"dry_run": False}
    models = {row["id"]: row for row in ready.json("models", "list")}
    assert models["gpt-4o"]["prices"] == {"input": "1", "output": "1"}
    assert models["gpt-4o-mini"]["prices"]["input"] == "0.15"
    assert models["gpt-4o-mini"]["context_length"] == 128_000
    assert models["text-embedding-3-small"]["type"] == "embedding"
    assert models["mine"]["enabled"] is True  # what is gone is only named
    again = synced(ready)
    assert (again["added"], again["existing"]) == ([], ["gpt-4o", "gpt-4o-mini", "text-embedding-3-small"])


def test_existing_models_keep_everything(ready: Gateway, up: ScriptedUpstream) -> None:
    up.always(json_reply({"data": [{"id": "gpt-4o", "context_length": 5, "name": "Theirs"}]}))
    ready.ok(
        "models", "add", "best", "--provider", "openai", "--upstream", "gpt-4o", "--input-price", "9", "--output-price", "9"
    )
    ready.ok("models", "disable", "best")
    before = ready.json("models", "show", "best")
    assert synced(ready)["existing"] == ["best"]
    assert ready.json("models", "show", "best") == before
    assert ready.json("models", "show", "best", "--prices")[0]["valid_to"] is None


def test_only_what_matches_is_looked_at(ready: Gateway, up: ScriptedUpstream) -> None:
    ready.ok("models", "add", "gpt-3.5-turbo", "--provider", "openai")
    up.always(ids("gpt-4o-mini", "o3-mini", "text-embedding-3-small"))
    report = synced(ready, "openai", "--match", "o3*")
    assert (report["added"], report["existing"], report["unpriced"], report["gone"]) == (["o3-mini"], [], [], [])


def test_all_adds_the_unpriced_disabled_and_they_need_a_price_first(ready: Gateway, up: ScriptedUpstream) -> None:
    up.always(ids("gpt-4o-mini", "their-own-model", "their-embedder"))
    assert synced(ready, "openai", "--all", "--dry-run")["unpriced"] == ["their-embedder", "their-own-model"]
    report = synced(ready, "openai", "--all")
    assert (report["added"], report["unpriced"]) == (["gpt-4o-mini"], ["their-embedder", "their-own-model"])
    models = {row["id"]: row for row in ready.json("models", "list")}
    assert {name: row["enabled"] for name, row in models.items()} == {
        "gpt-4o-mini": True, "their-own-model": False, "their-embedder": False,
    }  # fmt: skip
    assert models["their-embedder"]["type"] == "embedding"
    assert models["their-own-model"]["prices"] == {}
    refused = ready.run("models", "enable", "their-own-model")
    assert (refused.code, "no price" in refused.err) == (5, True)
    ready.ok("models", "update", "their-own-model", "--input-price", "1", "--output-price", "2")
    ready.ok("models", "enable", "their-own-model")
    assert synced(ready, "openai", "--all") == report | {
        "added": [], "unpriced": [], "existing": ["gpt-4o-mini", "their-embedder", "their-own-model"],
    }  # fmt: skip
    exported = ready.ok("catalog", "export").out
    assert ready.run("catalog", "import", "-", "--json", stdin=exported).json == [
        {"id": name, "action": "keep", "fields": []} for name in sorted(models)
    ]


def test_prefix_and_groups_are_those_of_the_command(ready: Gateway, up: ScriptedUpstream) -> None:
    up.always(ids("gpt-4o-mini"))
    ready.ok("groups", "create", "team")
    add(ready, "groq", f"{up.url}/v1")
    ready.ok("models", "add", "gpt-4o-mini", "--provider", "groq", "--input-price", "1", "--output-price", "1")
    report = synced(ready)
    [skipped] = report["skipped"]
    assert (report["added"], skipped["id"]) == ([], "gpt-4o-mini")
    assert "--prefix" in skipped["reason"]
    assert synced(ready, "openai", "--prefix", "openai/", "--group", "team")["added"] == ["openai/gpt-4o-mini"]
    shown = ready.json("models", "show", "openai/gpt-4o-mini")
    assert (shown["groups"], shown["upstream"]) == (["team"], "gpt-4o-mini")
    assert ready.run("providers", "sync-models", "openai", "--prefix", "#").code == 2
    assert ready.run("providers", "sync-models", "openai", "--group", "nobody").code == 3


def test_names_that_cannot_be_ids_are_skipped(ready: Gateway, up: ScriptedUpstream) -> None:
    odd = ["gpt-4o mini", "", "gpt-4o#x", "gpt-4o\u202e", "x" * 300]
    up.always(ids(*odd, "gpt-4o-mini", "GPT-4O-MINI"))
    report = synced(ready, "openai", "--all")
    assert sorted(item["id"] for item in report["skipped"]) == sorted(odd)
    assert len(report["added"]) == 1  # the second spelling is the same name
    shown = ready.ok("providers", "sync-models", "openai", "--all")
    assert "\u202e" not in shown.out


def test_a_person_sees_a_table_and_no_secret(ready: Gateway, up: ScriptedUpstream) -> None:
    up.always(ids("gpt-4o-mini", "no-such-model"))
    ready.ok("models", "add", "old", "--provider", "openai", "--upstream", "gpt-3.5-turbo")
    result = ready.ok("providers", "sync-models", "openai", "--dry-run")
    lines = {line.split()[0]: line for line in result.lines}
    assert "would be added" in lines["gpt-4o-mini"]
    assert "input=0.15" in lines["gpt-4o-mini"]
    assert "no known price" in lines["no-such-model"]
    assert "gone" in lines["old"]
    assert "--all" in result.err
    quiet = ready.ok("providers", "sync-models", "openai", "--quiet")
    assert quiet.lines == ["gpt-4o-mini"]
    said = result.out + result.err + quiet.out + quiet.err + json.dumps(ready.json("audit", "list"))
    assert SECRET not in said


def test_the_demo_provider_lists_its_model(local: Gateway) -> None:
    local.ok("init", "--demo")
    report = synced(local, "demo")
    assert (report["added"], report["unpriced"], report["gone"]) == ([], [], [])
