"""Fixtures of the fault tests: an upstream, and a scene that ends every process it started."""

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
