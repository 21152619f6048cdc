"""Events are the same however the bytes arrive, and no byte is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.protocols.sse import Frame, Framer, LineTooLong, WholeEvents, ends_whole, parse_frame


def frames_of(chunks: list[bytes], max_line: int = 1024) -> list[Frame]:
    framer = Framer(max_line)
    found = [frame for chunk in chunks for frame in framer.feed(chunk)]
    return found + framer.flush()


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(stream[at : at + size])
        at += size
    return [*chunks, stream[at:]]


@pytest.mark.parametrize(
    ("raw", "event", "data"),
    [
        (b"data: {}\n\n", "", b"{}"),
        (b"data:{}\n\n", "", b"{}"),
        (b"data:  x\n\n", "", b" x"),
        (b"data: a\ndata: b\n\n", "", b"a\nb"),
        (b"data: a\r\ndata: b\r\n\r\n", "", b"a\nb"),
        (b"data: a\rdata: b\r\r", "", b"a\nb"),
        (b"event: ping\ndata: {}\n\n", "ping", b"{}"),
        (b"event:error\r\ndata: 1\r\n\r\n", "error", b"1"),
        (b": comment\n\n", "", b""),
        (b": comment\ndata: x\n\n", "", b"x"),
        (b"id: 7\nretry: 10\ndata: x\nfoo: bar\n\n", "", b"x"),
        (b"data\n\n", "", b""),
        (b"\n", "", b""),
        (b"\xef\xbb\xbfdata: x\n\n", "", b"x"),
        (b"data: [DONE]", "", b"[DONE]"),
        ("data: é中\n\n".encode(), "", "é中".encode()),
        (b"event: \xff\ndata: x\n\n", "\ufffd", b"x"),
    ],
)
def test_the_fields_of_an_event(raw: bytes, event: str, data: bytes) -> None:
    assert parse_frame(raw) == Frame(raw, event, data)
    assert frames_of([raw]) == [Frame(raw, event, data)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_kind_of_line_end_ends_events(end: bytes) -> None:
    stream = b"data: 1" + end + end + b": hi" + end + end + b"data: 2" + end + end
    assert [frame.data for frame in frames_of([stream])] == [b"1", b"", b"2"]


def test_mixed_line_ends() -> None:
    assert [f.raw for f in frames_of([b"data: 1\n\r\ndata: 2\r\n\rdata: 3\r\n\n\n"])] == [
        b"data: 1\n\r\n",
        b"data: 2\r\n\r",
        b"data: 3\r\n\n",
        b"\n",
    ]


def test_an_event_is_given_out_as_soon_as_it_is_whole() -> None:
    framer = Framer()
    assert framer.feed(b"data: 1\n") == []
    assert [f.data for f in framer.feed(b"\ndata: 2")] == [b"1"]
    assert [f.data for f in framer.feed(b"\n\n")] == [b"2"]
    assert framer.flush() == []
    assert framer.feed(b"") == []


def test_a_carriage_return_at_the_end_of_a_chunk_waits_for_its_line_feed() -> None:
    framer = Framer()
    assert framer.feed(b"data: 1\r\n\r") == []
    assert [f.raw for f in framer.feed(b"\ndata: 2\r\n\r\n")] == [b"data: 1\r\n\r\n", b"data: 2\r\n\r\n"]
    assert framer.feed(b"data: 3\r\r") == []
    assert [f.raw for f in framer.flush()] == [b"data: 3\r\r"]


def test_what_follows_the_last_blank_line_is_flushed() -> None:
    framer = Framer()
    assert framer.feed(b"data: 1\n\ndata: 2\n")[0].data == b"1"
    assert framer.flush() == [Frame(b"data: 2\n", "", b"2")]
    assert framer.flush() == []


@pytest.mark.parametrize("chunk", [1, 7, 1000, 5000])
@pytest.mark.parametrize("stream", [b"data: " + b"x" * 2000 + b"\n\n", b"x" * 3000, b"data: 1\n" * 300])
def test_an_endless_line_or_event_is_refused(chunk: int, stream: bytes) -> None:
    chunks = [stream[i : i + chunk] for i in range(0, len(stream), chunk)]
    with pytest.raises(LineTooLong):
        frames_of(chunks)


def test_events_before_a_line_that_is_too_long_are_kept() -> None:
    with pytest.raises(LineTooLong) as caught:
        Framer(100).feed(b"data: 1\n\ndata: " + b"x" * 200)
    assert caught.value.frames == [b"data: 1\n\n"]
    with pytest.raises(LineTooLong) as caught:
        Framer(100).feed(b"data: 1\n\ndata: " + b"x" * 200 + b"\n\ndata: 2\n\n")
    assert caught.value.frames == [b"data: 1\n\n"]


def test_a_long_line_in_small_pieces_is_not_searched_again_and_again() -> None:
    framer = Framer()
    for _ in range(100_000):
        assert framer.split(b"12345") == []
    assert framer.split(b"\n\n") == [b"12345" * 100_000 + b"\n\n"]


pieces = st.lists(
    st.sampled_from(
        [b"data: {}", b"data: ", b"data", b": c", b"event: e", b"\n", b"\n\n", b"\r\n", b"\r", b"\r\n\r\n", b"\xff", b" ", b"x"]
    ),
    max_size=25,
).map(b"".join)
lf_pieces = st.lists(st.sampled_from([b"data: {}", b"\n", b"\n\n", b"event: e", b": c", b"x"]), max_size=25).map(b"".join)


@settings(max_examples=600)
@given(st.one_of(pieces, lf_pieces), st.lists(st.integers(0, 9), max_size=30))
def test_any_chunking_gives_the_same_events_and_every_byte(stream: bytes, sizes: list[int]) -> None:
    whole = frames_of([stream])
    assert frames_of(cut(stream, sizes)) == whole
    assert frames_of([stream[i : i + 1] for i in range(len(stream))]) == whole
    assert b"".join(frame.raw for frame in whole) == stream


@settings(max_examples=200)
@given(pieces)
def test_only_what_splits_into_whole_events_passes_unsplit(stream: bytes) -> None:
    framer = Framer()
    if framer.passes(stream):
        assert b"".join(framer.split(stream)) == stream
        assert framer.split_rest() == []


@settings(max_examples=300)
@given(st.one_of(pieces, lf_pieces), st.lists(st.integers(0, 9), max_size=30))
def test_whole_events_lose_no_byte_and_never_end_in_half_an_event(stream: bytes, sizes: list[int]) -> None:
    watcher = WholeEvents()
    passed = b"".join(map(watcher.feed, cut(stream, sizes)))
    events = [frame.raw for frame in frames_of([stream])]
    assert passed in {b"".join(events[:count]) for count in range(len(events) + 1)}
    assert passed + watcher.flush() == stream


def test_what_ends_a_whole_event() -> None:
    assert all(map(ends_whole, (b"", b"data: {}\n\n", b"data: {}\r\n\r\n", b"\r\r")))
    assert not any(map(ends_whole, (b"data: {}\n", b"data: {}", b"data: {}\r\n")))
