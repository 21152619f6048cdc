"""The load generator: closed loop, keep-alive, counts complete valid replies only.

`echo '{"port":8000,"mode":"chat","concurrency":32,"seconds":5}' | python -m tests.bench.load` prints one JSON object.
Each connection sends the next request when the last reply is complete, so a slow system is asked less: compare
rates and latencies together. A reply counts when its status is 200, its body is as long as announced and it says what
the upstream said (text, usage, [DONE]); anything else is an error and is never part of a rate.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, cast

from tests.bench import payloads

try:
    import uvloop
except ImportError:  # slower, still correct
    uvloop = None  # type: ignore[assignment]

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
LAST_CHUNK = b"0\r\n\r\n"
FULL_CHECK_EVERY = 16  # streams that are not byte-identical to the last checked one
RECONNECT_S = 0.05
MAX_ERRORS_IN_A_ROW = 50


@dataclass(frozen=True)
class Job:
    """What to do. Seconds; `min_replies` prolongs the window up to 4 × `seconds` so that slow systems get a figure."""

    port: int
    mode: str
    concurrency: int
    seconds: float
    warmup: float = 1.0
    drain: float = 30.0
    min_replies: int = 0
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Result:
    """`replies` and `errors` of the window; `*_total` from the first byte sent to the last reply drained.

    `rate` counts the share of each reply that lies inside the window (a reply that took 4 s, 1 s of it inside, is a
    quarter): slow systems answer 32 streams in one lump, and whole replies would make their rate a matter of luck.
    """

    replies: int
    errors: int
    seconds: float
    active_s: float
    rate: float
    latency_ms: dict[str, float]
    first_ms: dict[str, float]
    replies_total: int
    errors_total: int
    error_samples: list[str]


def quantiles(values: list[float]) -> dict[str, float]:
    """Nearest-rank p50, p90, p99 and the extremes, in milliseconds of `values` in seconds; empty when there are none."""
    ordered = sorted(values)
    if not ordered:
        return {}
    picks = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    rank = {name: max(0, -(-int(q * 1_000_000) * len(ordered) // 1_000_000) - 1) for name, q in picks.items()}
    return {name: round(ordered[i] * 1000, 4) for name, i in rank.items()}


def dechunk(body: bytes) -> bytes | None:
    """The content of a whole chunked body; None when it is not whole. ValueError when the framing is wrong."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(body[at:end].split(b";")[0], 16)
        start, at = end + 2, end + 2 + size + 2
        if size == 0:
            return b"".join(parts) if body[start:] == b"\r\n" else None
        if len(body) < at:
            return None
        if body[at - 2 : at] != b"\r\n":
            raise ValueError("chunk without its end")
        parts.append(body[start : at - 2])


