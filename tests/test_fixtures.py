"""The fixtures give a current schema on both databases."""

from __future__ import annotations

from db import migrate


def test_fixture_database_is_current(database: str) -> None:
    migrate.require_current()
    assert migrate.status().current
