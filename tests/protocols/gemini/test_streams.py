"""What a provider's stream may do wrong, and what comes of it; the order of what a client gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.domain.chat import (
    Chat,
    CitationAdded,
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    Media,
    MediaAdded,
    MediaKind,
    Message,
    RefusalDelta,
    Role,
    Started,
    Text,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.gemini import Gemini
from daemon.protocols.gemini.decoder import Decoder
from daemon.protocols.gemini.frames import ArrayFramer, Frames
from daemon.protocols.gemini.partial import Arguments
from daemon.protocols.sse import LineTooLong

API = Gemini()
CHAT = Chat("m", (Message(Role.USER, (Text("hi"),)),), stream=True)
COUNTS = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}


def chunk(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate | fields]}


def events(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(found).encode() + b"\r\n\r\n" for found in chunks)


def array(*chunks: dict[str, Any]) -> bytes:
    return b"[" + b",\r\n".join(json.dumps(found).encode() for found in chunks) + b"]"


def read(stream: bytes) -> tuple[Decoder, list[Event]]:
    decoder = API.decoder()
    return decoder, decoder.feed(stream) + decoder.flush()


def encoded(found: list[Event], sse: bool = True) -> list[dict[str, Any]]:
    encoder = Gemini(sse).encoder(model="m", id="x", created=1, chat=CHAT)
    written = encoder.feed(found) + encoder.finish(None)
    if not sse:
        whole: list[dict[str, Any]] = json.loads(written)
        return whole
    return [json.loads(frame.removeprefix(b"data: ")) for frame in written.split(b"\r\n\r\n") if frame]


def parts_of(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for found in chunks for candidate in found["candidates"] for part in candidate["content"]["parts"]]


FIRST = chunk({"text": "a"})
LAST = chunk({"text": "b"}, finish="STOP") | {"usageMetadata": COUNTS}
SAID: list[Event] = [Started("", "", 0), TextDelta("a"), TextDelta("b"), Finished(Finish.STOP)]
TOLD = UsageReported(Usage({"input": 5, "output": 2}))


@pytest.mark.parametrize("stream", [events(FIRST, LAST), array(FIRST, LAST)], ids=["events", "array"])
def test_a_stream_ends_when_every_reason_is_told(stream: bytes) -> None:
    _, found = read(stream)
    assert found == [*SAID, TOLD, Ended()]


@pytest.mark.parametrize(
    "stream", [events(FIRST), array(FIRST)[:-1], array(FIRST, LAST)[:-30]], ids=["events", "array", "half"]
)
def test_a_stream_that_was_cut_does_not_end(stream: bytes) -> None:
    _, found = read(stream)
    assert found == [Started("", "", 0), TextDelta("a")]


def test_an_array_that_is_whole_ends_without_a_reason() -> None:
    _, found = read(array(FIRST))
    assert found == [Started("", "", 0), TextDelta("a"), Ended()]
    assert read(b"[]")[1] == []


def test_usage_after_the_end_counts() -> None:
    late = {"usageMetadata": COUNTS | {"candidatesTokenCount": 3}}
    decoder, found = read(events(FIRST, LAST, late))
    assert found == [*SAID, TOLD, Ended(), UsageReported(Usage({"input": 5, "output": 3}))]
    assert decoder.usage == Usage({"input": 5, "output": 3})


def test_a_search_that_is_told_again_counts_once() -> None:
    searched = {"groundingMetadata": {"webSearchQueries": ["a"]}}
    more = {"groundingMetadata": {"webSearchQueries": ["a", "b"]}}
    counts = {"usageMetadata": COUNTS}
    decoder, found = read(events(chunk({"text": "a"}, **searched) | counts, chunk({"text": "b"}, **searched), chunk(**more)))
    told = [event.usage.meters["hosted_call/web_search"] for event in found if isinstance(event, UsageReported)]
    assert told == [1, 2]
    assert decoder.usage == Usage({"input": 5, "output": 2, "hosted_call/web_search": 2})


def test_text_after_a_reason_is_told() -> None:
    """Some hosts give a reason with every chunk."""
    _, found = read(events(chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, finish="STOP")))
    assert [event for event in found if isinstance(event, TextDelta)] == [TextDelta("a"), TextDelta("b")]
    assert sum(isinstance(event, Finished | Ended) for event in found) == 2


ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
PRETTY = json.dumps(ERROR, indent=2).encode()
FAILED = Failed("The model is overloaded.", "UNAVAILABLE", "503")


@pytest.mark.parametrize(
    "stream",
    [
        events(FIRST, ERROR, LAST),
        events(FIRST) + PRETTY + b"\n",
        events(FIRST) + b"[" + PRETTY + b"]\n",
        array(FIRST, ERROR, LAST),
    ],
    ids=["event", "plain among events", "array among events", "element"],
)
def test_an_error_inside_a_stream_ends_it(stream: bytes) -> None:
    _, found = read(stream)
    assert found == [Started("", "", 0), TextDelta("a"), FAILED]


@pytest.mark.parametrize("stream", [PRETTY, b"[" + PRETTY + b"]", events(ERROR)])
def test_an_error_alone_is_told(stream: bytes) -> None:
    assert read(stream)[1] == [FAILED]


def test_garbage_is_counted_and_skipped() -> None:
    stream = b": hello\n\n" + events(FIRST) + b"data: {nonsense\n\ndata: 5\n\n" + events(LAST) + b"data: [DONE]\n\n"
    decoder, found = read(stream)
    assert found == [*SAID, TOLD, Ended()]
    assert decoder.garbage == 2
    decoder, found = read(b"[" + json.dumps(FIRST).encode() + b', {"a" "b"}, 5, ' + json.dumps(LAST).encode() + b"]")
    assert found == [*SAID, TOLD, Ended()]
    assert decoder.garbage == 1


def test_usage_that_cannot_be_true_is_not_believed() -> None:
    decoder, _ = read(
        events(FIRST | {"usageMetadata": COUNTS}, chunk(finish="STOP") | {"usageMetadata": {"promptTokenCount": -1}})
    )
    assert decoder.usage == Usage({"input": 5, "output": 2})
    assert "promptTokenCount" in decoder.usage_invalid


def test_a_blocked_prompt_is_a_filter() -> None:
    _, found = read(events({"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "No."}, "usageMetadata": COUNTS}))
    assert found == [Started("", "", 0), RefusalDelta("No."), Finished(Finish.CONTENT_FILTER), TOLD, Ended()]


def test_two_answers_stay_apart() -> None:
    both = {"candidates": [chunk({"text": text}, index=index)["candidates"][0] for index, text in enumerate("ab")]}
    ends = {"candidates": [{"finishReason": "STOP", "index": 1}, {"finishReason": "MAX_TOKENS"}]}
    _, found = read(events(both, {"candidates": ends["candidates"][:1]}, {"candidates": ends["candidates"][1:]}))
    assert found == [
        *(Started("", "", 0), TextDelta("a"), TextDelta("b", 1), Finished(Finish.STOP, choice=1)),
        *(Finished(Finish.LENGTH, choice=0), Ended()),
    ]
    last = encoded(found)[-1]["candidates"]
    assert [(one["index"], one["finishReason"]) for one in last] == [(0, "MAX_TOKENS"), (1, "STOP")]


def test_a_thought_ends_where_something_else_begins() -> None:
    stream = events(
        chunk({"text": "a", "thought": True}),
        chunk({"text": "b", "thought": True, "thoughtSignature": "EjQ="}),
        chunk({"text": "c", "thought": True}),
        chunk({"text": "d"}),
        chunk({"inlineData": {"mimeType": "image/png", "data": "AAAA"}, "thoughtSignature": "EjU="}, finish="STOP"),
    )
    assert read(stream)[1][1:-2] == [
        *(ThinkingDelta("a"), ThinkingDelta("b"), ThinkingEnded("EjQ=", origin="gemini")),
        *(ThinkingDelta("c"), ThinkingEnded(), TextDelta("d")),
        *(MediaAdded(Media(MediaKind.IMAGE, "image/png", "AAAA")), ThinkingEnded("EjU=", origin="gemini")),
    ]


def test_a_call_in_pieces_that_never_ends_is_told_as_far_as_it_came() -> None:
    begin = chunk({"functionCall": {"name": "f", "willContinue": True}})
    piece = chunk({"functionCall": {"partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}], "willContinue": True}})
    _, found = read(events(begin, piece))
    assert found[1:] == [ToolCallStarted(0, "call_0", "f"), ToolCallDelta(0, '{"a":"x"}')]
    _, found = read(events(begin, piece, LAST))
    assert found[1:4] == [ToolCallStarted(0, "call_0", "f"), ToolCallDelta(0, '{"a":"x"}'), TextDelta("b")]


@pytest.mark.parametrize(
    ("pieces", "value"),
    [
        ([("$.a", {"stringValue": "x"}), ("$.a", {"stringValue": "y"})], {"a": "xy"}),
        ([("$.a.b[1].c", {"numberValue": 3.0}), ("$.a.b[0]", {"boolValue": True})], {"a": {"b": [True, {"c": 3}]}}),
        ([("$['a b'][\"c.d\"]", {"numberValue": 1.5})], {"a b": {"c.d": 1.5}}),
        ([("$.a", {"nullValue": "NULL_VALUE"})], {"a": None}),
        ([("a", {"stringValue": "x"}), ("$", {}), ("$..a", {"stringValue": "x"}), ("$[*]", {}), (5, {})], {}),
        ([("$.a", {"stringValue": "x"}), ("$.a.b", {"stringValue": "y"})], {"a": "x"}),
        ([("$.a[99999]", {"stringValue": "x"})], {"a": []}),
    ],
)
def test_arguments_are_put_together(pieces: list[tuple[Any, dict[str, Any]]], value: dict[str, Any]) -> None:
    arguments = Arguments()
    for path, piece in pieces:
        arguments.add({"jsonPath": path, **piece})
    assert arguments.value == value


def test_citations_that_are_repeated_are_told_once_and_in_characters() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://example.com", "title": "E"}}],
        "groundingSupports": [{"segment": {"startIndex": 3, "endIndex": 6, "text": "bcd"}, "groundingChunkIndices": [0, 7]}],
    }
    stream = events(
        chunk({"text": "äa"}), chunk({"text": "bcd"}, groundingMetadata=grounding), chunk(groundingMetadata=grounding)
    )
    cited = [event for event in read(stream)[1] if isinstance(event, CitationAdded)]
    assert cited == [CitationAdded({"url": "https://example.com", "title": "E", "text": "bcd", "start": 2, "end": 5})]
    found = encoded(read(stream)[1])[-1]["candidates"][0]["groundingMetadata"]
    assert found["groundingSupports"][0]["segment"] == {"startIndex": 3, "endIndex": 6, "text": "bcd"}


# -- for a client


def test_calls_are_told_whole_and_in_their_order() -> None:
    found: list[Event] = [
        *(ToolCallStarted(0, "a", "f"), ToolCallDelta(0, '{"x":'), ToolCallStarted(1, "b", "g"), ToolCallDelta(1, "{}")),
        *(
            ToolCallStarted(2, "c", "h"),
            ToolCallDelta(0, "1}"),
            ToolCallDelta(2, "{"),
            TextDelta("t"),
            Finished(Finish.TOOL_CALLS),
        ),
    ]
    calls = [part["functionCall"] for part in parts_of(encoded(found)) if "functionCall" in part]
    assert [(call["id"], call["args"]) for call in calls] == [("a", {"x": 1}), ("b", {}), ("c", {"_raw": "{"})]
    assert [next(iter(part)) for part in parts_of(encoded(found))] == [*["functionCall"] * 3, "text", "text"]


def test_an_empty_stream_is_a_reply() -> None:
    (only,) = encoded([])
    assert (only["candidates"][0]["finishReason"], only["responseId"]) == ("STOP", "x")
    assert encoded([], sse=False) == [only]


@pytest.mark.parametrize("said", [True, False])
def test_an_array_that_fails_is_still_json(said: bool) -> None:
    encoder = Gemini(sse=False).encoder(model="m", id="x", created=1, chat=CHAT)
    written = encoder.feed([TextDelta("a")] if said else []) + encoder.fail(ApiError.of("upstream_timeout", provider="p"))
    found = json.loads(written)
    assert len(found) == 1 + said
    assert found[-1]["error"]["status"] == "DEADLINE_EXCEEDED"
    assert read(written)[1][-1] == Failed(found[-1]["error"]["message"], "DEADLINE_EXCEEDED", "504")


# -- frames


def test_an_element_that_is_too_long_ends_the_stream() -> None:
    framer = ArrayFramer(20)
    assert framer.split(b'[{"a":1},{"b"') == [b'{"a":1}']
    with pytest.raises(LineTooLong) as caught:
        framer.split(b':"c"},{"d":"eeeeeeeeeeeeeeeeeeeee')
    assert caught.value.frames == [b'{"b":"c"}']
    with pytest.raises(LineTooLong) as caught:
        Frames(20).split(b"data: 1\n\ndata: 22222222222222222222\n\n")
    assert caught.value.frames == [b"1"]


def test_braces_in_strings_are_no_braces() -> None:
    text = json.dumps([{"a": '}]{"\\', "b": [{}, ["["]]}, {}]).encode()
    for size in range(1, 6):
        framer = ArrayFramer()
        found = [piece for at in range(0, len(text), size) for piece in framer.split(text[at : at + size])]
        assert [json.loads(piece) for piece in found] == json.loads(text)
        assert framer.closed
