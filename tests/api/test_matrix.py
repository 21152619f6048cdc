"""The whole matrix: clients of every dialect before providers of every dialect, for everything that a conversation may hold.

Each cell goes through the one daemon: the provider checks what it is asked by the rules of its dialect, the client what it gets
by those of its own; what both understood must be what the scenario says, the bill what the provider told, and what is named as
lost what docs/protocols.md names.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest

from gatewayctl.crossings import CASES, cross
from tests.support.crossing import ALL, GEMINI, MESSAGES, NOT_SERVED, SECRET, SERVED, Crossing, Side, path_of
from tests.support.said import Said
from tests.support.speakers import SPEAKERS, Speaker
from tests.support.speakers.scenario import PLAIN, ROWS, Scenario, heard
from tests.support.upstream import Received, Stall, Wait, chunk, json_reply, short_body, sse

PROMPT = {MESSAGES: {"input": 90, "cached_input": 20}, GEMINI: {"input": 90, "cached_input": 20}}  # told before the text
CASE_OF = {case.name: case for case in CASES}
SEEN = 1  # at least so many tokens of a text of which something came

every_cell = pytest.mark.parametrize(
    ("client", "provider"), [pytest.param(client, provider, id=f"{client}-{provider}") for client in ALL for provider in ALL]
)
streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def sides(crossing: Crossing, client: str, provider: str) -> tuple[Speaker, Speaker, Side]:
    """The speakers of both sides, and where the provider is."""
    if client not in SERVED or provider not in SERVED:
        pytest.skip(NOT_SERVED)
    return SPEAKERS[client], SPEAKERS[provider], crossing.sides[provider]


def ask(crossing: Crossing, client: str, side: Side, scenario: Scenario, *, stream: bool) -> tuple[httpx.Response, str]:
    """The reply to the scenario, and its request id."""
    request_id = crossing.new_id()
    body = body_of(client, side, scenario, stream=stream)
    return crossing.post(path_of(client, side.alias, stream=stream), body, request_id=request_id), request_id


def body_of(client: str, side: Side, scenario: Scenario, *, stream: bool) -> dict[str, Any]:
    body = SPEAKERS[client].request(scenario, side.alias, stream=stream)
    if client == GEMINI:  # has both in the URL
        assert "model" not in body
    return body


def check_addressed(side: Side, request: Received) -> None:
    """To the right model, with our credential, in the provider's own headers."""
    sent = {name.lower().decode(): value.decode() for name, value in request.raw_headers}
    assert SECRET in " ".join(sent.values())
    assert "sk-gw" not in " ".join(sent.values())
    assert (side.dialect == MESSAGES) == ("anthropic-version" in sent)
    named = request.path if side.dialect == GEMINI else request.json["model"]
    assert side.model in named
    assert side.alias not in named


def test_the_rows_are_those_of_the_docs() -> None:
    assert [row.name for row in ROWS] == list(CASE_OF)


@every_cell
@streamed_and_not
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_conversation_means_the_same_on_both_sides(
    crossing: Crossing, client: str, provider: str, row: Scenario, stream: bool
) -> None:
    speaker, host, side = sides(crossing, client, provider)
    scenario = speaker.asked(row)
    side.upstream.always(sse(host.frames(scenario)) if stream else json_reply(host.reply(scenario)))
    before = len(side.upstream.requests)

    reply, request_id = ask(crossing, client, side, scenario, stream=stream)

    record = crossing.record(request_id)
    expected = cross(client, provider, CASE_OF[row.name])
    if expected.refused:
        assert reply.status_code == 400
        assert expected.refused in speaker.read_error(reply.json(), 400)
        assert (record["status"], record["usage"], len(side.upstream.requests)) == ("refused", {}, before)
        return
    assert reply.status_code == 200, reply.text
    dropped = reply.headers.get("x-gateway-dropped", "")
    assert dropped == ",".join(expected.request if stream else expected.request + expected.reply)
    (request,) = side.upstream.requests[before:]
    check_addressed(side, request)
    assert host.heard(request, stream=stream) == heard(scenario)
    assert record["usage"] == scenario.answer.usage
    assert (record["status"], record["http_status"], record["estimated"]) == ("ok", 200, False)
    told = host.told(scenario.answer.finish)
    said = speaker.read_stream(reply.content, side.alias) if stream else speaker.read(reply.json(), side.alias)
    check_said(client, scenario, told, said)


def check_said(client: str, scenario: Scenario, told: str, said: Said) -> None:
    """The client understood the answer."""
    answer = scenario.answer
    assert said.thoughts == answer.thoughts
    assert [(name, json.loads(arguments)) for name, arguments in said.calls] == [
        (call.name, call.arguments) for call in answer.calls
    ]
    assert said.usage is not None
    assert {meter: count for meter, count in said.usage.items() if count} == answer.usage
    assert said.text + said.refusal == answer.text + answer.refusal
    if answer.finish == "refusal":
        assert said.refusal or said.finish in ("content_filter", "refusal", "SAFETY")
    else:
        assert said.refusal == ""
        assert said.finish == SPEAKERS[client].finish(told)


