"""The wire formats by name: how each is watched, metered and changed while its bytes pass, and how it is translated.

To add a dialect: 1 its module, 2 a row in DIALECTS, 3 golden cases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from daemon.domain.chat import Losses
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols import (
    anthropic_messages,
    gemini,
    openai_audio,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_images,
    openai_moderations,
    openai_responses,
    raw,
    rerank,
)
from daemon.protocols.anthropic_errors import anthropic_error_body, anthropic_error_frame
from daemon.protocols.anthropic_messages.decoder import MAX_EVENT as MESSAGES_EVENT
from daemon.protocols.base import ChatProtocol
from daemon.protocols.decoded_reader import DecodedReader
from daemon.protocols.gemini.frames import MAX_ELEMENT as GEMINI_EVENT
from daemon.protocols.openai_responses.decoder import MAX_EVENT as RESPONSES_EVENT
from daemon.protocols.rename import TOP, Path, StreamRenamer, json_string, rename_model, with_members
from daemon.protocols.sse import MAX_LINE, WholeEvents, ends_whole
from daemon.protocols.unread_reader import LastByte, UnreadReader

__all__ = [
    *("ANTHROPIC_MESSAGES", "DIALECTS", "Dialect", "GEMINI", "GEMINI_ARRAY", "OPENAI_CHAT", "OPENAI_COMPLETIONS"),
    *("OPENAI_EMBEDDINGS", "OPENAI_IMAGES", "OPENAI_MODERATIONS", "OPENAI_RESPONSES", "OPENAI_SPEECH"),
    *("OPENAI_TRANSCRIPTION", "RAW", "RERANK", "Reader", "Watcher", "adapter", "as_chat_completion", "client_protocol"),
    *("envelope_of", "error_event", "error_reply", "is_array", "message_of", "refusal_body"),
]

OPENAI_CHAT: Final = "openai_chat"
OPENAI_RESPONSES: Final = openai_responses.tables.NAME
ANTHROPIC_MESSAGES: Final = anthropic_messages.NAME
GEMINI: Final = gemini.NAME
GEMINI_ARRAY: Final = "gemini_array"  # the envelope of a client that reads its stream as one JSON array
OPENAI_COMPLETIONS: Final = "openai_completions"
OPENAI_EMBEDDINGS: Final = "openai_embeddings"
OPENAI_IMAGES: Final = "openai_images"
OPENAI_SPEECH: Final = "openai_speech"
OPENAI_TRANSCRIPTION: Final = "openai_transcription"
OPENAI_MODERATIONS: Final = "openai_moderations"
RERANK: Final = "rerank"
RAW: Final = "raw"
_GEMINI_METHOD: Final = re.compile(rf"/(?:models|tunedModels)/.+:(?:{'|'.join(sorted(gemini.METHODS))})$")
ERROR_BODIES: Final = {GEMINI: gemini.error_body, GEMINI_ARRAY: gemini.error_body, RERANK: rerank.error_body}
# A whole reply with one of these is an answer, whatever its `error` says.
ANSWERS: Final = ("choices", "output", "content", "candidates", "data", "results")


class Reader(Protocol):
    """Watches a provider's stream; see openai_chat.StreamReader for what the attributes mean."""

    @property
    def delivered(self) -> bool: ...
    @property
    def done(self) -> bool: ...
    @property
    def error(self) -> dict[str, Any] | None: ...
    @property
    def events(self) -> int: ...
    @property
    def finish_reasons(self) -> dict[int, str]: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def early_usage(self) -> bool: ...
    @property
    def garbage(self) -> int: ...
    @property
    def delivered_chars(self) -> int: ...
    def feed(self, chunk: bytes) -> object: ...
    def flush(self) -> object: ...
    def estimate_text(self) -> str: ...


