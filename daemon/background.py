"""Periodic work of a worker: show that it lives, close the holds of dead processes, check the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from daemon import log
from daemon.gateway import Gateway
from daemon.relay.settlement import estimator
from daemon.watchdog import SWEEP_S
from db import holds, ledger, processes
from db.errors import StoreError
from db.processes import DeathWatch

RECOVERY_S = 2.0
METRICS_S = 1.0
LEDGER_CHECK_S = 60.0
LEDGER_CHECK_SHARE = 50  # a check that takes a second runs every fifty seconds at most


async def every(seconds: float, work: Callable[[], Awaitable[float | None]]) -> None:
    """Run `work` again and again; a failure of the database is logged and tried again. `work` may ask for a longer pause."""
    while True:
        pause = None
        try:
            pause = await work()
        except StoreError as error:
            log.error("background work failed", text=error.message)
        except Exception as error:
            log.exception("background work failed", error)
        await asyncio.sleep(max(seconds, pause or 0))


async def beat(gateway: Gateway) -> None:
    """Other machines see by this that we live."""
    await gateway.store.write(partial(processes.beat, gateway.process_id))


async def recover(gateway: Gateway, watch: DeathWatch) -> None:
    """Close the holds of processes that are dead."""
    running = await gateway.store.read(processes.running)
    others = [process for process in running if process.id != gateway.process_id]
    for process_id in watch.dead(others, time.monotonic()):
        while True:
            done = await gateway.store.write(partial(holds.recover, process_id, estimator()))
            for request_id in done.charged:
                log.warning("hold recovered: charged by estimate", request_id=request_id, process=process_id)
            for request_id in done.expired:
                log.warning("hold recovered: nothing was delivered", request_id=request_id, process=process_id)
            if not done.charged and not done.expired:
                break
        await gateway.store.write(partial(processes.end, process_id))


async def sweep(gateway: Gateway) -> None:
    """End waits for clients that take too long."""
    gateway.watchdog.sweep()


async def fold_metrics(gateway: Gateway) -> None:
    """Bring what was counted into the metrics."""
    gateway.metrics.fold()


async def check_ledger(gateway: Gateway) -> float:
    """Every invariant of the ledger; returns how long to wait until the next check."""
    began = time.monotonic()
    running = await gateway.store.read(processes.running)
    found = await gateway.store.read(ledger.verify, live_processes=frozenset(process.id for process in running))
    for sentence in found.drift:
        log.error("ledger drift", text=sentence)
    return (time.monotonic() - began) * LEDGER_CHECK_SHARE


def start(gateway: Gateway) -> list[asyncio.Task[None]]:
    """Start the loops; cancel them to stop."""
    watch = DeathWatch()
    loops: list[tuple[str, float, Callable[[], Awaitable[float | None]]]] = [
        ("beat", processes.BEAT_S, partial(beat, gateway)),
        ("recovery", RECOVERY_S, partial(recover, gateway, watch)),
        ("watchdog", SWEEP_S, partial(sweep, gateway)),
        ("metrics", METRICS_S, partial(fold_metrics, gateway)),
        ("ledger check", LEDGER_CHECK_S, partial(check_ledger, gateway)),
    ]
    return [asyncio.create_task(every(seconds, work), name=name) for name, seconds, work in loops]
