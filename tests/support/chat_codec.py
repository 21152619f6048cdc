"""Shared by the tests of the codec: cutting streams, running the codec, and joining events into what they say."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from daemon.domain.chat import (
    Chat,
    CitationAdded,
    Event,
    Failed,
    Finished,
    LogprobsAdded,
    MediaAdded,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
)
from daemon.protocols.openai_chat import OpenAIChat

ASKED = Chat("m", (), stream=True, include_usage=True)


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    """The same bytes in several ways: whole, byte by byte, and three at random."""
    dice = random.Random(len(stream))
    yield [stream]
    yield [stream[at : at + 1] for at in range(len(stream))]
    for most in (7, 100, 3000):
        chunks, at = [], 0
        while at < len(stream):
            size = dice.randint(1, most)
            chunks.append(stream[at : at + size])
            at += size
        yield chunks


def decoded(chunks: list[bytes]) -> tuple[list[Event], Any]:
    decoder = OpenAIChat().decoder()
    events: list[Event] = []
    for chunk in chunks:
        events += decoder.feed(chunk)
    return events + decoder.flush(), decoder


def encoded(events: list[Event], chat: Chat = ASKED, usage: Any = None) -> bytes:
    encoder = OpenAIChat().encoder(model="shown", id="given-id", created=99, chat=chat)
    return b"".join(encoder.feed([event]) for event in events) + encoder.finish(usage)


def summary(events: list[Event]) -> dict[int, dict[str, Any]]:
    """choice -> what the events say in all: text, thoughts, refusal, calls, notes, media, finish."""
    found: dict[int, dict[str, Any]] = {}

    def of(choice: int) -> dict[str, Any]:
        empty: dict[str, Any] = {"text": "", "refusal": "", "thought": "", "calls": {}, "notes": [], "ended": [], "media": []}
        return found.setdefault(choice, {**empty, "logprobs": [], "finish": None})

    for event in events:
        match event:
            case TextDelta(text, choice):
                of(choice)["text"] += text
            case RefusalDelta(text, choice):
                of(choice)["refusal"] += text
            case ThinkingDelta(text, choice):
                of(choice)["thought"] += text
            case ThinkingEnded(choice=choice):
                of(choice)["ended"].append(replace(event, choice=0))
            case ToolCallStarted(index, id, name, custom, signature, choice):
                assert index not in of(choice)["calls"]
                of(choice)["calls"][index] = [id, name, custom, signature, ""]
            case ToolCallDelta(index, arguments, choice):
                of(choice)["calls"][index][4] += arguments
            case CitationAdded(citation, choice):
                of(choice)["notes"].append(citation)
            case MediaAdded(media, choice):
                of(choice)["media"].append(media)
            case LogprobsAdded(content, choice):
                of(choice)["logprobs"] += content
            case Finished(reason, stop, choice):
                assert of(choice)["finish"] is None
                of(choice)["finish"] = (reason, stop)
            case Started() | Failed():
                pass
    return found
