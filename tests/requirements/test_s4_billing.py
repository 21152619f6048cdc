"""S4: what is recorded, held and charged (S4-11, S4-12, S4-17, S4-23 … S4-27, S4-31)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.support.gateway import CHAT, CLAUDE, ask
from tests.support.upstream import Answer, Received, chat_frames, chat_reply, error_reply, json_reply, sse, usage_of
from tests.support.world import World, data_lines, dump, error_of

PRICES = ("2.5", "10")


def charge_of(world: World, reply: Any) -> dict[str, Any]:
    """The usage record of a reply; its charge is also what the reply said, when it said so."""
    record = world.home.record_of(reply.headers["x-request-id"])
    if "x-gateway-cost" in reply.headers:
        assert record["charged"] == reply.headers["x-gateway-cost"]
    return record


# ------------------------------------------------------------------------------------------------ S4-11


def test_s4_11_every_request_has_one_record(world: World) -> None:
    user = world.person()
    replies = [
        world.gateway.chat(user.key, "the words of a prompt: xylophone-marmalade"),
        world.gateway.chat(user.key, stream=True),
        world.gateway.chat(user.key, path="/v1/openai/chat/completions"),
        world.gateway.chat(user.key, model="nope"),
        world.gateway.chat(user.key, temperature=9),
        world.gateway.post("/v1/chat/completions", user.key, b"{"),
    ]
    world.openai.script(error_reply(500))
    replies.append(world.gateway.chat(user.key))
    records = {record["request_id"]: record for record in world.home.usage("--user", user.name)}
    assert set(records) == {reply.headers["x-request-id"] for reply in replies}
    rows = [records[reply.headers["x-request-id"]] for reply in replies]
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "refused", "refused", "refused", "error"]
    assert [row["http_status"] for row in rows] == [200, 200, 200, 404, 400, 400, 502]
    assert [row["error_code"] for row in rows] == [
        None, None, None, "model_not_found", "invalid_value", "invalid_json", "upstream_error",
    ]  # fmt: skip
    assert all(row["cost"] == row["charged"] == "0" for row in rows[3:])
    first = rows[0]
    assert (first["user"], first["key_id"], first["provider"]) == (user.name, user.key_id, "openai")
    assert (first["model"], first["served_model"], first["endpoint"]) == (CHAT, CHAT, "/v1/chat/completions")
    assert first["usage"] == {"input": 6, "output": 6}
    assert (first["cost"], first["upstream_cost"], first["estimated"], first["cached"]) == ("0.000018",) * 2 + (False, False)
    assert first["latency_ms"] >= 0
    assert [row["stream"] for row in rows[:2]] == [False, True]
    assert rows[1]["ttft_ms"] is not None


def test_s4_11_prompts_and_replies_are_not_stored(world: World) -> None:
    world.openai.script(chat_reply("the answer: quicksilver-doughnut", usage_of(5, 5)))
    world.gateway.chat(world.alice.key, "the question: xylophone-marmalade")
    world.gateway.chat(world.alice.key, "xylophone-marmalade", model="nope")
    stored = dump(world.home) + world.gateway.log
    assert "xylophone-marmalade" not in stored
    assert "quicksilver-doughnut" not in stored


# ------------------------------------------------------------------------------------------------ S4-12


def test_s4_12_the_hold_uses_max_tokens(world: World) -> None:
    model = world.model(price=("0.6", "10"))
    user = world.person(balance="0.001")
    error = error_of(world.gateway.chat(user.key, model=model, max_tokens=1000), 402, "insufficient_balance")
    assert "0.001" in error["message"]  # what there is, and what it needs:
    assert "0.0100" in error["message"]
    assert world.openai.requests == []
    error_of(world.gateway.chat(user.key, model=model, max_tokens=50, n=4), 402, "insufficient_balance")
    assert world.openai.requests == []
    assert world.gateway.chat(user.key, model=model, max_tokens=50).status_code == 200
    world.home.ok("topup", user.name, "1")
    assert world.gateway.chat(user.key, model=model, max_tokens=1000).status_code == 200


def test_s4_12_the_hold_uses_every_multiplier(world: World) -> None:
    model = world.model("--multiplier", "2", price=("0", "10"))
    user = world.person("--multiplier", "3", balance="0.001")
    error_of(world.gateway.chat(user.key, model=model, max_tokens=17), 402, "insufficient_balance")  # 0.00102
    assert world.gateway.chat(user.key, model=model, max_tokens=16).status_code == 200


# ------------------------------------------------------------------------------------------------ S4-17


def test_s4_17_unknown_unpriced_and_ungranted_models(world: World) -> None:
    unpriced = world.unpriced_model()
    hidden = world.model(group="g2")
    user = world.person()
    unified, prefixed = "/v1/chat/completions", "/v1/openai/chat/completions"
    cases = [
        (unified, "gpt-5-unknown", 404, "model_not_found"),
        (prefixed, "gpt-5-unknown", 400, "unknown_model_pricing"),
        (unified, unpriced, 400, "unknown_model_pricing"),
        (prefixed, unpriced, 400, "unknown_model_pricing"),
        (unified, hidden, 404, "model_not_found"),
        (prefixed, hidden, 404, "model_not_found"),
        (unified, "gpt-4o-mini-2024-07-18", 404, "model_not_found"),  # never by guessing a prefix
        (prefixed, "gpt-4o-mini-2024-07-18", 400, "unknown_model_pricing"),
        ("/v1/openai/embeddings", "gpt-5-unknown", 400, "unknown_model_pricing"),
    ]
    for path, model, status, code in cases:
        error = error_of(world.gateway.chat(user.key, model=model, path=path), status, code)
        if status == 400:
            assert f"Unknown model pricing: {model}" in error["message"]
            assert error["param"] == "model"
    assert world.openai.requests == []
    assert world.home.balance(user.name) == "5"


def test_s4_17_free_must_be_written(world: World) -> None:
    free = world.model(price=("0", "0"))
    user = world.person(balance=None)
    reply = world.gateway.chat(user.key, model=free)
    assert reply.status_code == 200
    record = charge_of(world, reply)
    assert (record["cost"], record["estimated"], record["usage"]) == ("0", False, {"input": 1, "output": 6})
    assert world.home.run("models", "add", "never-priced", "--provider", "openai").code != 0


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"version":1,"models":[{"id":"bad","provider":"openai","prices":{"input":"-1","output":"1"}}]}',
        '{"version":1,"models":[{"id":"bad","provider":"openai","prices":{"input":"NaN","output":"1"}}]}',
        '{"version":1,"models":[{"id":"bad","provider":"openai","prices":{"input":0.1,"output":0.2}}]}',
        '{"version":1,"models":[{"id":"bad","provider":"nobody","prices":{"input":"1","output":"1"}}]}',
        '{"version":1,"models":[{"id":"bad","provider":"openai","prices":{"input":"1"}}]}',
        '{"version":1,"models":[{"id":"ok","provider":"openai","prices":{"input":"1","output":"1"}},{"id":""}]}',
    ],
)
def test_s4_17_a_malformed_catalogue_changes_nothing(world: World, text: str) -> None:
    path = world.home.home / "model_catalog.json"
    path.write_text(text)
    before = world.home.ok("catalog", "export").out
    result = world.home.run("catalog", "import", str(path))
    assert result.code != 0
    assert result.err
    assert world.home.ok("catalog", "export").out == before


def test_s4_17_a_catalogue_round_trips_and_is_effective_at_once(world: World) -> None:
    document = json.loads(world.home.ok("catalog", "export").out)
    path = world.home.home / "model_catalog.json"
    path.write_text(json.dumps(document))
    world.home.ok("catalog", "import", str(path))
    assert json.loads(world.home.ok("catalog", "export").out) == document
    name = world.name("imported")
    entry = {
        "id": name,
        "provider": "openai",
        "prices": {"input": "1", "output": "2"},
        "groups": ["g1"],
        "aliases": [f"{name}-a"],
    }
    path.write_text(json.dumps({"version": 1, "models": [entry]}))
    world.home.ok("catalog", "import", str(path), "--dry-run")
    error_of(world.gateway.chat(world.alice.key, model=name), 404, "model_not_found")
    world.home.ok("catalog", "import", str(path))
    for model in (name, f"{name}-a"):
        assert world.gateway.chat(world.alice.key, model=model).status_code == 200


# ------------------------------------------------------------------------------------------------ S4-23

# usage as hosts of the chat dialect report it → the meters that are billed
SHAPES: list[tuple[str, dict[str, Any], dict[str, int]]] = [
    ("plain", usage_of(25, 50), {"input": 25, "output": 50}),
    ("cached, inside prompt_tokens",
     usage_of(100, 10) | {"prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0}},
     {"input": 36, "cached_input": 64, "output": 10}),
    ("written to the cache, inside prompt_tokens",
     usage_of(100, 10) | {"prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 30}},
     {"input": 50, "cached_input": 20, "cache_write_5m": 30, "output": 10}),
    ("reasoning, inside completion_tokens",
     usage_of(10, 200) | {"completion_tokens_details": {"reasoning_tokens": 150}},
     {"input": 10, "output": 200}),
    ("reasoning, outside completion_tokens: the total tells",
     {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115, "completion_tokens_details": {"reasoning_tokens": 100}},
     {"input": 10, "output": 105}),
    ("cached, by another name",
     usage_of(50, 5) | {"prompt_cache_hit_tokens": 40},
     {"input": 10, "cached_input": 40, "output": 5}),
]  # fmt: skip
PRICED = {"input": Decimal(2), "cached_input": Decimal("0.5"), "cache_write_5m": Decimal("2.5"), "output": Decimal(10)}


@pytest.mark.parametrize(("name", "usage", "meters"), SHAPES, ids=[shape[0] for shape in SHAPES])
def test_s4_23_each_shape_is_billed_exactly(world: World, name: str, usage: dict[str, Any], meters: dict[str, int]) -> None:
    model = world.model("--price", "cached_input=0.5", "--price", "cache_write_5m=2.5", price=("2", "10"))
    world.openai.script(chat_reply("x", usage), list(sse(chat_frames(["x"], usage))))
    for stream in (False, True):
        reply = world.gateway.chat(world.alice.key, model=model, stream=stream)
        assert reply.status_code == 200
        record = charge_of(world, reply)
        counted = {meter: count for meter, count in record["usage"].items() if meter != "reasoning"}
        assert counted == meters
        assert Decimal(record["charged"]) == sum(PRICED[meter] * count for meter, count in meters.items()) / 1_000_000
        assert record["estimated"] is False


def test_s4_23_without_a_price_of_their_own_cached_tokens_cost_as_input(world: World) -> None:
    model = world.model(price=("2", "10"))
    world.openai.script(chat_reply("x", usage_of(100, 0) | {"prompt_tokens_details": {"cached_tokens": 90}}))
    record = charge_of(world, world.gateway.chat(world.alice.key, model=model))
    assert (record["usage"]["cached_input"], record["charged"]) == (90, "0.0002")


@pytest.mark.parametrize(
    ("endpoint", "reply", "meters"),
    [
        ("responses", {"object": "response", "usage": {"input_tokens": 30, "output_tokens": 7,
         "input_tokens_details": {"cached_tokens": 10}, "total_tokens": 37}},
         {"input": 20, "cached_input": 10, "output": 7}),
        ("messages", {"type": "message", "usage": {"input_tokens": 30, "output_tokens": 7, "cache_read_input_tokens": 100}},
         {"input": 30, "cached_input": 100, "output": 7}),
        ("completions", {"object": "text_completion", "usage": usage_of(4, 3)}, {"input": 4, "output": 3}),
    ],
)  # fmt: skip
def test_s4_23_other_dialects_on_a_providers_own_routes(
    world: World, endpoint: str, reply: dict[str, Any], meters: dict[str, int]
) -> None:
    model = world.model("--price", "cached_input=0.5", price=("2", "10"))
    world.openai.script(json_reply(reply))
    body = {"model": model, "input": "x", "max_tokens": 100}
    got = world.gateway.post(f"/v1/openai/{endpoint}", world.alice.key, body)
    assert (got.status_code, got.json()) == (200, reply)
    record = charge_of(world, got)
    assert record["usage"] == meters
    assert Decimal(record["charged"]) == sum(PRICED[meter] * count for meter, count in meters.items()) / 1_000_000


def test_s4_23_embeddings_and_images_by_their_usage(world: World) -> None:
    vectors = world.name("vectors")
    world.home.ok(
        "models", "add", vectors, "--provider", "openai", "--type", "embedding", "--input-price", "2", "--group", "g1"
    )
    world.openai.script(json_reply({"object": "list", "data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}))
    record = charge_of(world, world.gateway.post("/v1/openai/embeddings", world.alice.key, {"model": vectors, "input": "x"}))
    assert (record["usage"], record["charged"]) == ({"input": 8}, "0.000016")

    painter = world.name("painter")
    prices = ("--input-price", "5", "--output-price", "40")
    world.home.ok("models", "add", painter, "--provider", "openai", "--type", "image", *prices, "--group", "g1")
    usage = {"input_tokens": 50, "output_tokens": 1000, "total_tokens": 1050, "input_tokens_details": {"text_tokens": 50}}
    world.openai.script(json_reply({"created": 1, "data": [{"b64_json": "AAAA"}], "usage": usage}))
    body = {"model": painter, "prompt": "a cat", "max_output_tokens": 2000}
    record = charge_of(world, world.gateway.post("/v1/openai/images/generations", world.alice.key, body))
    assert (record["usage"], record["charged"]) == ({"input": 50, "image_output": 1000, "image": 1}, "0.04025")


@pytest.mark.parametrize("route", ["/v1", "/v1/openai"])
@pytest.mark.parametrize(
    ("kind", "path", "body", "reply", "meters"),
    [
        ("embedding", "embeddings", {"input": "x"}, {"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
         {"input": 8}),
        ("embedding", "embeddings", {"input": "x"}, {"data": [], "usage": {"total_tokens": 8}}, {"input": 8}),
        ("image", "images/generations", {"prompt": "x"},
         {"data": [{}], "usage": {"input_tokens": 9, "output_tokens": 30,
          "output_tokens_details": {"text_tokens": 4, "image_tokens": 26}}},
         {"input": 9, "output": 4, "image_output": 26, "image": 1}),
        ("rerank", "rerank", {"query": "x", "documents": ["y"]}, {"results": [], "usage": {"total_tokens": 5}}, {"input": 5}),
        ("moderation", "moderations", {"input": "x"}, {"results": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}},
         {"input": 3}),
    ],
)  # fmt: skip
def test_s4_23_endpoints_that_are_no_conversation(
    world: World, route: str, kind: str, path: str, body: dict[str, Any], reply: dict[str, Any], meters: dict[str, int]
) -> None:
    model = world.name(kind)
    prices = ("--price", "input=2", "--price", "output=10", "--group", "g1")
    world.home.ok("models", "add", model, "--provider", "openai", "--type", kind, *prices)
    world.openai.script(json_reply(reply))
    got = world.gateway.post(f"{route}/{path}", world.alice.key, {"model": model, **body})
    assert (got.status_code, got.json()) == (200, reply)
    record = charge_of(world, got)
    assert (record["usage"], record["estimated"]) == (meters, False)
    tokens = {meter: 10 if "output" in meter else 2 for meter in meters if meter != "image"}
    assert Decimal(record["charged"]) == Decimal(sum(price * meters[meter] for meter, price in tokens.items())) / 1_000_000


# ------------------------------------------------------------------------------------------------ S4-24


def counting_stream(request: Received) -> Answer:
    """A stream of the Messages API whose counts of output are cumulative: 5, 12, 20."""
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 7},
    }  # fmt: skip
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        *({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": n}}
          for n in (5, 12, 20)),
        {"type": "message_stop"},
    ]  # fmt: skip
    return list(sse([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events], split=0))


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/anthropic/messages", "/v1/chat/completions", "/v1/responses"])
def test_s4_24_the_last_count_of_an_anthropic_stream_counts(world: World, path: str) -> None:
    world.claude.always(counting_stream)
    body: dict[str, Any] = {"input": "hi"} if path.endswith("responses") else ask(model=CLAUDE)
    limit = "max_output_tokens" if path.endswith("responses") else "max_tokens"
    reply = world.gateway.post(path, world.alice.key, body | {"model": CLAUDE, "stream": True, limit: 50})
    assert reply.status_code == 200
    record = charge_of(world, reply)
    assert (record["usage"], record["estimated"]) == ({"input": 25, "cached_input": 7, "output": 20}, False)
    assert Decimal(record["charged"]) == (Decimal(32) * 3 + Decimal(20) * 15) / 1_000_000


# ------------------------------------------------------------------------------------------------ S4-25


def test_s4_25_the_last_usage_that_is_not_null_counts(world: World) -> None:
    frames: list[Any] = chat_frames(["a", "b", "c"], None, done=False)
    frames[1]["usage"] = None
    frames[2]["usage"] = usage_of(7, 1)
    frames[4]["usage"] = usage_of(7, 3)  # with choices beside it
    frames.append(dict(frames[4], usage=None, choices=[]))
    world.openai.always(list(sse([*frames, "[DONE]"])))
    for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
        record = charge_of(world, world.gateway.chat(world.alice.key, path=path, stream=True))
        assert (record["usage"], record["estimated"]) == ({"input": 7, "output": 3}, False)


def test_s4_25_zero_is_a_value(world: World) -> None:
    world.openai.script(chat_reply("free words", usage_of(0, 0)), list(sse(chat_frames(["free"], usage_of(0, 0)))))
    for stream in (False, True):
        record = charge_of(world, world.gateway.chat(world.alice.key, stream=stream))
        assert (record["cost"], record["charged"], record["estimated"]) == ("0", "0", False)


# ------------------------------------------------------------------------------------------------ S4-26


def test_s4_26_without_usage_it_is_estimated_and_flagged(world: World) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 20
    world.openai.script(chat_reply(text, None), list(sse(chat_frames([text], None))))
    for stream in (False, True):
        reply = world.gateway.chat(world.alice.key, stream=stream, max_tokens=5000)
        record = charge_of(world, reply)
        assert record["estimated"] is True
        assert Decimal(record["cost"]) > 0
        assert 150 <= record["usage"]["output"] <= 250  # really 200
        header, line = world.home.ok("usage", "log", "--request-id", record["request_id"]).lines
        assert (header.split()[-1], line.split()[-1]) == ("estimated", "yes")


# ------------------------------------------------------------------------------------------------ S4-27


def test_s4_27_usage_is_asked_for_and_only_the_chunk_it_caused_is_taken_out(world: World) -> None:
    reply = world.gateway.chat(world.alice.key, "one two three", stream=True)
    assert world.openai.requests[0].json["stream_options"] == {"include_usage": True}
    chunks = [json.loads(line) for line in data_lines(reply.text)[:-1]]
    assert all(chunk["choices"] for chunk in chunks)
    record = charge_of(world, reply)
    assert (record["usage"], record["estimated"]) == ({"input": 3, "output": 6}, False)


def test_s4_27_a_client_that_asks_gets_the_chunk(world: World) -> None:
    body = ask("one two three", stream=True, stream_options={"include_usage": True})
    reply = world.gateway.post("/v1/chat/completions", world.alice.key, body)
    assert world.openai.requests[0].json == body
    last = json.loads(data_lines(reply.text)[-2])
    assert (last["choices"], last["usage"]) == ([], usage_of(3, 6))


def test_s4_27_it_is_not_asked_for_elsewhere(world: World) -> None:
    world.gateway.chat(world.alice.key)  # no stream
    world.gateway.chat(world.alice.key, stream=True, path="/v1/openai/chat/completions")  # the provider's own route
    shy = world.model(provider=world.provider("--no-include-usage"))
    world.gateway.chat(world.alice.key, stream=True, model=shy)
    assert all("stream_options" not in request.json for request in world.openai.requests)
    assert len(world.openai.requests) == 3


def test_s4_27_the_sample_loop_of_the_sdk_does_not_crash(world: World) -> None:
    sdk = openai.OpenAI(base_url=f"{world.gateway.url}/v1", api_key=world.alice.key, max_retries=0)
    stream = sdk.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "Tell me a story"}], stream=True)
    told = ""
    for chunk in stream:
        if chunk.choices[0].delta.content:
            told += chunk.choices[0].delta.content
    assert told == "Hello from the scripted upstream."


# ------------------------------------------------------------------------------------------------ S4-31


def test_s4_31_the_formula_to_the_last_digit(world: World) -> None:
    model = world.model("--multiplier", "1.5", price=PRICES)
    user = world.person("--multiplier", "1.2")
    world.openai.always(chat_reply("x", usage_of(25, 50)))
    record = charge_of(world, world.gateway.chat(user.key, model=model))
    assert record["charged"] == "0.0010125"
    assert record["upstream_cost"] == "0.0005625"
    assert world.home.balance(user.name) == "4.9989875"
    entries = world.home.json("ledger", "list", "--user", user.name)
    assert {entry["kind"]: entry["amount"] for entry in entries} == {"topup": "5", "charge": "-0.0010125"}

    world.home.ok("users", "update", user.name, "--multiplier", "2")  # history does not change
    assert world.home.record_of(record["request_id"])["charged"] == "0.0010125"
    assert charge_of(world, world.gateway.chat(user.key, model=model))["charged"] == "0.0016875"


def test_s4_31_a_zero_multiplier_is_free_but_logged(world: World) -> None:
    user = world.person("--multiplier", "0", balance=None)
    world.openai.always(chat_reply("x", usage_of(25, 50)))
    record = charge_of(world, world.gateway.chat(user.key))
    assert (record["charged"], record["usage"]) == ("0", {"input": 25, "output": 50})
    assert Decimal(record["upstream_cost"]) > 0


@pytest.mark.parametrize("value", ["-1", "NaN", "inf", "1e400", "", "x"])
def test_s4_31_a_bad_multiplier_is_refused(world: World, value: str) -> None:
    for command in (
        ("users", "update", "alice", "--multiplier", value),
        ("multipliers", "set", "--model", CHAT, value),
        ("models", "update", CHAT, "--multiplier", value),
        ("models", "update", CHAT, "--input-price", value),
    ):
        result = world.home.run(*command)
        assert result.code == 2, (command, result)
        assert result.err
    assert CHAT not in {row["subject"] for row in world.home.json("multipliers", "list")}
