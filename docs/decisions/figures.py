"""The figures of the decision records: `python docs/decisions/figures.py [NAME …]` measures again and prints them.

Run it from the root of the project. Names: commit builder front json tokens metrics log. Each takes a few seconds and
leaves nothing behind. Throughput depends on the machine; the records say what theirs was.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

PRICES = {"input": "0.1", "output": "0.4"}


def per_call_us(work: Callable[[], object], times: int) -> float:
    """Microseconds a call, the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(times):
            work()
        best = min(best, (time.perf_counter() - began) / times)
    return best * 1e6


def commit() -> None:
    """Hold and settlement through the writer thread, per second."""
    for synchronous in ("full", "normal"):
        for clients in (1, 50):
            pairs = subprocess.run(
                [sys.executable, __file__, f"_commit:{synchronous}:{clients}"], check=True, capture_output=True, text=True
            ).stdout.strip()
            print(f"synchronous {synchronous:6}  {clients:2} at once: {pairs} pairs of hold and settlement a second")


def _ledger(directory: str, synchronous: str) -> tuple[int, int, int, int]:
    from db import catalog, engine, keys, ledger, meters, migrate, providers, users
    from db.prices import NewPrice

    engine.SQLITE_PRAGMAS["synchronous"] = synchronous
    engine.open_database(f"sqlite:///{directory}/gateway.db", create=True)
    migrate.migrate()
    providers.create("demo", protocol="demo")
    prices = {meter: NewPrice(meters.parse_price(meter, text)) for meter, text in PRICES.items()}
    model = catalog.add(
        catalog.NewModel(public_id="demo-chat", provider="demo", upstream="demo-chat", prices=prices, groups=())
    )
    users.create("alice")
    ledger.top_up("alice", 10**15)
    key = keys.create("alice")
    user = users.show("alice")
    return user.id, key.view.id, model.id, providers.show("demo").id


async def _commit(synchronous: str, clients: int) -> None:
    from daemon.store import Store
    from db import holds, processes, usage, versions
    from db.holds import HoldRequest
    from db.models import User

    with tempfile.TemporaryDirectory(dir=".") as directory:
        user, key, model, provider = _ledger(directory, synchronous)
        version, catalog_version = User.get_by_id(user).version, versions.catalog_version()
        store = Store()
        process = await store.write(processes.register)
        done, ends = 0, time.monotonic() + 3

        async def client(number: int) -> None:
            nonlocal done
            turn = 0
            while time.monotonic() < ends:
                turn += 1
                request = HoldRequest(
                    request_id=f"{number}.{turn}", user_id=user, user_version=version, key_id=key,
                    catalog_version=catalog_version, model_id=model, provider_id=provider, amount_nanos=100,
                    input_estimate=1, stream=False, requested_model="demo-chat", endpoint="/", terms="{}", process_id=process,
                )  # fmt: skip
                await store.write(partial(holds.place, request), order=user)
                row = usage.UsageRow(
                    request_id=request.request_id, at=0, user_id=user, key_id=key, endpoint="/", requested_model="demo-chat",
                    status="ok", http_status=200, cost_nanos=50, provider_id=provider,
                )  # fmt: skip
                await store.write(partial(holds.settle, row), order=user)
                done += 1

        await asyncio.gather(*(client(number) for number in range(clients)))
        await store.close()
        print(f"{done / 3:,.0f}")


def builder() -> None:
    """One statement by Peewee's query builder, and as SQL text, inside one transaction."""
    from db.models import User, database

    with tempfile.TemporaryDirectory() as directory:
        user, *_ = _ledger(directory, "full")

        def built() -> None:
            query = User.update(held_nanos=User.held_nanos + 1)
            query.where((User.id == user) & (User.balance_nanos - User.held_nanos >= 1)).execute()

        text = "UPDATE users SET held_nanos = held_nanos + ? WHERE id = ? AND balance_nanos - held_nanos >= ?"
        with database.atomic() as transaction:
            print(f"built by Peewee {per_call_us(built, 2000):.0f} µs a statement")
            print(f"as SQL text     {per_call_us(lambda: database.execute_sql(text, (1, user, 1)), 2000):.0f} µs")
            transaction.rollback()


def front() -> None:
    """The request machinery alone: a plain ASGI callable and Quart, the same small JSON reply, no sockets."""
    from quart import Quart, Response

    body = b'{"ok":true}'
    app = Quart("figures", static_folder=None)

    @app.post("/v1/chat/completions")
    async def route() -> Response:
        return Response(body, content_type="application/json")

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions", "query_string": b"", "root_path": "", "headers": [(b"host", b"h")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "asgi": {"version": "3.0"},
    }  # fmt: skip

    async def calls(asgi: Any, times: int) -> float:
        gone = asyncio.Event()
        messages: list[Any] = []

        async def receive() -> Any:
            if not messages:
                await gone.wait()
            return messages.pop()

        async def send(message: Any) -> None:
            return

        began = time.perf_counter()
        for _ in range(times):
            messages.append({"type": "http.request", "body": body, "more_body": False})
            await asgi(dict(scope), receive, send)
            messages.clear()
        return (time.perf_counter() - began) / times * 1e6

    async def both() -> None:
        for name, asgi in (("plain ASGI", plain), ("Quart", app)):
            print(f"{name:10} {min([await calls(asgi, 1000) for _ in range(3)]):.0f} µs a request")

    asyncio.run(both())


