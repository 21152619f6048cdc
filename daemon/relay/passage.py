"""How one call's bytes go to one provider and come back: as they are (Same), or through the canonical conversation (Translated).

A passage is chosen per candidate when the call is admitted, so what a provider's dialect cannot carry is refused before any
money is held.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from daemon.domain.chat import Chat, Losses
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols import anthropic_messages, dialects, openai_chat
from daemon.protocols.base import ChatProtocol, StreamEncoder
from daemon.protocols.decoded_reader import DecodedReader
from daemon.protocols.dialects import ANTHROPIC_MESSAGES, DIALECTS, OPENAI_CHAT, OPENAI_RESPONSES, Dialect, Reader
from daemon.relay.call import Call
from db.snapshot import StoredDeployment, StoredModel, StoredProvider

Header = tuple[bytes, bytes]
EVENTS: Final = b"text/event-stream; charset=utf-8"
JSON: Final = b"application/json"
# Where each dialect is spoken; what the base URL of a provider ends with stands once.
PATHS: Final = {
    OPENAI_CHAT: "/v1/chat/completions",
    OPENAI_RESPONSES: "/v1/responses",
    ANTHROPIC_MESSAGES: "/v1/messages",
}
# What the dialects of conversations are called in a provider's settings: in order of preference for translations.
SPOKEN: Final[dict[str, tuple[str, ...]]] = {
    "chat": (OPENAI_CHAT,),
    "responses": (OPENAI_RESPONSES,),
    "both": (OPENAI_CHAT, OPENAI_RESPONSES),
}
FOREIGN: Final = (b"anthropic-", b"openai-", b"x-stainless-")  # headers that mean something in the client's dialect only


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What goes to the provider."""

    path: str
    query: str
    body: bytes
    headers: list[Header]


@dataclass(frozen=True, slots=True)
class Whole:
    """A reply in one piece, read but not sent. `encode` gives the client's bytes, with the usage that we counted if we did."""

    usage: Callable[[], Usage | None]
    text: Callable[[], str]
    encode: Callable[[Usage | None], bytes]
    content_type: bytes | None  # None: the provider's own


class Stream(Protocol):
    """A reply that comes in pieces."""

    reader: Reader
    content_type: bytes | None

    def feed(self, chunk: bytes) -> bytes:
        """The bytes for the client that a chunk of the provider makes. LineTooLong."""
        ...

    def flush(self) -> bytes:
        """The provider's stream is over: what is left."""
        ...

    def end(self, usage: Usage | None) -> bytes:
        """After the settlement: what a complete stream still owes the client."""
        ...

    def fail(self, error: ApiError) -> bytes:
        """The last event of a stream that broke."""
        ...


class Passage(Protocol):
    """See the module."""

    dialect: Dialect  # of the provider
    losses: tuple[str, ...]  # what the translation left out
    open_ended: bool  # a stream that is over is complete, whatever it said

    def outgoing(self, lowered_output: int | None) -> Outgoing: ...
    def whole(self, body: bytes, data: Any) -> Whole:
        """ValueError when the body is not a reply."""
        ...

    def stream(self) -> Stream: ...
    def refusal(self, status: int, body: bytes, content_type: bytes) -> tuple[bytes, bytes]:
        """(body, content type) of the provider's error reply, as the client's dialect has it."""
        ...


# -- as they are


class Same:
    """Client and provider speak alike: bytes pass, but for the model's name, a lowered limit, and usage that we ask for."""

    losses: tuple[str, ...] = ()

    def __init__(self, call: Call, provider: StoredProvider, deployment: StoredDeployment) -> None:
        self._call = call
        self.dialect = DIALECTS[call.dialect]
        self.open_ended = call.dialect == dialects.RAW or self.dialect.protocol is None
        self._upstream_name = deployment.upstream_name
        self._asks_usage = (
            not call.verbatim
            and call.ask.stream
            and call.dialect == OPENAI_CHAT
            and call.ask.include_usage is not True
            and provider.include_usage
        )

    @property
    def _renames(self) -> bool:
        return not self._call.verbatim and self._upstream_name != self._call.ask.model

    def outgoing(self, lowered_output: int | None) -> Outgoing:
        call = self._call
        body = self.dialect.request(
            call.body, call.data, model=self._upstream_name, include_usage=self._asks_usage, max_tokens=lowered_output
        )
        return Outgoing(call.upstream_path, call.query, body, call.headers)

    def whole(self, body: bytes, data: Any) -> Whole:
        if not isinstance(data, dict):
            if self.dialect.name != dialects.RAW:
                raise ValueError("its reply cannot be read")
            return Whole(lambda: None, str, lambda used: body, None)
        if self.dialect.failed(data):
            raise ValueError("it answered with an error")

        def encode(counted: Usage | None) -> bytes:
            out = self.dialect.renamed(body, self._call.ask.model) if self._renames else body
            return out if counted is None or self._call.verbatim else self.dialect.with_usage(out, counted)

        return Whole(lambda: self.dialect.usage_of(data), lambda: self.dialect.reply_text(data), encode, None)

    def stream(self) -> Stream:
        return _SameStream(self._call, self.dialect, self._asks_usage, self._call.ask.model if self._renames else None)

    def refusal(self, status: int, body: bytes, content_type: bytes) -> tuple[bytes, bytes]:
        return body, content_type


