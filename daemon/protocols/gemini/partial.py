"""Arguments of a call that come in pieces, each with the JSON path of its place (RFC 9535, names and indices only)."""

from __future__ import annotations

import itertools
import re
from typing import Any, Final

__all__ = ["Arguments"]

_STEP: Final = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,6})\]|\['([^']*)'\]|\["([^"]*)"\]""")
DEPTH: Final = 64
LONGEST: Final = 10_000  # elements of one list
VALUES: Final = ("stringValue", "numberValue", "boolValue")


class Arguments:
    """`value` is what the pieces so far say."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}

    def add(self, piece: dict[str, Any]) -> None:
        """A piece: strings grow, everything else is set. One whose place makes no sense is left out."""
        steps = _steps(piece.get("jsonPath"))
        if not steps:
            return
        holder: Any = self.value
        for step, after in itertools.pairwise(steps):
            holder = _inside(holder, step, [] if type(after) is int else {})
        if holder is None:
            return
        last = steps[-1]
        name = next((name for name in VALUES if name in piece), None)
        value = piece[name] if name is not None else None
        if name == "stringValue" and type(before := _get(holder, last)) is str and type(value) is str:
            value = before + value
        elif type(value) is float and value.is_integer():
            value = int(value)
        _set(holder, last, value)


def _steps(path: object) -> list[str | int]:
    if type(path) is not str or not path.startswith("$"):
        return []
    found: list[str | int] = []
    at = 1
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or len(found) == DEPTH:
            return []
        at = step.end()
        found.append(
            int(step[2]) if step[2] is not None else next(word for word in (step[1], step[3], step[4]) if word is not None)
        )
    return found


def _get(holder: Any, step: str | int) -> Any:
    if type(holder) is list and type(step) is int:
        return holder[step] if step < len(holder) else None
    return holder.get(step) if type(holder) is dict else None


def _set(holder: Any, step: str | int, value: Any) -> None:
    if type(holder) is dict and type(step) is str:
        holder[step] = value
    elif type(holder) is list and type(step) is int and step < LONGEST:
        holder.extend([None] * (step + 1 - len(holder)))
        holder[step] = value


def _inside(holder: Any, step: str | int, empty: Any) -> Any:
    """What stands at a step, made when nothing does; None when it cannot hold more."""
    found = _get(holder, step)
    if found is None and holder is not None:
        _set(holder, step, empty)
        found = _get(holder, step)
    return found if type(found) in (dict, list) else None
