"""A stream is read without being touched, and adapted without touching more than it must."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.usage import Usage
from daemon.protocols.openai_chat import StreamAdapter, StreamReader
from daemon.protocols.openai_chat.stream import PENDING_MAX, TEXT_MAX
from daemon.protocols.sse import LineTooLong

DONE = b"data: [DONE]\n\n"


def event(obj: Any, end: bytes = b"\n") -> bytes:
    return b"data: " + json.dumps(obj, ensure_ascii=False, separators=(",", ":")).encode() + end + end


def text(content: str | None, index: int = 0, **more: Any) -> dict[str, Any]:
    delta = {"content": content}
    return {"id": "c", "model": "up", "choices": [{"index": index, "delta": delta, "finish_reason": None}], **more}


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def read(*chunks: bytes) -> StreamReader:
    reader = StreamReader()
    for chunk in chunks:
        reader.feed(chunk)
    reader.flush()
    return reader


def adapt(chunks: list[bytes], **wanted: Any) -> bytes:
    adapter = StreamAdapter(**wanted)
    return b"".join([adapter.feed(chunk) for chunk in chunks] + [adapter.flush()])


def single_bytes(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_whole_stream_is_read() -> None:
    stream = (
        event(text(None)) + event(text("Hel")) + event(text("lo")) + b": ping\n\n" + event(text("!", usage=None))
        + event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        + event({"choices": [], "usage": usage(7, 3)}) + DONE
    )  # fmt: skip
    for chunks in ([stream], single_bytes(stream), [stream[:100], stream[100:]]):
        reader = read(*chunks)
        assert reader.usage == Usage({"input": 7, "output": 3})
        assert (reader.done, reader.error, reader.garbage, reader.delivered) == (True, None, 0, True)
        assert reader.finish_reasons == {0: "stop"}
        assert (reader.estimate_text(), reader.delivered_chars) == ("Hello!", 6)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([{"usage": usage(5, 1)}, {"usage": usage(5, 2)}, {"usage": usage(5, 9)}], (5, 9)),
        ([{"usage": usage(5, 9)}, {"usage": None}], (5, 9)),
        ([text("x", usage=usage(5, 1)), text("y", usage=usage(5, 2))], (5, 2)),
        ([{"usage": usage(0, 0)}], (0, 0)),
        ([text("x"), {"usage": None, "x_groq": {"id": "r", "usage": usage(4, 2)}}], (4, 2)),
        ([text("x"), {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage(4, 2)}]}], (4, 2)),
        ([{"usage": {"prompt_tokens": -1, "completion_tokens": 1}}, {"usage": usage(5, 9)}], (5, 9)),
    ],
)
def test_the_last_usage_counts(events: list[dict[str, Any]], expected: tuple[int, int]) -> None:
    stream = b"".join(event(obj) for obj in [text("a"), *events])
    for chunks in ([stream], single_bytes(stream)):
        reader = read(*chunks)
        assert reader.usage is not None
        assert (reader.usage.input_tokens, reader.usage.output_tokens) == expected
        assert reader.usage_invalid == ""


@pytest.mark.parametrize("bad", [-1, 1.5, True, "10", None, 10**18])
def test_a_last_usage_that_cannot_be_true_leaves_none(bad: Any) -> None:
    wrong = {"prompt_tokens": 5, "completion_tokens": bad}
    reader = read(event(text("a", usage=usage(5, 1))), event({"choices": [], "usage": wrong}))
    assert reader.usage is None
    assert reader.usage_invalid


def test_text_that_looks_like_usage_is_text() -> None:
    words = '"usage":{"prompt_tokens":1} "error" data: [DONE]\n "finish_reason":"stop"'
    reader = read(event(text("a")), event(text(words)), event(text("b")))
    assert (reader.usage, reader.done, reader.error, reader.finish_reasons) == (None, False, None, {})
    assert reader.estimate_text() == "a" + words + "b"


@pytest.mark.parametrize(
    ("delta", "delivered"),
    [
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": ""}, False),
        ({"content": None, "refusal": None}, False),
        ({"tool_calls": []}, False),
        ({"content": "x"}, True),
        ({"reasoning_content": "x"}, True),
        ({"reasoning": "x"}, True),
        ({"refusal": "x"}, True),
        ({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}, True),
        ({"function_call": {"name": "f"}}, True),
        ({"content": [{"type": "text", "text": "x"}]}, True),
        ({"audio": {"transcript": "x"}}, True),
    ],
)
def test_delivered_means_that_something_was_generated(delta: dict[str, Any], delivered: bool) -> None:
    assert read(event({"choices": [{"index": 0, "delta": delta}]})).delivered is delivered


def test_choices_and_calls_are_put_together_apart_and_in_order() -> None:
    def call(part: str, index: int, name: str | None = None) -> dict[str, Any]:
        function = {"arguments": part} | ({"name": name} if name else {})
        return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, "function": function}]}}]}

    reader = read(*[event(obj) for obj in [
        text("a0", 0), text("b0", 1), text("a1", 0), text("b1", 1, usage=usage(1, 1)), text("a2", 0),
        call("", 0, "f"), call('{"x"', 0), call("", 1, "g"), call(":1}", 0), call("{}", 1),
    ]])  # fmt: skip
    assert reader.estimate_text() == 'a0a1a2\nb0b1\nf{"x":1}\ng{}'
    assert reader.tool_calls == 2
    assert reader.delivered_chars == len('a0a1a2b0b1f{"x":1}g{}')


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (event({"error": {"message": "overloaded", "code": 503}}), {"message": "overloaded", "code": 503}),
        (event({"error": "boom"}), {"message": "boom"}),
        (b"event: error\n" + event({"message": "x"}), {"message": ""}),
        (event(text("", error={"code": 400}, usage=usage(5, 1))), {"code": 400}),
        (event(text("", error=None)), None),
    ],
)
def test_an_error_inside_a_stream_is_seen(raw: bytes, error: dict[str, Any] | None) -> None:
    assert read(event(text("a")), raw).error == error
    assert read(raw).error == error


def test_garbage_is_counted_and_survived() -> None:
    stream = (
        b"data: {nope\n\ndata: [1]\n\n" + event(text("a")) + b'data: {"choices":[{"delta":\n\ndata: 7\n\n' + event(text("b"))
    )
    reader = read(stream, event({"choices": [], "usage": usage(1, 1)}), DONE)
    assert reader.estimate_text() == "ab"
    assert (reader.garbage, reader.done, reader.usage) == (4, True, Usage({"input": 1, "output": 1}))


def test_an_end_without_a_blank_line_is_read_too() -> None:
    reader = read(event(text("a")), event({"choices": [], "usage": usage(2, 1)}).rstrip() + b"\n", b"\n" + DONE.rstrip())
    assert reader.usage == Usage({"input": 2, "output": 1})
    assert reader.done


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_all_line_ends_are_read(end: bytes) -> None:
    stream = b"".join(event(obj, end) for obj in [text("a"), text("b"), {"choices": [], "usage": usage(2, 1)}])
    reader = read(stream + b"data: [DONE]" + end + end)
    assert (reader.usage, reader.estimate_text(), reader.done) == (Usage({"input": 2, "output": 1}), "ab", True)


def test_what_came_before_an_endless_line_is_read() -> None:
    reader = StreamReader(max_line=500)
    with pytest.raises(LineTooLong):
        reader.feed(event(text("a", usage=usage(3, 1))) + b"data: " + b"x" * 600)
    assert (reader.usage, reader.estimate_text()) == (Usage({"input": 3, "output": 1}), "a")


def test_comments_are_no_progress() -> None:
    reader = StreamReader()
    reader.feed(event(text("a")) + event(text("b")))
    before = reader.events
    reader.feed(b": ping\n\n: ping\n\n")
    assert reader.events == before
    reader.feed(event(text("c")))
    assert reader.events > before


def test_memory_is_bounded_and_the_characters_still_counted() -> None:
    reader = StreamReader()
    piece = event(text("x" * 1000))
    for _ in range(2000):
        reader.feed(piece)
        assert reader._pending_size <= PENDING_MAX + len(piece)
    assert reader.delivered_chars == 2_000_000
    assert TEXT_MAX - 1000 <= len(reader.estimate_text()) <= TEXT_MAX


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=5), st.booleans()), max_size=12), st.lists(st.integers(1, 60)))
def test_any_chunking_reads_the_same(words: list[tuple[int, str, bool]], sizes: list[int]) -> None:
    stream = b"".join(event(text(word, i, usage=usage(1, i) if told else None)) for i, word, told in words) + DONE
    whole, cut, at = read(stream), StreamReader(), 0
    for size in sizes:
        cut.feed(stream[at : at + size])
        at += size
    cut.feed(stream[at:])
    cut.flush()
    for name in ("usage", "delivered", "done", "garbage", "delivered_chars", "finish_reasons", "error"):
        assert getattr(cut, name) == getattr(whole, name)
    assert cut.estimate_text() == whole.estimate_text()
    assert sorted(cut.estimate_text()) == sorted(
        "\n".join("".join(w for i, w, _ in words if i == index) for index in dict.fromkeys(i for i, w, _ in words if w))
    )


# --- adapting --------------------------------------------------------------------------------------------------------

NASTY = (
    b"\xef\xbb\xbf: hello\r\n\r\n"
    b'id: 1\ndata:{"model" : "up" ,"choices":[{"delta":{"content":"\\"model\\":\\"up\\" \xc3\xa9"}}]}\n\n'
    b'data: {"choices":[{"model":"inner"}],\r\ndata: "usage":null, "model":"up"}\r\n\r\n'
    b'event: x\ndata: {"choices":[],\ndata:  "prompt_filter_results":[],\ndata:"model":\ndata:"up"\ndata:}\n\n'
    b"\n\ndata: {broken\n\ndata: [1,2]\r\rretry: 3\rdata: {}\r\r"
    b'data: {"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":1},"model":"up"}\n\n'
    b'foo\ndata: [DONE]\n\ndata: {"model":"up"'
)


@pytest.mark.parametrize("strip", [True, False])
def test_without_a_usage_chunk_or_a_name_every_byte_stays(strip: bool) -> None:
    assert adapt([NASTY], strip_usage=strip) == NASTY
    assert adapt(single_bytes(NASTY), strip_usage=strip) == NASTY


def test_the_model_is_renamed_in_events_of_any_form_and_nowhere_else() -> None:
    # Every "model" with the value "up" at the top level, but not the one inside content nor in the unfinished event.
    expected = (
        NASTY.replace(b'"model" : "up"', b'"model" : "me"')
        .replace(b'"usage":null, "model":"up"', b'"usage":null, "model":"me"')
        .replace(b'data:"up"', b'data:"me"')
        .replace(b'"completion_tokens":1},"model":"up"', b'"completion_tokens":1},"model":"me"')
    )  # fmt: skip
    expected = expected[: -len(b'"up"')] + b'"me"'
    assert adapt([NASTY], model_name="me") == expected
    assert adapt(single_bytes(NASTY), model_name="me") == expected


@pytest.mark.parametrize(
    ("obj", "dropped"),
    [
        ({"choices": [], "usage": usage(1, 2)}, True),
        ({"id": "c", "model": "up", "choices": [], "usage": usage(1, 2), "service_tier": "default"}, True),
        ({"usage": usage(1, 2)}, True),
        ({"choices": None, "usage": usage(1, 2)}, True),
        ({"choices": [], "usage": None}, False),
        ({"choices": [], "prompt_filter_results": []}, False),
        ({"choices": [{"delta": {}}], "usage": usage(1, 2)}, False),
        ({"choices": [], "usage": usage(1, 2), "error": {"message": "x"}}, False),
        ({"choices": [{"delta": {"content": '"choices":[],"usage":{}'}}]}, False),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_exactly_the_chunk_that_only_carries_usage_is_dropped(obj: dict[str, Any], dropped: bool, end: bytes) -> None:
    before, after = event(text("a"), end), b"data: [DONE]" + end + end
    stream = before + event(obj, end) + after
    expected = before + after if dropped else stream
    assert adapt([stream], strip_usage=True) == expected
    assert adapt(single_bytes(stream), strip_usage=True) == expected
    assert adapt([stream], strip_usage=False) == stream


def test_a_name_is_written_as_json() -> None:
    assert adapt([b'data: {"model":"up"}\n\n'], model_name='a"\\\u00e9') == 'data: {"model":"a\\"\\\\\u00e9"}\n\n'.encode()


parts = st.lists(
    st.sampled_from([
        event(text("a")), event(text("b"), b"\r\n"), event({"choices": [], "usage": usage(1, 2)}), b": c\n\n",
        DONE,
        b"\n", b"\r", b"data: ",
        b'{"model":"up"}', b'data: {"model":"up","x":\ndata: 1}\n\n', b'data:{"usage":{},\rdata:"model":1}\r\r',
    ]), max_size=10,
).map(b"".join)  # fmt: skip


@settings(max_examples=300)
@given(parts, st.lists(st.integers(0, 40), max_size=12), st.booleans(), st.none() | st.just("another name"))
def test_any_chunking_adapts_the_same(stream: bytes, sizes: list[int], strip: bool, name: str | None) -> None:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(stream[at : at + size])
        at += size
    chunks.append(stream[at:])
    whole = adapt([stream], strip_usage=strip, model_name=name)
    assert adapt(chunks, strip_usage=strip, model_name=name) == whole
    assert adapt(single_bytes(stream), strip_usage=strip, model_name=name) == whole
    if not strip and name is None:
        assert whole == stream
