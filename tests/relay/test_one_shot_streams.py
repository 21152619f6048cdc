"""Streams of completions and images: bytes pass, the end waits for the charge, what breaks off never looks whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.gateway import CHAT, IMAGE
from tests.support.upstream import cut_stream, sse, usage_of
from tests.support.world import World, data_lines

ASK = {"model": CHAT, "prompt": "say", "stream": True}


def completion(*texts: str, model: str = CHAT, finish: bool = True, usage: bool = True, done: bool = True) -> list[Any]:
    base = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model}
    frames: list[Any] = [
        base | {"choices": [{"index": 0, "text": text, "finish_reason": None, "logprobs": None}]} for text in texts
    ]
    if finish:
        frames.append(base | {"choices": [{"index": 0, "text": "", "finish_reason": "stop", "logprobs": None}]})
    if usage:
        frames.append(base | {"choices": [], "usage": usage_of(3, 4)})
    return [*frames, *(["[DONE]"] if done else [])]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/openai/completions"])
def test_completions_stream_as_they_are(world: World, path: str) -> None:
    whole = b"".join(f"data: {json.dumps(x) if isinstance(x, dict) else x}\n\n".encode() for x in completion("a", "b🙂"))
    world.openai.script(list(sse(completion("a", "b🙂"), split=0)))
    reply = world.gateway.post(path, world.alice.key, ASK | {"stream_options": {"include_usage": True}})
    assert reply.content == whole
    [record] = world.home.usage("--request-id", reply.headers["x-request-id"])
    assert (record["usage"], record["estimated"], record["stream"]) == ({"input": 3, "output": 4}, False, True)


def test_without_usage_a_stream_of_completions_is_counted(world: World) -> None:
    world.openai.script(list(sse(completion("word " * 50, usage=False))))
    reply = world.gateway.post("/v1/completions", world.alice.key, ASK)
    assert "stream_options" not in world.openai.requests[0].json
    record = world.home.record_of(reply.headers["x-request-id"])
    assert record["estimated"] is True
    assert (record["usage"]["input"], 40 < record["usage"]["output"] < 60) == (1, True)


def test_a_stream_of_completions_shows_the_name_that_was_asked_for(world: World) -> None:
    alias = world.name("alias")
    model = world.model("--upstream", "their-name", "--alias", alias)
    world.openai.script(list(sse(completion("a", model="their-name"), split=0)))
    reply = world.gateway.post("/v1/completions", world.alice.key, ASK | {"model": alias})
    assert {json.loads(line)["model"] for line in data_lines(reply.text)[:-1]} == {alias}
    assert world.openai.requests[0].json["model"] == "their-name"
    assert model != alias


@pytest.mark.parametrize("cut", ["cleanly", "by a reset"])
def test_a_stream_of_completions_that_breaks_off_ends_with_an_error(world: World, cut: str) -> None:
    frames = completion("word " * 50, finish=False, usage=False, done=False)
    world.openai.script(list(sse(frames)) if cut == "cleanly" else cut_stream(frames))
    reply = world.gateway.post("/v1/completions", world.alice.key, ASK)
    assert json.loads(data_lines(reply.text)[-1])["error"]["code"] == "upstream_error"
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["status"], record["estimated"], record["usage"]["output"] > 40) == ("error", True, True)


# ------------------------------------------------------------------------------------------------ images

USAGE = {"input_tokens": 10, "output_tokens": 300, "total_tokens": 310, "input_tokens_details": {"text_tokens": 10}}


def image(kind: str, data: str = "QUJD", **more: Any) -> bytes:
    event = {"type": f"image_generation.{kind}", "b64_json": data, "size": "1024x1024", "quality": "low", **more}
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def painter(world: World, *prices: str) -> str:
    name = world.name("painter")
    options = [option for price in prices for option in ("--price", price)]
    world.home.ok("models", "add", name, "--provider", "openai", "--type", "image", *options, "--group", "g1")
    return name


def paint(world: World, model: str, *, path: str = "/v1/images/generations", **fields: Any) -> Any:
    body = {"model": model, "prompt": "a cat", "stream": True, "partial_images": 1, **fields}
    return world.gateway.post(path, world.alice.key, body)


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/openai/images/generations"])
def test_every_image_of_a_stream_arrives_and_is_billed(world: World, path: str) -> None:
    model = painter(world, "image=0.04", "image/1024x1024/low=0.01")
    frames = [image("partial_image", partial_image_index=0), image("completed"), image("completed", usage=USAGE)]
    world.openai.script(list(sse(frames, split=50)))
    reply = paint(world, model, path=path, n=2)
    assert reply.content == b"".join(frames)
    [record] = world.home.usage("--request-id", reply.headers["x-request-id"])  # it is there with the last byte
    assert (record["charged"], record["estimated"], record["status"]) == ("0.02", False, "ok")


def test_an_image_of_20_mb_comes_in_one_event(world: World) -> None:
    picture = "QUJD" * (5 * 1024 * 1024)
    world.openai.script(list(sse([image("completed", picture, usage=USAGE)])))
    reply = paint(world, IMAGE)
    assert json.loads(data_lines(reply.text)[0])["b64_json"] == picture
    record = world.home.record_of(reply.headers["x-request-id"])
    assert record["usage"] == {"input": 10, "image_output": 300, "image/1024x1024/low": 1}


def test_images_that_never_came_are_not_billed(world: World) -> None:
    model = painter(world, "image=0.04")
    world.openai.script(list(sse([image("partial_image")])), cut_stream([image("completed"), image("partial_image")]))
    for cost in ("0", "0.04"):
        reply = paint(world, model, n=2)
        assert json.loads(data_lines(reply.text)[-1])["error"]["code"] == "upstream_error"
        record = world.home.record_of(reply.headers["x-request-id"])
        assert (record["status"], record["charged"]) == ("error", cost)


def test_an_error_in_a_stream_of_images_is_the_last_event(world: World) -> None:
    model = painter(world, "image=0.04")
    failed = {"type": "error", "error": {"message": "refused by the safety system", "code": "moderation_blocked"}}
    world.openai.script(list(sse([image("partial_image"), failed])), list(sse([failed])))
    begun, never = paint(world, model), paint(world, model)
    assert json.loads(data_lines(begun.text)[-1]) == failed
    assert never.status_code == 502
    for reply in (begun, never):
        assert world.home.record_of(reply.headers["x-request-id"])["charged"] == "0"
