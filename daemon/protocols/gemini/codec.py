"""The Gemini API as a ChatProtocol: what the registry lists for clients and for providers."""

from __future__ import annotations

from typing import Any

from daemon.domain.chat import Chat, Losses, Reply
from daemon.domain.usage import Usage
from daemon.protocols.gemini.decode import decode_request
from daemon.protocols.gemini.decoder import Decoder
from daemon.protocols.gemini.encode import encode_request
from daemon.protocols.gemini.encoder import Encoder
from daemon.protocols.gemini.reply import decode_reply, encode_reply
from daemon.protocols.gemini.tables import NAME
from daemon.protocols.gemini.usage import usage_of

__all__ = ["Gemini"]


class Gemini:
    """See base.ChatProtocol. `sse`: streams for clients are written as events, else (without `?alt=sse`) as an array.

    What the URL says comes in and goes out beside the body: decode_request wants it as `model` and `stream`, encode_request
    leaves it out, names.path_of writes it. A provider's stream is read in either form.
    """

    name = NAME

    def __init__(self, sse: bool = True) -> None:
        self.sse = sse

    def decode_request(self, body: dict[str, Any]) -> Chat:
        return decode_request(body)

    def encode_request(self, chat: Chat, model: str, losses: Losses) -> dict[str, Any]:
        return encode_request(chat, model, losses)

    def decode_reply(self, body: dict[str, Any]) -> Reply:
        return decode_reply(body)

    def encode_reply(self, reply: Reply, model: str, losses: Losses, chat: Chat | None = None) -> dict[str, Any]:
        return encode_reply(reply, model, losses)

    def decoder(self) -> Decoder:
        return Decoder()

    def encoder(self, *, model: str, id: str, created: int, chat: Chat) -> Encoder:
        return Encoder(model=model, id=id, created=created, chat=chat, sse=self.sse)

    def usage_of(self, body: dict[str, Any]) -> Usage | None:
        return usage_of(body)
