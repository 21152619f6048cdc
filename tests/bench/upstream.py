"""A static upstream of two dialects on a raw protocol: `python -m tests.bench.upstream --port N [--pace-ms M]`.

Unstreamed: headers and body in one write (two writes cost 40 ms of delayed ACK).
Streamed: each SSE frame is an HTTP chunk of its own; all of them leave in a few writes as fast as the peer reads, or,
for a request with payloads.PACED_MARK in it, one every `--pace-ms`. The usage frame comes when it is asked for.
`GET /stats` says how many requests of each kind were answered, so that a peer that does not relay is found out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
from typing import Any

from tests.bench import payloads

try:
    import uvloop
except ImportError:  # slower, still correct
    uvloop = None  # type: ignore[assignment]

BURST_WRITES = 4
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_PACED = payloads.PACED_MARK.encode()
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_STREAM = re.compile(rb'"stream"\s*:\s*true')


def _http(status: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHAT = _http("200 OK", payloads.chat_body())
MESSAGE = _http("200 OK", payloads.message_body())
NOT_FOUND = _http("404 Not Found", b'{"error":{"message":"bench upstream: no such path"}}')
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def paced(events: list[bytes]) -> list[bytes]:
    """The stream in one write per SSE frame, the head with the first."""
    frames = [_chunk(event) for event in events]
    return [STREAM_HEAD + frames[0], *frames[1:-1], frames[-1] + b"0\r\n\r\n"]


def burst(events: list[bytes]) -> list[bytes]:
    """The same bytes in BURST_WRITES writes: the head with the first frame, then even slices."""
    frames = paced(events)
    size = -(-(len(frames) - 1) // (BURST_WRITES - 1))
    return [frames[0], *(b"".join(frames[i : i + size]) for i in range(1, len(frames), size))]


# include_usage → writes
PACED = {asked: paced(payloads.stream_events(asked)) for asked in (False, True)}
BURST = {asked: burst(payloads.stream_events(asked)) for asked in (False, True)}
MESSAGES_PACED, MESSAGES_BURST = paced(payloads.message_events()), burst(payloads.message_events())
_MODELS = {"object": "list", "data": [{"id": payloads.MODEL, "object": "model", "created": 1, "owned_by": "bench"}]}
MODELS = _http("200 OK", json.dumps(_MODELS).encode())


class Upstream(asyncio.Protocol):
    """One connection: requests one after the other, keep-alive for ever."""

    def __init__(self, stats: dict[str, int], pace_s: float) -> None:
        self.stats, self.pace_s = stats, pace_s
        self.buffer = b""
        self.transport: Any = None
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer = buffer = self.buffer + data if self.buffer else data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head, start = buffer[: end + 2], end + 4
            if found := _LENGTH.search(head):
                stop = start + int(found[1])
            elif _CHUNKED.search(head):
                last = buffer.find(b"0\r\n\r\n", start)
                stop = last + 5 if last >= 0 else len(buffer) + 1
            else:
                stop = start
            if len(buffer) < stop:
                return
            self.answer(head[: head.find(b" HTTP/")], buffer[start:stop])
            self.buffer = buffer = buffer[stop:]

    def answer(self, line: bytes, body: bytes) -> None:
        """`line` is method and path."""
        if line.startswith(b"POST ") and line.endswith(b"/chat/completions"):
            if not _STREAM.search(body):
                self.stats["chat"] += 1
                self.transport.write(CHAT)
            elif _PACED in body:
                self.stats["stream"] += 1
                self.pace(PACED[bool(_USAGE.search(body))], 0, self.loop.time())
            else:
                self.stats["stream"] += 1
                self.burst(BURST[bool(_USAGE.search(body))], 0)
        elif line.startswith(b"POST ") and line.endswith(b"/messages"):
            if not _STREAM.search(body):
                self.stats["chat"] += 1
                self.transport.write(MESSAGE)
            elif _PACED in body:
                self.stats["stream"] += 1
                self.pace(MESSAGES_PACED, 0, self.loop.time())
            else:
                self.stats["stream"] += 1
                self.burst(MESSAGES_BURST, 0)
        elif line == b"GET /stats":
            self.transport.write(_http("200 OK", json.dumps(self.stats).encode()))
        elif line.startswith(b"GET ") and line.endswith(b"/models"):
            self.transport.write(MODELS)
        else:
            self.transport.write(NOT_FOUND)

    def burst(self, writes: list[bytes], i: int) -> None:
        # One write per turn of the loop: uvloop joins the writes of one turn.
        self.transport.write(writes[i])
        if i + 1 < len(writes):
            self.loop.call_soon(self.burst, writes, i + 1)

    def pace(self, writes: list[bytes], i: int, due: float) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(writes[i])
        if i + 1 < len(writes):
            due += self.pace_s
            self.loop.call_at(due, self.pace, writes, i + 1, due)


async def serve(port: int, pace_s: float, host: str = "127.0.0.1") -> asyncio.Server:
    """Listen; the port chosen is in `server.sockets[0]` when `port` is 0."""
    stats = {"chat": 0, "stream": 0}
    return await asyncio.get_running_loop().create_server(lambda: Upstream(stats, pace_s), host, port, backlog=512)


async def _main(port: int, pace_s: float) -> None:
    server = await serve(port, pace_s)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pace-ms", type=float, default=10.0)
    options = parser.parse_args()
    (uvloop or asyncio).run(_main(options.port, options.pace_ms / 1000))
