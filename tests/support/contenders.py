"""Several processes at once over one database: each runs one of the functions below and reports what it saw."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any

from db import batch, clock, engine, holds, ledger, migrate
from db import keys as key_commands
from db.batch import Job
from db.errors import StoreError
from db.holds import HoldRequest, Placement
from db.models import CatalogState, Key, User
from db.processes import beat, register
from db.usage import UsageRow
from tests.support.ledger_text import estimate

LIMIT_S = 90.0


def contend(work: str, url: str, *, processes: int, **options: Any) -> list[dict[str, Any]]:
    """Run the function named `work` in that many processes, begun at the same moment; what each returned."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.SimpleQueue()
    running = [
        context.Process(target=_run, args=(work, url, number, barrier, results, options), daemon=True)
        for number in range(processes)
    ]
    for process in running:
        process.start()
    found = [results.get() for _ in running]
    for process in running:
        process.join(LIMIT_S)
        assert process.exitcode == 0
    return found


def _run(work: str, url: str, number: int, barrier: Barrier, results: Any, options: dict[str, Any]) -> None:
    engine.open_database(url)
    function: Callable[..., dict[str, Any]] = globals()[work]
    barrier.wait(LIMIT_S)
    try:
        results.put(function(number, **options))
    except BaseException as error:
        results.put({"errors": [repr(error)]})
        raise
    finally:
        engine.close_connection()


def ask(request: str, key_id: int, amount: int, process_id: int) -> HoldRequest:
    """A hold as a daemon with fresh knowledge asks for it."""
    user_id, version = Key.select(Key.user, User.version).join(User).where(Key.id == key_id).tuples().get()
    return HoldRequest(
        request_id=request, user_id=user_id, user_version=version, key_id=key_id,
        catalog_version=CatalogState.get_by_id(1).version, model_id=1, provider_id=1, amount_nanos=amount,
        input_estimate=1, stream=False, requested_model="demo", endpoint="/v1/chat/completions", terms="{}",
        process_id=process_id,
    )  # fmt: skip


def record(request: str, key_id: int, cost: int, provider: int = 1) -> UsageRow:
    """What such a request used."""
    return UsageRow(
        request_id=request, at=clock.now_ms(), user_id=0, key_id=key_id, endpoint="/v1/chat/completions",
        requested_model="demo", status="ok", http_status=200, provider_id=provider, cost_nanos=cost,
        upstream_cost_nanos=cost, input_tokens=1, output_tokens=1,
    )  # fmt: skip


def place_many(number: int, *, keys: list[int], amount: int, attempts: int) -> dict[str, Any]:
    """Place holds of one amount on keys at random until each attempt was decided; how many were placed."""
    process = register()
    outcomes: dict[str, int] = {}
    for attempt in range(attempts):
        outcome = holds.place(ask(f"p{number}-{attempt}", random.choice(keys), amount, process)).outcome.value
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return {"errors": [], **outcomes}


def top_up_same(number: int, *, user: str, amount: int, ref: str, attempts: int) -> dict[str, Any]:
    """Book the same payment again and again; how often it was new."""
    return {"errors": [], "new": sum(not ledger.top_up(user, amount, ref=ref).replayed for _ in range(attempts))}


def settle_in_batches(number: int, *, keys: list[int], rounds: int) -> dict[str, Any]:
    """What a daemon does all day: group commits of holds, of settlements and of beats, single ones between them, and
    an admin who changes the same keys."""
    process, chance = register(), random.Random(number)
    settled, errors = 0, []
    for round_number in range(rounds):
        chosen = [chance.choice(keys) for _ in range(chance.choice((1, 8, 20)))]
        asks = [(f"{number}-{round_number}-{at}", key) for at, key in enumerate(chosen)]
        places = []
        for request, key in asks:
            asked = ask(request, key, 10, process)
            places.append(Job(partial(holds.place, asked), asked.user_id, partial(holds.place, asked, again=True)))
        batch.run(places)
        settles = [
            Job(partial(holds.settle, record(request, key, 15, chance.choice((1, 2)))), job.order)
            for (request, key), job in zip(asks, places, strict=True)
            if job.error is None and job.result.outcome is Placement.PLACED
        ]
        settles.append(Job(partial(beat, process)))
        batch.run(settles)
        errors += [repr(job.error) for job in (*places, *settles) if job.error is not None]
        settled += len(settles) - 1
        if round_number % 3 == 0:
            errors += _change(chance.choice(keys), round_number)
    return {"errors": errors, "settled": settled}


def _change(key: int, number: int) -> list[str]:
    try:
        key_commands.update(str(key), rpm=number + 1)
    except StoreError as error:
        return [repr(error)]
    return []


def recover_beside(number: int, *, dead: int, keys: list[int], rounds: int) -> dict[str, Any]:
    """Close a dead process's holds a few at a time, in batches with holds and settlements of one's own."""
    process, chance = register(), random.Random(number)
    closed: list[str] = []
    errors: list[str] = []
    for round_number in range(rounds):
        asks = [ask(f"{number}-{round_number}-{at}", chance.choice(keys), 10, process) for at in range(6)]
        recovery = Job(partial(holds.recover, dead, estimate, limit=7))
        jobs = [recovery, *(Job(partial(holds.place, one), one.user_id, partial(holds.place, one, again=True)) for one in asks)]
        batch.run(jobs)
        settles = [Job(partial(holds.settle, record(one.request_id, one.key_id, 10)), one.user_id) for one in asks]
        batch.run(settles)
        errors += [repr(job.error) for job in (*jobs, *settles) if job.error is not None]
        errors += [job.result.outcome.value for job in jobs[1:] if job.result.outcome is not Placement.PLACED]
        closed += [*recovery.result.charged, *recovery.result.expired]
    return {"errors": errors, "closed": closed}


def migrate_now(number: int) -> dict[str, Any]:
    """Bring the database to the newest schema."""
    try:
        migrate.migrate()
    except StoreError as error:
        return {"errors": [repr(error)]}
    return {"errors": []}
