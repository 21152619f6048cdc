"""Speech and transcriptions (POST /v1/audio/speech, /v1/audio/transcriptions): what bounds their cost, and their usage.

| kind | priced by | from |
|---|---|---|
| speech | character | the request's input: Ask.extra, exact |
| speech | input and audio_output tokens | the speech.audio.done event of a stream; else speech_estimate |
| transcription | second | usage of type duration, or `duration` of verbose_json; else by its text |
| transcription | input, audio_input and output tokens | usage of type tokens; else by its text |

Bytes pass through; errors are in OpenAI's envelope. Transcriptions are multipart: daemon.protocols.forms reads their fields.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from daemon.domain.admission import Ask
from daemon.domain.usage import MAX_COUNT, InvalidUsage, Usage, checked_count
from daemon.protocols.asks import NO_AUDIO, about_tokens, invalid, missing, model_of
from daemon.protocols.event_reader import EventReader

__all__ = [
    "LINE_MAX",
    "PLAIN",
    "UNBOUNDED",
    "read_speech",
    "read_transcription",
    "reply_text",
    "speech_estimate",
    "speech_reader",
    "text_seconds",
    "transcription_estimate",
    "transcription_reader",
    "usage_of",
]

# Field of the reply -> (meter, what it includes). docs/usage.md is made from it.
USAGE: Final = {
    "usage.seconds": ("second", "rounded up; else duration, else the last time of srt and vtt"),
    "usage.input_tokens": ("input", "without the audio tokens, which it includes"),
    "usage.input_token_details.audio_tokens": ("audio_input", ""),
    "usage.output_tokens": ("output", "of a transcription"),
    "usage.output_tokens of speech": ("audio_output", "the last event of a stream; a reply that is sound alone is estimated"),
    "input": ("character", "of the request: the text that is spoken"),
}
# Slow speech makes so many audio tokens of a character at most; usual speech this many.
TOKENS_OF_CHARACTER: Final = 16
USUAL_TOKENS_OF_CHARACTER: Final = 1.5
CHARACTERS_OF_SECOND: Final = 15  # of usual speech
# No codec in use says a second in fewer bytes (speech in Opus takes 750).
BYTES_OF_SECOND: Final = 500
AUDIO_TOKENS_OF_SECOND: Final = 50  # at most; hosts have 10 to 32
USUAL_AUDIO_TOKENS_OF_SECOND: Final = 10
TEXT_TOKENS_OF_SECOND: Final = 10  # at most, of what is said
BYTES_OF_SECOND_MOST: Final = 192_000  # of sound as it is usually sent: 48 kHz, 16 bits, stereo, not compressed
SECONDS_MOST: Final = 86_400
TIMED_FORMATS: Final = ("srt", "vtt")
PLAIN: Final = ("text", *TIMED_FORMATS)  # values of response_format whose reply is no JSON
# Fields by which some hosts take sound that is not in the request.
UNBOUNDED: Final = ("url", "file_url", "file_id")
LINE_MAX: Final = 16 * 1024 * 1024  # an event holds a piece of sound in base64
_CUE_END: Final = re.compile(r"-->\s*(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{3})")
_SOUND_ENDS: Final = ("speech.audio.done",)
_TEXT_ENDS: Final = ("transcript.text.done",)


def read_speech(body: dict[str, Any], size: int) -> Ask:
    """What bounds the cost of speech. ApiError 400 with `param`."""
    model = model_of(body)
    text = body.get("input")
    if text is None or text == "":
        raise missing("input")
    if type(text) is not str:
        raise invalid("input", "it must be a string")
    told = body.get("instructions")
    length = len(text.encode("utf-8", "replace")) + (len(told.encode("utf-8", "replace")) if type(told) is str else 0)
    return Ask(
        model=model,
        stream=body.get("stream_format") == "sse",
        body_bytes=length,
        input_bound=length + 64,
        output_limit=0,
        output_extra=64 + len(text) * TOKENS_OF_CHARACTER,
        n=1,
        media_parts=0,
        features=frozenset(),
        unbounded=(),
        extra={"character": len(text)},
        not_used=frozenset({"audio_input"}),
        prompt_field="input",
    )


def speech_estimate(body: dict[str, Any], text: str, files: int) -> Usage:
    """The tokens of speech whose host tells none (the reply is sound alone), for models that are priced by token."""
    said = body.get("input")
    length = len(said) if type(said) is str else 0
    told = about_tokens(said) + about_tokens(body.get("instructions"))
    return Usage({"input": max(1, told), "audio_output": math.ceil(length * USUAL_TOKENS_OF_CHARACTER)}, estimated=True)


def read_transcription(body: dict[str, Any], size: int) -> Ask:
    """What bounds the cost of a transcription. `body` has the fields of its form, `size` is that of the whole request.

    How long the sound is, only its reply says: extra_bound["second"] is by the most that bytes can hold. Sound that a host
    cuts into pieces (chunking_strategy) is not bounded by the window, nor its text by the model's longest output.
    """
    model = model_of(body)
    seconds = min(SECONDS_MOST, 1 + size // BYTES_OF_SECOND)
    pieces = 1 if body.get("chunking_strategy") is None else seconds
    prompt = body.get("prompt")
    text = len(prompt.encode("utf-8", "replace")) if type(prompt) is str else 0
    return Ask(
        model=model,
        stream=body.get("stream") is True,
        body_bytes=text,
        input_bound=text + seconds * AUDIO_TOKENS_OF_SECOND,
        output_limit=None,
        output_extra=0 if pieces == 1 else seconds * TEXT_TOKENS_OF_SECOND,
        n=1,
        media_parts=0,
        features=frozenset(),
        unbounded=tuple(name for name in UNBOUNDED if body.get(name) is not None),
        not_used=NO_AUDIO - {"audio_input"},
        inputs=pieces,
        extra_bound={"second": seconds},
        prompt_field="file",
    )


def usage_of(body: dict[str, Any]) -> Usage | None:
    """The usage of a transcription, or of an event of either stream; None when it has none, InvalidUsage when untrue."""
    usage = body.get("usage")
    if usage is None:
        duration = body.get("duration")
        return None if duration is None else Usage({"second": _seconds(duration, "duration")})
    if type(usage) is not dict:
        raise InvalidUsage("usage is not an object")
    if usage.get("seconds") is not None:
        return Usage({"second": _seconds(usage["seconds"], "seconds")})
    total_in = checked_count(usage.get("input_tokens", usage.get("prompt_tokens")), "input_tokens")
    output = checked_count(usage.get("output_tokens", usage.get("completion_tokens")) or 0, "output_tokens")
    details = usage.get("input_token_details", usage.get("input_tokens_details"))
    sound = checked_count(details.get("audio_tokens") or 0, "audio_tokens") if type(details) is dict else 0
    if sound > total_in:
        raise InvalidUsage("more audio tokens than input tokens")
    spoken = body.get("type") in _SOUND_ENDS
    meters = {"input": total_in - sound, "audio_output" if spoken else "output": output}
    if sound:
        meters["audio_input"] = sound
    duration = body.get("duration")
    if duration is not None:
        meters["second"] = _seconds(duration, "duration")
    return Usage(meters)


def _seconds(value: object, name: str) -> int:
    """Seconds, rounded up; some hosts write them as text."""
    if type(value) is str:
        try:
            value = float(value)
        except ValueError as error:
            raise InvalidUsage(f"{name} is not a number") from error
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise InvalidUsage(f"{name} is not a number from 0 to {MAX_COUNT}")
    return math.ceil(value)


def transcription_estimate(body: dict[str, Any], text: str, files: int) -> Usage:
    """What a transcription of `files` bytes of sound came to, when its reply does not say; its text is counted elsewhere."""
    seconds = text_seconds(text, body.get("response_format"), files)
    return Usage({"second": seconds, "audio_input": seconds * USUAL_AUDIO_TOKENS_OF_SECOND}, estimated=True)


def text_seconds(text: str, response_format: object, files: int = 0) -> int:
    """Seconds of a transcription that came as text: the end of the last cue of srt and vtt, else as the text takes to say,
    but no less than so many bytes of sound last."""
    if response_format in TIMED_FORMATS:
        ends = _CUE_END.findall(text)
        if ends:
            seconds = max(int(h or 0) * 3600 + int(m) * 60 + int(s) + (int(ms) > 0) for h, m, s, ms in ends)
            return max(min(seconds, MAX_COUNT), files // BYTES_OF_SECOND_MOST)
    return max(1 + len(text) // CHARACTERS_OF_SECOND, files // BYTES_OF_SECOND_MOST)


def reply_text(body: dict[str, Any]) -> str:
    """What was understood."""
    text = body.get("text")
    return text if type(text) is str else ""


def speech_reader() -> EventReader:
    """Watches speech in events (stream_format sse)."""
    return EventReader(usage_of, lambda event: "", _SOUND_ENDS, skims=True)


def transcription_reader() -> EventReader:
    """Watches a transcription in events: its text comes as deltas and again in the last event."""
    return EventReader(usage_of, lambda event: delta if type(delta := event.get("delta")) is str else "", _TEXT_ENDS)
