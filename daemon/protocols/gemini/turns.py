"""Contents of a request → messages: what a stream had cut into pieces, and clients keep so, becomes whole again."""

from __future__ import annotations

from dataclasses import replace

from daemon.domain.chat import Message, Part, Role, Text, Thinking, ToolResult

__all__ = ["Turns"]


class Turns:
    """Collects messages. Contents of the model that follow each other are one message; an empty one says nothing."""

    def __init__(self) -> None:
        self._turns: list[tuple[Role, list[Part], set[int]]] = []  # with the places where a content begins

    def add(self, role: Role, parts: list[Part]) -> None:
        """One content, cut where results of tools and other parts of the user meet."""
        begins = True
        for part in parts:
            kind = Role.TOOL if isinstance(part, ToolResult) else role
            last = self._turns[-1] if self._turns else None
            if last is None or last[0] is not kind or (begins and kind is not Role.ASSISTANT):
                last = kind, [], set()
                self._turns.append(last)
            if begins:
                last[2].add(len(last[1]))
            begins = False
            last[1].append(part)

    def take(self) -> tuple[Message, ...]:
        return tuple(Message(role, _joined(parts, begins)) for role, parts, begins in self._turns)


def _joined(parts: list[Part], begins: set[int]) -> tuple[Part, ...]:
    """Texts of two contents as one; a thought with the next, until one has a proof."""
    runs: list[list[Part]] = []
    for index, part in enumerate(parts):
        last = runs[-1][-1] if runs else None
        text = isinstance(part, Text) and isinstance(last, Text) and index in begins
        thought = isinstance(part, Thinking) and isinstance(last, Thinking) and not last.origin
        if text or thought:
            runs[-1].append(part)
        else:
            runs.append([part])
    return tuple(_one(run) for run in runs)


def _one(run: list[Part]) -> Part:
    last = run[-1]
    if len(run) == 1 or not isinstance(last, Text | Thinking):
        return last
    return replace(last, text="".join(part.text for part in run if isinstance(part, Text | Thinking)))
