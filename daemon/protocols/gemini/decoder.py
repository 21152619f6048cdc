"""A provider's stream → events."""

from __future__ import annotations

from typing import Any, Final

import jiter

from daemon.domain.chat import (
    CitationAdded,
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    LogprobsAdded,
    Media,
    MediaAdded,
    Part,
    RefusalDelta,
    Started,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingEnded,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from daemon.domain.usage import InvalidUsage, Usage
from daemon.protocols.gemini.citations import cite, found_in
from daemon.protocols.gemini.errors import read_error
from daemon.protocols.gemini.frames import MAX_ELEMENT, Frames
from daemon.protocols.gemini.logprobs import decode_logprobs
from daemon.protocols.gemini.partial import Arguments
from daemon.protocols.gemini.parts import CallIds
from daemon.protocols.gemini.reply import blocked, finish_of, parts_of, words_of_filter
from daemon.protocols.gemini.runs import add_runs
from daemon.protocols.gemini.usage import read_usage, tier_of, with_runs
from daemon.protocols.gemini.values import compact, objects_of, string_of
from daemon.protocols.sse import LineTooLong

__all__ = ["Decoder"]

Raw = dict[str, Any]
CHOICES_MAX: Final = 128
DONE: Final = b"[DONE]"  # what hosts that imitate the API may add


class _Choice:
    """What is known of one candidate so far."""

    __slots__ = ("called", "cited", "finished", "partial", "texts", "thinking")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.cited: set[str] = set()
        self.thinking = False  # a thought is open
        self.called = 0
        self.partial: Arguments | None = None  # of a call whose arguments come in pieces
        self.finished = False


class Decoder:
    """Implements base.StreamDecoder. `service_tier` is known at the end.

    The API has no sign of the end but the reasons of all candidates, and the end of an array. Usage that comes after it counts.
    """

    def __init__(self) -> None:
        self._frames = Frames(MAX_ELEMENT)
        self._out: list[Event] = []
        self._choices: dict[int, _Choice] = {}
        self._ids = CallIds()
        self._started = self._ended = self._over = False
        self._model = ""
        self._runs: dict[str, set[str]] = {}  # calls of hosted tools
        self.service_tier: str | None = None
        self.usage: Usage | None = None
        self.usage_invalid = ""
        self.garbage = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes. Nothing is raised: an element that is too long ends the stream with Failed."""
        if self._over:
            return []
        try:
            frames = self._frames.split(chunk)
        except LineTooLong as error:
            for frame in error.frames:
                self._frame(frame)
            if not self._over:
                self._fail(Failed(str(error), "INTERNAL"))
            return self._take()
        for frame in frames:
            self._frame(frame)
        if self._frames.ended and self._started:
            self._end()
        return self._take()

    def flush(self) -> list[Event]:
        """The stream is over: the event that stands after the last blank line, if one does."""
        if not self._over:
            for frame in self._frames.split_rest():
                self._frame(frame)
        for index in self._choices:
            self._close(index)
        return self._take()

    def _take(self) -> list[Event]:
        out, self._out = self._out, []
        return out

    def _frame(self, data: bytes) -> None:
        if self._over:
            return
        try:
            chunk = jiter.from_json(data, cache_mode="keys")
        except ValueError:
            chunk = None
        if type(chunk) is list and len(chunk) == 1:
            chunk = chunk[0]  # an error, written as the array that a stream may be
        if type(chunk) is not dict:
            if data.strip() != DONE:
                self.garbage += 1
            return
        if chunk.get("error") is not None:
            self._fail(read_error(chunk))
            return
        self._start(chunk)
        for position, candidate in enumerate(objects_of(chunk, "candidates")):
            index = candidate.get("index", position)
            if type(index) is int and 0 <= index < CHOICES_MAX:
                self._candidate(candidate, index)
        if (reason := blocked(chunk)) is not None and not self._choices:
            if reason:
                self._out.append(RefusalDelta(reason))
            self._out.append(Finished(Finish.CONTENT_FILTER))
            self._choice(0).finished = True
        self._read_usage(chunk)
        if self._choices and all(choice.finished for choice in self._choices.values()):
            self._end()

    def _start(self, chunk: Raw) -> None:
        if not self._started:
            self._started = True
            reply_id = string_of(chunk, "responseId")
            if reply_id:
                self._ids = CallIds(f"call_{reply_id}_")
            self._model = string_of(chunk, "modelVersion")
            self._out.append(Started(reply_id, self._model, 0))

    def _end(self) -> None:
        if not self._ended and not self._over:
            for index in self._choices:
                self._close(index)
            self._ended = True
            self._out.append(Ended())

    def _fail(self, failed: Failed) -> None:
        self._over = True
        self._out.append(failed)

    def _read_usage(self, chunk: Raw) -> None:
        self.service_tier = tier_of(chunk) or self.service_tier
        ran = add_runs(self._runs, chunk)
        told = chunk.get("usageMetadata")
        try:
            found = read_usage(told) if told is not None else None
        except InvalidUsage as problem:
            self.usage_invalid = str(problem)
            return
        if found is None and ran:
            found = self.usage  # the same with what a tool did meanwhile
        if found is not None:
            self.usage, self.usage_invalid = with_runs(found, self._runs, self._model), ""
            self._out.append(UsageReported(self.usage))

    # -- candidates

    def _choice(self, index: int) -> _Choice:
        found = self._choices.get(index)
        if found is None:
            found = self._choices[index] = _Choice()
        return found

    def _candidate(self, candidate: Raw, index: int) -> None:
        choice = self._choice(index)
        content = candidate.get("content")
        for part in objects_of(content, "parts") if type(content) is dict else ():
            call = part.get("functionCall")
            if type(call) is dict and (choice.partial is not None or call.get("willContinue") is True):
                self._piece(call, part, choice, index)
                continue
            if part.get("thought") is not True or choice.partial is not None:
                self._close(index)
            for found in parts_of(part, self._ids):
                self._part(found, choice, index)
        if logprobs := decode_logprobs(candidate):
            self._out.append(LogprobsAdded(logprobs, index))
        self._cite(candidate, choice, index)
        finish = finish_of(candidate.get("finishReason"), choice.called > 0)
        # Some hosts give a reason with every chunk: what comes after the first is told all the same.
        if finish is not None and not choice.finished:
            self._close(index)
            if words := words_of_filter(candidate, finish):
                self._out.append(RefusalDelta(words, index))
            choice.finished = True
            self._out.append(Finished(finish, choice=index))

    def _part(self, part: Part, choice: _Choice, index: int) -> None:
        if isinstance(part, Thinking):
            self._think(part, choice, index)
        elif isinstance(part, Text):
            choice.texts.append(part.text)
            self._out.append(TextDelta(part.text, index))
        elif isinstance(part, Media):
            self._out.append(MediaAdded(part, index))
        elif isinstance(part, ToolCall):
            number, choice.called = choice.called, choice.called + 1
            self._out.append(ToolCallStarted(number, part.id, part.name, signature=part.signature, choice=index))
            self._out.append(ToolCallDelta(number, part.arguments, index))

    def _think(self, thought: Thinking, choice: _Choice, index: int) -> None:
        if thought.text:
            choice.thinking = True
            self._out.append(ThinkingDelta(thought.text, index))
        if thought.origin:
            choice.thinking = False
            self._out.append(ThinkingEnded(thought.signature, thought.encrypted, origin=thought.origin, choice=index))

    def _close(self, index: int) -> None:
        """Ends an open thought, and a call whose arguments do not come to an end."""
        choice = self._choices[index]
        if choice.thinking:
            choice.thinking = False
            self._out.append(ThinkingEnded(choice=index))
        if choice.partial is not None:
            arguments, choice.partial = compact(choice.partial.value), None
            self._out.append(ToolCallDelta(choice.called - 1, arguments, index))

    def _piece(self, call: Raw, part: Raw, choice: _Choice, index: int) -> None:
        """A call whose arguments come in pieces: they are told when they are whole."""
        if choice.partial is None:
            self._close(index)
            name, signature = string_of(call, "name"), string_of(part, "thoughtSignature") or None
            call_id = self._ids.of_call(string_of(call, "id") or None, name)
            number, choice.called = choice.called, choice.called + 1
            self._out.append(ToolCallStarted(number, call_id, name, signature=signature, choice=index))
            choice.partial = Arguments()
        if type(args := call.get("args")) is dict:
            choice.partial.value.update(args)
        for piece in objects_of(call, "partialArgs"):
            choice.partial.add(piece)
        if call.get("willContinue") is not True:
            self._close(index)

    def _cite(self, candidate: Raw, choice: _Choice, index: int) -> None:
        """Citations of all the text so far; some hosts repeat them with every chunk."""
        citations = found_in(candidate)
        if not citations or not choice.texts:
            return
        (text,) = cite([Text("".join(choice.texts))], [0], [(citation, 0) for citation, _ in citations])
        for citation in text.citations if isinstance(text, Text) else ():
            if (key := compact(citation)) not in choice.cited:
                choice.cited.add(key)
                self._out.append(CitationAdded(citation, index))
