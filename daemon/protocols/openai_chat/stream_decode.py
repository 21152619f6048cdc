"""A provider's stream of chat completion chunks as canonical events."""

from __future__ import annotations

import base64
import binascii
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
    MediaKind,
    Pinged,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from daemon.domain.usage import InvalidUsage, Usage
from daemon.protocols.openai_chat.reply import finish_of, sources_of
from daemon.protocols.openai_chat.thoughts import thinking_part, thinking_text, thoughts_of
from daemon.protocols.openai_chat.usage import raw_usage, usage_of
from daemon.protocols.openai_chat.values import arguments_text, call_id, citation_of, image_of, signature_of
from daemon.protocols.sse import MAX_LINE, Framer, LineTooLong, parse_frame

__all__ = ["ChatStreamDecoder"]

CHOICES_MAX: Final = 128
AUDIO_MAX: Final = 64 * 1024 * 1024  # characters of base64 kept of one spoken answer


class _Call:
    """A tool call under way. It starts when its name is known; arguments that came before wait."""

    __slots__ = ("custom", "id", "index", "signature", "waiting")

    def __init__(self) -> None:
        self.index = -1
        self.id = ""
        self.custom = False
        self.signature: str | None = None
        self.waiting: list[str] = []


class _Choice:
    """What has come of one answer."""

    __slots__ = ("audio", "audio_size", "calls", "finished", "number", "refused", "started_calls", "thought")

    def __init__(self, number: int) -> None:
        self.number = number
        self.thought: list[str] | None = None  # the words of the thought that is open
        self.calls: dict[object, _Call] = {}
        self.started_calls = 0
        self.refused = False
        self.finished = False
        self.audio: list[str] = []
        self.audio_size = 0