class Run:
    """The state that all connections of one job share."""

    def __init__(self, job: Job) -> None:
        self.job = job
        body = payloads.request_body(job.mode)
        headers = {"host": f"127.0.0.1:{job.port}", "content-type": "application/json", "accept": "*/*"} | job.headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {job.path} HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n"
        self.request = head.encode() + body
        self.streaming = job.mode != "chat"
        self.running, self.counting = True, False
        self.window = (float("inf"), float("inf"))
        self.shares = 0.0
        self.latencies: list[float] = []
        self.firsts: list[float] = []
        self.errors = self.replies_total = self.errors_total = self.errors_in_a_row = self.unchecked = 0
        self.error_samples: list[str] = []
        self.busy: set[Client] = set()
        self.straddling = 0  # replies under way when the window ended
        self.idle, self.settled = asyncio.Event(), asyncio.Event()
        self.good = b""

    def fault(self, body: bytes) -> str | None:
        """None for a complete valid reply body."""
        if body == self.good:
            return None
        if self.streaming:
            self.unchecked += 1
            if self.good and self.unchecked % FULL_CHECK_EVERY and payloads.stream_looks_whole(body):
                return None
        found = payloads.stream_fault(body) if self.streaming else payloads.chat_fault(body)
        if found is None:
            self.good = body
        return found

    def finished(self, client: Client, fault: str | None, started: float, first: float | None) -> None:
        now = perf_counter()
        self.busy.discard(client)
        if fault is None:
            self.replies_total += 1
            self.errors_in_a_row = 0
            begin, end = self.window
            if started < end and now > begin:
                self.shares += (min(now, end) - max(started, begin)) / (now - started)
            if self.counting:
                self.latencies.append(now - started)
                if first is not None:
                    self.firsts.append(first - started)
        else:
            self.errors_total += 1
            self.errors_in_a_row += 1
            self.errors += self.counting
            if len(self.error_samples) < 5:
                self.error_samples.append(fault[:300])
            if self.errors_in_a_row >= MAX_ERRORS_IN_A_ROW:
                self.running = False
        if not self.busy:
            self.idle.set()
        if started < self.window[1] < now:
            self.straddling -= 1
            self.settled.set() if self.straddling <= 0 else None


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: Run) -> None:
        self.run, self.transport = run, cast("asyncio.Transport", None)  # set by connection_made
        self.waiting = False
        self.parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.send()

    def send(self) -> None:
        if not self.run.running:
            self.transport.close()
            return
        self.parts = []
        self.body_at = self.stop = 0
        self.first: float | None = None
        self.waiting = True
        self.run.busy.add(self)
        self.started = perf_counter()
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        if not self.waiting:
            self.done("bytes past the end of a reply", close=True)
            return
        self.parts.append(data)
        if not self.body_at and not self.head():
            return
        if self.first is None and self.run.streaming:
            if len(self.parts) > 1:
                self.parts = [b"".join(self.parts)]
            if self.parts[0].find(b"data:", self.body_at) >= 0:
                self.first = perf_counter()
        if self.stop:
            if sum(map(len, self.parts)) < self.stop:
                return
            raw = b"".join(self.parts)
            fault = "bytes past the end of a reply" if len(raw) > self.stop else None
            self.complete(raw, raw[self.body_at : self.stop], fault)
        elif data.endswith(LAST_CHUNK) or len(data) < len(LAST_CHUNK):
            raw = b"".join(self.parts)
            try:
                body = dechunk(raw[self.body_at :])
            except ValueError as error:
                self.done(f"bad chunk: {error}", close=True)
                return
            if body is not None:
                self.complete(raw, body, None)

    def head(self) -> bool:
        """Whether the head is whole; sets where the body starts and, when announced, where it stops."""
        raw = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        end = raw.find(b"\r\n\r\n")
        if end < 0:
            return False
        self.parts = [raw]
        self.body_at = end + 4
        head = raw[: end + 2]
        if found := _LENGTH.search(head):
            self.stop = self.body_at + int(found[1])
        elif not _CHUNKED.search(head):
            self.done(f"no length announced: {head[:80]!r}", close=True)
            return False
        return True

    def complete(self, raw: bytes, body: bytes, fault: str | None) -> None:
        if not raw.startswith(b"HTTP/1.1 200"):
            fault = f"{raw[9:12].decode(errors='replace')}: {body[:200].decode(errors='replace')}"
        self.done(fault or self.run.fault(body), close=bool(_CLOSE.search(raw, 0, self.body_at)))

    def done(self, fault: str | None, close: bool = False) -> None:
        self.waiting = False
        self.run.finished(self, fault, self.started, self.first)
        if close or not self.run.running:
            self.transport.close()
        else:
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if self.waiting:
            self.waiting = False
            self.run.finished(self, f"connection lost inside a reply: {error}", self.started, self.first)
        if self.run.running:
            asyncio.get_running_loop().call_later(RECONNECT_S, reconnect, self.run)


_connects: set[asyncio.Task[None]] = set()


async def _connect(run: Run) -> None:
    try:
        await asyncio.get_running_loop().create_connection(lambda: Client(run), "127.0.0.1", run.job.port)
    except OSError as error:
        run.errors_total += 1
        run.error_samples = [*run.error_samples, f"connect: {error}"][:5]
        run.errors_in_a_row += 1
        if run.running and run.errors_in_a_row < MAX_ERRORS_IN_A_ROW:
            await asyncio.sleep(RECONNECT_S)
            reconnect(run)


def reconnect(run: Run) -> None:
    """Open one connection in the background."""
    task = asyncio.get_running_loop().create_task(_connect(run))
    _connects.add(task)
    task.add_done_callback(_connects.discard)


async def measure(job: Job) -> Result:
    """Run one job: connect, warm up, count, keep the load up until what straddles the end is done, stop, drain."""
    run, first = Run(job), perf_counter()
    for _ in range(job.concurrency):
        reconnect(run)
    await asyncio.sleep(job.warmup)
    run.counting, started = True, perf_counter()
    run.window = (started, float("inf"))
    await asyncio.sleep(job.seconds)
    for _ in range(30):  # up to three windows more
        if not run.running or len(run.latencies) >= job.min_replies:
            break
        await asyncio.sleep(job.seconds / 10)
    run.counting, ended = False, perf_counter()
    run.window, seconds, run.straddling = (started, ended), ended - started, len(run.busy)
    if run.busy and run.running:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run.settled.wait(), job.drain)
    run.running = False
    if run.busy:
        run.idle.clear()
        try:
            await asyncio.wait_for(run.idle.wait(), job.drain)
        except TimeoutError:
            run.errors_total += len(run.busy)
            run.error_samples.append(f"{len(run.busy)} replies not complete {job.drain:.0f} s after the end")
    replies = len(run.latencies)
    return Result(
        replies=replies,
        errors=run.errors,
        seconds=round(seconds, 4),
        active_s=round(perf_counter() - first, 4),
        rate=run.shares / seconds,
        latency_ms=quantiles(run.latencies),
        first_ms=quantiles(run.firsts),
        replies_total=run.replies_total,
        errors_total=run.errors_total,
        error_samples=run.error_samples,
    )


def run_job(job: Job) -> Result:
    """`measure` on an event loop of its own."""
    runner: Any = uvloop.run if uvloop else asyncio.run
    result: Result = runner(measure(job))
    return result


if __name__ == "__main__":
    print(json.dumps(asdict(run_job(Job(**json.load(sys.stdin))))))
