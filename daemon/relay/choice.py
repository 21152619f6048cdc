"""Which passage a call takes to a candidate: the same dialect where the provider speaks it, else a translation."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from daemon.domain.chat import Chat
from daemon.protocols import anthropic_messages, openai_chat
from daemon.protocols.base import ChatProtocol
from daemon.protocols.dialects import ANTHROPIC_MESSAGES, DIALECTS, GEMINI, OPENAI_CHAT, OPENAI_RESPONSES, Dialect
from daemon.relay.call import Call
from daemon.relay.passage import Passage
from daemon.relay.same import Same
from daemon.relay.translated import Translated
from db.snapshot import StoredDeployment, StoredModel, StoredProvider

# A provider's setting -> the dialects of conversations that it understands, the one to translate to first.
SPOKEN: Final[dict[str, tuple[str, ...]]] = {
    "chat": (OPENAI_CHAT,),
    "responses": (OPENAI_RESPONSES,),
    "both": (OPENAI_CHAT, OPENAI_RESPONSES),
}


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
        return Translated(
            call, self._decoded(dialect.protocol), target, self._protocol(provider, target), deployment.upstream_name
        )

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
