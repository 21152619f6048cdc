"""What a database really holds: columns, types, checks, references and indexes as comparable text."""

from __future__ import annotations

import re

from db.engine import is_sqlite
from db.models import database

_HISTORY = "schema_migrations"


def described() -> dict[str, list[str]]:
    """Table → its columns in order, then its constraints, indexes and triggers. The migrations' own table is left out."""
    return _sqlite() if is_sqlite() else _postgresql()


def triggers() -> set[str]:
    """Names of all triggers."""
    if is_sqlite():
        rows = database.execute_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    else:
        rows = database.execute_sql("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")
    return {row[0] for row in rows.fetchall()}


def _plain(text: str) -> str:
    """Without quotes, line breaks and double spaces."""
    return re.sub(r"\s+", " ", text.replace('"', "").replace("`", "")).replace("( ", "(").replace(" )", ")").strip()


def _checks(text: str) -> list[str]:
    """The bodies of every CHECK (…) in a CREATE TABLE."""
    found, plain = [], _plain(text)
    for match in re.finditer(r"CHECK ?\(", plain):
        depth, end = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(plain[end], 0)
            end += 1
        found.append(f"CHECK ({plain[match.end() : end - 1]})")
    return sorted(found)


def _rows(statement: str) -> list[tuple[object, ...]]:
    return database.execute_sql(statement).fetchall()


def _sqlite() -> dict[str, list[str]]:
    found = {}
    for name, text in _rows("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
        if name == _HISTORY:
            continue
        lines = [
            f"{column} {kind} {'NOT NULL' if notnull or primary else 'NULL'} default {default} primary key {primary}"
            for _, column, kind, notnull, default, primary, _ in _rows(f"PRAGMA table_xinfo({name})")
        ]
        lines += _checks(str(text))
        lines += sorted(f"references {row[2:7]}" for row in _rows(f"PRAGMA foreign_key_list({name})"))
        [(strict, without_rowid)] = _rows(f"SELECT strict, wr FROM pragma_table_list WHERE name = '{name}'")
        lines.append(f"strict {strict} without rowid {without_rowid} autoincrement {'AUTOINCREMENT' in str(text)}")
        indexes = _rows(f"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = '{name}' ORDER BY name")
        for index, statement in indexes:
            columns = [row[2] for row in _rows(f"PRAGMA index_info({index})")]
            lines.append(f"index {columns} {_plain(str(statement)).replace('IF NOT EXISTS ', '')}")
        found[str(name)] = lines
    return found


def _postgresql() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for (name,) in _rows("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"):
        if name == _HISTORY:
            continue
        columns = _rows(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid) FROM pg_attribute "
            "LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum "
            f"WHERE attrelid = '{name}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
        lines = [
            f"{column} {kind} {'NOT NULL' if needed else 'NULL'} default {value}" for column, kind, needed, value in columns
        ]
        lines += [str(row[0]) for row in _rows(
            f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '{name}'::regclass ORDER BY 1"
        )]  # fmt: skip
        lines += [str(row[0]) for row in _rows(
            f"SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = '{name}'::regclass ORDER BY 1"
        )]  # fmt: skip
        found[str(name)] = lines
    return found
