"""Usage of one-shot replies and streams, as hosts report it, and of every recorded one."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.errors import ApiError
from daemon.domain.usage import InvalidUsage, Usage
from daemon.protocols import (
    openai_audio,
    openai_completions,
    openai_embeddings,
    openai_images,
    openai_moderations,
    rerank,
)
from daemon.protocols.event_reader import EventReader, Skimmer
from daemon.protocols.sse import LineTooLong

ROOT = Path(__file__).parents[4] / "shared" / "fixtures"
INDEX = ROOT / "index.json"
Read = Callable[[dict[str, Any]], Usage | None]
APIS: dict[str, Any] = {
    "openai.completions": openai_completions,
    "openai.embeddings": openai_embeddings,
    "openai.images": openai_images,
}
ENTRIES: list[dict[str, Any]] = (
    [entry for entry in json.loads(INDEX.read_bytes())["fixtures"] if entry["api"] in APIS] if INDEX.exists() else []
)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_a_recorded_exchange(entry: dict[str, Any]) -> None:
    api, body = APIS[entry["api"]], (ROOT / entry["response_file"]).read_bytes()
    if entry["request_file"]:
        request = (ROOT / entry["request_file"]).read_bytes()
        assert api.read(json.loads(request), len(request)).model == json.loads(request)["model"]
    usage = read_stream(api.stream_reader, body).usage if entry["stream"] else api.usage_of(json.loads(body))
    true = entry["usage_true"]
    if true is None:
        assert usage is None or set(usage.meters) == {"image"}
        return
    assert usage is not None
    found = (usage.input_tokens, usage.meters.get("cached_input", 0), usage.output_tokens, usage.reasoning)
    assert found == (true["input_total"], true["cached_read"], true["output_total"] or 0, true["reasoning"])


def read_stream(make: Callable[[], EventReader], stream: bytes) -> EventReader:
    """The reader of a stream, the same however it is cut."""
    dice, readers = random.Random(1), []
    for most in (len(stream), 1, 7, 500):
        reader, at = make(), 0
        while at < len(stream):
            step = dice.randint(1, most) if most != len(stream) else most
            reader.feed(stream[at : at + step])
            at += step
        reader.flush()
        readers.append(reader)
    seen = [(r.usage, r.usage_invalid, r.done, r.error, r.events, r.estimate_text(), r.garbage) for r in readers]
    assert all(one == seen[0] for one in seen)
    return readers[0]


IMAGE_USAGE = {
    "total_tokens": 100, "input_tokens": 50, "output_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}  # fmt: skip
ROWS: list[tuple[Read, dict[str, Any], dict[str, int] | None]] = [
    (openai_completions.usage_of, {"usage": {"prompt_tokens": 8, "completion_tokens": 16, "total_tokens": 24}},
     {"input": 8, "output": 16}),
    (openai_completions.usage_of, {"usage": None}, None),
    (openai_embeddings.usage_of, {"usage": {"prompt_tokens": 8, "total_tokens": 8}}, {"input": 8}),
    (openai_embeddings.usage_of, {"usage": {"total_tokens": 8}}, {"input": 8}),
    (openai_embeddings.usage_of, {"detail": "no"}, None),
    (openai_images.usage_of, {"data": [{}, {}]}, {"image": 2}),
    (openai_images.usage_of, {"data": [{}], "usage": {}}, {"image": 1}),
    (openai_images.usage_of, {"data": [{}, {}], "size": "1536x1024", "quality": "high"}, {"image/1536x1024/high": 2}),
    (openai_images.usage_of, {"data": [{}], "size": 5, "quality": "high"}, {"image": 1}),
    (openai_images.usage_of, {"data": [{}], "usage": {"input_tokens": 50, "output_tokens": 60, "input_tokens_details":
                                                      {"text_tokens": 10, "image_tokens": 40, "cached_tokens": 15},
                                                      "output_tokens_details": {"text_tokens": 4, "image_tokens": 56}}},
     {"input": 0, "image_input": 35, "cached_input": 15, "output": 4, "image_output": 56, "image": 1}),
    (openai_audio.usage_of, {"text": "x", "usage": {"type": "duration", "seconds": 8}}, {"second": 8}),
    (openai_audio.usage_of, {"text": "x", "duration": 8.47}, {"second": 9}),
    (openai_audio.usage_of, {"text": "x", "duration": "8.47"}, {"second": 9}),
    (openai_audio.usage_of, {"usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59,
                                       "input_token_details": {"text_tokens": 4, "audio_tokens": 10}}},
     {"input": 4, "audio_input": 10, "output": 45}),
    (openai_audio.usage_of, {"type": "speech.audio.done", "usage": {"input_tokens": 4, "output_tokens": 45}},
     {"input": 4, "audio_output": 45}),
    (openai_audio.usage_of, {"text": "x"}, None),
    (openai_moderations.usage_of, {"results": []}, None),
    (rerank.usage_of, {"meta": {"billed_units": {"search_units": 1}}}, {"request": 1}),
    (rerank.usage_of, {"meta": {"billed_units": {"search_units": 2.0}, "tokens": {"input_tokens": 70.0}}},
     {"request": 2, "input": 70}),
    (rerank.usage_of, {"usage": {"total_tokens": 815}}, {"input": 815}),
    (rerank.usage_of, {"usage": {"total_tokens": 150, "search_units": 1}}, {"input": 150, "request": 1}),
    (rerank.usage_of, {"results": []}, None),
]  # fmt: skip


@pytest.mark.parametrize(("read", "body", "meters"), ROWS)
def test_the_usage_of_a_reply(read: Read, body: dict[str, Any], meters: dict[str, int] | None) -> None:
    found = read(body)
    assert (found.meters if found else None) == meters


def test_image_tokens_and_pieces_stand_side_by_side() -> None:
    found = openai_images.usage_of({"data": [{}], "usage": IMAGE_USAGE})
    assert found is not None
    assert (found.input_tokens, found.output_tokens, found.meters["image"]) == (50, 50, 1)


@pytest.mark.parametrize(
    ("read", "usage"),
    [
        (openai_completions.usage_of, {"prompt_tokens": -1}),
        (openai_completions.usage_of, []),
        (openai_embeddings.usage_of, {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}),
        (openai_images.usage_of, {**IMAGE_USAGE, "input_tokens": 1}),
        (openai_images.usage_of, {**IMAGE_USAGE, "input_tokens_details": {"image_tokens": 40, "cached_tokens": 51}}),
        (openai_audio.usage_of, {"seconds": float("nan")}),
        (openai_audio.usage_of, {"input_tokens": 1, "input_token_details": {"audio_tokens": 2}}),
        (rerank.usage_of, {"total_tokens": 1.5}),
    ],
)
def test_usage_that_cannot_be_true(read: Read, usage: Any) -> None:
    with pytest.raises(InvalidUsage):
        read({"usage": usage})


def frames(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def test_a_stream_of_completions() -> None:
    first = {"choices": [{"text": "a 🙂", "index": 0, "finish_reason": None}]}
    last = {"choices": [{"text": "b", "index": 1, "finish_reason": "stop"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    reader = read_stream(openai_completions.stream_reader, frames(first, last, usage) + b"data: [DONE]\n\n")
    assert (reader.estimate_text(), reader.delivered_chars, reader.done) == ("a 🙂b", 4, True)
    assert reader.finish_reasons == {1: "stop"}
    assert reader.usage == Usage({"input": 1, "output": 2})


def test_a_stream_of_images_sums_pieces_and_takes_the_last_usage() -> None:
    partial = {"type": "image_generation.partial_image", "b64_json": "A" * 2_000_000, "partial_image_index": 0}
    done = {"type": "image_generation.completed", "b64_json": "A", "usage": IMAGE_USAGE}
    reader = openai_images.stream_reader()
    reader.feed(frames(partial, done, done))
    assert not reader.done  # more may come
    assert reader.finish_reasons
    assert reader.usage is not None
    assert (reader.usage.meters["image"], reader.usage.input_tokens) == (2, 50)
    reader.feed(frames(done | {"size": "1024x1024", "quality": "low"}))
    assert reader.usage.meters == {"input": 10, "image_input": 40, "image_output": 50, "image/1024x1024/low": 3}


def test_streams_of_audio() -> None:
    done = {"type": "transcript.text.done", "text": "ab", "usage": {"type": "tokens", "input_tokens": 3, "output_tokens": 2}}
    events = frames({"type": "transcript.text.delta", "delta": "a"}, {"type": "transcript.text.delta", "delta": "b"}, done)
    reader = read_stream(openai_audio.transcription_reader, events)
    assert (reader.estimate_text(), reader.done, reader.usage) == ("ab", True, Usage({"input": 3, "output": 2}))
    spoken = {"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 20}}
    assert read_stream(openai_audio.speech_reader, frames(spoken)).usage == Usage({"input": 3, "audio_output": 20})


def test_a_stream_with_an_error_and_garbage() -> None:
    reader = read_stream(openai_completions.stream_reader, b"data: {\n\n" + frames({"error": {"message": "m"}}, 5))
    assert (reader.error, reader.garbage, reader.delivered) == ({"message": "m"}, 2, False)
    with pytest.raises(LineTooLong):
        openai_completions.stream_reader().feed(b"data: " + b"x" * 2_000_000)


@pytest.mark.parametrize(
    ("text", "form", "seconds"),
    [
        ("1\n00:00:00,000 --> 00:01:02,500\nHi\n\n2\n00:01:03,000 --> 00:01:04,000\nyou", "srt", 64),
        ("WEBVTT\n\n00:00.000 --> 00:07.100\nHi", "vtt", 8),
        ("x" * 150, "text", 11),
        ("", "text", 1),
        ("no times", "srt", 1),
    ],
)
def test_seconds_of_a_transcription_that_is_text(text: str, form: str, seconds: int) -> None:
    assert openai_audio.text_seconds(text, form) == seconds


def test_silence_of_many_bytes_is_not_free() -> None:
    for form in ("text", "srt"):
        assert openai_audio.text_seconds("", form, 1_920_000) == 10


# What is charged where a host says nothing: endpoint, request, bytes of files, meters.
ESTIMATES: list[tuple[Any, dict[str, Any], int, dict[str, int]]] = [
    (openai_completions.estimate, {"prompt": ["x" * 9, [1, 2, 3]], "suffix": "abcd"}, 0, {"input": 3 + 3 + 1}),
    (openai_completions.estimate, {"prompt": [[1, 2, 3], [4]]}, 0, {"input": 4}),
    (openai_completions.estimate, {}, 0, {"input": 1}),
    (openai_embeddings.estimate, {"input": ["x" * 400, "y"]}, 0, {"input": 101}),
    (openai_embeddings.estimate, {"input": [{"text": "x" * 8}, {"image": "https://x"}]}, 0, {"input": 767}),
    (openai_moderations.estimate, {"input": "x" * 40}, 0, {"input": 10}),
    (rerank.estimate, {"query": "x" * 8, "documents": ["y" * 4, {"text": "z" * 4}]}, 0, {"input": 2 * 2 + 2}),
    (openai_images.estimate, {"prompt": "x" * 40, "n": 2, "quality": "low"}, 0, {"input": 10, "image_output": 544}),
    (openai_images.estimate, {"prompt": "x", "size": "1536x1024", "image": "…"}, 0,
     {"input": 1, "image_output": 6240, "image_input": 1024}),
    (openai_audio.speech_estimate, {"input": "x" * 40}, 0, {"input": 10, "audio_output": 60}),
    (openai_audio.transcription_estimate, {}, 384_000, {"second": 2, "audio_input": 20}),
]  # fmt: skip


@pytest.mark.parametrize(("estimate", "body", "files", "meters"), ESTIMATES)
def test_what_a_silent_host_is_taken_to_have_used(
    estimate: Any, body: dict[str, Any], files: int, meters: dict[str, int]
) -> None:
    assert estimate(body, "", files) == Usage(meters, estimated=True)


def test_rerank_errors_are_read_by_both_kinds_of_client() -> None:
    body = json.loads(rerank.error_body(ApiError.of("missing_required_parameter", param="query")))
    assert body["message"] == body["error"]["message"]


NAMES = [
    *("prompt_tokens", "input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "cached_tokens", "type"),
    *("image_tokens", "audio_tokens", "input_token_details", "seconds", "search_units", "billed_units", "text", "delta"),
]
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ["usage", "duration", "meta", "data", "type", "choices", "error", "delta"]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), values))
def test_odd_usage_is_invalid_at_most(body: dict[str, Any]) -> None:
    for module in (openai_completions, openai_embeddings, openai_images, openai_audio, openai_moderations, rerank):
        try:
            found = module.usage_of(body)
        except InvalidUsage:
            continue
        assert found is None or all(type(count) is int and count >= 0 for count in found.meters.values())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), values), max_size=4), st.binary(max_size=10))
def test_odd_events_never_raise(events: list[dict[str, Any]], junk: bytes) -> None:
    audio = (openai_audio.speech_reader, openai_audio.transcription_reader)
    for make in (openai_completions.stream_reader, openai_images.stream_reader, *audio):
        reader = make()
        reader.feed(frames(*events) + junk)
        reader.flush()
        reader.estimate_text()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"A", b"\\u0041", b'"', b"{", b"\n", b" "]), st.integers(1, 9000)), max_size=8),
    st.data(),
)
def test_what_is_left_of_long_base64_does_not_depend_on_the_chunks(runs: list[tuple[bytes, int]], data: st.DataObject) -> None:
    stream = b"".join(piece * (count if piece == b"A" else 1) for piece, count in runs)
    whole = Skimmer().feed(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    skimmer = Skimmer()
    assert b"".join(skimmer.feed(stream[a:b]) for a, b in itertools.pairwise([0, *cuts, len(stream)]) if a < b) == whole
    assert whole == re.sub(rb"([A-Za-z0-9]{4096})[A-Za-z0-9]+", rb"\1", stream)


def test_a_picture_is_not_held_by_who_reads_its_event() -> None:
    reader = openai_images.stream_reader()
    reader.feed(b'event: image_edit.completed\ndata: {"type": "image_edit.completed", "b64_json": "')
    for _ in range(1000):
        reader.feed(b"QUJD" * 16_384)
        assert len(reader._framer._buffer) < 10_000
    reader.feed(b'", "usage": {"input_tokens": 3, "output_tokens": 4}}\n\n')
    assert reader.usage == Usage({"input": 3, "image_output": 4, "image": 1})
