"""What bounds the cost of each one-shot endpoint, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.admission import Ask
from daemon.domain.errors import ApiError
from daemon.protocols import (
    openai_audio,
    openai_completions,
    openai_embeddings,
    openai_images,
    openai_moderations,
    rerank,
)
from daemon.protocols.asks import MARKS

Read = Callable[[dict[str, Any], int], Ask]
COMPLETION, EMBEDDING, IMAGE = openai_completions.read, openai_embeddings.read, openai_images.read
EDIT, SPEECH, TRANSCRIPTION = openai_images.read_edit, openai_audio.read_speech, openai_audio.read_transcription
MODERATION, RERANK = openai_moderations.read, rerank.read
SIZE = 1000
M = MARKS

# endpoint, body without its model, what the ask has
ROWS: list[tuple[Read, dict[str, Any], dict[str, Any]]] = [
    (COMPLETION, {"prompt": "häh"}, {"input_bound": 4 + M, "output_limit": None, "n": 1, "stream": False, "inputs": 1}),
    (COMPLETION, {"prompt": ["ab", "c"], "n": 2, "best_of": 3, "max_tokens": 0},
     {"input_bound": 3 + 2 * M, "n": 6, "output_limit": 0, "inputs": 2}),
    (COMPLETION, {"prompt": [1, 2, 3]}, {"input_bound": 3 + M, "body_bytes": 48, "n": 1, "inputs": 1}),
    (COMPLETION, {"prompt": [[1, 2], [3]]}, {"input_bound": 3 + 2 * M, "body_bytes": 32, "n": 2, "inputs": 2}),
    (COMPLETION, {}, {"input_bound": M, "n": 1, "inputs": 1}),
    (COMPLETION, {"prompt": "a", "suffix": "bc", "stream": True, "stream_options": {"include_usage": True}},
     {"input_bound": 3 + M, "stream": True, "include_usage": True}),
    (EMBEDDING, {"input": "abc"}, {"input_bound": 3 + M, "output_limit": 0, "body_bytes": 3, "inputs": 1}),
    (EMBEDDING, {"input": ["abc", "de"], "encoding_format": "base64", "dimensions": 5},
     {"input_bound": 5 + 2 * M, "body_bytes": 3, "inputs": 2}),
    (EMBEDDING, {"input": [[1, 2], [3, 4, 5]]}, {"input_bound": 5 + 2 * M, "body_bytes": 48, "inputs": 2}),
    (EMBEDDING, {"input": [{"text": "x"}, {"image": "https://x"}]},
     {"input_bound": SIZE + 2 * M, "media_parts": 1, "inputs": 2}),
    (IMAGE, {"prompt": "cat"}, {"extra": {"image": 1}, "output_extra": 32_768, "output_limit": 0, "n": 1}),
    (IMAGE, {"prompt": "cat", "n": 3, "quality": "low", "partial_images": 2, "stream": True},
     {"extra": {"image": 3}, "output_extra": 2_560, "n": 3, "stream": True}),
    (IMAGE, {"prompt": "cat", "n": 2, "size": "1024x1024", "quality": "HD"}, {"extra": {"image/1024x1024/hd": 2}}),
    (IMAGE, {"prompt": "cat", "size": "1024x1024", "quality": "auto"}, {"extra": {"image/1024x1024": 1}}),
    (IMAGE, {"prompt": "cat", "size": "auto", "quality": "high"}, {"extra": {"image": 1}}),
    (IMAGE, {"prompt": "cat", "size": "9 x 9/../high"}, {"extra": {"image": 1}}),
    (EDIT, {"prompt": "cat"}, {"input_bound": 3 + 64 + 16 * 8192}),
    (EDIT, {"prompt": "cat", "images": [{"file_id": "f"}]}, {"input_bound": 3 + 64 + 8192}),
    (SPEECH, {"input": "häh"}, {"extra": {"character": 3}, "input_bound": 68, "output_extra": 112}),
    (SPEECH, {"input": "x", "instructions": "low", "stream_format": "sse"}, {"input_bound": 68, "stream": True}),
    (TRANSCRIPTION, {"prompt": "x", "stream": True},
     {"extra": {}, "extra_bound": {"second": 3}, "input_bound": 151, "stream": True, "inputs": 1}),
    (TRANSCRIPTION, {"chunking_strategy": "auto"}, {"inputs": 3}),
    (TRANSCRIPTION, {"url": "https://x"}, {"unbounded": ("url",)}),
    (MODERATION, {"input": ["a", "bc"]}, {"input_bound": 3 + 2 * M, "inputs": 2}),
    (MODERATION, {"input": [{"type": "text", "text": "a"}, {"type": "image_url"}]},
     {"input_bound": SIZE + M, "media_parts": 1, "inputs": 1}),
    (RERANK, {"query": "ab", "documents": ["c", {"text": "d"}]},
     {"input_bound": 4 + 1 + 13 + 2 * M, "extra": {}, "extra_bound": {"request": 1}, "inputs": 14}),
    (RERANK, {"query": "q", "documents": ["d"] * 101}, {"extra_bound": {"request": 2}, "inputs": 101}),
    (RERANK, {"query": "q", "documents": ["d" * 51_100]}, {"extra_bound": {"request": 2}, "inputs": 51_100}),
    (RERANK, {"query": {"image": "x"}, "documents": ["d", {"image": "y"}]}, {"media_parts": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("read", "body", "expected"), ROWS)
def test_what_bounds_the_cost(read: Read, body: dict[str, Any], expected: dict[str, Any]) -> None:
    ask = read({"model": "m", **body}, SIZE)
    assert ask.model == "m"
    assert {name: getattr(ask, name) for name in expected} == expected


BAD: list[tuple[Read, dict[str, Any], str]] = [
    (COMPLETION, {"prompt": "x", "model": ""}, "model"),
    (COMPLETION, {"prompt": 5}, "prompt"),
    (COMPLETION, {"prompt": ["a", 5]}, "prompt"),
    (COMPLETION, {"prompt": [1, "a"]}, "prompt"),
    (COMPLETION, {"prompt": "x", "n": 0}, "n"),
    (COMPLETION, {"prompt": "x", "best_of": True}, "best_of"),
    (COMPLETION, {"prompt": "x", "max_tokens": -1}, "max_tokens"),
    (COMPLETION, {"prompt": "x", "suffix": 1}, "suffix"),
    (EMBEDDING, {}, "input"),
    (EMBEDDING, {"input": []}, "input"),
    (EMBEDDING, {"input": "x", "model": "a\nb"}, "model"),
    (IMAGE, {}, "prompt"),
    (IMAGE, {"prompt": "x", "n": 11}, "n"),
    (IMAGE, {"prompt": "x", "quality": 5}, "quality"),
    (SPEECH, {}, "input"),
    (SPEECH, {"input": ["x"]}, "input"),
    (MODERATION, {}, "input"),
    (RERANK, {"query": "x"}, "documents"),
    (RERANK, {"documents": ["x"]}, "query"),
    (RERANK, {"query": "x", "documents": ["a", 5]}, "documents[1]"),
    (RERANK, {"query": "x", "documents": "a"}, "documents"),
]


@pytest.mark.parametrize(("read", "body", "param"), BAD)
def test_what_is_malformed_is_400(read: Read, body: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        read({"model": "m", **body}, SIZE)
    assert (caught.value.http_status, caught.value.param) == (400, param)


def test_moderations_have_a_model_of_their_own() -> None:
    assert MODERATION({"input": "x"}, SIZE).model == "omni-moderation-latest"


def test_voyages_query_counts_for_every_document() -> None:
    assert RERANK({"model": "m", "query": "abcd", "documents": ["x"] * 10}, SIZE).input_bound == 50 + 10 * M


def test_an_edit_counts_the_images_of_its_form() -> None:
    assert openai_images.read_edit({"model": "m", "prompt": "x"}, SIZE, files=2).input_bound == 1 + 64 + 2 * 8192


def test_size_and_quality_may_name_a_price() -> None:
    assert openai_images.size_and_quality({"size": "1024x1024"}) == ("1024x1024", "auto")


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=3) | st.floats(0, 1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "type", "image"]), inner, max_size=2),
    max_leaves=6,
)
NAMES = "model prompt input query documents n best_of max_tokens suffix size quality images instructions stream_options".split()  # noqa: SIM905


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), values))
def test_odd_bodies_are_400_at_most(body: dict[str, Any]) -> None:
    for read in (COMPLETION, EMBEDDING, IMAGE, EDIT, SPEECH, TRANSCRIPTION, MODERATION, RERANK):
        try:
            ask = read({"model": "m", **body}, SIZE)
        except ApiError as error:
            if error.http_status != 400:
                raise
        else:
            assert min(ask.input_bound, ask.body_bytes, ask.output_extra, ask.n) >= 0
