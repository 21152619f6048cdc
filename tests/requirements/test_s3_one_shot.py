"""S3: embeddings, images and the other one-shot endpoints, and models on the wrong one (S3-09, S3-10)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.support.gateway import CHAT, CLAUDE, EMBEDDING, IMAGE
from tests.support.upstream import json_reply
from tests.support.world import World, error_of

VECTORS = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": "AACAPw=="}], "model": EMBEDDING}


def sold(world: World, kind: str, *prices: str, upstream: str | None = None, provider: str = "openai") -> str:
    """A fresh model of a kind at these prices; its id."""
    name = world.name(kind)
    options = [option for price in prices for option in ("--price", price)]
    named = ("--upstream", upstream) if upstream else ()
    world.home.ok("models", "add", name, "--provider", provider, "--type", kind, *options, *named, "--group", "g1")
    return name


# ------------------------------------------------------------------------------------------------ S3-09


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings", "/api/v1/embeddings", "/v1/openai/embeddings"])
@pytest.mark.parametrize(
    "fields",
    [
        {"input": "The food was delicious."},
        {"input": ["one", "two"], "encoding_format": "base64", "dimensions": 256},
        {"input": [[1, 2, 3], [4]], "encoding_format": "float", "user": "u", "unknown": {"x": None}},
    ],
    ids=["text", "texts", "tokens"],
)
def test_s3_09_embeddings_reach_the_provider_as_they_are(world: World, path: str, fields: dict[str, Any]) -> None:
    world.openai.script(json_reply(VECTORS | {"usage": {"prompt_tokens": 8, "total_tokens": 8}}))
    body = json.dumps({"model": EMBEDDING, **fields}).encode()
    reply = world.gateway.post(path, world.alice.key, body)
    assert (reply.status_code, reply.json()["data"]) == (200, VECTORS["data"])
    assert world.openai.requests[0].path == "/v1/embeddings"
    assert world.openai.requests[0].body == body
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["usage"], record["estimated"]) == ({"input": 8}, False)
    assert record["charged"] == reply.headers["x-gateway-cost"] == "0.00000016"


def test_s3_09_images_by_the_piece_and_their_number(world: World) -> None:
    model = sold(world, "image", "image=0.04")
    for path in ("/v1/images/generations", "/v1/openai/images/generations"):
        world.openai.script(json_reply({"created": 1, "data": [{"url": "https://x/1"}, {"url": "https://x/2"}]}))
        body = {"model": model, "prompt": "a cat", "n": 2, "size": "1024x1024", "response_format": "url", "style": "vivid"}
        reply = world.gateway.post(path, world.alice.key, body)
        assert (reply.status_code, len(reply.json()["data"])) == (200, 2)
        assert world.openai.requests[-1].json == body
        assert reply.headers["x-gateway-cost"] == "0.08"


def test_s3_09_a_price_by_size_and_quality_decides(world: World) -> None:
    model = sold(world, "image", "image/1024x1024=0.04", "image/1024x1024/hd=0.08", "image/1792x1024=0.12")
    cases = [("1024x1024", None, "0.04"), ("1024x1024", "hd", "0.08"), ("1792x1024", "standard", "0.12"), (None, None, "0.12")]
    for size, quality, cost in cases:
        world.openai.script(json_reply({"created": 1, "data": [{"b64_json": "AAAA"}]}))
        body = (
            {"model": model, "prompt": "a cat"} | ({"size": size} if size else {}) | ({"quality": quality} if quality else {})
        )
        assert world.gateway.post("/v1/images/generations", world.alice.key, body).headers["x-gateway-cost"] == cost


def test_s3_09_images_by_their_tokens(world: World) -> None:
    usage = {
        "input_tokens": 50, "output_tokens": 1000, "total_tokens": 1050,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    }  # fmt: skip
    world.openai.script(json_reply({"created": 1, "data": [{"b64_json": "AAAA"}], "usage": usage}))
    reply = world.gateway.post("/v1/images/generations", world.alice.key, {"model": IMAGE, "prompt": "a cat"})
    record = world.home.record_of(reply.headers["x-request-id"])
    assert record["usage"] == {"input": 10, "image_input": 40, "image_output": 1000, "image": 1}
    assert Decimal(record["charged"]) == (Decimal(10) * 5 + Decimal(40) * 10 + Decimal(1000) * 40) / 1_000_000
    assert record["estimated"] is False


def test_s3_09_tokens_that_are_not_told_are_estimated_by_size_and_quality(world: World) -> None:
    world.openai.script(json_reply({"created": 1, "data": [{"b64_json": "AAAA"}]}))
    body = {"model": IMAGE, "prompt": "a cat", "quality": "low", "size": "1024x1024"}
    reply = world.gateway.post("/v1/images/generations", world.alice.key, body)
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["usage"]["image_output"], record["estimated"]) == (272, True)
    assert Decimal(record["charged"]) > Decimal("0.01")


def test_s3_09_an_image_of_20_mb_comes_whole(world: World) -> None:
    model = sold(world, "image", "image=0.04")
    picture = "QUJD" * (5 * 1024 * 1024)
    world.openai.script(json_reply({"created": 1, "data": [{"b64_json": picture}]}))
    body = {"model": model, "prompt": "a cat", "response_format": "b64_json"}
    reply = world.gateway.post("/v1/images/generations", world.alice.key, body)
    assert reply.json()["data"][0]["b64_json"] == picture
    assert reply.headers["x-gateway-cost"] == "0.04"


def test_s3_09_the_other_names_of_a_model(world: World) -> None:
    for name in (f"OpenAI#{EMBEDDING}", f"openai/{EMBEDDING}"):
        world.openai.script(json_reply(VECTORS | {"usage": {"prompt_tokens": 8, "total_tokens": 8}}))
        reply = world.gateway.post("/v1/embeddings", world.alice.key, {"input": "x", "model": name})
        assert reply.json()["model"] == name
        assert world.openai.requests[-1].body == b'{"input": "x", "model": "%s"}' % EMBEDDING.encode()


def test_s3_09_many_inputs_are_held_for_together(world: World) -> None:
    model = sold(world, "embedding", "input=1000")
    world.home.ok("models", "update", model, "--context-length", "1000")
    user = world.person(balance="1.9")  # two inputs of a thousand tokens may cost two dollars
    body = {"model": model, "input": ["x" * 4000, "y" * 4000]}
    error_of(world.gateway.post("/v1/embeddings", user.key, body), 402, "insufficient_balance")
    world.openai.script(json_reply(VECTORS | {"usage": {"prompt_tokens": 1800, "total_tokens": 1800}}))
    world.home.ok("topup", user.name, "0.1")
    assert world.gateway.post("/v1/embeddings", user.key, body).headers["x-gateway-cost"] == "1.8"
    long = world.gateway.post("/v1/embeddings", world.alice.key, {"model": model, "input": ["x" * 17_000, "y"]})
    assert error_of(long, 400, "context_length_exceeded")["param"] == "input"


def test_s3_09_completions_of_several_prompts(world: World) -> None:
    choices = [{"index": index, "text": f"answer {index}", "finish_reason": "stop", "logprobs": None} for index in range(4)]
    usage = {"prompt_tokens": 6, "completion_tokens": 8, "total_tokens": 14}
    reply_body = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": CHAT, "choices": choices, "usage": usage}
    for path in ("/v1/completions", "/v1/openai/completions"):
        world.openai.script(json_reply(reply_body))
        body = {"model": CHAT, "prompt": ["one", "two"], "n": 2, "max_tokens": 5, "echo": False}
        reply = world.gateway.post(path, world.alice.key, body)
        assert (reply.json(), world.openai.requests[-1].json) == (reply_body, body)
        record = world.home.record_of(reply.headers["x-request-id"])
        assert (record["usage"], record["estimated"]) == ({"input": 6, "output": 8}, False)


def test_s3_09_moderations_have_a_default_model(world: World) -> None:
    names = ("omni-moderation-latest", "--provider", "openai", "--type", "moderation", "--price", "input=0", "--group", "g1")
    world.home.ok("models", "add", *names, "--upstream", "text-moderation-9", "--if-not-exists")
    results = {"id": "modr-1", "model": "text-moderation-9", "results": [{"flagged": False, "categories": {}}]}
    for path, shown in (("/v1/moderations", "omni-moderation-latest"), ("/v1/openai/moderations", "text-moderation-9")):
        world.openai.script(json_reply(results))
        reply = world.gateway.post(path, world.alice.key, {"input": ["one", "two"]})
        assert (reply.status_code, reply.json()["model"], reply.headers["x-gateway-cost"]) == (200, shown, "0")
        assert world.openai.requests[-1].json == {"model": "text-moderation-9", "input": ["one", "two"]}


@pytest.mark.parametrize(
    ("told", "cost", "usage"),
    [
        ({"meta": {"billed_units": {"search_units": 2}}}, "0.004", {"request": 2}),
        ({}, "0.002", {"request": 1}),
    ],
)
def test_s3_09_rerank_by_the_search_unit(world: World, told: dict[str, Any], cost: str, usage: dict[str, int]) -> None:
    model = sold(world, "rerank", "request=0.002")
    results = {"id": "r", "results": [{"index": 1, "relevance_score": 0.9}]}
    for path in ("/v1/rerank", "/v1/openai/rerank"):
        world.openai.script(json_reply(results | told))
        body = {"model": model, "query": "which?", "documents": ["a", {"text": "b"}], "top_n": 1}
        reply = world.gateway.post(path, world.alice.key, body)
        assert (reply.json(), world.openai.requests[-1].json) == (results | told, body)
        assert reply.headers["x-gateway-cost"] == cost
        assert world.home.record_of(reply.headers["x-request-id"])["usage"] == usage


def test_s3_09_a_bound_of_search_units_is_held_for_and_not_billed(world: World) -> None:
    model = sold(world, "rerank", "request=1")
    body = {"model": model, "query": "q", "documents": ["d" * 51_100]}  # two units at most, as a token has a byte at least
    error_of(world.gateway.post("/v1/rerank", world.person(balance="1.99").key, body), 402, "insufficient_balance")
    world.openai.script(json_reply({"results": [], "meta": {"billed_units": {"search_units": 1}}}))
    assert world.gateway.post("/v1/rerank", world.person(balance="2").key, body).headers["x-gateway-cost"] == "1"


# ------------------------------------------------------------------------------------------------ S3-10

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "x"},
    "/v1/embeddings": {"input": "x"},
    "/v1/images/generations": {"prompt": "x"},
    "/v1/audio/speech": {"input": "x", "voice": "alloy"},
    "/v1/moderations": {"input": "x"},
    "/v1/rerank": {"query": "x", "documents": ["y"]},
}
KINDS = {
    "chat": {"/v1/chat/completions", "/v1/completions"},
    "embedding": {"/v1/embeddings"},
    "image": {"/v1/images/generations"},
    "audio": {"/v1/audio/speech"},
    "moderation": {"/v1/moderations"},
    "rerank": {"/v1/rerank"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_s3_10_a_model_serves_the_endpoints_of_its_kind_alone(world: World, kind: str) -> None:
    model = sold(world, kind, "input=1", *(["output=1"] if kind == "chat" else []))
    for path, body in BODIES.items():
        reply = world.gateway.post(path, world.alice.key, {"model": model, **body})
        if path in KINDS[kind]:
            assert reply.status_code == 200, (path, reply.text)
        else:
            error = error_of(reply, 400, "unsupported_endpoint")
            assert (error["param"], path in error["message"]) == ("model", True)
    assert len(world.openai.requests) == len(KINDS[kind])


def test_s3_10_as_it_was_asked_for(world: World) -> None:
    for path, model in (("/v1/chat/completions", EMBEDDING), ("/v1/images/generations", CHAT)):
        reply = world.gateway.post(path, world.alice.key, {"model": model, **BODIES[path]})
        error_of(reply, 400, "unsupported_endpoint")
    assert world.openai.requests == []


def test_s3_10_only_providers_of_openais_protocol_serve_them(world: World) -> None:
    world.home.ok("providers", "add", slug := world.name("host"), "--protocol", "anthropic", "--base-url", world.claude.url)
    world.home.ok("credentials", "add", slug, "--from-env", "S", env={"S": "sk-ant-x-1234567"})
    model = world.model(provider=slug)
    error_of(
        world.gateway.post("/v1/completions", world.alice.key, {"model": model, "prompt": "x"}), 400, "unsupported_endpoint"
    )
    error_of(world.gateway.post("/v1/completions", world.alice.key, {"model": CLAUDE, "prompt": 5}), 400, "invalid_value")
