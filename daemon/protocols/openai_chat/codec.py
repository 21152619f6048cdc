"""Chat completions as a ChatProtocol: what the registry lists for clients, and for providers with their habits."""

from __future__ import annotations

from typing import Any

from daemon.domain.chat import Chat, Losses, Reply
from daemon.domain.usage import Usage
from daemon.protocols.openai_chat.decode import decode_request
from daemon.protocols.openai_chat.encode import encode_request
from daemon.protocols.openai_chat.habits import DEFAULT, Habits
from daemon.protocols.openai_chat.reply import decode_reply, encode_reply
from daemon.protocols.openai_chat.stream_decode import ChatStreamDecoder
from daemon.protocols.openai_chat.stream_encode import ChatStreamEncoder
from daemon.protocols.openai_chat.tables import NAME
from daemon.protocols.openai_chat.usage import usage_of

__all__ = ["OpenAIChat"]


class OpenAIChat:
    """See base.ChatProtocol. `habits` matter for encode_request only."""

    name = NAME

    def __init__(self, habits: Habits = DEFAULT) -> None:
        self.habits = habits

    def decode_request(self, body: dict[str, Any]) -> Chat:
        return decode_request(body)

    def encode_request(self, chat: Chat, model: str, losses: Losses) -> dict[str, Any]:
        return encode_request(chat, model, losses, self.habits)

    def decode_reply(self, body: dict[str, Any]) -> Reply:
        return decode_reply(body)

    def encode_reply(self, reply: Reply, model: str, losses: Losses, chat: Chat | None = None) -> dict[str, Any]:
        """`chat`, when given, brings back the legacy function_call for a client that sent `functions`."""
        return encode_reply(reply, model, losses, chat)

    def decoder(self) -> ChatStreamDecoder:
        return ChatStreamDecoder()

    def encoder(self, *, model: str, id: str, created: int, chat: Chat) -> ChatStreamEncoder:
        return ChatStreamEncoder(model=model, id=id, created=created, chat=chat)

    def usage_of(self, body: dict[str, Any]) -> Usage | None:
        return usage_of(body)
