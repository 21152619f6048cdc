"""The OpenAI Responses API (POST /v1/responses), both ways: as a client's dialect and as a provider's.

Map: tables (what becomes of each field, item, part and tool) is the ground; values checks fields, names keeps namespaces and
proofs through other protocols. parts -> items -> tools -> request (a request both ways); usage; reply (a whole response both
ways); decoder (a provider's stream -> events) and encoder (events -> a client's stream, written with frames); errors (the end
of a stream that broke).
"""

from __future__ import annotations

from typing import Any

from daemon.domain.chat import Chat, Losses, Reply
from daemon.domain.usage import Usage
from daemon.protocols.openai_responses import tables
from daemon.protocols.openai_responses.decoder import Decoder
from daemon.protocols.openai_responses.encoder import Encoder
from daemon.protocols.openai_responses.errors import error_frames
from daemon.protocols.openai_responses.reply import decode_reply, encode_reply, reply_error
from daemon.protocols.openai_responses.request import decode_request, encode_request
from daemon.protocols.openai_responses.usage import usage_of

__all__ = ["Decoder", "Encoder", "OpenAIResponses", "error_frames", "reply_error", "tables"]


class OpenAIResponses:
    """Implements base.ChatProtocol. `encode_reply` takes the request too, so that custom tools stay such."""

    name = tables.NAME

    def decode_request(self, body: dict[str, Any]) -> Chat:
        return decode_request(body)

    def encode_request(self, chat: Chat, model: str, losses: Losses) -> dict[str, Any]:
        return encode_request(chat, model, losses)

    def decode_reply(self, body: dict[str, Any]) -> Reply:
        return decode_reply(body)

    def encode_reply(self, reply: Reply, model: str, losses: Losses, chat: Chat | None = None) -> dict[str, Any]:
        return encode_reply(reply, model, losses, chat)

    def decoder(self) -> Decoder:
        return Decoder()

    def encoder(self, *, model: str, id: str, created: int, chat: Chat) -> Encoder:
        return Encoder(model=model, id=id, created=created, chat=chat)

    def usage_of(self, body: dict[str, Any]) -> Usage | None:
        return usage_of(body)
