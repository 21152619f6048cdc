"""How one call's bytes go to one provider and come back: the interface. See daemon.relay.choice for which there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.dialects import Dialect, Reader
from daemon.upstream.base import Body

Header = tuple[bytes, bytes]
EVENTS: Final = b"text/event-stream"
JSON: Final = b"application/json"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What goes to the provider."""

    path: str
    query: str
    body: Body
    headers: list[Header]
    content_type: bytes = JSON  # it was read as that, so it is sent as that


@dataclass(frozen=True, slots=True)
class Whole:
    """A reply in one piece, read but not sent. `encode` gives the client's bytes, with the usage that we counted if we did."""

    usage: Callable[[], Usage | None]
    text: Callable[[], str]
    encode: Callable[[Usage | None], bytes]
    content_type: bytes | None  # None: the provider's own


class Stream(Protocol):
    """A reply that comes in pieces."""

    @property
    def reader(self) -> Reader: ...
    @property
    def content_type(self) -> bytes | None:
        """Of the client's side; None: the provider's."""
        ...

    @property
    def passes_errors(self) -> bool:
        """Whether an error that the provider tells inside its stream is in the client's bytes already."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """The bytes for the client that a chunk of the provider makes. LineTooLong."""
        ...

    def flush(self) -> bytes:
        """The provider's stream is over: what is left."""
        ...

    def end(self, usage: Usage | None) -> bytes:
        """After the settlement: what a complete stream still owes the client."""
        ...

    @property
    def open_ended(self) -> bool:
        """Whether it is complete when it is over, whatever it said."""
        ...

    def fail(self, error: ApiError) -> bytes | None:
        """The last event of a stream that broke; None where nothing can be said but by cutting the connection."""
        ...


class Passage(Protocol):
    """The way of one call through one candidate. Made when the call is admitted: what the provider's dialect cannot carry is
    refused before any money is held."""

    @property
    def dialect(self) -> Dialect:
        """The provider's."""
        ...

    @property
    def losses(self) -> tuple[str, ...]:
        """What the translation left out, by the names of docs/protocols.md."""
        ...

    @property
    def names(self) -> tuple[str, str] | None:
        """(the provider's name of the model, the client's), where the client must not see the first."""
        ...

    def outgoing(self, lowered_output: int | None) -> Outgoing: ...
    def whole(self, body: bytes, data: Any) -> Whole:
        """ValueError when the body is not a reply."""
        ...

    def stream(self, content_type: bytes) -> Stream | None:
        """For a reply of this type (lower case, without parameters); None: it is read in one piece."""
        ...

    def refusal(self, status: int, body: bytes, content_type: bytes) -> tuple[bytes, bytes]:
        """(body, content type) of the provider's error reply, as the client's dialect has it."""
        ...