class Watcher(Protocol):
    """Changes the little that must change in a stream whose bytes pass."""

    def feed(self, chunk: bytes) -> bytes: ...
    def flush(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """One wire format.

    `model_paths`: where replies and events name the model, first found counts; () : never renamed. `limit_fields`: where a
    request's output limit stands, the first is used when none is given; () : it has none. `protocol`: for conversations, how
    they are translated. `estimate`: what a request (its reply's text, the bytes of its files) comes to where its host does
    not say, without the tokens of the text; None: counted as a conversation. `plain`: the values of response_format whose
    reply is text. `binary`: what is neither JSON nor events passes as it comes. `open_ended`: a stream is complete when it is
    over, whatever it said. `many_ends`: its last event is not known before it is over. `first_bytes`: what may come before
    its first event is whole. `longest_event`: bytes of one, the same as its reader takes.
    """

    name: str
    reader: Callable[[], Reader]
    usage_of: Callable[[dict[str, Any]], Usage | None]
    reply_text: Callable[[dict[str, Any]], str] = raw.reply_text
    model_paths: tuple[Path, ...] = TOP
    limit_fields: tuple[str, ...] = ()
    protocol: ChatProtocol | None = None
    estimate: Callable[[dict[str, Any], str, int], Usage] | None = None
    plain: tuple[str, ...] = ()
    binary: bool = False
    open_ended: bool = False
    many_ends: bool = False
    first_bytes: int = 64 * 1024
    longest_event: int = MAX_LINE

    def failed(self, reply: dict[str, Any]) -> bool:
        """Whether a whole reply of status 200 is an error in truth."""
        if self.name == RAW:
            return False
        return (bool(reply.get("error")) or reply.get("type") == "error") and not any(reply.get(name) for name in ANSWERS)

    def request(
        self, body: bytes, data: dict[str, Any], *, model: str, include_usage: bool = False, max_tokens: int | None = None
    ) -> bytes:
        """A request's bytes with the provider's name of the model, usage asked for, or a lowered limit; else unchanged."""
        if self.name == OPENAI_CHAT:
            return openai_chat.rewrite_request(body, data, model=model, include_usage=include_usage, max_tokens=max_tokens)
        if self.name == GEMINI:  # the model is in the URL
            body = gemini.rewrite_request_model(body, model)
            return body if max_tokens is None else gemini.set_output_limit(body, data, max_tokens)
        wanted: dict[str, bytes] = {}
        if data.get("model") != model:
            wanted["model"] = json_string(model)
        if max_tokens is not None and self.limit_fields:
            given = [name for name in self.limit_fields if data.get(name) is not None]
            for name in given or self.limit_fields[:1]:
                if not given or data[name] > max_tokens:
                    wanted[name] = b"%d" % max_tokens
        return with_members(body, data, wanted)

    def renamed(self, reply: bytes, name: str) -> bytes:
        """A whole reply with the model named as the client named it."""
        return rename_model(reply, name, self.model_paths) if self.model_paths else reply

    def with_usage(self, reply: bytes, found: Usage) -> bytes:
        """A whole reply that reports the usage which was counted for it, because its host reported none."""
        if self.name != OPENAI_CHAT:
            return reply
        return openai_chat.rewrite_reply_usage(reply, found.input_tokens, found.output_tokens)


def _conversation(
    protocol: ChatProtocol,
    limit_fields: tuple[str, ...],
    model_paths: tuple[Path, ...],
    longest_event: int,
    reply_text: Callable[[dict[str, Any]], str] = raw.reply_text,
) -> Dialect:
    return Dialect(
        protocol.name,
        lambda: DecodedReader(protocol.decoder()),
        protocol.usage_of,
        reply_text,
        model_paths=model_paths,
        limit_fields=limit_fields,
        protocol=protocol,
        longest_event=longest_event,
    )


def _no_stream() -> Reader:
    return UnreadReader()


def _no_text(reply: dict[str, Any]) -> str:
    return ""


DIALECTS: Final[dict[str, Dialect]] = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            OPENAI_CHAT,
            openai_chat.StreamReader,
            openai_chat.usage_of,
            openai_chat.reply_text,
            limit_fields=("max_tokens", "max_completion_tokens"),
            protocol=openai_chat.OpenAIChat(),
        ),
        _conversation(
            openai_responses.OpenAIResponses(), ("max_output_tokens",), (("response", "model"), ("model",)), RESPONSES_EVENT
        ),
        _conversation(gemini.Gemini(), (), gemini.MODEL_PATHS, GEMINI_EVENT, gemini.reply_text),
        _conversation(
            anthropic_messages.AnthropicMessages(), ("max_tokens",), (("message", "model"), ("model",)), MESSAGES_EVENT
        ),
        Dialect(
            OPENAI_COMPLETIONS,
            openai_completions.stream_reader,
            openai_completions.usage_of,
            openai_completions.reply_text,
            limit_fields=("max_tokens",),
            estimate=openai_completions.estimate,
        ),
        Dialect(OPENAI_EMBEDDINGS, _no_stream, openai_embeddings.usage_of, _no_text, estimate=openai_embeddings.estimate),
        Dialect(
            OPENAI_IMAGES,
            openai_images.stream_reader,
            openai_images.usage_of,
            _no_text,
            model_paths=(),
            estimate=openai_images.estimate,
            many_ends=True,
            first_bytes=openai_images.LINE_MAX,
        ),
        Dialect(
            OPENAI_SPEECH,
            openai_audio.speech_reader,
            openai_audio.usage_of,
            _no_text,
            model_paths=(),
            estimate=openai_audio.speech_estimate,
            binary=True,
            first_bytes=openai_audio.LINE_MAX,
            longest_event=openai_audio.LINE_MAX,
        ),
        Dialect(
            OPENAI_TRANSCRIPTION,
            openai_audio.transcription_reader,
            openai_audio.usage_of,
            openai_audio.reply_text,
            model_paths=(),
            estimate=openai_audio.transcription_estimate,
            plain=openai_audio.PLAIN,
        ),
        Dialect(OPENAI_MODERATIONS, _no_stream, openai_moderations.usage_of, _no_text, estimate=openai_moderations.estimate),
        Dialect(RERANK, _no_stream, rerank.usage_of, _no_text, estimate=rerank.estimate),
        Dialect(RAW, raw.StreamReader, raw.usage_of, model_paths=(), binary=True, open_ended=True),
    )
}


