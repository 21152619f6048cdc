"""Fixtures for every test: a fresh, migrated database on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from db import engine, migrate
from tests.support.postgres import TEMPLATE, Server
from tests.support.redis_server import RedisServer

os.environ.setdefault("NO_COLOR", "1")
BACKENDS = ("sqlite", "postgresql")
# No time limit per example (a busy machine is no failure), no directory of examples in the source tree.
settings.register_profile("gateway", deadline=None, database=None, print_blob=True)
settings.load_profile("gateway")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own GATEWAYCTL_… variables must not reach the tests."""
    for name in list(os.environ):
        if name.startswith("GATEWAYCTL_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One PostgreSQL server; tests that need it are skipped where Debian's package is missing."""
    server = Server.start()
    if server is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis server; tests that need it are skipped where Debian's package is missing."""
    if RedisServer.program() is None:
        pytest.skip("Redis is not installed: apt install redis-server")
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "gateway.db"
    engine.open_database(f"sqlite:///{path}", create=True)
    migrate.migrate()
    engine.close_connection()
    return path


@pytest.fixture(scope="session")
def _postgres_template(postgres: Server) -> str:
    postgres.admin(f"CREATE DATABASE {TEMPLATE}")
    engine.open_database(postgres.url(TEMPLATE))
    migrate.migrate()
    engine.close_connection()
    return TEMPLATE


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh database at the head of the schema, not opened; once per backend."""
    if request.param == "sqlite":
        template = request.getfixturevalue("_sqlite_template")
        path = tmp_path / "gateway.db"
        shutil.copyfile(template, path)
        path.chmod(0o600)
        yield f"sqlite:///{path}"
        return
    server: Server = request.getfixturevalue("postgres")
    url = server.lend(request.getfixturevalue("_postgres_template"))
    yield url
    server.take_back(url)


@pytest.fixture
def database(database_url: str) -> Iterator[str]:
    """The same, opened: the tables are bound to it. Value: its URL."""
    engine.open_database(database_url)
    yield database_url
    engine.close_connection()


@pytest.fixture
def sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh SQLite database for tests in which the backend makes no difference; not opened."""
    path = tmp_path / "gateway.db"
    shutil.copyfile(_sqlite_template, path)
    path.chmod(0o600)
    return f"sqlite:///{path}"
