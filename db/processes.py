"""Daemon processes, the owners of holds, and how one is known to be dead.

A process on this machine is dead when its pid is gone or belongs to a process that was started at another time. A process
elsewhere is dead when its beat stood still for DEAD_AFTER_S of the observer's own monotonic clock, of which only the time
counts in which the observer could look: while the database is away nobody beats. The wall clock decides nothing, so a clock
that jumps expires nothing. In doubt a process lives: its holds are money of somebody who is being served.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from db import clock
from db.engine import is_sqlite, transaction
from db.models import Process

BEAT_S = 2.0
DEAD_AFTER_S = 20.0
LONGEST_GAP_S = 5.0  # between two looks; what is longer was no look at anything


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _host() -> str:
    """This machine and pid namespace: pids are comparable only inside both."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}/{namespace}"


def _boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id")


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start time (clock ticks since boot) of a process; None when there is nothing to read."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _alive(pid: int, pid_started: int, boot_id: str) -> bool | None:
    """Whether that process runs on this machine; None when it cannot be seen from here."""
    if boot_id != _boot_id():
        # This machine before it was restarted, or another one of the same name. Machines share a server, never a file.
        return False if is_sqlite() else None
    found = _stat(pid)
    if found is None:  # gone, or hidden from us (hidepid, or a system without /proc)
        return None if _exists(pid) else False
    state, started = found
    return state not in ("Z", "X") and started == pid_started


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process that has not said that it ended."""

    id: int
    pid: int
    beat: int
    started_at: int
    local: bool
    alive: bool | None  # None: not to be seen from here, only its beat can tell


@transaction
def register() -> int:
    """Make this process an owner of holds; returns its id."""
    pid = os.getpid()
    found = _stat(pid)
    return int(
        Process.insert(
            host=_host()[:255],
            boot_id=_boot_id(),
            pid=pid,
            pid_started=found[1] if found else 0,
            started_at=clock.now_ms(),
        ).execute()
    )


@transaction
def beat(process_id: int) -> None:
    """Show that the process lives."""
    Process.update(beat=Process.beat + 1).where(Process.id == process_id).execute()


@transaction
def end(process_id: int) -> None:
    """The process has closed all its holds and goes."""
    Process.update(ended_at=clock.now_ms()).where(Process.id == process_id).execute()


def running() -> list[ProcessView]:
    """Every process that has not ended, with what can be said of it from here."""
    host = _host()[:255]
    views = []
    for row in Process.select().where(Process.ended_at.is_null()):
        local = row.host == host
        alive = _alive(row.pid, row.pid_started, row.boot_id) if local else None
        views.append(ProcessView(row.id, row.pid, row.beat, row.started_at, local, alive))
    return views


class DeathWatch:
    """Decides which processes are dead, from repeated looks with the observer's monotonic clock."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float]] = {}  # id → last beat, seconds for which it stood still
        self._looked_at: float | None = None

    def dead(self, processes: list[ProcessView], monotonic_s: float) -> list[int]:
        """Ids of dead processes among `processes`."""
        passed = 0.0 if self._looked_at is None else min(monotonic_s - self._looked_at, LONGEST_GAP_S)
        self._looked_at = monotonic_s
        dead = []
        seen: dict[int, tuple[int, float]] = {}
        for process in processes:
            if process.alive is not None:
                if not process.alive:
                    dead.append(process.id)
                continue
            beat, silent_s = self._seen.get(process.id, (None, 0.0))
            silent_s = silent_s + passed if beat == process.beat else 0.0
            seen[process.id] = (process.beat, silent_s)
            if silent_s >= DEAD_AFTER_S:
                dead.append(process.id)
        self._seen = seen
        return dead
