"""Plots as plain text for a terminal: horizontal bars, a column chart, a spark line. No colour, at most 80 columns.

All take non-negative integers (nano-USD, requests, tokens) and scale by integer division, so nothing is rounded up into
a value that was not there; anything above zero is drawn as at least the smallest block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH = 80
LEFT_BLOCKS = " ▏▎▍▌▋▊▉█"
LOWER_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a bar plot: a label, the value that sets its length, and the columns that are written after it."""

    label: str
    value: int
    shown: tuple[str, ...]


def _eighths(value: int, largest: int, cells: int) -> int:
    """How many eighths of a cell `value` fills when `largest` fills `cells`."""
    if value <= 0 or largest <= 0:
        return 0
    return max(1, value * cells * 8 // largest)


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def bars(lines: Sequence[Bar], *, width: int = WIDTH, label_width: int = 28) -> list[str]:
    """`label  ██████▌  shown …`, one per line, all columns aligned; a label that is too long is cut."""
    if not lines:
        return []
    labels = [_fit(line.label, label_width) for line in lines]
    longest = max(len(label) for label in labels)
    columns = [max(len(text) for text in column) for column in zip(*(line.shown for line in lines), strict=True)]
    cells = max(8, width - longest - 2 - sum(size + 2 for size in columns))
    largest = max(line.value for line in lines)
    drawn = []
    for label, line in zip(labels, lines, strict=True):
        full, rest = divmod(_eighths(line.value, largest, cells), 8)
        bar = "█" * full + (LEFT_BLOCKS[rest] if rest else "")
        texts = [text.rjust(size) for text, size in zip(line.shown, columns, strict=True)]
        drawn.append("  ".join([label.ljust(longest), bar.ljust(cells), *texts]).rstrip())
    return drawn


def spark(values: Sequence[int]) -> str:
    """One character per value, from a blank (zero) to a full block (the largest)."""
    largest = max(values, default=0)
    return "".join(LOWER_BLOCKS[min(8, _eighths(value, largest, 1))] for value in values)


def gathered(values: Sequence[int], most: int) -> tuple[list[int], int]:
    """At most `most` sums of equally many neighbours (the last may hold fewer), and how many each one gathers."""
    each = max(1, -(-len(values) // most))
    return [sum(values[start : start + each]) for start in range(0, len(values), each)], each


def columns(
    values: Sequence[int],
    labels: Sequence[str],
    *,
    shown: Callable[[int], str] = str,
    width: int = WIDTH,
    height: int = 8,
) -> list[str]:
    """A column chart with the largest value and zero on its axis, and the first and last label below.

    When there are more values than columns, each column gathers several neighbours and a last line says how many.
    """
    if not values:
        return []
    most = width - 2 - max(len(shown(sum(values))), 1)
    sums, each = gathered(values, most)
    repeat = max(1, min(6, most // len(sums)))
    largest = max(sums)
    filled = [_eighths(value, largest, height) for value in sums]
    margin = len(shown(largest))
    drawn = []
    for row in range(height - 1, -1, -1):
        blocks = (LOWER_BLOCKS[max(0, min(8, eighths - row * 8))] * repeat for eighths in filled)
        axis = shown(largest) if row == height - 1 else ""
        drawn.append(f"{axis.rjust(margin)} ┤{''.join(blocks)}".rstrip())
    drawn.append(f"{shown(0).rjust(margin)} └{'─' * (len(sums) * repeat)}")
    first, last = labels[0], labels[-1]
    gap = len(sums) * repeat - len(first) - len(last)
    ends = f"{first}{' ' * gap}{last}" if gap > 0 else (first if first == last else f"{first} … {last}")
    drawn.append(f"{' ' * (margin + 2)}{ends}")
    if each > 1:
        drawn.append(f"{' ' * (margin + 2)}each column is the sum of {each}")
    return drawn
