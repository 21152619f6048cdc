"""A Gemini client that streams without `alt=sse` reads one JSON array: whole, broken, and whatever the provider speaks."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.crossing import ALL, GEMINI, Crossing
from tests.support.speakers import SPEAKERS
from tests.support.speakers.frames import data
from tests.support.speakers.scenario import PLAIN
from tests.support.upstream import Answer, Wait, chunk, json_reply, sse

SPEAKER = SPEAKERS[GEMINI]


def ask(crossing: Crossing, provider: str, answer: Answer) -> tuple[httpx.Response, dict[str, Any]]:
    """The reply and the usage record."""
    side, request_id = crossing.sides[provider], crossing.new_id()
    crossing.recover(provider)
    side.upstream.always(answer)
    body = SPEAKER.request(PLAIN, side.alias, stream=True)
    reply = crossing.post(f"/v1beta/models/{side.alias}:streamGenerateContent", body, request_id=request_id)
    return reply, crossing.record(request_id)


def provided(provider: str) -> list[bytes]:
    """The pieces of a provider's stream; Gemini's own provider was asked for an array, too."""
    if provider != GEMINI:
        return SPEAKERS[provider].frames(PLAIN)
    replies = [json.loads(frame.removeprefix(b"data: ")) for frame in SPEAKER.frames(PLAIN)]
    texts = [json.dumps(reply).encode() for reply in replies]
    return [b"[" + texts[0], *(b",\r\n" + text for text in texts[1:]), b"]"]


def as_events(reply: httpx.Response) -> bytes:
    """The array, which must be whole, as the events that the same client reads otherwise."""
    assert reply.headers["content-type"].startswith("application/json")
    return b"".join(map(data, json.loads(reply.content)))


@pytest.mark.parametrize("provider", ALL)
def test_a_stream_is_one_array(crossing: Crossing, provider: str) -> None:
    reply, record = ask(crossing, provider, array_or_events(provider, provided(provider)))
    said = SPEAKER.read_stream(as_events(reply), crossing.sides[provider].alias)
    assert said.text == PLAIN.answer.text
    assert (record["status"], record["usage"]) == ("ok", PLAIN.answer.usage)


def array_or_events(provider: str, pieces: list[bytes], *, end: bool = True) -> Answer:
    """As the provider sends it: Gemini's array is no event stream."""
    kind = [("Content-Type", "application/json")] if provider == GEMINI else []
    steps = list(sse(pieces, end=end, headers=kind))
    if provider == GEMINI:
        assert isinstance(steps[0], bytes)
        steps[0] = steps[0].replace(b"Content-Type: text/event-stream\r\n", b"", 1)
    return steps


@pytest.mark.parametrize("provider", ALL)
def test_a_stream_that_is_cut_is_an_array_that_ends_with_an_error(crossing: Crossing, provider: str) -> None:
    pieces = provided(provider)
    answer = [*array_or_events(provider, pieces[: len(pieces) // 2], end=False), Wait(0.02), chunk(b"")]
    reply, record = ask(crossing, provider, answer)
    text, message = SPEAKER.read_broken(as_events(reply), crossing.sides[provider].alias)
    assert text
    assert PLAIN.answer.text.startswith(text)
    assert "before it was complete" in message
    assert (record["status"], record["error_code"]) == ("error", "upstream_error")
    assert record["usage"]["output"] >= 1


@pytest.mark.parametrize("provider", ALL)
def test_an_error_before_the_first_byte_is_no_array(crossing: Crossing, provider: str) -> None:
    reply, record = ask(crossing, provider, json_reply(SPEAKERS[provider].error("too warm"), 400))
    assert reply.status_code == 400
    assert "too warm" in SPEAKER.read_error(reply.json(), 400)
    assert record["usage"] == {}
