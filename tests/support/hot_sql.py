"""SQL that is written as text, found in a module's source and held against the tables: columns, values, indexes."""

from __future__ import annotations

import ast
import inspect
import re
from types import ModuleType
from typing import Any

from db.engine import is_sqlite, sql
from db.models import TABLES, database

_BEGINS = re.compile(r"(SELECT|INSERT|UPDATE|DELETE)\b.*\?", re.DOTALL)
_INSERT = re.compile(r"INSERT INTO (\w+) \(([^)]*)\) VALUES \(([^)]*)\)")
_WORD = re.compile(r"(?<![:'\w])[a-z_][a-z0-9_]*(?:\.[a-z_]+)?(?!['\w(])")
_BY_NAME = {str(table._meta.table_name): table for table in TABLES}
_COLUMNS = {str(column) for table in TABLES for column in table._meta.columns}


def statements(module: ModuleType) -> dict[str, str]:
    """Every SQL text with parameters: by the name of its constant, or by the line it stands in."""
    found = {name: text for name, text in vars(module).items() if isinstance(text, str) and _BEGINS.match(text)}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and _BEGINS.match(text) and not any(text in known for known in found.values()):
            found[f"line-{node.lineno}"] = text
    whole = {name: text for name, text in found.items() if not any(text in other != text for other in found.values())}
    assert whole, module
    return whole


def check_columns(text: str) -> None:
    """Every word is a table, a column or an alias; an INSERT names every column that must have a value, and no other."""
    assert "%" not in text, "a percent sign means something else to PostgreSQL"
    words = {part for word in _WORD.findall(text) for part in word.split(".")} - {"excluded", "s", "k", "u", "h", "e", "r"}
    assert words <= _COLUMNS | _BY_NAME.keys(), words - _COLUMNS - _BY_NAME.keys()
    if found := _INSERT.match(text):
        meta = _BY_NAME[found[1]]._meta
        columns = found[2].split(", ")
        required = {name for name, field in meta.columns.items() if not field.null and not field.auto_increment}
        assert required <= set(columns) <= set(meta.columns), required ^ set(columns)
        assert len(columns) == len(set(columns)) == len(found[3].split(", "))
    plan(text, ["1"] * text.count("?"))  # the database's own opinion


def plan(text: str, values: Any) -> str:
    """How the database would carry it out. PostgreSQL is asked to avoid reading whole tables, however small they are."""
    if is_sqlite():
        return "\n".join(row[3] for row in database.execute_sql(f"EXPLAIN QUERY PLAN {text}", values).fetchall())
    with database.atomic():
        database.execute_sql("SET LOCAL enable_seqscan = off")
        return "\n".join(row[0] for row in database.execute_sql(f"EXPLAIN {sql(text)}", values).fetchall())


def check_plan(text: str) -> None:
    """No table is read from end to end."""
    found = plan(text, ["1"] * text.count("?"))
    assert "SCAN" not in found, found
    assert "Seq Scan" not in found, found
