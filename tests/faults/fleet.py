"""Clients on raw sockets that keep every byte they were given, with its request id; they leave when they are told to."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

LIMIT_S = 60.0
LAST_CHUNK = b"0\r\n\r\n"
PATH = "/v1/chat/completions"


@dataclass
class Delivery:
    """One request and what came back. `raw` is every byte after the request was written; times are monotonic seconds."""

    request_id: str
    stream: bool
    raw: bytearray = field(default_factory=bytearray)
    sent_at: float = 0.0
    head_at: float | None = None
    ended_at: float = 0.0
    arrivals: list[float] = field(default_factory=list)  # of each read, when `timed`
    timed: bool = False
    complete: bool = False  # the reply came whole, by its own framing
    left: bool = False  # we closed before its end
    refused: bool = False  # no connection

    @property
    def head(self) -> bytes:
        """Status line and headers, empty when they did not come whole."""
        head, blank, _ = bytes(self.raw).partition(b"\r\n\r\n")
        return head if blank else b""

    @property
    def status(self) -> int | None:
        """The HTTP status; None when no head came."""
        head = self.head
        return int(head[9:12]) if head else None

    def header(self, name: str) -> str | None:
        """The first value of a header of the reply."""
        wanted = name.lower().encode()
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == wanted:
                return value.strip().decode("latin-1")
        return None

    @property
    def answered_id(self) -> str:
        """The id by which the gateway knows the request (its own word, once a head has come)."""
        return self.header("x-request-id") or self.request_id

    @property
    def body(self) -> bytes:
        """The body as far as it came, without its framing."""
        head, _, rest = bytes(self.raw).partition(b"\r\n\r\n")
        return dechunked(rest) if b"transfer-encoding: chunked" in head.lower() else rest

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error_code(self) -> str | None:
        """`error.code` of an error reply, also when it is the last event of a stream."""
        if self.status == 200 and self.stream:
            events = [event for event in self.events() if event.startswith("{") and '"error"' in event]
            return json.loads(events[-1])["error"]["code"] if events else None
        return self.json["error"]["code"] if self.complete and self.status != 200 else None

    def events(self) -> list[str]:
        """The data of each whole event of a stream."""
        text = self.body.decode("utf-8", "replace")
        return [part[6:] for part in text.split("\n\n") if part.startswith("data: ")]

    @property
    def text(self) -> str:
        """What the model said, as far as it came."""
        if not self.stream:
            return str(self.json["choices"][0]["message"]["content"]) if self.complete and self.status == 200 else ""
        deltas = [json.loads(event) for event in self.events() if event.startswith("{")]
        return "".join(d["choices"][0]["delta"].get("content") or "" for d in deltas if d.get("choices"))

    @property
    def output_bytes(self) -> int:
        """Bytes of output that were delivered; the body of an error is not output."""
        return len(self.body) if self.status == 200 else 0

    @property
    def done(self) -> bool:
        """A 200 that came whole: to its length, or to [DONE]."""
        return self.status == 200 and self.complete and (not self.stream or "[DONE]" in self.events()[-1:])

    @property
    def latency_s(self) -> float:
        return self.ended_at - self.sent_at


def dechunked(data: bytes) -> bytes:
    """The content of a chunked body as far as it came."""
    parts: list[bytes] = []
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end].split(b";")[0], 16)
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
        if size == 0 or at >= len(data):
            break
    return b"".join(parts)


class _Line(asyncio.Protocol):
    """One connection; feeds the delivery that is under way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.delivery: Delivery | None = None
        self.leave_after_bytes: int | None = None
        self.changed: asyncio.Future[None] | None = None
        self.closed = False
        self._end = -1  # length of the whole reply, -2: chunked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        found = self.delivery
        if found is None:
            return
        found.raw += data
        now = time.monotonic()
        if found.timed:
            found.arrivals.append(now)
        if self._end == -1:
            at = found.raw.find(b"\r\n\r\n")
            if at >= 0:
                found.head_at = now
                lowered = bytes(found.raw[:at]).lower()
                length = lowered.find(b"content-length:")
                self._end = -2 if length < 0 else at + 4 + int(lowered[length + 15 :].split(b"\r\n")[0])
                if length < 0 and b"transfer-encoding: chunked" not in lowered:
                    self._end = at + 4
        if (self._end >= 0 and len(found.raw) >= self._end) or (self._end == -2 and found.raw.endswith(LAST_CHUNK)):
            found.complete = True
            self._wake()
        elif self.leave_after_bytes is not None and len(found.raw) >= self.leave_after_bytes:
            self._wake()

    def connection_lost(self, _: Exception | None) -> None:
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        if self.changed is not None and not self.changed.done():
            self.changed.set_result(None)

    def begin(self, delivery: Delivery, leave_after_bytes: int | None) -> asyncio.Future[None]:
        self.delivery, self.leave_after_bytes, self._end = delivery, leave_after_bytes, -1
        self.changed = asyncio.get_running_loop().create_future()
        return self.changed


@dataclass
class Client:
    """A caller with a key. Keeps its connection between requests unless `keep` is False; close it when done."""

    port: int
    key: str
    keep: bool = True
    timed: bool = False
    _line: _Line | None = None

    async def ask(
        self,
        body: bytes,
        request_id: str,
        *,
        stream: bool,
        path: str = PATH,
        headers: tuple[tuple[str, str], ...] = (),
        leave_after_s: float | None = None,
        leave_after_bytes: int | None = None,
        rst: bool = False,
        limit_s: float = LIMIT_S,
    ) -> Delivery:
        """Send one request and read until its reply is whole, the connection ends, or it is time to leave (FIN, or RST)."""
        delivery = Delivery(request_id, stream, sent_at=time.monotonic(), timed=self.timed)
        line = self._line if self._line is not None and not self._line.closed else None
        self._line = None
        if line is None:
            try:
                line = await _connect(self.port)
            except OSError:
                delivery.refused, delivery.ended_at = True, time.monotonic()
                return delivery
        changed = line.begin(delivery, leave_after_bytes)
        own = "".join(f"{name}: {value}\r\n" for name, value in headers)
        authorization = f"authorization: Bearer {self.key}\r\n" if self.key else ""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: gateway\r\n{authorization}content-type: application/json\r\n"
            f"x-request-id: {request_id}\r\n{own}content-length: {len(body)}\r\n\r\n"
        )
        assert line.transport is not None
        delivery.sent_at = time.monotonic()
        line.transport.write(head.encode() + body)
        try:
            await asyncio.wait_for(asyncio.shield(changed), limit_s if leave_after_s is None else leave_after_s)
        except TimeoutError:
            assert leave_after_s is not None, f"no end of {request_id} after {limit_s} s"
        finally:
            delivery.ended_at = time.monotonic()
            if delivery.complete and self.keep and not line.closed:
                self._line = line
            else:
                delivery.left = not delivery.complete and not line.closed
                _leave(line, rst)
        return delivery

    def close(self) -> None:
        """Close the connection that was kept."""
        if self._line is not None:
            _leave(self._line, False)
            self._line = None


def _leave(line: _Line, rst: bool) -> None:
    assert line.transport is not None
    if rst and not line.closed:
        peer = line.transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.transport.abort() if rst else line.transport.close()


async def _connect(port: int) -> _Line:
    _, line = await asyncio.get_running_loop().create_connection(_Line, "127.0.0.1", port)
    return line


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 10_000) * len(ordered) // 10_000) - 1))] if ordered else 0.0
