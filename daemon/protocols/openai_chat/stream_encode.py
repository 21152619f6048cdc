"""Canonical events as a stream of chat completion chunks for a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from daemon.domain.chat import (
    Chat,
    CitationAdded,
    Event,
    Finish,
    Finished,
    LogprobsAdded,
    MediaAdded,
    MediaKind,
    Pinged,
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
from daemon.protocols.openai_chat.errors import error_frame
from daemon.protocols.openai_chat.reply import call_object, image_object, usage_object
from daemon.protocols.openai_chat.tables import REASON
from daemon.protocols.openai_chat.thoughts import details_of
from daemon.protocols.openai_chat.values import annotation, compact

__all__ = ["ChatStreamEncoder"]

CHOICES_MAX: Final = 128
PING: Final = ": ping\n\n"
DONE: Final = "data: [DONE]\n\n"


class _Answer:
    """What has gone out of one choice."""

    __slots__ = ("annotations", "calls", "details", "finished", "images", "length", "refused", "thought")

    def __init__(self) -> None:
        self.length = 0  # characters of text
        self.thought: list[str] = []
        self.calls: dict[int, tuple[int, bool]] = {}  # canonical index -> (index here, custom)
        self.details = self.annotations = self.images = 0
        self.refused = self.finished = False


class ChatStreamEncoder:
    """See base.StreamEncoder. Made for accumulators: choices begin in the order of their indices, each with its role; what
    grows (tool calls, annotations, reasoning_details, images) has indices from 0; one id and time in every chunk.
    """

    def __init__(self, *, model: str, id: str, created: int, chat: Chat) -> None:
        self._model, self._id, self._created = model, id, created
        self._include_usage = chat.include_usage is True
        self._legacy = chat.legacy_functions
        self._head = ""
        self._tail = ',"usage":null}\n\n' if self._include_usage else "}\n\n"
        self._answers: list[_Answer] = []
        self._usage: Usage | None = None
        self._closed = False

    def feed(self, events: list[Event]) -> bytes:
        """The chunks for some events. Failed and Ended say nothing here: they are told by fail and finish."""
        if self._closed:
            return b""
        out: list[str] = []
        for event in events:
            encode = ENCODERS.get(type(event))
            if encode is not None:
                encode(self, event, out)
        return "".join(out).encode("utf-8", "replace")

    def finish(self, usage: Usage | None) -> bytes:
        if self._closed:
            return b""
        out: list[str] = []
        self._answer(0, out)
        for number, answer in enumerate(self._answers):
            if not answer.finished:
                reason = Finish.TOOL_CALLS if answer.calls else Finish.STOP
                self._finished(Finished(reason, choice=number), out)
        usage = usage if usage is not None else self._usage
        if self._include_usage and usage is not None:
            out.append(f'{self._head}"choices":[],"usage":{compact(usage_object(usage))}}}\n\n')
        out.append(DONE)
        self._closed = True
        return "".join(out).encode("utf-8", "replace")

    def fail(self, error: ApiError) -> bytes:
        if self._closed:
            return b""
        self._closed = True
        return error_frame(error)

    # -- pieces

    def _answer(self, number: int, out: list[str]) -> _Answer:
        """The state of a choice; it and those before it have begun."""
        number = min(number, CHOICES_MAX - 1)
        while len(self._answers) <= number:
            if not self._head:
                self._head = (
                    f'data: {{"id":{compact(self._id)},"object":"chat.completion.chunk","created":{self._created},'
                    f'"model":{compact(self._model)},'
                )
            self._answers.append(_Answer())
            self._delta(len(self._answers) - 1, '"role":"assistant","content":"","refusal":null', out)
        return self._answers[number]

    def _delta(self, number: int, members: str, out: list[str], more: str = '"logprobs":null,"finish_reason":null') -> None:
        out.append(f'{self._head}"choices":[{{"index":{number},"delta":{{{members}}},{more}}}]{self._tail}')

    def _started(self, event: Started, out: list[str]) -> None:
        if not self._head:
            self._id = event.id or self._id
            self._created = event.created or self._created
        self._answer(0, out)
        self._usage = event.usage or self._usage

    def _text(self, event: TextDelta, out: list[str]) -> None:
        self._answer(event.choice, out).length += len(event.text)
        self._delta(event.choice, f'"content":{compact(event.text)}', out)

    def _refusal(self, event: RefusalDelta, out: list[str]) -> None:
        self._answer(event.choice, out).refused = True
        self._delta(event.choice, f'"refusal":{compact(event.text)}', out)

    def _thinking(self, event: ThinkingDelta, out: list[str]) -> None:
        self._answer(event.choice, out).thought.append(event.text)
        self._delta(event.choice, f'"reasoning_content":{compact(event.text)}', out)

    def _thought(self, event: ThinkingEnded, out: list[str]) -> None:
        answer = self._answer(event.choice, out)
        text, answer.thought = "".join(answer.thought), []
        if event.signature is None and event.encrypted is None:
            return
        details = details_of(Thinking(text, event.signature, event.encrypted, event.id, event.origin), answer.details)
        answer.details += len(details)
        self._delta(event.choice, f'"reasoning_details":{compact(details)}', out)

    def _call(self, event: ToolCallStarted, out: list[str]) -> None:
        answer = self._answer(event.choice, out)
        index = len(answer.calls)
        answer.calls[event.index] = (index, event.custom)
        item = call_object(ToolCall(event.id, event.name, "", event.custom, event.signature))
        if self._legacy:
            if index == 0:
                self._delta(event.choice, f'"function_call":{compact(item.get("function"))}', out)
            return
        self._delta(event.choice, f'"tool_calls":[{compact({"index": index, **item})}]', out)

    def _arguments(self, event: ToolCallDelta, out: list[str]) -> None:
        known = self._answer(event.choice, out).calls.get(event.index)
        if known is None:
            return
        index, custom = known
        text = compact(event.arguments)
        if self._legacy:
            if index == 0:
                self._delta(event.choice, f'"function_call":{{"arguments":{text}}}', out)
            return
        inner = f'"custom":{{"input":{text}}}' if custom else f'"function":{{"arguments":{text}}}'
        self._delta(event.choice, f'"tool_calls":[{{"index":{index},{inner}}}]', out)

    def _citation(self, event: CitationAdded, out: list[str]) -> None:
        answer = self._answer(event.choice, out)
        note = annotation(event.citation, 0, answer.length)
        if note is not None:
            note["index"] = answer.annotations
            answer.annotations += 1
            self._delta(event.choice, f'"annotations":[{compact(note)}]', out)

    def _media(self, event: MediaAdded, out: list[str]) -> None:
        answer, media = self._answer(event.choice, out), event.media
        if media.kind is MediaKind.IMAGE and (media.data or media.url):
            self._delta(event.choice, f'"images":[{compact(image_object(media, answer.images))}]', out)
            answer.images += 1
        elif media.kind is MediaKind.AUDIO and media.data is not None:
            self._delta(event.choice, f'"audio":{compact({"id": "audio_0", "data": media.data})}', out)

    def _logprobs(self, event: LogprobsAdded, out: list[str]) -> None:
        self._answer(event.choice, out)
        more = f'"logprobs":{{"content":{compact(event.content)},"refusal":null}},"finish_reason":null'
        self._delta(event.choice, "", out, more)

    def _finished(self, event: Finished, out: list[str]) -> None:
        answer = self._answer(event.choice, out)
        if answer.finished:
            return
        answer.finished = True
        reason = REASON[event.reason]
        if event.reason is Finish.REFUSAL and answer.refused:
            reason = "stop"
        elif self._legacy and reason == "tool_calls":
            reason = "function_call"
        self._delta(event.choice, "", out, f'"logprobs":null,"finish_reason":"{reason}"')

    def _report(self, event: UsageReported, out: list[str]) -> None:
        self._usage = event.usage

    def _ping(self, event: Pinged, out: list[str]) -> None:
        out.append(PING)


ENCODERS: Final[dict[type, Callable[[ChatStreamEncoder, Any, list[str]], None]]] = {
    Started: ChatStreamEncoder._started,
    TextDelta: ChatStreamEncoder._text,
    RefusalDelta: ChatStreamEncoder._refusal,
    ThinkingDelta: ChatStreamEncoder._thinking,
    ThinkingEnded: ChatStreamEncoder._thought,
    ToolCallStarted: ChatStreamEncoder._call,
    ToolCallDelta: ChatStreamEncoder._arguments,
    CitationAdded: ChatStreamEncoder._citation,
    MediaAdded: ChatStreamEncoder._media,
    LogprobsAdded: ChatStreamEncoder._logprobs,
    Finished: ChatStreamEncoder._finished,
    UsageReported: ChatStreamEncoder._report,
    Pinged: ChatStreamEncoder._ping,
}
