"""What a wire protocol of conversations offers: the interface that daemon.protocols.registry lists implementations of.

All of it is pure: no clock (`created` and ids are arguments), no randomness, no I/O.
"""

from __future__ import annotations

from typing import Any, Protocol

from daemon.domain.chat import Chat, Event, Losses, Reply
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage


class StreamDecoder(Protocol):
    """Bytes of a provider's stream → events. Any chunking gives the same events; nonsense never raises.

    A frame that is not JSON is counted in `garbage` and skipped; an error frame gives Failed. `usage` is the last believable
    usage (or None), `usage_invalid` says why the last one was not believed. `Ended` comes at most once, from `feed`; `flush`
    (the stream is over) gives what a half frame still holds, never Ended by itself.
    """

    usage: Usage | None
    usage_invalid: str
    garbage: int

    def feed(self, chunk: bytes) -> list[Event]: ...
    def flush(self) -> list[Event]: ...


class StreamEncoder(Protocol):
    """Events → bytes of a stream for a client. Made with the model name to show, an id and a time for what the events lack."""

    def feed(self, events: list[Event]) -> bytes: ...

    def finish(self, usage: Usage | None) -> bytes:
        """The end of a complete stream: what the dialect still owes (usage, terminator), after which nothing comes."""
        ...

    def fail(self, error: ApiError) -> bytes:
        """An error event in the dialect, after which nothing comes: the stream must not look complete."""
        ...


class ChatProtocol(Protocol):
    """One dialect, both ways."""

    name: str

    def decode_request(self, body: dict[str, Any]) -> Chat:
        """A client's request; ApiError (400 with `param`) when malformed or when it asks what no other dialect can carry."""
        ...

    def encode_request(self, chat: Chat, model: str, losses: Losses) -> dict[str, Any]:
        """A provider's request for `chat` under the provider's name of the model. ApiError 400 unsupported_parameter for
        what must not be dropped silently (see docs/protocols.md); everything else that is left out is named in `losses`."""
        ...

    def decode_reply(self, body: dict[str, Any]) -> Reply:
        """A provider's whole reply. ValueError when it is not one."""
        ...

    def encode_reply(self, reply: Reply, model: str, losses: Losses, chat: Chat | None = None) -> dict[str, Any]:
        """The reply for a client, under the name of the model that the client used; `chat`: what it asked."""
        ...

    def decoder(self) -> StreamDecoder: ...

    def encoder(self, *, model: str, id: str, created: int, chat: Chat) -> StreamEncoder: ...

    def usage_of(self, body: dict[str, Any]) -> Usage | None:
        """The usage of a whole reply as disjoint meters; None when it has none; InvalidUsage when it cannot be true."""
        ...
