"""The passage where client and provider speak different dialects: everything goes through the canonical conversation."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from daemon.domain.chat import Chat, Losses
from daemon.domain.chat_events import events_of
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols import dialects, gemini
from daemon.protocols.base import ChatProtocol, StreamEncoder
from daemon.protocols.decoded_reader import DecodedReader
from daemon.protocols.dialects import ANTHROPIC_MESSAGES, GEMINI, OPENAI_CHAT, OPENAI_RESPONSES, Dialect
from daemon.relay.call import Call
from daemon.relay.passage import EVENTS, JSON, Outgoing, Stream, Whole

SENT_EVENTS: Final = b"text/event-stream; charset=utf-8"
PATHS: Final = {
    OPENAI_CHAT: "/v1/chat/completions",
    OPENAI_RESPONSES: "/v1/responses",
    ANTHROPIC_MESSAGES: "/v1/messages",
}
FOREIGN: Final = (b"anthropic-", b"openai-", b"x-stainless-")  # headers that mean something in the client's dialect only


class Translated:
    """One request, encoded for the provider when this is made; its reply comes back in the client's dialect."""

    def __init__(self, call: Call, chat: Chat, dialect: Dialect, protocol: ChatProtocol, name: str) -> None:
        """`protocol`: the provider's; `name`: what it calls the model. ApiError when it can not carry the conversation."""
        client = dialects.client_protocol(call.dialect, call.envelope)
        assert client is not None
        self._call, self._chat, self._client, self._protocol, self._name = call, chat, client, protocol, name
        self.dialect = dialect
        losses = Losses(list(chat.dropped))
        self._request = protocol.encode_request(chat, name, losses)
        self._losses = losses

    @property
    def losses(self) -> tuple[str, ...]:
        return tuple(self._losses.names)

    @property
    def names(self) -> tuple[str, str] | None:
        return None if self._name == self._call.ask.model else (self._name, self._call.ask.model)

    def outgoing(self, lowered_output: int | None) -> Outgoing:
        request = self._request
        if lowered_output is not None:
            chat = replace(self._chat, max_output=min(lowered_output, self._chat.max_output or lowered_output))
            request = self._protocol.encode_request(chat, self._name, Losses())
        kept = [header for header in self._call.headers if not header[0].lower().startswith(FOREIGN)]
        if self.dialect.name == GEMINI:
            path, query = gemini.path_of(self._name, self._chat.stream), "alt=sse" if self._chat.stream else ""
        else:
            path, query = PATHS[self.dialect.name], ""
        return Outgoing(path, query, _json(request), kept)

    def whole(self, body: bytes, data: Any) -> Whole:
        if not isinstance(data, dict) or self.dialect.failed(data):
            raise ValueError("it answered with an error" if isinstance(data, dict) else "its reply cannot be read")
        reply = self._protocol.decode_reply(data)

        def encode(counted: Usage | None) -> bytes:
            usage = reply.usage if counted is None else counted
            found = replace(reply, usage=usage, created=reply.created or self._call.at // 1000)
            if not self._chat.stream:
                return _json(self._client.encode_reply(found, self._call.ask.model, self._losses, self._chat))
            encoder = self._encoder()  # a client that waits for events would take one piece for an empty stream
            return encoder.feed(events_of(found)) + encoder.finish(usage)

        sent_as = self._sent_as if self._chat.stream else JSON
        return Whole(lambda: self.dialect.usage_of(data), lambda: self.dialect.reply_text(data), encode, sent_as)

    def stream(self, content_type: bytes) -> Stream | None:
        # Hosts that imitate Gemini may not know alt=sse: without it a stream is one array.
        if not self._chat.stream or (content_type != EVENTS and self.dialect.name != GEMINI):
            return None
        return _TranslatedStream(DecodedReader(self._protocol.decoder()), self._encoder(), self._sent_as)

    def _encoder(self) -> StreamEncoder:
        call = self._call
        return self._client.encoder(model=call.ask.model, id=call.request_id, created=call.at // 1000, chat=self._chat)

    @property
    def _sent_as(self) -> bytes:
        return JSON if self._call.envelope == dialects.GEMINI_ARRAY else SENT_EVENTS

    def refusal(self, status: int, body: bytes, content_type: bytes) -> tuple[bytes, bytes]:
        return dialects.refusal_body(status, body, self._call.envelope, self._call.request_id), JSON


class _TranslatedStream:
    passes_errors = False
    open_ended = False

    def __init__(self, reader: DecodedReader, encoder: StreamEncoder, content_type: bytes) -> None:
        self.reader = reader
        self.content_type = content_type
        self._encoder = encoder

    def feed(self, chunk: bytes) -> bytes:
        return self._encoder.feed(self.reader.feed(chunk))

    def flush(self) -> bytes:
        return self._encoder.feed(self.reader.flush())

    def end(self, usage: Usage | None) -> bytes:
        return self._encoder.finish(usage)

    def fail(self, error: ApiError) -> bytes:
        return self._encoder.fail(error)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def _json(value: object) -> bytes:
    try:
        return _encode(value).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(value, separators=(",", ":")).encode()
