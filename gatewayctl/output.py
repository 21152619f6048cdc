"""stdout is data (rich tables, aligned text when piped, one JSON document, or only the id), stderr is talk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from db.errors import Refused
from gatewayctl.context import state

if TYPE_CHECKING:
    from rich.progress import Progress

Row = Mapping[str, Any]


def _is_terminal(stream: Any) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())


def document(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2 if _is_terminal(sys.stdout) else None) + "\n")


def text(value: str) -> None:
    """A line of data on stdout."""
    sys.stdout.write(value + "\n")


def flush() -> None:
    """Hand over what was written so far: before a command that does not return soon."""
    sys.stdout.flush()
    sys.stderr.flush()


def note(value: str) -> None:
    """Talk: a line on stderr, unless --quiet."""
    if not state.quiet:
        sys.stderr.write(value + "\n")


def warn(value: str) -> None:
    """Talk that --quiet does not silence."""
    sys.stderr.write(f"Warning: {value}\n")


def _cell(value: object) -> str:
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_cell(item)}" for name, item in value.items())
    text = str(value)
    # Names of models come from clients and texts from providers: they must not move the cursor, nor turn the line around.
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char if char == "\n" else char.encode("unicode_escape").decode()


def rows(
    values: Sequence[Row],
    columns: Sequence[str],
    *,
    id: str = "id",
    empty: str = "Nothing yet.",
    right: Sequence[str] = (),
) -> None:
    """A list. JSON shows each row whole, a table its `columns` (`right` ones right-aligned), --quiet its `id`.

    Headers are the names with underscores as spaces.
    """
    if state.json:
        return document([dict(value) for value in values])
    if state.quiet:
        for value in values:
            text(str(value[id]))
        return None
    if not values:
        return note(empty)
    cells = [[_cell(value.get(name)) for name in columns] for value in values]
    headers = [name.replace("_", " ") for name in columns]
    if _is_terminal(sys.stdout):
        return _rich_table(headers, cells, [name in right for name in columns])
    return _plain_table(headers, cells, [name in right for name in columns])


def record(value: Row, *, id: str = "id", hide: Sequence[str] = ()) -> None:
    """One thing. JSON whole, --quiet only its `id`, else name and value in two columns without `hide`."""
    if state.json:
        return document(dict(value))
    if state.quiet:
        return text(str(value[id]))
    cells = [[name.replace("_", " "), _cell(item)] for name, item in value.items() if name not in hide]
    if _is_terminal(sys.stdout):
        return _rich_table(None, cells, [False, False])
    return _plain_table(None, cells, [False, False])


def _plain_table(headers: list[str] | None, cells: list[list[str]], right: list[bool]) -> None:
    lines = ([headers] if headers else []) + cells
    widths = [max(len(line[index]) for line in lines) for index in range(len(right))]
    for line in lines:
        padded = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ]
        text("  ".join(padded).rstrip())


def _rich_table(headers: list[str] | None, cells: list[list[str]], right: list[bool]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD if headers else None, show_header=headers is not None, pad_edge=False)
    for index, is_right in enumerate(right):
        table.add_column(
            headers[index] if headers else "",
            justify="right" if is_right else "left",
            style="bold" if headers is None and index == 0 else None,
            overflow="fold",
        )
    for line in cells:
        table.add_row(*[Text(cell) for cell in line])
    Console(file=sys.stdout).print(table)


def confirm(question: str, *, yes: bool) -> None:
    """Return when the answer is yes; Refused when it is no, or when nobody can answer without --yes."""
    if yes:
        return
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise Refused(f"{question.rstrip('?')}: nobody can confirm it here", "Add --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Refused("Nothing was changed", "Answer y, or add --yes")


@contextmanager
def progress() -> Iterator[Progress | None]:
    """A progress bar on stderr when it is a terminal and talk is wanted, else None."""
    if state.quiet or not _is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield bar


def error(code: str, message: str, hint: str) -> None:
    """A sentence and the next step on stderr; with --json also a document on stdout."""
    sentence = message if message.endswith((".", "!", "?")) else f"{message}."
    sys.stderr.write(f"Error: {sentence}\n")
    if hint:
        sys.stderr.write(f"  {hint}\n")
    if state.json:
        document({"error": {"code": code, "message": message, "hint": hint}})