# -- what goes wrong

WORDS = "the temperature is wrong by 3 degrees"


@every_cell
@streamed_and_not
@pytest.mark.parametrize(
    ("given", "shown", "words", "code"),
    [(400, 400, WORDS, "upstream_refused"), (503, 502, "status 503", "upstream_error")],
    ids=["the caller's mistake", "the provider's fault"],
)
def test_an_error_before_the_first_byte_is_a_status_and_costs_nothing(
    crossing: Crossing, client: str, provider: str, stream: bool, given: int, shown: int, words: str, code: str
) -> None:
    speaker, host, side = sides(crossing, client, provider)
    crossing.recover(provider)
    side.upstream.always(json_reply(host.error(WORDS), given))
    reply, request_id = ask(crossing, client, side, PLAIN, stream=stream)
    assert reply.status_code == shown
    assert words in speaker.read_error(reply.json(), shown)
    record = crossing.record(request_id)
    assert (record["status"], record["http_status"], record["usage"]) == ("error", shown, {})
    assert record["error_code"] == code


def begun(host: Speaker) -> list[bytes]:
    """The first part of the plain answer's stream: some of its words are in it."""
    frames = host.frames(PLAIN)
    return frames[: len(frames) // 2]


def check_partly_billed(provider: str, usage: dict[str, int], text: str) -> None:
    """The prompt as the provider told it, if it did so before the words, and the words that came, as counted by us."""
    told = PROMPT.get(provider)
    counted = {meter: count for meter, count in usage.items() if meter != "output"}
    assert counted == told if told is not None else counted.keys() == {"input"} and counted["input"] > 0
    assert SEEN <= usage["output"] <= len(text.encode())


@every_cell
def test_an_error_in_mid_stream_ends_it_and_what_came_is_billed(crossing: Crossing, client: str, provider: str) -> None:
    speaker, host, side = sides(crossing, client, provider)
    crossing.recover(provider)
    side.upstream.always([*sse(begun(host), end=False), Wait(0.02), chunk(host.error_frame(WORDS)) + chunk(b"")])
    reply, request_id = ask(crossing, client, side, PLAIN, stream=True)
    assert reply.status_code == 200
    text, message = speaker.read_broken(reply.content, side.alias)
    assert text
    assert PLAIN.answer.text.startswith(text)
    assert WORDS in message
    record = crossing.record(request_id)
    assert (record["status"], record["error_code"], record["estimated"]) == ("error", "upstream_error", True)
    check_partly_billed(provider, record["usage"], text)


@every_cell
def test_a_reply_that_breaks_off_is_an_error_and_costs_nothing(crossing: Crossing, client: str, provider: str) -> None:
    speaker, host, side = sides(crossing, client, provider)
    whole = json.dumps(host.reply(PLAIN)).encode()
    crossing.recover(provider)
    side.upstream.always(short_body(whole[: len(whole) // 2], len(whole)))
    reply, request_id = ask(crossing, client, side, PLAIN, stream=False)
    assert reply.status_code == 502
    assert side.provider in speaker.read_error(reply.json(), 502)
    record = crossing.record(request_id)
    assert (record["status"], record["error_code"], record["usage"]) == ("error", "upstream_error", {})


@every_cell
@streamed_and_not
def test_a_client_that_leaves_takes_its_provider_along(crossing: Crossing, client: str, provider: str, stream: bool) -> None:
    _, host, side = sides(crossing, client, provider)
    side.upstream.always([*sse(begun(host), end=False), Stall()] if stream else [Stall()])
    before, request_id = len(side.upstream.requests), crossing.new_id()
    content = json.dumps(body_of(client, side, PLAIN, stream=stream)).encode()
    lines = (
        f"POST {path_of(client, side.alias, stream=stream)} HTTP/1.1", "Host: x", f"Authorization: Bearer {crossing.user.key}",
        f"X-Request-Id: {request_id}", "Content-Type: application/json", f"Content-Length: {len(content)}", "", "",
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", crossing.gateway.port), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode() + content)
        (request,) = side.upstream.wait_for(before + 1)[before:]
        if stream:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert request.disconnected.wait(5)
    record = crossing.record(request_id)
    assert (record["status"], record["http_status"], record["estimated"]) == ("client_disconnected", 499, True)
    if stream:
        check_partly_billed(provider, record["usage"], PLAIN.answer.text)
    else:
        assert record["usage"].keys() == {"input"}