class _SameStream:
    content_type = None

    def __init__(self, call: Call, dialect: Dialect, strip_usage: bool, model_name: str | None) -> None:
        self._call = call
        self.reader = dialect.reader()
        self._adapter = dialects.adapter(dialect, strip_usage=strip_usage, model_name=model_name)

    def feed(self, chunk: bytes) -> bytes:
        self.reader.feed(chunk)
        return self._adapter.feed(chunk)

    def flush(self) -> bytes:
        self.reader.flush()
        return self._adapter.flush()

    def end(self, usage: Usage | None) -> bytes:
        return b""

    def fail(self, error: ApiError) -> bytes:
        return dialects.error_event(error, self._call.envelope, self._call.request_id)


# -- translated


class Translated:
    """Client and provider speak different dialects: everything goes through the canonical conversation."""

    open_ended = False

    def __init__(self, call: Call, chat: Chat, dialect: Dialect, protocol: ChatProtocol, name: str) -> None:
        """`protocol`: the provider's, with its habits; `name`: the provider's name of the model. ApiError: it can't carry it."""
        client = DIALECTS[call.dialect].protocol
        assert client is not None
        self._call, self._chat, self._client, self._protocol, self._name = call, chat, client, protocol, name
        self.dialect = dialect
        losses = Losses(list(chat.dropped))
        self._request = protocol.encode_request(chat, name, losses)
        self._losses = losses

    @property
    def losses(self) -> tuple[str, ...]:
        return tuple(self._losses.names)

    def outgoing(self, lowered_output: int | None) -> Outgoing:
        request = self._request
        if lowered_output is not None:
            chat = replace(self._chat, max_output=min(lowered_output, self._chat.max_output or lowered_output))
            request = self._protocol.encode_request(chat, self._name, Losses())
        kept = [header for header in self._call.headers if not header[0].lower().startswith(FOREIGN)]
        return Outgoing(PATHS[self.dialect.name], "", _json(request), kept)

    def whole(self, body: bytes, data: Any) -> Whole:
        if not isinstance(data, dict) or self.dialect.failed(data):
            raise ValueError("it answered with an error" if isinstance(data, dict) else "its reply cannot be read")
        reply = self._protocol.decode_reply(data)

        def encode(counted: Usage | None) -> bytes:
            found = reply if counted is None else replace(reply, usage=counted)
            return _json(self._client.encode_reply(found, self._call.ask.model, self._losses, self._chat))

        return Whole(lambda: self.dialect.usage_of(data), lambda: self.dialect.reply_text(data), encode, JSON)

    def stream(self) -> Stream:
        call = self._call
        encoder = self._client.encoder(
            model=call.ask.model, id=call.request_id, created=call.at // 1000, chat=self._chat
        )
        return _TranslatedStream(DecodedReader(self._protocol.decoder()), encoder)

    def refusal(self, status: int, body: bytes, content_type: bytes) -> tuple[bytes, bytes]:
        try:
            data = json.loads(body)
        except ValueError:
            data = None
        message = dialects.message_of(data) if isinstance(data, dict) else ""
        code = "not_found" if status == 404 else "invalid_request"
        error = ApiError(status, code, "invalid_request_error", message or f"The provider answered with status {status}.")
        _, _, encoded = dialects.error_reply(error, self._call.envelope, self._call.request_id)
        return encoded, JSON


class _TranslatedStream:
    content_type = EVENTS

    def __init__(self, reader: DecodedReader, encoder: StreamEncoder) -> None:
        self.reader = reader
        self._encoder = encoder

    def feed(self, chunk: bytes) -> bytes:
        return self._encoder.feed(self.reader.feed(chunk))

    def flush(self) -> bytes:
        return self._encoder.feed(self.reader.flush())

    def end(self, usage: Usage | None) -> bytes:
        return self._encoder.finish(usage)

    def fail(self, error: ApiError) -> bytes:
        return self._encoder.fail(error)


def _json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(value, separators=(",", ":")).encode()


# -- which one


class Chooser:
    """Chooses the passage of each candidate of one call; the conversation is decoded once."""

    def __init__(self, call: Call, model: StoredModel, output_bound: int) -> None:
        self._call, self._model, self._output_bound = call, model, output_bound
        self._chat: Chat | None = None

    def choose(self, provider: StoredProvider, deployment: StoredDeployment) -> Passage:
        """ApiError when the provider's dialect cannot carry what the call asks for."""
        call = self._call
        dialect = DIALECTS[call.dialect]
        spoken = spoken_by(provider)
        if call.verbatim or dialect.protocol is None or call.dialect in spoken:
            return Same(call, provider, deployment)
        target = DIALECTS[spoken[0]]
        return Translated(call, self._decoded(dialect.protocol), target, self._protocol(provider, target), deployment.upstream_name)

    def _protocol(self, provider: StoredProvider, dialect: Dialect) -> ChatProtocol:
        if dialect.name == OPENAI_CHAT:
            return openai_chat.OpenAIChat(openai_chat.habits_of(provider.slug))
        if dialect.name == ANTHROPIC_MESSAGES:
            return anthropic_messages.AnthropicMessages(default_max_tokens=self._output_bound)
        assert dialect.protocol is not None
        return dialect.protocol

    def _decoded(self, client: ChatProtocol) -> Chat:
        if self._chat is None:
            chat = client.decode_request(self._call.data)
            if chat.reasoning is not None and "reasoning" not in self._model.features:
                chat = replace(chat, reasoning=None, dropped=(*chat.dropped, "reasoning"))
            self._chat = chat
        return self._chat


def spoken_by(provider: StoredProvider) -> tuple[str, ...]:
    """The dialects of conversations that a provider understands, the one to translate to first."""
    if provider.protocol == "anthropic":
        return (ANTHROPIC_MESSAGES,)
    if provider.protocol == "gemini":
        return (GEMINI,)
    return SPOKEN[provider.chat_api] if provider.protocol == "openai" else (OPENAI_CHAT,)
