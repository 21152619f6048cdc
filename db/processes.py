"""Daemon processes, the owners of holds, and how one is known to be dead.

A process on this machine is dead when its pid is gone or belongs to a process that was started at another time. A process
elsewhere is dead when its beat stood still for DEAD_AFTER_S of the observer's own monotonic clock. The wall clock decides
nothing, so a clock that jumps expires nothing.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from db import clock
from db.engine import transaction
from db.models import Process

BEAT_S = 2.0
DEAD_AFTER_S = 20.0


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


def _pid_started(pid: int) -> int | None:
    """Start time of a running process in clock ticks since boot; None when there is none (or it is a zombie)."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process that has not said that it ended."""

    id: int
    pid: int
    beat: int
    started_at: int
    local: bool
    alive: bool | None  # None: on another machine, only its beat can tell


@transaction
def register() -> int:
    """Make this process an owner of holds; returns its id."""
    pid = os.getpid()
    return int(
        Process.insert(
            host=_host()[:255],
            boot_id=_boot_id(),
            pid=pid,
            pid_started=_pid_started(pid) or 0,
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
    host, boot = _host()[:255], _boot_id()
    views = []
    for row in Process.select().where(Process.ended_at.is_null()):
        local = row.host == host
        alive: bool | None = None
        if local:
            alive = row.boot_id == boot and _pid_started(row.pid) == row.pid_started
        views.append(ProcessView(row.id, row.pid, row.beat, row.started_at, local, alive))
    return views


class DeathWatch:
    """Decides which processes are dead, from repeated looks with the observer's monotonic clock."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float]] = {}

    def dead(self, processes: list[ProcessView], monotonic_s: float) -> list[int]:
        """Ids of dead processes among `processes`."""
        dead = []
        seen: dict[int, tuple[int, float]] = {}
        for process in processes:
            if process.alive is not None:
                if not process.alive:
                    dead.append(process.id)
                continue
            beat, since = self._seen.get(process.id, (process.beat, monotonic_s))
            if beat != process.beat:
                beat, since = process.beat, monotonic_s
            seen[process.id] = (beat, since)
            if monotonic_s - since >= DEAD_AFTER_S:
                dead.append(process.id)
        self._seen = seen
        return dead
