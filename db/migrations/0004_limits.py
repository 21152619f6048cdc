"""What limits and fair use have to remember: windows of keys and users, what a hold takes of them, allowances of groups."""

from __future__ import annotations

from typing import Any

from peewee import SqliteDatabase

STATEMENTS = (
    """
    CREATE TABLE limit_windows (
        scope TEXT NOT NULL CHECK (scope IN ('user', 'key')),
        subject_id BIGINT NOT NULL,
        window_at BIGINT NOT NULL,
        requests BIGINT NOT NULL,
        tokens BIGINT NOT NULL,
        parallel BIGINT NOT NULL,
        PRIMARY KEY (scope, subject_id)
    )
    """,
    "ALTER TABLE users ADD COLUMN fair_use_day_at BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE users ADD COLUMN fair_use_used BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE users ADD COLUMN fair_use_last_at BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE groups ADD COLUMN fair_use_limit INTEGER",
    "ALTER TABLE groups ADD COLUMN fair_use_throttle_s INTEGER",
    "ALTER TABLE keys ADD COLUMN endpoints TEXT",
    "ALTER TABLE keys ADD COLUMN ip_ranges TEXT",
    "ALTER TABLE holds ADD COLUMN limit_window_at BIGINT",
    "ALTER TABLE holds ADD COLUMN limit_tokens BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE holds ADD COLUMN limit_parallel BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE holds ADD COLUMN fair_use BIGINT NOT NULL DEFAULT 0 CHECK (fair_use IN (0, 1, 2))",
    "ALTER TABLE holds ADD COLUMN fair_use_before_at BIGINT NOT NULL DEFAULT 0",
)


def up(migrator: Any, db: Any) -> None:
    """Make the table, add the columns."""
    sqlite = isinstance(db, SqliteDatabase)
    for statement in STATEMENTS:
        text = statement.rstrip()
        if sqlite:
            text = text.replace("BIGINT", "INTEGER")
            text += " STRICT" if "CREATE TABLE" in text else ""
        db.execute_sql(text)
