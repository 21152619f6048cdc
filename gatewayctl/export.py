"""Usage records as files: csv for spreadsheets, jsonl as `usage log --json` has them, parquet for data frames.

Rows are written as they come, so an export of any length needs little memory. A file appears under its name only when
it is whole.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from db.request_log import UsageView
from gatewayctl.context import state
from gatewayctl.errors import Failed, Usage
from gatewayctl.usage_rows import FLAT_COLUMNS, USAGE_COLUMNS, flat_row, log_row

MONEY = ("cost", "upstream_cost", "charged", "absorbed")
FLAGS = ("stream", "estimated", "cached")
NUMBERS = ("http_status", "latency_ms", "ttft_ms")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
PARQUET_BATCH = 5000


class Format(StrEnum):
    """Formats of an export."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


class Writer(Protocol):
    """Writes rows to the file it was made for; `finish` writes what is left and does not close the file."""

    def add(self, view: UsageView) -> None: ...

    def finish(self) -> None: ...


class CsvWriter:
    """RFC 4180, UTF-8, one header line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._text = io.StringIO(newline="")
        self._csv = csv.writer(self._text)
        self._csv.writerow(FLAT_COLUMNS)

    def add(self, view: UsageView) -> None:
        row = flat_row(view)
        self._csv.writerow([_cell(row[name], name) for name in FLAT_COLUMNS])
        if self._text.tell() > 64 * 1024:
            self._flush()

    def _flush(self) -> None:
        self._file.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()

    def finish(self) -> None:
        self._flush()


def _cell(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    # Names of models come from clients: '=HYPERLINK(…)' must stay a text in whatever opens the file.
    return f"'{text}" if name not in MONEY and isinstance(value, str) and text.startswith(FORMULA_STARTS) else text


class JsonlWriter:
    """One JSON object a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, view: UsageView) -> None:
        self._file.write(json.dumps(log_row(view), ensure_ascii=False).encode() + b"\n")

    def finish(self) -> None:
        """Nothing is kept back."""


class ParquetWriter:
    """Amounts as decimal128(20, 9), times as UTC timestamps. Needs pyarrow, which only this format uses."""

    def __init__(self, file: BinaryIO) -> None:
        pyarrow, parquet = _pyarrow()
        kinds: dict[str, Any] = {"at": pyarrow.timestamp("ms", tz="UTC")}
        kinds |= dict.fromkeys(MONEY, pyarrow.decimal128(20, 9))
        kinds |= dict.fromkeys(FLAGS, pyarrow.bool_())
        kinds |= dict.fromkeys((*NUMBERS, *USAGE_COLUMNS), pyarrow.int64())
        self._table = pyarrow.Table
        self._schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in FLAT_COLUMNS])
        self._parquet = parquet.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, view: UsageView) -> None:
        row = flat_row(view) | {"at": view.at}
        self._rows.append({name: Decimal(value) if name in MONEY else value for name, value in row.items()})
        if len(self._rows) >= PARQUET_BATCH:
            self._flush()

    def _flush(self) -> None:
        self._parquet.write_table(self._table.from_pylist(self._rows, self._schema))
        self._rows.clear()

    def finish(self) -> None:
        if self._rows:
            self._flush()
        self._parquet.close()


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise Failed("Parquet needs pyarrow, which is not installed", "Run: pip install 'gatewayctl[parquet]'") from None


WRITERS: dict[Format, type[CsvWriter] | type[JsonlWriter] | type[ParquetWriter]] = {
    Format.csv: CsvWriter,
    Format.jsonl: JsonlWriter,
    Format.parquet: ParquetWriter,
}


def require(format: Format, out: Path | None) -> None:
    """Raise what would otherwise be found out after the first query: no pyarrow, no directory, a terminal."""
    if state.json:
        raise Usage("An export has its own formats", "Say --format jsonl instead of --json")
    if format is Format.parquet:
        _pyarrow()
        if out is None and sys.stdout.isatty():
            raise Usage("Parquet is not for a terminal", "Add --output FILE, or redirect")
    if out is not None and not out.absolute().parent.is_dir():
        raise Usage(f"There is no directory {out.absolute().parent}", "Create it first")


@contextmanager
def destination(out: Path | None) -> Iterator[BinaryIO]:
    """stdout, or a file that gets its name when the block ended well."""
    if out is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = out.with_name(f"{out.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
