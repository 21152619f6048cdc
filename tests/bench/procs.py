"""Process groups pinned to one core, and what /proc says about them: CPU time, memory, who else used the core."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
STOP_S = 15.0


class Unavailable(Exception):
    """A system cannot take part; the text says why in words for the table."""


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def two_cores() -> tuple[int, int]:
    """(core of the system under test, core of upstream and load). Unavailable on one core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Unavailable("needs two cores: one for the system under test, one for upstream and load")
    # The last one: interrupts usually land on the first.
    return cores[-1], cores[0]


class Process:
    """One program in a session of its own, pinned to `core` from its first instruction on, output in `log`."""

    def __init__(self, command: Sequence[str], core: int, log: Path, env: dict[str, str], cwd: Path) -> None:
        def pin() -> None:
            os.sched_setaffinity(0, {core})

        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd,
                start_new_session=True, preexec_fn=pin,
            )  # fmt: skip
        self.pid = self.popen.pid

    def last_words(self) -> str:
        """The end of the log in one line."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " / ".join(line.strip() for line in lines[-3:])[-300:] or "no output"

    def members(self) -> list[int]:
        """Pids of the process, its session and its descendants."""
        parents, found = {}, {self.pid}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))):
                parents[int(entry.name)] = int(fields[1])
                if int(fields[3]) == self.pid:
                    found.add(int(entry.name))
        for _ in range(8):  # depth of descendants
            found |= {pid for pid, parent in parents.items() if parent in found}
        return sorted(found)

    def cpu_s(self) -> float:
        """CPU seconds (user and system) used by all living members and their reaped children."""
        stats = [fields for pid in self.members() if (fields := _stat(pid))]
        return sum(sum(int(fields[i]) for i in (11, 12, 13, 14)) for fields in stats) / TICKS

    def rss_mb(self) -> float:
        """Resident memory of all members in MiB; shared pages count once per process."""
        total = 0
        for pid in self.members():
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        return total / 2**20

    def stop(self) -> None:
        """SIGTERM to the process, SIGKILL to its session when it stays longer than STOP_S."""
        members = self.members()
        if self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(STOP_S)
        for pid in members:
            # Only what was ours: still in the session that this process opened.
            fields = _stat(pid)
            if fields and int(fields[3]) == self.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(5)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command: [0] state [1] ppid [2] pgrp [3] session … [11] utime."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def core_busy_s(core: int) -> tuple[float, float]:
    """(seconds this core was busy since boot, seconds the hypervisor gave to others)."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) / TICKS for field in fields[:8])
            return user + nice + system + irq + softirq, steal
    return 0.0, 0.0


def disk_flushes(path: Path) -> int | None:
    """Cache flushes completed by the disk under `path` since boot: what a durable commit ends in. None: unknown."""
    device = path.stat().st_dev
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if (int(fields[0]), int(fields[1])) == (os.major(device), os.minor(device)) and len(fields) >= 20:
            return int(fields[18])
    return None


def fdatasync_ms(directory: Path) -> float:
    """Median of 50 appends of 4 KiB with fdatasync: what one durable commit costs here, in milliseconds."""
    path, times = directory / "fdatasync.probe", []
    with path.open("wb") as file:
        for _ in range(50):
            started = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    path.unlink()
    return sorted(times)[25] * 1000


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the machine's one benchmark lock; Unavailable when another run has it."""
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable("another benchmark is running on this machine") from error
        yield


@contextlib.contextmanager
def sigterm_ends_cleanly() -> Iterator[None]:
    """Turn SIGTERM into SystemExit so that every `finally` runs and no process stays behind."""

    def leave(*_: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
