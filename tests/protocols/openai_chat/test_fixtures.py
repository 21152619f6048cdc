"""Recorded replies of real hosts: the usage read is the true one, and streams pass unharmed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.strict_json import decode_object
from daemon.domain.usage import Usage
from daemon.protocols.openai_chat import (
    StreamAdapter,
    StreamReader,
    parse_loose,
    parse_request,
    reply_text,
    usage_of,
)
from daemon.protocols.rename import rename_model

ROOT = Path(__file__).parents[4] / "shared" / "fixtures"
INDEX = ROOT / "index.json"
ENTRIES: list[dict[str, Any]] = (
    [entry for entry in json.loads(INDEX.read_bytes())["fixtures"] if entry["api"] == "openai.chat"] if INDEX.exists() else []
)
pytestmark = pytest.mark.skipif(not ENTRIES, reason="the recorded fixtures (../shared/fixtures) are not on this machine")
REPLIES = [entry for entry in ENTRIES if not entry["stream"]]
STREAMS = [entry for entry in ENTRIES if entry["stream"]]
REQUESTS = [entry for entry in ENTRIES if entry["request_file"]]


def named(entry: dict[str, Any]) -> str:
    return str(entry["name"])


def content(entry: dict[str, Any], which: str = "response_file") -> bytes:
    return (ROOT / entry[which]).read_bytes()


def check(usage: Usage | None, true: dict[str, Any] | None) -> None:
    if true is None:
        assert usage is None
        return
    assert usage is not None
    assert {
        "input_total": usage.input_tokens,
        "cached_read": usage.meters.get("cached_input", 0),
        "cache_write": usage.meters.get("cache_write_5m", 0),
        "output_total": usage.output_tokens,
        "reasoning": usage.reasoning,
    } == {name: true[name] for name in ("input_total", "cached_read", "cache_write", "output_total", "reasoning")}
    assert not usage.estimated


def chunkings(stream: bytes) -> list[list[bytes]]:
    dice = random.Random(len(stream))
    cuts = [[stream], [stream[i : i + 1] for i in range(len(stream))]]
    for most in (7, 300, 5000):
        chunks, at = [], 0
        while at < len(stream):
            size = dice.randint(1, most)
            chunks.append(stream[at : at + size])
            at += size
        cuts.append(chunks)
    return cuts


@pytest.mark.parametrize("entry", REPLIES, ids=named)
def test_the_usage_of_a_reply_is_the_true_one(entry: dict[str, Any]) -> None:
    body = content(entry)
    reply = json.loads(body)
    check(usage_of(reply), entry["usage_true"])
    assert bool(reply_text(reply)) == (entry["usage_true"] is not None)
    renamed = rename_model(body, "my model")
    assert json.loads(renamed) == ({**reply, "model": "my model"} if "model" in reply else reply)


@pytest.mark.parametrize("entry", STREAMS, ids=named)
def test_the_usage_of_a_stream_is_the_true_one_in_any_chunking(entry: dict[str, Any]) -> None:
    texts = set()
    for chunks in chunkings(content(entry)):
        reader = StreamReader()
        for chunk in chunks:
            reader.feed(chunk)
        reader.flush()
        check(reader.usage, entry["usage_true"])
        assert reader.done
        assert reader.delivered
        assert reader.garbage == 0
        assert (reader.error is not None) == ("midstream_error" in entry["features"])
        assert entry["finish"] in reader.finish_reasons.values()
        texts.add(reader.estimate_text())
    assert len(texts) == 1


@pytest.mark.parametrize("entry", STREAMS, ids=named)
def test_a_stream_passes_with_no_other_byte_changed(entry: dict[str, Any]) -> None:
    stream = content(entry)
    for chunks in chunkings(stream):
        for wanted, expected in (({}, stream), ({"strip_usage": True}, without_usage(stream)), ({"model_name": "M"}, None)):
            adapter = StreamAdapter(**wanted)
            out = b"".join([adapter.feed(chunk) for chunk in chunks] + [adapter.flush()])
            assert out == (expected if expected is not None else renamed(stream))


def events_of(stream: bytes) -> list[bytes]:
    return [part + b"\n\n" for part in stream.split(b"\n\n")[:-1]]


def decoded(event: bytes) -> dict[str, Any]:
    data = event.removeprefix(b"data: ").strip()
    return json.loads(data) if data.startswith(b"{") else {}


def without_usage(stream: bytes) -> bytes:
    kept = [e for e in events_of(stream) if not (decoded(e).get("usage") and decoded(e).get("choices") == [])]
    return b"".join(kept)


def renamed(stream: bytes) -> bytes:
    """The slow way: the value is found by trying each place where it occurs."""
    out = []
    for event in events_of(stream):
        obj = decoded(event)
        if "model" in obj:
            value = json.dumps(obj["model"]).encode()
            places = [i for i in range(len(event)) if event.startswith(b'"model":' + value, i)]
            made = [event[: i + 8] + b'"M"' + event[i + 8 + len(value) :] for i in places]
            event = next(new for new in made if decoded(new) == {**obj, "model": "M"})
        out.append(event)
    return b"".join(out)


@pytest.mark.parametrize("entry", REQUESTS, ids=named)
def test_recorded_requests_are_accepted_and_bound_their_prompt(entry: dict[str, Any]) -> None:
    body = content(entry, "request_file")
    data = decode_object(body)
    if entry["status"] != 400:
        request = parse_request(data)
        assert request == parse_loose(data)
        assert request.stream is entry["stream"]
        if entry["usage_true"]:
            assert entry["usage_true"]["input_total"] <= request.input_bound(len(body))
