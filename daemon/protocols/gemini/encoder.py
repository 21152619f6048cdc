"""Events → a stream for a client: server-sent events, or the elements of one array.

Every frame is a reply of its own that holds what is new. Calls are told when their arguments are whole, citations and log
probabilities with the last frame, which has the reasons and the usage. A comment would break the official SDK: no pings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import jiter

from daemon.domain.chat import (
    Chat,
    CitationAdded,
    Event,
    Finish,
    Finished,
    LogprobsAdded,
    MediaAdded,
    RefusalDelta,
    Started,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingEnded,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.gemini.citations import Grounding
from daemon.protocols.gemini.content import encode_call
from daemon.protocols.gemini.errors import error_frame
from daemon.protocols.gemini.logprobs import encode_logprobs
from daemon.protocols.gemini.media import encode_media
from daemon.protocols.gemini.reply import UniqueIds
from daemon.protocols.gemini.seals import seal
from daemon.protocols.gemini.tables import REASON
from daemon.protocols.gemini.usage import usage_object
from daemon.protocols.gemini.values import json_bytes

__all__ = ["Encoder"]

Raw = dict[str, Any]


class _Call:
    """A call whose arguments are being told."""

    __slots__ = ("event", "id", "pieces")

    def __init__(self, event: ToolCallStarted, call_id: str) -> None:
        self.event, self.id = event, call_id
        self.pieces: list[str] = []

    def part(self) -> Raw:
        call = ToolCall(self.id, self.event.name, "".join(self.pieces), self.event.custom)
        return encode_call(call, self.id, self.event.signature)

    def is_whole(self) -> bool:
        """Whether nothing can follow: the arguments so far are a JSON value."""
        if self.event.custom:
            return False
        try:
            jiter.from_json("".join(self.pieces).encode("utf-8", "replace"))
        except ValueError:
            return False
        return True


class _Choice:
    """What is known of one candidate so far."""

    __slots__ = ("calls", "citations", "finish", "ids", "logprobs", "refused", "seen", "texts", "thought")

    def __init__(self) -> None:
        self.calls: dict[int, _Call] = {}
        self.seen: set[int] = set()
        self.ids = UniqueIds()
        self.texts: list[str] = []
        self.citations: list[Raw] = []
        self.logprobs: list[Raw] = []
        self.finish: Finish | None = None
        self.refused = False
        self.thought = False  # words of a thought were told, and what proves it was not

    def last(self, index: int) -> Raw:
        """The candidate of the last frame."""
        finish = Finish.REFUSAL if self.refused and self.finish in (None, Finish.STOP) else self.finish
        found: Raw = {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": REASON[finish], "index": index}
        grounding, text = Grounding(), "".join(self.texts)
        for citation in self.citations:
            grounding.add(citation, text, 0, None)
        if metadata := grounding.metadata():
            found["groundingMetadata"] = metadata
        if (result := encode_logprobs(self.logprobs)) is not None:
            found["logprobsResult"] = result
        return found


class Encoder:
    """Implements base.StreamEncoder. `sse`: as events; else as an array."""

    def __init__(self, *, model: str, id: str, created: int, chat: Chat, sse: bool = True) -> None:
        self._model, self._id, self._sse = model, id, sse
        self._out: list[bytes] = []
        self._choices: dict[int, _Choice] = {}
        self._usage: Usage | None = None
        self._first = True
        self._tail = self._make_tail()

    def _make_tail(self) -> bytes:
        """The bytes of a frame after its candidates."""
        return b',"modelVersion":%b,"responseId":%b}' % (json_bytes(self._model), json_bytes(self._id))

    def feed(self, events: list[Event]) -> bytes:
        """What goes to the client for these events."""
        for event in events:
            if (handler := HANDLERS.get(type(event))) is not None:
                handler(self, event)
        return self._take()

    def finish(self, usage: Usage | None) -> bytes:
        """The end of a complete stream."""
        if not self._choices:
            self._choice(0)
        for index, choice in self._choices.items():
            self._tell_calls(choice, index)
        candidates = [choice.last(index) for index, choice in sorted(self._choices.items())]
        found = usage if usage is not None else self._usage
        body = b'{"candidates":' + json_bytes(candidates)
        if found is not None:
            body += b',"usageMetadata":' + json_bytes(usage_object(found))
        self._emit(body + self._tail)
        if not self._sse:
            self._out.append(b"\n]\n")
        return self._take()

    def fail(self, error: ApiError) -> bytes:
        """The end of a stream that broke."""
        self._out.append(error_frame(error, sse=self._sse, first=self._first))
        return self._take()

    def _take(self) -> bytes:
        out, self._out = self._out, []
        return b"".join(out)

    def _emit(self, body: bytes) -> None:
        if self._sse:
            self._out.append(b"data: %b\r\n\r\n" % body)
        else:
            self._out.append((b"[" if self._first else b",\r\n") + body)
        self._first = False

    def _tell(self, part: bytes, index: int) -> None:
        """A frame with one part."""
        head = b'{"candidates":[{"content":{"parts":[%b],"role":"model"},"index":%d}]' % (part, index)
        self._emit(head + self._tail)

    def _choice(self, index: int) -> _Choice:
        found = self._choices.get(index)
        if found is None:
            found = self._choices[index] = _Choice()
        return found

    def _before_words(self, index: int) -> _Choice:
        """The candidate, its calls told: something else follows."""
        choice = self._choice(index)
        if choice.calls:
            self._tell_calls(choice, index)
        return choice

    def _start(self, event: Started) -> None:
        if event.id:
            self._id = event.id
            self._tail = self._make_tail()
        self._usage = event.usage or self._usage

    def _text(self, event: TextDelta | RefusalDelta) -> None:
        if event.text:
            self._before_words(event.choice).texts.append(event.text)
            self._tell(b'{"text":%b}' % json_bytes(event.text), event.choice)

    def _refusal(self, event: RefusalDelta) -> None:
        if event.text:
            self._choice(event.choice).refused = True
            self._text(event)

    def _think(self, event: ThinkingDelta) -> None:
        if event.text:
            self._before_words(event.choice).thought = True
            self._tell(b'{"text":%b,"thought":true}' % json_bytes(event.text), event.choice)

    def _end_thought(self, event: ThinkingEnded) -> None:
        choice = self._before_words(event.choice)
        thought, choice.thought = choice.thought, False
        signature = seal(Thinking("", event.signature, event.encrypted, origin=event.origin))
        if signature is not None:
            part: Raw = {"text": "", "thought": True} if thought else {"text": ""}
            self._tell(json_bytes({**part, "thoughtSignature": signature}), event.choice)

    def _start_call(self, event: ToolCallStarted) -> None:
        choice = self._choice(event.choice)
        if event.index in choice.seen:
            return
        choice.seen.add(event.index)
        for index, call in list(choice.calls.items()):
            if not call.is_whole():
                break  # those after it wait: calls are told in their order
            del choice.calls[index]
            self._tell(json_bytes(call.part()), event.choice)
        choice.calls[event.index] = _Call(event, choice.ids.of(event.id))

    def _call_delta(self, event: ToolCallDelta) -> None:
        call = self._choice(event.choice).calls.get(event.index)
        if call is not None:
            call.pieces.append(event.arguments)

    def _tell_calls(self, choice: _Choice, index: int) -> None:
        calls, choice.calls = list(choice.calls.values()), {}
        for call in calls:
            self._tell(json_bytes(call.part()), index)

    def _cite(self, event: CitationAdded) -> None:
        self._choice(event.choice).citations.append(event.citation)

    def _media(self, event: MediaAdded) -> None:
        self._before_words(event.choice)
        self._tell(json_bytes(encode_media(event.media, None)), event.choice)

    def _add_logprobs(self, event: LogprobsAdded) -> None:
        self._choice(event.choice).logprobs += event.content

    def _finished(self, event: Finished) -> None:
        choice = self._choice(event.choice)
        if choice.finish in (None, Finish.STOP):
            choice.finish = event.reason

    def _report(self, event: UsageReported) -> None:
        self._usage = event.usage


# Failed and Ended say nothing themselves: `fail` and `finish` do. Pinged says nothing at all.
HANDLERS: Final[dict[type[Any], Callable[[Encoder, Any], None]]] = {
    Started: Encoder._start,
    TextDelta: Encoder._text,
    RefusalDelta: Encoder._refusal,
    ThinkingDelta: Encoder._think,
    ThinkingEnded: Encoder._end_thought,
    ToolCallStarted: Encoder._start_call,
    ToolCallDelta: Encoder._call_delta,
    CitationAdded: Encoder._cite,
    MediaAdded: Encoder._media,
    LogprobsAdded: Encoder._add_logprobs,
    Finished: Encoder._finished,
    UsageReported: Encoder._report,
}
