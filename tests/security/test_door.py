"""Who tries keys is slowed down; who has one is not."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from daemon.door import LONGEST_S, MOST_ADDRESSES, WINDOW_S, Door
from tests.support.world import build

FREE = 4


def test_each_failure_beyond_the_free_ones_waits_longer_up_to_a_bound() -> None:
    door = Door(FREE)
    assert [door.delay_s("1.2.3.4", 0.0) for _ in range(FREE)] == [0.0] * FREE
    waits = [door.delay_s("1.2.3.4", 1.0) for _ in range(20)]
    assert waits[0] > 0
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_S
    assert door.delay_s("5.6.7.8", 1.0) == 0.0
    assert door.delay_s("1.2.3.4", WINDOW_S) == 0.0


def test_the_memory_is_bounded() -> None:
    door = Door(FREE)
    for number in range(MOST_ADDRESSES + 50):
        door.delay_s(str(number), 0.0)
    assert len(door._failures) == MOST_ADDRESSES


def test_wrong_keys_are_answered_slowly_and_a_good_one_at_once(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = build(stack, tmp_path / "home", env={"GATEWAYCTL_FREE_AUTH_FAILURES": str(FREE)})
        for _ in range(FREE // 2):
            assert world.gateway.get("/v1/key", "sk-wrong").status_code == 401
            assert world.gateway.chat("sk-wrong").status_code == 401
        began = time.monotonic()
        assert [world.gateway.chat("sk-wrong").status_code for _ in range(3)] == [401] * 3
        assert time.monotonic() - began >= 0.6
        began = time.monotonic()
        assert world.gateway.chat(world.alice.key).status_code == 200
        assert time.monotonic() - began < 0.6
