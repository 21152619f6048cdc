"""N workers on one listening socket: started, replaced when they die, told to drain, never outliving their supervisor.

A worker is `python -m daemon.supervisor`; it gets the socket by inheritance and its settings over stdin, so that a database
password stands in no process list.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon import log
from daemon.metrics import MULTIPROCESS_VARIABLE
from db.settings import Settings

POLL_S = 0.1
KILL_AFTER_S = 12.0  # beyond the drain
MOST_CRASHES = 5
CRASH_WINDOW_S = 30.0
_PR_SET_PDEATHSIG = 1
METRICS_PREFIX = "gatewayctl-metrics-"


class _Supervisor:
    def __init__(self, settings: Settings, database_url: str, home: Path, sock: socket.socket) -> None:
        self._settings = settings
        self._payload = json.dumps(
            {"settings": asdict(settings), "database_url": database_url, "home": str(home), "fd": sock.fileno()}
        ).encode()
        self._fd = sock.fileno()
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._crashes: list[float] = []
        self._stopping = False
        _sweep_metrics()
        self._metrics = tempfile.mkdtemp(prefix=f"{METRICS_PREFIX}{os.getpid()}-")

    def run(self) -> int:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._on_signal)
        code = 0
        try:
            for _ in range(self._settings.workers):
                self._start()
            while not self._stopping:
                time.sleep(POLL_S)
                if not self._replace_dead():
                    code = 1
                    break
            return self._stop() or code
        finally:
            shutil.rmtree(self._metrics, ignore_errors=True)

    def _on_signal(self, number: int, frame: object) -> None:
        self._stopping = True

    def _start(self) -> None:
        worker = subprocess.Popen(
            [sys.executable, "-m", "daemon.supervisor"],
            stdin=subprocess.PIPE,
            pass_fds=(self._fd,),
            env={**os.environ, MULTIPROCESS_VARIABLE: self._metrics},
        )
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.write(self._payload)
            worker.stdin.close()
        self._workers[worker.pid] = worker
        log.info("worker started", worker=worker.pid)

    def _replace_dead(self) -> bool:
        """Start a worker for each that died. False: they die too often."""
        for pid, worker in list(self._workers.items()):
            if worker.poll() is None:
                continue
            del self._workers[pid]
            now = time.monotonic()
            self._crashes = [at for at in self._crashes if now - at < CRASH_WINDOW_S] + [now]
            log.error("worker died", worker=pid, code=worker.returncode)
            if len(self._crashes) > MOST_CRASHES * self._settings.workers:
                log.error("workers die too often, giving up")
                return False
            if not self._stopping:
                self._start()
            _forget_metrics(pid, self._metrics)
        return True

    def _stop(self) -> int:
        """Tell every worker to drain, wait, kill what does not end. 0 when all ended well."""
        for worker in self._workers.values():
            worker.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.drain_timeout_s + KILL_AFTER_S
        code = 0
        for pid, worker in self._workers.items():
            try:
                worker.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("worker does not stop, killing it", worker=pid)
                worker.kill()
                worker.wait()
            told = worker.returncode in (0, -signal.SIGTERM)  # the latter: it had not yet begun to serve
            code = code or (0 if told else 1)
        log.info("stopped")
        log.stop()
        return code


def _forget_metrics(pid: int, directory: str) -> None:
    from prometheus_client import multiprocess

    with contextlib.suppress(OSError):
        multiprocess.mark_process_dead(pid, directory)


def _sweep_metrics() -> None:
    """Remove what killed supervisors left behind."""
    for path in Path(tempfile.gettempdir()).glob(f"{METRICS_PREFIX}*"):
        pid = path.name.removeprefix(METRICS_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and path.stat().st_uid == os.getuid():
            shutil.rmtree(path, ignore_errors=True)


def supervise(settings: Settings, *, database_url: str, home: Path, sock: socket.socket) -> int:
    """Run the workers until a signal; returns the exit code."""
    return _Supervisor(settings, database_url, home, sock).run()


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def _worker_main() -> int:
    _die_with_parent()
    payload: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    from daemon.server import work
    from db import secrets
    from db.engine import open_database

    values = payload["settings"]
    values["trusted_proxies"] = tuple(values["trusted_proxies"])
    open_database(payload["database_url"])
    master = secrets.load_master_keys(Path(payload["home"]) / "master.key")
    return work(Settings(**values), master, socket.socket(fileno=payload["fd"]))


if __name__ == "__main__":
    sys.exit(_worker_main())
