"""Who leaves a stream before its usage is told a last time pays for what was delivered, not for what was told first."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.gateway import ask
from tests.support.upstream import Stall, Step, sse, usage_of
from tests.support.world import World

TEXT = "word " * 2000
START = {"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}}
DELTA = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": TEXT}}
END = {"type": "message_delta", "usage": {"output_tokens": 1500}}
STOP = {"type": "message_stop"}
MESSAGE: dict[str, Any] = {"max_tokens": 4000, "messages": [{"role": "user", "content": "x"}], "stream": True}


def chunk(text: str, **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


def read_and_leave(world: World, path: str, body: dict[str, Any], steps: list[Step]) -> dict[str, Any]:
    """Read all the text, then close the connection; the usage record."""
    world.openai.script(steps)
    client, got = world.gateway.client, 0
    with client.stream("POST", path, json=body, headers=world.gateway.headers(world.alice.key)) as reply:
        for piece in reply.iter_raw():
            got += len(piece)
            if got > len(TEXT):
                break
    deadline = time.monotonic() + 5
    while world.home.json("balances", "show", world.alice.name)["held"] != "0":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return world.home.record_of(reply.headers["x-request-id"])


def test_a_message_is_not_one_token_long(world: World) -> None:
    steps = [*sse([START, DELTA], end=False), Stall()]
    record = read_and_leave(world, "/v1/openai/messages", {"model": world.model(), **MESSAGE}, steps)
    assert record["status"] == "client_disconnected"
    assert record["usage"]["input"] == 10
    assert 1800 < record["usage"]["output"] < 2200
    assert record["estimated"]


def test_a_chat_whose_host_tells_zeros_first(world: World) -> None:
    frames = [chunk("a", usage=usage_of(7, 0)), chunk(TEXT), chunk("b")]
    steps = [*sse(frames, end=False), Stall()]
    record = read_and_leave(world, "/v1/chat/completions", ask(model=world.model(), stream=True), steps)
    assert record["usage"]["input"] == 7
    assert 1800 < record["usage"]["output"] < 2200


@pytest.mark.parametrize(("frames", "output"), [([START, DELTA], (1800, 2200)), ([START, DELTA, END, STOP], (1500, 1500))])
def test_a_stream_that_ends_by_itself(world: World, frames: list[dict[str, Any]], output: tuple[int, int]) -> None:
    world.openai.script(list(sse(frames)))
    reply = world.gateway.post("/v1/openai/messages", world.alice.key, {"model": world.model(), **MESSAGE})
    record = world.home.record_of(reply.headers["x-request-id"])
    assert output[0] <= record["usage"]["output"] <= output[1]


def test_usage_that_grows_with_every_chunk_is_believed(world: World) -> None:
    frames = [chunk(TEXT, usage=usage_of(7, 5)), chunk(TEXT, usage=usage_of(7, 9))]
    steps = [*sse(frames, end=False), Stall()]
    record = read_and_leave(world, "/v1/chat/completions", ask(model=world.model(), stream=True), steps)
    assert (record["usage"], record["estimated"]) == ({"input": 7, "output": 9}, False)
