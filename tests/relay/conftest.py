"""One daemon for the folder; each test gets it with upstreams that nothing was told yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.world import World, build, refreshed


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield build(stack, tmp_path_factory.mktemp("relay"))


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    with ExitStack() as stack:
        yield refreshed(shared, stack)
