"""Several deployments, credentials and fallback models: how they are chosen, and what keeps one from being chosen."""

from __future__ import annotations

from typing import Any

from peewee import SqliteDatabase

STATEMENTS = (
    "ALTER TABLE providers ADD COLUMN rotation TEXT NOT NULL DEFAULT 'round_robin' "
    "CHECK (rotation IN ('round_robin', 'least_busy'))",
    "ALTER TABLE providers ADD COLUMN on_no_answer TEXT NOT NULL DEFAULT 'fail' CHECK (on_no_answer IN ('fail', 'next'))",
    "ALTER TABLE credentials ADD COLUMN max_parallel INTEGER CHECK (max_parallel >= 1)",
    "ALTER TABLE credentials ADD COLUMN benched_at BIGINT",
    "ALTER TABLE credentials ADD COLUMN probe_at BIGINT",
    "ALTER TABLE credentials ADD COLUMN enabled_at BIGINT",
    "ALTER TABLE credentials ADD COLUMN benches INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE models ADD COLUMN routing TEXT NOT NULL DEFAULT 'weighted' CHECK (routing IN ('weighted', 'least_latency'))",
    "ALTER TABLE models ADD COLUMN fallbacks TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE deployments ADD COLUMN open_since_at BIGINT",
    "ALTER TABLE deployments ADD COLUMN open_reason TEXT",
)


def up(migrator: Any, db: Any) -> None:
    """Add the columns."""
    for statement in STATEMENTS:
        db.execute_sql(statement.replace("BIGINT", "INTEGER") if isinstance(db, SqliteDatabase) else statement)
