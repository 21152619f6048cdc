"""The Messages API as a ChatProtocol: what the registry lists for clients, and for providers with what their models take."""

from __future__ import annotations

from typing import Any

from daemon.domain.chat import Chat, Losses, Reply
from daemon.domain.usage import Usage
from daemon.protocols.anthropic_messages.decode import decode_request
from daemon.protocols.anthropic_messages.decoder import Decoder
from daemon.protocols.anthropic_messages.encode import encode_request
from daemon.protocols.anthropic_messages.encoder import Encoder
from daemon.protocols.anthropic_messages.reply import decode_reply, encode_reply
from daemon.protocols.anthropic_messages.tables import DEFAULT_MAX_TOKENS, NAME, VERSION, VERSION_HEADER
from daemon.protocols.anthropic_messages.usage import usage_of

__all__ = ["AnthropicMessages"]


class AnthropicMessages:
    """See base.ChatProtocol. What the constructor takes matters for encode_request only: see there."""

    name = NAME

    def __init__(
        self, version: str = VERSION, default_max_tokens: int = DEFAULT_MAX_TOKENS, inline_system: bool = False
    ) -> None:
        self.version, self.default_max_tokens, self.inline_system = version, default_max_tokens, inline_system

    @property
    def headers(self) -> dict[str, str]:
        """What a request to a provider must be sent with."""
        return {VERSION_HEADER: self.version}

    def decode_request(self, body: dict[str, Any]) -> Chat:
        return decode_request(body)

    def encode_request(self, chat: Chat, model: str, losses: Losses) -> dict[str, Any]:
        return encode_request(
            chat,
            model,
            losses,
            version=self.version,
            default_max_tokens=self.default_max_tokens,
            inline_system=self.inline_system,
        )

    def decode_reply(self, body: dict[str, Any]) -> Reply:
        return decode_reply(body)

    def encode_reply(self, reply: Reply, model: str, losses: Losses, chat: Chat | None = None) -> dict[str, Any]:
        return encode_reply(reply, model, losses)

    def decoder(self) -> Decoder:
        return Decoder()

    def encoder(self, *, model: str, id: str, created: int, chat: Chat) -> Encoder:
        return Encoder(model=model, id=id, created=created, chat=chat)

    def usage_of(self, body: dict[str, Any]) -> Usage | None:
        return usage_of(body)