HOSTILE = (
    ('{"model":"a","model":"b"}', "a key twice"),
    ('{"n":NaN}', "NaN"),
    ('{"n":1e999}', "1e999"),
    ('{"s":"\\ud800"}', "half a surrogate pair"),
    ('{"a":' * 100_000, "100,000 levels"),
)


def json_() -> None:
    """What the standard decoder and ours accept, and how long a chat request of 20 KB takes."""
    from daemon.domain.strict_json import InvalidJson, decode_object

    for text, what in HOSTILE:
        try:
            json.loads(text)
            standard = "accepted"
        except (ValueError, RecursionError) as error:
            standard = f"refused ({type(error).__name__})"
        try:
            decode_object(text.encode())
            ours = "accepted"
        except InvalidJson:
            ours = "refused"
        print(f"{what:22} json: {standard:27} decode_object: {ours}")
    messages = [{"role": "user", "content": "Hello, how are you today? " * 20} for _ in range(40)]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    print(f"{len(body):,} bytes: json {per_call_us(lambda: json.loads(body), 500):.0f} µs", end=", ")
    print(f"decode_object {per_call_us(lambda: decode_object(body), 500):.0f} µs")


def tokens() -> None:
    """What the vocabulary costs in memory and time, and how near the approximation comes on this project's own pages."""

    def megabytes() -> int:
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) // 1024

    from daemon.domain.estimate import approximate_tokens, count_tokens

    before, began = megabytes(), time.perf_counter()
    count_tokens("hello")
    print(f"first count: {(time.perf_counter() - began) * 1000:.0f} ms, {megabytes() - before} MB more")
    text = "".join(path.read_text() for path in sorted(Path("docs").glob("*.md")))[:100_000]
    print(f"{len(text):,} characters: vocabulary {per_call_us(lambda: count_tokens(text), 3) / 1000:.0f} ms", end=", ")
    print(f"approximation {per_call_us(lambda: approximate_tokens(text), 3) / 1000:.0f} ms")
    print(f"this text: {count_tokens(text):,} tokens by the vocabulary, {approximate_tokens(text):,} by the approximation")


def metrics() -> None:
    """Prometheus counters by request, and by request as plain numbers that are folded once a second."""
    from prometheus_client import CollectorRegistry, Counter, Histogram

    from daemon.metrics import Metrics
    from db.holds import Settled
    from db.usage import UsageRow

    registry = CollectorRegistry()
    requests = Counter("r", "r", ("endpoint", "status", "stream"), registry=registry)
    numbers = Counter("n", "n", ("kind",), registry=registry)
    seconds = Histogram("s", "s", ("stream",), registry=registry)
    first = Histogram("f", "f", registry=registry)

    def at_once() -> None:
        requests.labels("/v1/chat/completions", "ok", "0").inc()
        for kind in ("input", "output", "charged", "upstream"):
            numbers.labels(kind).inc(5)
        seconds.labels("0").observe(0.1)
        first.observe(0.1)

    folded = Metrics()
    row = UsageRow(
        request_id="r", at=0, user_id=1, key_id=1, endpoint="/v1/chat/completions", requested_model="m", status="ok",
        http_status=200, input_tokens=5, output_tokens=5, upstream_cost_nanos=5, latency_ms=100, ttft_ms=100,
    )  # fmt: skip
    outcome = Settled(closed=True, charged_nanos=5)

    def settle_and_fold() -> None:
        for _ in range(1000):
            folded.settled(row, outcome)
        folded.fold()

    print(f"at once {per_call_us(at_once, 20_000):.1f} µs a request")
    print(f"folded  {per_call_us(settle_and_fold, 20) / 1000:.1f} µs a request, one fold for 1,000 requests included")


def log() -> None:
    """A line of the access log, as the request's own thread pays for it."""
    from daemon import log as ours

    with tempfile.TemporaryFile("w") as file:
        logger = logging.getLogger("figures")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.addHandler(logging.StreamHandler(file))

        def standard() -> None:
            logger.info("%s", json.dumps({"event": "request", "method": "POST", "path": "/v1/x", "status": 200, "ms": 5}))

        print(f"logging, written at once {per_call_us(standard, 5000):.1f} µs")
        ours.configure(stream=file, as_json=True)
        ours.info("start")
        rounds = []
        for _ in range(3):
            began = time.perf_counter()
            for _ in range(2000):
                ours.info("request", method="POST", path="/v1/x", status=200, ms=5)
            rounds.append((time.perf_counter() - began) / 2000 * 1e6)
            time.sleep(0.2)
        ours.stop()
        print(f"handed to the thread     {min(rounds):.1f} µs")


ALL: dict[str, Callable[[], None]] = {
    "commit": commit, "builder": builder, "front": front, "json": json_, "tokens": tokens, "metrics": metrics, "log": log,
}  # fmt: skip


def main(names: list[str]) -> int:
    """Print the figures of the given names, or of all, each in a process of its own."""
    for name in names or list(ALL):
        kind, _, rest = name.partition(":")
        if kind == "_commit":
            synchronous, clients = rest.split(":")
            asyncio.run(_commit(synchronous, int(clients)))
        elif len(names) == 1:
            ALL[name]()
        else:
            print(f"-- {name}", flush=True)
            subprocess.run([sys.executable, __file__, name], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
