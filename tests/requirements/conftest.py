"""A shared daemon for tests that leave no trace, and one of its own for those that do.

On SQLite; with GATEWAYCTL_TEST_ON=postgresql in the environment on PostgreSQL.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.long_stream import LongStream
from tests.support.postgres import Server
from tests.support.world import World, build, refreshed

POSTGRES = os.environ.get("GATEWAYCTL_TEST_ON") == "postgresql"
LONG = "test_s4_21_a_stream_of_75_seconds_is_complete"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long stream is looked at last."""
    items.sort(key=lambda item: item.name == LONG)


@pytest.fixture(scope="session", autouse=True)
def long_stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LongStream | None]:
    """Begins with the first of these tests, when the one that wants it is among them."""
    if not any(item.name == LONG for item in request.session.items):
        yield None
        return
    stream = LongStream(tmp_path_factory.mktemp("long") / "home")
    with stream.stack:
        stream.begin()
        yield stream


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest) -> Callable[[], str | None]:
    """Makes the URL of an empty database; None stands for SQLite in the home."""
    if not POSTGRES:
        return lambda: None
    server: Server = request.getfixturevalue("postgres")
    return server.new_database


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str | None]) -> Iterator[World]:
    with ExitStack() as stack:
        world = build(stack, tmp_path_factory.mktemp("shared"), url=new_database(), balance="1000")
        yield world
        verified = world.home.json("ledger", "verify")  # after everything that the tests did to it
        assert verified["ok"], verified
        again = world.home.run("usage", "recompute", "--stored-terms", "--since", "all", "--dry-run", "--json")
        assert again.json["records"] == [], again.json  # the meters and terms of every record explain its charge
        assert world.gateway.stop() == 0


@pytest.fixture
def world(_shared: World) -> Iterator[World]:
    """The shared daemon with fresh upstreams. Users, keys, models and providers of the test's own only."""
    with ExitStack() as stack:
        yield refreshed(_shared, stack)


@pytest.fixture
def own(tmp_path: Path, new_database: Callable[[], str | None]) -> Iterator[World]:
    """A daemon that the test may do anything to."""
    with ExitStack() as stack:
        yield build(stack, tmp_path / "home", url=new_database())
