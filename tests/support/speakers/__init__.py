"""Both sides of every dialect, written by hand: what a client asks and reads, what a provider must be sent and answers.

Map: scenario (what is said, in no dialect) -> chat, responses, messages, gemini (one speaker each). SPEAKERS by dialect.
To add a dialect: its module, a line here, a row in tests.support.crossing.
"""

from __future__ import annotations

from typing import Any, Protocol

from tests.support.crossing import CHAT, GEMINI, MESSAGES, RESPONSES
from tests.support.said import Said
from tests.support.speakers import chat, gemini, messages, responses
from tests.support.speakers.scenario import Heard, Scenario
from tests.support.upstream import Received


class Speaker(Protocol):
    """One dialect. Everything that reads asserts that what it reads is right by the dialect's own rules."""

    def asked(self, scenario: Scenario) -> Scenario:
        """The scenario as far as a client can ask for it."""

    def request(self, scenario: Scenario, model: str, *, stream: bool) -> dict[str, Any]:
        """A client's request."""

    def heard(self, request: Received, *, stream: bool) -> Heard:
        """What a provider was asked, which must be valid."""

    def told(self, finish: str) -> str:
        """Why an answer ended, as far as a provider's reply can tell."""

    def reply(self, scenario: Scenario) -> dict[str, Any]:
        """A provider's whole reply."""

    def frames(self, scenario: Scenario) -> list[bytes]:
        """A provider's stream, by events."""

    def error(self, message: str) -> dict[str, Any]:
        """A provider's error reply."""

    def error_frame(self, message: str) -> bytes:
        """A provider's error inside a stream."""

    def read(self, body: dict[str, Any], model: str) -> Said:
        """A client's whole reply."""

    def read_stream(self, stream: bytes, model: str) -> Said:
        """A client's complete stream."""

    def read_broken(self, stream: bytes, model: str) -> tuple[str, str]:
        """A client's stream that ends with an error: the text before it, and its message. It must not look complete."""

    def read_error(self, body: dict[str, Any], status: int) -> str:
        """The message of an error reply to a client."""

    def finish(self, finish: str) -> str:
        """Why a reply ended, in the dialect's word."""


SPEAKERS: dict[str, Speaker] = {
    CHAT: chat.Speaker(), RESPONSES: responses.Speaker(), MESSAGES: messages.Speaker(), GEMINI: gemini.Speaker(),
}  # fmt: skip
