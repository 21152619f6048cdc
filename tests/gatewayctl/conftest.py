"""Fixtures for the command line: an initialised gateway on each database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Gateway


@pytest.fixture
def gateway(database_url: str, tmp_path: Path) -> Gateway:
    """After `gatewayctl init`, over SQLite and over PostgreSQL."""
    made = Gateway(tmp_path / "home", database_url)
    made.ok("init")
    return made


@pytest.fixture
def local(tmp_path: Path) -> Gateway:
    """A home that does not exist yet, with its own SQLite file."""
    return Gateway(tmp_path / "home")
