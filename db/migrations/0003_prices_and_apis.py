"""What a provider speaks of OpenAI's APIs."""

from __future__ import annotations

from typing import Any

STATEMENTS = (
    "ALTER TABLE providers ADD COLUMN chat_api TEXT NOT NULL DEFAULT 'chat' CHECK (chat_api IN ('chat', 'responses', 'both'))",
)


def up(migrator: Any, db: Any) -> None:
    """Add the columns."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
