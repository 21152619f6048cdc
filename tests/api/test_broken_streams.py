"""Streams of providers that break, lie or stammer, for every pair of dialects: what arrives is either whole or an error.

The rest of a stream survives what can be skipped; what can not ends it with an error in the client's own dialect, and never as
if it were complete. Where both sides speak alike the bytes pass as they are, up to the place where they break.
"""

from __future__ import annotations

import random
from typing import Any

import httpx
import pytest

from tests.support.crossing import ALL, CHAT, GEMINI, MESSAGES, NOT_SERVED, RESPONSES, SERVED, Crossing, Side, path_of
from tests.support.recordings import cut
from tests.support.speakers import SPEAKERS, Speaker
from tests.support.speakers.scenario import PLAIN, ROWS, Scenario
from tests.support.upstream import Close, Reset, Step, Wait, chunk, head

CALLS = next(row for row in ROWS if row.name == "parallel tool calls")
EVENT_STREAM = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
PAIRS = [pytest.param(client, provider, id=f"{client}-{provider}") for client in ALL for provider in ALL]
every_pair = pytest.mark.parametrize(("client", "provider"), PAIRS)
# What ends an answer in each dialect: a stream that came so far is complete, whatever is still missing.
LAST_WORD = {
    CHAT: b'"finish_reason": "',
    RESPONSES: b"response.completed",
    MESSAGES: b'"stop_reason": "',
    GEMINI: b"finishReason",
}


def sides(crossing: Crossing, client: str, provider: str) -> tuple[Speaker, Speaker, Side]:
    if client not in SERVED or provider not in SERVED:
        pytest.skip(NOT_SERVED)
    return SPEAKERS[client], SPEAKERS[provider], crossing.sides[provider]


def ask(
    crossing: Crossing, client: str, side: Side, stream: bytes, *, end: list[Step] | None = None, scenario: Scenario = PLAIN
) -> tuple[httpx.Response, dict[str, Any]]:
    """The reply when the provider sends these bytes and ends so, and the usage record (whose cost is right)."""
    crossing.recover(side.dialect)
    dice = random.Random(len(stream))
    steps: list[Step] = [head(200, EVENT_STREAM)]
    for piece in cut(stream, dice, 12) if stream else []:
        steps += [chunk(piece), Wait(0.001)]
    side.upstream.always([*steps, *([chunk(b"")] if end is None else end)])
    request_id = crossing.new_id()
    body = SPEAKERS[client].request(scenario, side.alias, stream=True)
    reply = crossing.post(path_of(client, side.alias, stream=True), body, request_id=request_id)
    return reply, crossing.record(request_id)


def check_broken(speaker: Speaker, side: Side, reply: httpx.Response, record: dict[str, Any]) -> str:
    """An error, as a status or at the end of the stream; the text before it. What came is billed, and nothing else."""
    assert (record["status"], record["error_code"]) == ("error", "upstream_error")
    if reply.status_code != 200:
        assert reply.status_code == 502
        assert side.provider in speaker.read_error(reply.json(), 502)
        assert record["usage"] == {}
        return ""
    text, message = speaker.read_broken(reply.content, side.alias)
    assert side.provider in message
    assert PLAIN.answer.text.startswith(text)
    if text:
        assert 1 <= record["usage"]["output"] <= len(text.encode())
    return text


def check_whole(speaker: Speaker, side: Side, reply: httpx.Response, record: dict[str, Any], scenario: Scenario) -> None:
    """Everything that the provider said, and its own usage."""
    said = speaker.read_stream(reply.content, side.alias)
    assert said.text == scenario.answer.text
    assert [name for name, _ in said.calls] == [call.name for call in scenario.answer.calls]
    assert (record["status"], record["usage"], record["estimated"]) == ("ok", scenario.answer.usage, False)


# -- streams that end too early

ENDS: dict[str, list[Step]] = {"end": [chunk(b"")], "fin": [Close()], "reset": [Wait(0.02), Reset()]}


@every_pair
@pytest.mark.parametrize("end", ENDS)
def test_a_stream_that_is_cut_is_never_complete(crossing: Crossing, client: str, provider: str, end: str) -> None:
    speaker, host, side = sides(crossing, client, provider)
    frames = host.frames(PLAIN)
    stream = b"".join(frames)
    longest = stream.index(LAST_WORD[provider])
    dice = random.Random(f"{client} {provider} {end}")
    places = {0, len(frames[0]), longest - 1, stream.index(b"Gr") + 3, *(dice.randrange(longest) for _ in range(3))}
    texts = []
    for place in sorted(places):
        reply, record = ask(crossing, client, side, stream[:place], end=ENDS[end])
        texts.append(check_broken(speaker, side, reply, record))
    assert texts[0] == ""
    assert texts[-1] != ""


