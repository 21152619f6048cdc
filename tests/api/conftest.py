"""One daemon before a provider of every dialect, for all tests of what crosses between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.crossing import Crossing, build


@pytest.fixture(scope="session")
def crossing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crossing]:
    """Its books must be right after everything that the tests did to it."""
    with ExitStack() as stack:
        made = build(stack, tmp_path_factory.mktemp("crossing") / "home")
        yield made
        verified = made.home.json("ledger", "verify")
        assert verified["ok"], verified
        assert made.gateway.stop() == 0
