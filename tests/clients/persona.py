"""What a scripted host does, whichever API it speaks: call the tool, use its result, answer by the schema, break off, greet.

`Turn` is what a host's own reader found in a request, `decide` gives the `Act` that its own writer then puts into its form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

GREETING: Final = ("Hello", " from", " the", " scripted", " host", ".")
INPUT_TOKENS, OUTPUT_TOKENS = 9, 5
CALL_ID: Final = "call_1"
# What a user's words make of a host.
BREAK_OFF: Final = "break off"  # the connection ends in the middle of a stream
OVERLOADED: Final = "overload"  # a stream ends with an error event
OVERLOAD_TEXT: Final = "The host is overloaded."
# What a tool of this name is called with; else what its schema asks for.
SAMPLE_VALUES: Final = {"a": 1, "b": 2, "answer": 42}


@dataclass(frozen=True)
class Tool:
    """A tool that the client runs, with the names of its parameters."""

    name: str
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Turn:
    """`said` is the last text of the user; `result` what the last tool gave, when the client answers a call."""

    model: str
    said: str
    tools: tuple[Tool, ...] = ()
    result: str | None = None
    wants_schema: bool = False
    stream: bool = False


@dataclass(frozen=True)
class Act:
    """Text, in pieces, or a call of a tool; `broken` ends a stream in the middle: with an error event, or without a word."""

    pieces: tuple[str, ...] = ()
    call: tuple[str, str] | None = None
    broken: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def arguments(self) -> tuple[str, str]:
        """The JSON text of the call's arguments, in two pieces."""
        assert self.call is not None
        return self.call[1][:5], self.call[1][5:]


def decide(turn: Turn) -> Act:
    """How a host behaves unless it is told otherwise."""
    if turn.result is not None:
        found = re.search(r"\d+", turn.result)  # some clients wrap a result in an object
        return Act(("The tool said ", f"{found[0] if found else turn.result}."))
    if turn.tools:
        tool = turn.tools[0]
        return Act(call=(tool.name, json.dumps({name: SAMPLE_VALUES[name] for name in tool.parameters})))
    if turn.wants_schema:
        return Act(('{"answer"', ": 42}"))
    if turn.stream and BREAK_OFF in turn.said:
        return Act(GREETING[:2], broken=BREAK_OFF)
    if turn.stream and OVERLOADED in turn.said:
        return Act(GREETING[:2], broken=OVERLOADED)
    return Act(GREETING)


Decide = Callable[[Turn], Act]


def since_answer(items: Sequence[Any], is_answer: Callable[[Any], bool]) -> Sequence[Any]:
    """What a client added to a conversation after the host's last word."""
    answers = [index for index, item in enumerate(items) if is_answer(item)]
    return items[answers[-1] + 1 :] if answers else items


def parameters_of(schema: Any) -> tuple[str, ...]:
    """The names of a schema's properties that a call is made with."""
    return tuple(name for name in (schema or {}).get("properties", {}) if name in SAMPLE_VALUES)


def text_of(content: Any) -> str:
    """Text of a content: a string, or parts that have a `text`."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or () if isinstance(part, dict))