@every_pair
def test_a_character_that_is_cut_in_half_takes_nothing_else_along(crossing: Crossing, client: str, provider: str) -> None:
    speaker, host, side = sides(crossing, client, provider)
    stream = b"".join(host.frames(PLAIN))
    place = stream.index("好".encode()) + 1
    reply, record = ask(crossing, client, side, stream[:place])
    text = check_broken(speaker, side, reply, record)
    assert "\ufffd" not in text
    assert text in PLAIN.answer.text.partition("好")[0]


# -- streams that say strange things

GARBAGE = {
    "half of an object": b'data: {"choices": [{"index": 0, "delta": \n\n',
    "an array": b"data: [1, 2]\n\n",
    "a text": b'data: "hello"\n\n',
    "null": b"data: null\n\n",
    "no data": b"event: surprise\n\n",
    "an unknown event": b'event: surprise\ndata: {"type": "surprise", "value": 1}\n\n',
    "a comment": b": still here\n\n",
    "no field at all": b"surprise\n\n",
    "a character that is none": b'data: {"type": "surprise", "value": "\xff\xe5"}\n\n',
}


@every_pair
@pytest.mark.parametrize("scenario", [PLAIN, CALLS], ids=lambda scenario: scenario.name)
def test_nonsense_between_the_events_is_skipped(crossing: Crossing, client: str, provider: str, scenario: Scenario) -> None:
    speaker, host, side = sides(crossing, client, provider)
    frames = host.frames(scenario)
    for kind, nonsense in GARBAGE.items():
        place = len(frames) // 2
        stream = b"".join([*frames[:place], nonsense, *frames[place:]])
        reply, record = ask(crossing, client, side, stream, scenario=scenario)
        assert reply.status_code == 200, kind
        if client == provider:
            assert nonsense in reply.content, kind
            assert (record["status"], record["usage"]) == ("ok", scenario.answer.usage), kind
        else:
            check_whole(speaker, side, reply, record, scenario)


@every_pair
@pytest.mark.parametrize("scenario", [PLAIN, CALLS], ids=lambda scenario: scenario.name)
def test_a_first_event_that_is_missing_or_comes_twice_changes_nothing(
    crossing: Crossing, client: str, provider: str, scenario: Scenario
) -> None:
    speaker, host, side = sides(crossing, client, provider)
    frames = host.frames(scenario)
    starts = [[frames[0], *frames]]
    if provider != GEMINI:  # its first event holds text already
        starts.append(frames[1:])
    for made in starts:
        reply, record = ask(crossing, client, side, b"".join(made), scenario=scenario)
        assert reply.status_code == 200
        if client == provider:
            assert (record["status"], record["usage"]) == ("ok", scenario.answer.usage)
        elif provider == GEMINI:
            assert record["status"] == "ok"
        else:
            check_whole(speaker, side, reply, record, scenario)


# -- where nothing at all must change


@pytest.mark.parametrize("dialect", ALL)
def test_half_an_event_does_not_pass(crossing: Crossing, dialect: str) -> None:
    """Also under the same name, where no event is rewritten: clients would choke on it before they read the error."""
    speaker, host, side = sides(crossing, dialect, dialect)
    stream = b"".join(host.frames(PLAIN))
    place = stream.index("好".encode()) + 1
    crossing.recover(dialect)
    side.upstream.always([head(200, EVENT_STREAM) + chunk(stream[:place]), Wait(0.02), chunk(b"")])
    request_id = crossing.new_id()
    body = speaker.request(PLAIN, side.model, stream=True)
    reply = crossing.post(path_of(dialect, side.model, stream=True), body, request_id=request_id)
    whole = stream[: stream.rindex(b"\n\n", 0, place) + 2]
    assert reply.content.startswith(whole)
    text, message = speaker.read_broken(reply.content, "the-real-name")
    assert text
    assert "before it was complete" in message
    assert crossing.record(request_id)["usage"]["output"] >= 1


@pytest.mark.parametrize("dialect", ALL)
def test_on_a_providers_own_route_a_cut_stream_stays_as_it_is(crossing: Crossing, dialect: str) -> None:
    speaker, host, side = sides(crossing, dialect, dialect)
    stream = b"".join(host.frames(PLAIN))
    sent = stream[: stream.index("好".encode()) + 1]
    side.upstream.always([head(200, EVENT_STREAM) + chunk(sent), Wait(0.02), chunk(b"")])
    request_id = crossing.new_id()
    path = path_of(dialect, side.model, stream=True).removeprefix("/v1/")
    own = f"/v1/{side.provider}/{path.removeprefix('/')}"
    reply = crossing.post(own, speaker.request(PLAIN, side.model, stream=True), request_id=request_id)
    assert reply.content == sent
    assert crossing.record(request_id)["usage"]["output"] >= 1
