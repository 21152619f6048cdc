"""Who owns holds, and who of them is dead: never by the wall clock, never in doubt."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from db import clock, ledger, processes
from db.models import Process
from db.processes import DEAD_AFTER_S, LONGEST_GAP_S, DeathWatch, ProcessView
from tests.support.ledger_text import play

YEAR_MS = 365 * clock.DAY_MS


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    running = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    yield running
    running.kill()
    running.wait()


def _started(pid: int) -> int:
    stat = processes._stat(pid)
    assert stat is not None
    return stat[1]


def _row(**columns: object) -> int:
    """A process of this machine as another one would find it; by default this one."""
    row = {
        "host": processes._host(), "boot_id": processes._boot_id(), "pid": os.getpid(), "pid_started": _started(os.getpid()),
        "started_at": 0, **columns,
    }  # fmt: skip
    return int(Process.insert(**row).execute())


def _alive(process: int) -> bool | None:
    return {view.id: view.alive for view in processes.running()}[process]


def test_a_registered_process_lives_until_it_ends(database: str) -> None:
    process = processes.register()
    [view] = processes.running()
    assert (view.id, view.pid, view.local, view.alive, view.beat) == (process, os.getpid(), True, True, 0)
    processes.beat(process)
    processes.beat(process)
    assert processes.running()[0].beat == 2
    processes.end(process)
    assert processes.running() == []


def test_every_registration_is_a_new_process(database: str) -> None:
    first = processes.register()
    processes.end(first)
    assert processes.register() != first


def test_a_killed_process_is_dead_at_once(database: str, child: subprocess.Popen[bytes]) -> None:
    process = _row(pid=child.pid, pid_started=_started(child.pid))
    assert _alive(process) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert _alive(process) is False, "a zombie: nobody has waited for it"
    child.wait()
    assert _alive(process) is False, "gone"


def test_a_pid_that_another_process_got_does_not_count(database: str) -> None:
    assert _alive(_row(pid_started=_started(os.getpid()) - 1)) is False
    assert _alive(_row()) is True


def test_a_process_of_another_machine_cannot_be_seen(database: str) -> None:
    process = _row(host="elsewhere/pid:[1]", pid=2**22 + 1)
    [view] = [view for view in processes.running() if view.id == process]
    assert (view.local, view.alive) == (False, None)


def test_a_process_from_before_a_restart(database: str) -> None:
    """A file belongs to this machine, so it is dead. Over a server it may be another machine of the same name: it is
    watched."""
    process = _row(boot_id="another")
    assert _alive(process) is (False if database.startswith("sqlite") else None)


def test_a_process_that_is_hidden_from_us_is_not_dead(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, gone = _row(), _row(pid=2**22 + 1)
    monkeypatch.setattr(processes, "_stat", lambda pid: None)
    assert (_alive(hidden), _alive(gone)) == (None, False)


def test_a_name_with_brackets_and_spaces_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    monkeypatch.setattr(processes, "_read", lambda path: f"1 (a) S (b) R {fields}")
    assert processes._stat(1) == ("R", 22)


SILENT = ProcessView(id=1, pid=1, beat=5, started_at=0, local=False, alive=None)


def _watch(watch: DeathWatch, *looks: tuple[float, int]) -> list[bool]:
    """Looks at (second, beat): whether the process was found dead."""
    return [watch.dead([replace(SILENT, beat=beat)], at) == [1] for at, beat in looks]


def test_who_stands_still_for_long_is_dead() -> None:
    assert DEAD_AFTER_S == 20
    looks = [(float(second), 5) for second in range(100, 121, 2)]
    assert _watch(DeathWatch(), *looks) == [False] * 10 + [True]


def test_a_beat_starts_the_wait_anew() -> None:
    looks = [(float(second), second // 10) for second in range(100, 200, 2)]
    assert _watch(DeathWatch(), *looks) == [False] * 50


def test_the_first_look_decides_nothing() -> None:
    assert _watch(DeathWatch(), (1e9, 5)) == [False]


def test_a_pause_of_the_observer_is_no_silence_of_the_others() -> None:
    """The database was away for an hour, or this process was stopped: nobody could beat, and nobody looked."""
    watch = DeathWatch()
    assert _watch(watch, (100, 5), (102, 5), (3700, 5), (3702, 5)) == [False] * 4
    assert _watch(watch, (3704, 6), (3706, 6)) == [False] * 2


def test_looks_that_come_slowly_still_find_the_dead() -> None:
    needed = int(DEAD_AFTER_S / LONGEST_GAP_S)
    assert _watch(DeathWatch(), *[(100.0 * number, 5) for number in range(needed + 1)]) == [False] * needed + [True]


def test_what_is_seen_needs_no_watch() -> None:
    watch = DeathWatch()
    assert watch.dead([replace(SILENT, alive=True)], 0) == []
    assert watch.dead([replace(SILENT, alive=True)], 1000) == []
    assert watch.dead([replace(SILENT, alive=False)], 1001) == [1]


def test_who_comes_back_is_watched_from_the_start() -> None:
    watch = DeathWatch()
    for second in range(0, 18, 2):
        assert watch.dead([SILENT], float(second)) == []
    watch.dead([], 18.0)
    assert watch.dead([SILENT], 20.0) == []


@pytest.mark.parametrize("jump", [-YEAR_MS, -3_600_000, 3_600_000, YEAR_MS])
def test_a_clock_that_jumps_expires_nothing(database: str, jump: int, monkeypatch: pytest.MonkeyPatch) -> None:
    play("user alice\ntop-up alice 1000\nplace q1 alice 400")
    watch, real = DeathWatch(), clock.now_ms
    assert watch.dead(processes.running(), 100.0) == []
    monkeypatch.setattr(clock, "now_ms", lambda: real() + jump)
    assert watch.dead(processes.running(), 102.0) == []
    found = ledger.verify()
    assert (found.drift, found.stale_holds) == ((), ())
