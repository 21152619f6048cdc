"""What the gateway promises under faults, tested from outside: a daemon of its own, sockets, `kill`, and an oracle.

scene      a gateway between a scripted upstream and customers; an Order says in its prompt how it shall be answered
fleet      clients on raw sockets that keep every byte
oracle     what must be true of the books afterwards (O1 to O6); test_oracle shows that it notices
figures    what was measured: `pytest -s` prints it, GATEWAYCTL_TEST_FIGURES=FILE keeps it

Rows of the failure model: test_kill 1 · test_disconnect 3 · test_upstream 6, 7, 8 · test_claims 10 · test_locked 16 ·
test_stop 17, 18 · test_bodies 22, 23 · test_overspend 24 · test_changes 25, 26, 27 · test_topup 28 · test_secrets 32;
test_outages: rows 6 and 7 for two providers and two credentials.

More of the same, by environment variables GATEWAYCTL_TEST_…: KILLS (20), KILLS_POSTGRES (4), CLIENTS (200),
LEAVERS (600), CANCELS (3000), LEAKS (4000), FUZZ (4000), OVERSPEND_RUNS (5), TOPUPS (1000), STREAMS (200),
OUTAGE_S (4), SEED (random, printed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scene import Scene, make_scene
from tests.support.upstream import ScriptedUpstream


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """A scripted upstream that keeps no requests: the kitchen counts them."""
    with ScriptedUpstream(record=False) as server:
        yield server


@pytest.fixture
def scene_with(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Callable[..., Scene]]:
    """Make a scene with options of one's own."""
    made: list[Scene] = []

    def make(**options: Any) -> Scene:
        made.append(make_scene(tmp_path / f"home-{len(made)}", upstream, **options))
        return made[-1]

    yield make
    for scene in made:
        scene.home.close()


@pytest.fixture
def scene(scene_with: Callable[..., Scene]) -> Scene:
    """A scene on SQLite with one customer who has 100 USD."""
    return scene_with()
