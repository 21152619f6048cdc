"""What is said in one cell of the matrix, in no dialect: a conversation, what is asked for, and what is answered.

A speaker (tests.support.speakers) writes a Scenario in its dialect for both sides, and reads what the other side made of it:
`Heard` is what a provider understood of a request, `Said` (tests.support.said) what a client understood of a reply.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

Raw = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A call of a function; its id as the dialects have it that have ids."""

    id: str
    name: str
    arguments: Raw

    @property
    def text(self) -> str:
        return json.dumps(self.arguments)


@dataclass(frozen=True)
class Turn:
    """One turn: `who` is user (words, images), assistant (words, calls) or tool (results: (id of the call, text))."""

    who: str
    text: str = ""
    images: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    results: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Function:
    """A tool."""

    name: str
    description: str
    parameters: Raw


@dataclass(frozen=True)
class Answer:
    """What the provider says. `finish`: stop, stop_sequence, length, tool_calls, refusal."""

    text: str = ""
    thoughts: str = ""
    refusal: str = ""
    calls: tuple[Call, ...] = ()
    finish: str = "stop"
    input: int = 90
    cached: int = 20
    output: int = 30
    reasoning: int = 0

    @property
    def usage(self) -> dict[str, int]:
        """As a usage record has it."""
        counts = {"input": self.input, "cached_input": self.cached, "output": self.output, "reasoning": self.reasoning}
        return {meter: count for meter, count in counts.items() if count}


@dataclass(frozen=True)
class Scenario:
    """One cell's conversation."""

    name: str
    turns: tuple[Turn, ...]
    answer: Answer
    system: str = ""
    tools: tuple[Function, ...] = ()
    schema: Raw | None = None
    effort: str = ""
    stop: tuple[str, ...] = ()
    limit: int = 500


@dataclass
class Heard:
    """A provider's understanding of a request. Calls are numbered from 0 in the order in which they stand."""

    system: str = ""
    turns: list[tuple[Any, ...]] = field(default_factory=list)
    tools: list[tuple[str, str, Raw]] = field(default_factory=list)
    schema: Raw | None = None
    thinks: bool = False
    stop: tuple[str, ...] = ()
    limit: int | None = None

    def user(self, text: str = "", images: Iterable[tuple[str, str]] = ()) -> None:
        """Words and images ((media type, base64)) of a user; those that follow each other are one turn."""
        if self.turns and self.turns[-1][0] == "user":
            _, before, shown = self.turns.pop()
            text, images = before + text, [*shown, *images]
        self.turns.append(("user", text, list(images)))

    def assistant(self, text: str = "", calls: Iterable[tuple[str, Raw]] = ()) -> None:
        """Words and calls of the model; those that follow each other are one turn."""
        if self.turns and self.turns[-1][0] == "assistant":
            _, before, called = self.turns.pop()
            text, calls = before + text, [*called, *calls]
        self.turns.append(("assistant", text, list(calls)))

    def result(self, number: int, text: str) -> None:
        """What the call of that number returned, in any order."""
        if not self.turns or self.turns[-1][0] != "tool":
            self.turns.append(("tool", {}))
        assert number not in self.turns[-1][1], f"call {number} has two results"
        self.turns[-1][1][number] = text


IMAGE_TYPE = "image/png"


def heard(scenario: Scenario) -> Heard:
    """What every provider must have understood."""
    ids = [call.id for turn in scenario.turns for call in turn.calls]
    found = Heard(
        system=scenario.system,
        tools=[(tool.name, tool.description, tool.parameters) for tool in scenario.tools],
        schema=scenario.schema,
        thinks=bool(scenario.effort),
        stop=scenario.stop,
        limit=scenario.limit,
    )
    for turn in scenario.turns:
        if turn.who == "user":
            found.user(turn.text, [(IMAGE_TYPE, image) for image in turn.images])
        elif turn.who == "assistant":
            found.assistant(turn.text, [(call.name, call.arguments) for call in turn.calls])
        for call_id, text in turn.results:
            found.result(ids.index(call_id), text)
    return found


# -- the rows of the matrix

WEATHER = Function(
    "weather",
    "Tells the weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
)
CLOCK = Function("clock", "Tells the time.", {"type": "object", "properties": {}, "additionalProperties": False})
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "warm": {"type": "boolean"}},
    "required": ["city", "warm"],
    "additionalProperties": False,
}
# One red pixel.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)  # fmt: skip
HELLO = Turn("user", "Say hello in Zürich's words. ☃")
PLAIN = Scenario("plain text", (HELLO,), Answer("Grüezi mitenand — 你好, 👋!"), system="Be brief.")
_BERN = Call("call_bern_1", "weather", {"city": "Bern"})
_OSLO = Call("call_oslo_2", "weather", {"city": "Oslo"})
_ASKED = Turn("user", "How is the weather in Bern and in Oslo?")

ROWS = (
    PLAIN,
    Scenario(
        "multi-turn",
        (Turn("user", "I am Ann."), Turn("assistant", "Hello Ann."), Turn("user", "Who am I?")),
        Answer("You are Ann."),
        system="Be brief.",
    ),
    Scenario("image input", (Turn("user", "What colour is it?", images=(PIXEL,)),), Answer("Red.")),
    Scenario(
        "tool round trip",
        (
            Turn("user", "How is the weather in Bern?"),
            Turn("assistant", "Let me look.", calls=(_BERN,)),
            Turn("tool", results=((_BERN.id, "sunny, 21 °C"),)),
        ),
        Answer("It is sunny."),
        tools=(WEATHER, CLOCK),
    ),
    Scenario(
        "parallel tool calls",
        (
            _ASKED,
            Turn("assistant", calls=(_BERN, _OSLO)),
            Turn("tool", results=((_BERN.id, "sunny"), (_OSLO.id, "snow"))),
            Turn("user", "And now?"),
        ),
        Answer(
            calls=(Call("call_a", "weather", {"city": "Bern"}), Call("call_b", "clock", {})),
            finish="tool_calls",
        ),
        tools=(WEATHER, CLOCK),
    ),
    Scenario("JSON schema", (_ASKED,), Answer('{"city":"Bern","warm":true}'), schema=SCHEMA),
    Scenario(
        "reasoning",
        (_ASKED,),
        Answer("Warm in Bern.", thoughts="Bern lies further south.", reasoning=12),
        effort="high",
        limit=30_000,
    ),
    Scenario("stop sequence", (_ASKED,), Answer("One, two, ", finish="stop_sequence"), stop=("three",)),
    Scenario("maximum tokens", (_ASKED,), Answer("One, two, thr", finish="length"), limit=16),
    Scenario("refusal", (_ASKED,), Answer(refusal="I will not say that.", finish="refusal")),
)


def without_stop(scenario: Scenario) -> Scenario:
    """As a dialect asks that has no stop sequences; the provider stops by itself."""
    if not scenario.stop:
        return scenario
    return replace(scenario, stop=(), answer=replace(scenario.answer, finish="stop"))
