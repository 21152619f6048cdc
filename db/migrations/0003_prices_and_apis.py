"""What a provider speaks of OpenAI's APIs; what service tiers and hosted tools of a model may cost; what each line of a
bill came to."""

from __future__ import annotations

from typing import Any

STATEMENTS = (
    "ALTER TABLE providers ADD COLUMN chat_api TEXT NOT NULL DEFAULT 'chat' CHECK (chat_api IN ('chat', 'responses', 'both'))",
    "ALTER TABLE models ADD COLUMN service_tiers TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE models ADD COLUMN hosted_tools TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE usage_records ADD COLUMN amounts TEXT NOT NULL DEFAULT '{}'",
)


def up(migrator: Any, db: Any) -> None:
    """Add the columns."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