def adapter(dialect: Dialect, strip_usage: bool, model_name: str | None, whole_events: bool) -> Watcher:
    """What changes the little that must change in a stream of this dialect; `whole_events`: of which no half event may pass."""
    if dialect.name == OPENAI_CHAT and (strip_usage or model_name is not None):
        return openai_chat.StreamAdapter(strip_usage=strip_usage, model_name=model_name)
    if dialect.many_ends:
        return LastByte()
    if model_name is None or not dialect.model_paths:
        return WholeEvents(dialect.longest_event) if whole_events else openai_chat.StreamAdapter()
    if dialect.name == GEMINI:
        return gemini.StreamAdapter(model_name, dialect.longest_event)
    return StreamRenamer(model_name, dialect.model_paths, dialect.longest_event)


def envelope_of(path: str, query: str = "") -> str:
    """Which error envelope the client of a (percent-encoded) path expects."""
    if path.startswith("/v1beta/") or (":" in path and _GEMINI_METHOD.search(path) is not None):
        return GEMINI_ARRAY if is_array(path, query) else GEMINI
    if path.endswith(("/messages", "/messages/count_tokens")):
        return "anthropic"
    if path.endswith("/responses"):
        return OPENAI_RESPONSES
    return RERANK if path.endswith("/rerank") else "openai"


def is_array(path: str, query: str) -> bool:
    """Whether a stream asked for at this URL comes as one JSON array, as Gemini's does without `alt=sse`."""
    return path.endswith(":streamGenerateContent") and "alt=sse" not in query.split("&")


def error_reply(error: ApiError, envelope: str, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an error."""
    if envelope == "anthropic":
        body = anthropic_error_body(error, request_id)
    else:
        body = ERROR_BODIES.get(envelope, openai_chat.error_body)(error)
    head = [(b"content-type", b"application/json")]
    head += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    return error.http_status, head, body


def refusal_body(status: int, body: bytes, envelope: str, request_id: str) -> bytes:
    """What the (masked) error body of a provider says, in an error of the client's dialect."""
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    message = message_of(data) if isinstance(data, dict) else ""
    code = "not_found" if status == 404 else "invalid_request"
    error = ApiError(status, code, "invalid_request_error", message or f"The provider answered with status {status}.")
    return error_reply(error, envelope, request_id)[2]


def error_event(error: ApiError, envelope: str, request_id: str, passed: bytes = b"") -> bytes:
    """The last event of a stream that breaks after its first byte. `passed`: the last bytes that went to the client."""
    if envelope == GEMINI_ARRAY:
        return gemini.error_frame(error, sse=False)
    begin = b"" if ends_whole(passed) else b"\n\n"  # half an event must not swallow this one
    if envelope == "anthropic":
        return begin + anthropic_error_frame(error, request_id)
    if envelope == GEMINI:
        return begin + gemini.error_frame(error)
    if envelope == OPENAI_RESPONSES:
        return begin + openai_responses.error_frames(error, passed)
    return begin + openai_chat.error_frame(error)


def client_protocol(dialect: str, envelope: str) -> ChatProtocol | None:
    """How replies are written for a client; None for what is no conversation."""
    return gemini.Gemini(sse=False) if envelope == GEMINI_ARRAY else DIALECTS[dialect].protocol


def as_chat_completion(dialect: str, data: dict[str, Any]) -> dict[str, Any]:
    """A request's conversation as chat completions have it, for counting its tokens; `data` itself when it can't be told."""
    protocol = DIALECTS[dialect].protocol
    if protocol is None or dialect == OPENAI_CHAT:
        return data
    try:
        return openai_chat.OpenAIChat().encode_request(protocol.decode_request(data), "", Losses())
    except ApiError:
        return data


def message_of(body: dict[str, Any]) -> str:
    """What an error body of any of these formats says; "" when it says nothing that can be read."""
    error = body.get("error", body)
    if isinstance(error, str):
        return error
    if not isinstance(error, dict):
        return ""
    for name in ("message", "detail", "msg"):
        if isinstance(found := error.get(name), str):
            return found
    return ""