class ChatStreamDecoder:
    """See base.StreamDecoder. Nothing comes after Failed, so that such a stream never looks complete; its usage is still read.

    `usage` is None again when the last one was not believable (hosts repeat growing counts: an older one is too small).
    """

    __slots__ = ("_choices", "_done", "_failed", "_framer", "_id", "_sources", "_started", "garbage", "usage", "usage_invalid")

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._framer = Framer(max_line)
        self._choices: dict[int, _Choice] = {}
        self._id = ""
        self._started = self._done = self._failed = self._sources = False
        self.usage: Usage | None = None
        self.usage_invalid = ""
        self.garbage = 0

    def feed(self, chunk: bytes) -> list[Event]:
        out: list[Event] = []
        try:
            frames = self._framer.split(chunk)
        except LineTooLong as error:
            self._read_frames(error.frames, out)
            self._fail(Failed(str(error), code="line_too_long"), out)
            return out
        self._read_frames(frames, out)
        return out

    def flush(self) -> list[Event]:
        out: list[Event] = []
        self._read_frames(self._framer.split_rest(), out)
        return out

    def _read_frames(self, frames: list[bytes], out: list[Event]) -> None:
        for raw in frames:
            if self._done:
                return
            frame = parse_frame(raw)
            data = frame.data
            if not data:
                if raw.startswith(b":") and not self._failed:
                    out.append(Pinged())
                continue
            if data.strip() == b"[DONE]":
                self._done = True
                if self._failed:
                    return
                for choice in self._choices.values():
                    self._end_choice(choice, out)
                self._start({}, out)
                out.append(Ended())
                continue
            try:
                chunk = jiter.from_json(data, cache_mode="keys")
            except ValueError:
                chunk = None
            if type(chunk) is dict:
                self._read(chunk, frame.event, out)
            else:
                self.garbage += 1

    def _read(self, chunk: dict[str, Any], event: str, out: list[Event]) -> None:
        if self._failed:  # only what it cost matters now
            if raw_usage(chunk) is not None:
                self._read_usage(chunk, [])
            return
        choices = chunk.get("choices")
        if type(choices) is list:
            # Azure begins with a chunk about the prompt: without id, model and choices.
            if not self._started and (choices or chunk.get("id")):
                self._start(chunk, out)
            for position, item in enumerate(choices[:CHOICES_MAX]):
                if type(item) is dict:
                    self._read_choice(item, position, chunk, out)
        if raw_usage(chunk) is not None:
            self._read_usage(chunk, out)
        error = chunk.get("error")
        if error or event == "error" or chunk.get("object") == "error":
            self._fail(_failure(error if error else chunk), out)
        elif type(choices) is not list and chunk.get("type") == "ping":
            out.append(Pinged())

    def _start(self, chunk: dict[str, Any], out: list[Event]) -> None:
        if self._started:
            return
        self._started = True
        named, model, created = chunk.get("id"), chunk.get("model"), chunk.get("created")
        self._id = named if type(named) is str else ""
        # bool is an int for isinstance, not for type
        out.append(Started(self._id, model if type(model) is str else "", created if type(created) is int else 0))

    def _read_usage(self, chunk: dict[str, Any], out: list[Event]) -> None:
        try:
            usage = usage_of(chunk)
        except InvalidUsage as problem:
            self.usage, self.usage_invalid = None, str(problem)
            return
        if usage is not None and usage != self.usage:
            self._start(chunk, out)
            out.append(UsageReported(usage))
        self.usage, self.usage_invalid = usage, ""

    def _fail(self, failed: Failed, out: list[Event]) -> None:
        self._failed = True
        out.append(failed)

    # -- one choice of one chunk

    def _read_choice(self, item: dict[str, Any], position: int, chunk: dict[str, Any], out: list[Event]) -> None:
        index = item.get("index")
        number = index if type(index) is int and 0 <= index < CHOICES_MAX else position
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _Choice(number)
        delta = item.get("delta")
        if type(delta) is dict:
            self._read_delta(choice, delta, out)
            if not self._sources and ("citations" in chunk or "search_results" in chunk):
                self._sources = True
                out += [CitationAdded(source, number) for source in sources_of(chunk)]
        logprobs = item.get("logprobs")
        if type(logprobs) is dict and type(content := logprobs.get("content")) is list and content:
            out.append(LogprobsAdded(content, number))
        reason = item.get("finish_reason")
        if type(reason) is str and not choice.finished:
            self._end_choice(choice, out)
            choice.finished = True
            finish = finish_of(reason, choice.started_calls > 0, choice.refused) or Finish.STOP
            stop = item.get("stop_reason")
            if type(stop) is str and finish is Finish.STOP:
                out.append(Finished(Finish.STOP_SEQUENCE, stop, number))
            else:
                out.append(Finished(finish, None, number))

    def _read_delta(self, choice: _Choice, delta: dict[str, Any], out: list[Event]) -> None:
        content = delta.get("content")
        if len(delta) == 1 and type(content) is str and choice.thought is None:  # nearly every chunk
            if content:
                out.append(TextDelta(content, choice.number))
            return
        self._read_thoughts(choice, delta, out)
        if content:
            self._read_content(choice, content, out)
        if type(refusal := delta.get("refusal")) is str and refusal:
            self._end_thought(choice, out)
            choice.refused = True
            out.append(RefusalDelta(refusal, choice.number))
        if type(audio := delta.get("audio")) is dict:
            self._read_audio(choice, audio, out)
        if type(images := delta.get("images")) is list:
            found = [image for value in images if (image := image_of(value)) is not None]
            out += [MediaAdded(image, choice.number) for image in found]
        if type(notes := delta.get("annotations")) is list:
            cited = [note for value in notes if (note := citation_of(value)) is not None]
            out += [CitationAdded(note, choice.number) for note in cited]
        if type(calls := delta.get("tool_calls")) is list:
            for value in calls:
                if type(value) is dict:
                    self._read_call(choice, value, delta, out)
        elif type(function := delta.get("function_call")) is dict:
            self._read_call(choice, {"index": 0, "function": function}, delta, out)

    def _read_content(self, choice: _Choice, content: object, out: list[Event]) -> None:
        """A string, or Mistral's list of parts."""
        for part in [{"text": content}] if type(content) is str else content if type(content) is list else ():
            if type(part) is not dict:
                continue
            if type(text := part.get("text")) is str:
                if text:
                    self._end_thought(choice, out)
                    out.append(TextDelta(text, choice.number))
            elif (image := image_of(part)) is not None:
                out.append(MediaAdded(image, choice.number))
            elif (thought := thinking_part(part)) is not None:
                self._think(choice, thought.text, out)

    def _read_thoughts(self, choice: _Choice, delta: dict[str, Any], out: list[Event]) -> None:
        thoughts = thoughts_of(delta)
        # A proof may come with the words it proves, all said already.
        said = "".join(choice.thought) if thoughts and choice.thought and not thinking_text(delta) else ""
        for thought in thoughts:
            if thought.text != said:
                self._think(choice, thought.text, out)
            if thought.signature or thought.encrypted:
                choice.thought = None
                out.append(ThinkingEnded(thought.signature, thought.encrypted, thought.id, thought.origin, choice.number))

    def _think(self, choice: _Choice, text: str, out: list[Event]) -> None:
        if text:
            if choice.thought is None:
                choice.thought = []
            choice.thought.append(text)
            out.append(ThinkingDelta(text, choice.number))

    def _end_thought(self, choice: _Choice, out: list[Event]) -> None:
        if choice.thought is not None:
            choice.thought = None
            out.append(ThinkingEnded(choice=choice.number))

    def _read_audio(self, choice: _Choice, audio: dict[str, Any], out: list[Event]) -> None:
        if type(transcript := audio.get("transcript")) is str and transcript:
            self._end_thought(choice, out)
            out.append(TextDelta(transcript, choice.number))
        data = audio.get("data")
        if type(data) is str and choice.audio_size + len(data) <= AUDIO_MAX:
            choice.audio_size += len(data)
            choice.audio.append(data)

    # -- tool calls

    def _read_call(self, choice: _Choice, item: dict[str, Any], delta: dict[str, Any], out: list[Event]) -> None:
        inner = item.get("function") or item.get("custom")
        inner = inner if type(inner) is dict else {}
        name, named = inner.get("name"), item.get("id")
        call = self._call_of(choice, item.get("index"), named if type(named) is str else "", bool(name))
        call.custom = call.custom or type(item.get("custom")) is dict
        call.signature = signature_of(item) or call.signature
        text = arguments_text(inner.get("input" if call.custom else "arguments"))
        if call.index < 0 and type(name) is str and name:
            self._start_call(choice, call, name, delta, out)
        if not text:
            return
        if call.index < 0:
            call.waiting.append(text)
        else:
            out.append(ToolCallDelta(call.index, text, choice.number))

    def _call_of(self, choice: _Choice, index: object, named: str, begins: bool) -> _Call:
        """The call that an item continues, or a new one. Some hosts give no index, or the same one to every call."""
        key: object = index if type(index) is int else named
        if key == "" and choice.calls and not begins:
            key = next(reversed(choice.calls))
        call = choice.calls.get(key)
        if call is not None and begins and (key == "" or (named and call.id and named != call.id)):
            choice.calls[key, len(choice.calls)] = call  # complete: the key goes to the next one
            call = None
        if call is None:
            choice.calls.pop(key, None)
            call = choice.calls[key] = _Call()
        call.id = call.id or named
        return call

    def _start_call(self, choice: _Choice, call: _Call, name: str, delta: dict[str, Any], out: list[Event]) -> None:
        self._end_thought(choice, out)
        call.index = choice.started_calls
        choice.started_calls += 1
        call.id = call.id or call_id(self._id, choice.number, call.index)
        if call.index == 0 and call.signature is None:
            call.signature = signature_of(delta)
        out.append(ToolCallStarted(call.index, call.id, name, call.custom, call.signature, choice.number))
        if call.waiting:
            out.append(ToolCallDelta(call.index, "".join(call.waiting), choice.number))
            call.waiting = []

    def _end_choice(self, choice: _Choice, out: list[Event]) -> None:
        self._end_thought(choice, out)
        for call in list(choice.calls.values()):
            if call.index < 0 and call.waiting:
                self._start_call(choice, call, "", {}, out)
        if choice.audio:
            try:
                # The pieces are encoded one by one.
                sound = b"".join(base64.b64decode(piece) for piece in choice.audio)
            except (binascii.Error, ValueError):
                sound = b""
            choice.audio = []
            if sound:
                out.append(MediaAdded(Media(MediaKind.AUDIO, data=base64.b64encode(sound).decode()), choice.number))


def _failure(error: object) -> Failed:
    if type(error) is not dict:
        return Failed(error if type(error) is str else "")
    message, kind, code = error.get("message"), error.get("type"), error.get("code")
    return Failed(
        message if type(message) is str else "",
        kind if type(kind) is str else "",
        str(code) if type(code) in (str, int) else "",
    )
