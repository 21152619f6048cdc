"""A provider on a real socket that answers, or misbehaves, exactly as a test tells it.

    with ScriptedUpstream() as up:
        up.script(stall(), json_reply({"ok": True}))   # the next two requests, in this order
        up.route("/v1/models", Reply(status=500))      # every request for this path
        up.always(chat_stream(["Hel", "lo"]))          # every other request
        ...
        assert up.requests[0].json["model"] == "gpt-x"

With nothing told it is an OpenAI-like chat server. It runs in a thread with a loop of its own, speaks raw
HTTP/1.1 (so that it can speak it wrongly), and several may run at once. A reply is a `Reply`, or any iterable of
steps: bytes to write, Wait, Until, Later, Stall, Close, Reset. A handler takes the `Received` request and gives a reply.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import random
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MAX_HEAD_BYTES = 256 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024
MAX_RECORDED = 20_000
MAX_STALL_S = 300.0

# ---------------------------------------------------------------------------------------------- steps


@dataclass(frozen=True)
class Wait:
    """Do nothing for so many seconds; the connection stays open."""

    seconds: float


@dataclass(frozen=True)
class Until:
    """Go on when the test sets this event."""

    event: threading.Event


@dataclass(frozen=True)
class Later:
    """Write these bytes so many seconds from now, whatever the connection is doing then."""

    seconds: float
    data: bytes


@dataclass(frozen=True)
class Stall:
    """Say nothing more until the peer closes."""


@dataclass(frozen=True)
class Close:
    """Send what is written, then FIN."""


@dataclass(frozen=True)
class Reset:
    """RST: what is not yet sent is lost."""


Step = bytes | Wait | Until | Later | Stall | Close | Reset


@dataclass(frozen=True)
class Reply:
    """A well-formed reply; head and body leave in one write. `headers` replace or add to the defaults."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def __iter__(self) -> Iterator[Step]:
        names = {name.lower() for name, _ in self.headers}
        framing = [] if "transfer-encoding" in names or "content-length" in names else [("Content-Length", str(len(self.body)))]
        yield head(self.status, [*self.headers, *framing]) + self.body


Answer = Iterable[Step]
Handler = Callable[["Received"], Answer]


def head(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    """Status line and header section, blank line included."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; b"" gives the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


# ------------------------------------------------------------------------------------- good replies


def json_reply(value: Any, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Reply:
    body = json.dumps(value, ensure_ascii=False).encode()
    return Reply(status, [("Content-Type", "application/json"), *headers], body)


def error_reply(
    status: int, message: str = "scripted error", *, type: str = "server_error", headers: Sequence[tuple[str, str]] = ()
) -> Reply:
    error = {"message": message, "type": type, "param": None, "code": None}
    return json_reply({"error": error}, status, headers)


def sse(
    frames: Sequence[bytes | str | dict[str, Any]],
    *,
    delay_s: float = 0.0,
    split: int | None = None,
    headers: Sequence[tuple[str, str]] = (),
    end: bool = True,
) -> Iterator[Step]:
    """A chunked event stream. A dict or str becomes `data: …`, bytes go as they are. `split` cuts the whole
    into writes of that many bytes; 0 cuts at random 1 to 7. `end=False` leaves out the last chunk."""
    payloads = [_frame(item) for item in frames]
    start = head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), *headers])
    if split is not None:
        whole = b"".join(map(chunk, payloads)) + (chunk(b"") if end else b"")
        yield start
        yield from _cut(whole, split, delay_s)
        return
    if not delay_s:
        yield start + b"".join(map(chunk, payloads)) + (chunk(b"") if end else b"")
        return
    for number, payload in enumerate(payloads):
        yield (b"" if number else start) + chunk(payload)
        yield Wait(delay_s)
    if end:
        yield chunk(b"")


def _frame(item: bytes | str | dict[str, Any]) -> bytes:
    if isinstance(item, bytes):
        return item
    return f"data: {item if isinstance(item, str) else json.dumps(item)}\n\n".encode()


def _cut(data: bytes, size: int, delay_s: float) -> Iterator[Step]:
    dice, at = random.Random(7), 0
    while at < len(data):
        length = size or dice.randint(1, 7)
        yield data[at : at + length]
        yield Wait(delay_s)
        at += length


def chat_reply(text: str, usage: dict[str, Any] | None = None, *, model: str = "gpt-x", finish_reason: str = "stop") -> Reply:
    """A chat.completion; `usage` None leaves it out."""
    body: dict[str, Any] = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": finish_reason}
        ],
    }
    return json_reply(body | ({"usage": usage} if usage is not None else {}))


def chat_frames(
    pieces: Sequence[str],
    usage: dict[str, Any] | None = None,
    *,
    model: str = "gpt-x",
    done: bool = True,
    finish_reason: str = "stop",
) -> list[bytes | str | dict[str, Any]]:
    """The frames of a chat.completion.chunk stream; `usage` becomes the last frame with empty choices."""

    def frame(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": "chatcmpl-scripted",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": model,
            "choices": choices,
            **more,
        }

    def choice(delta: dict[str, Any], finish: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    frames: list[bytes | str | dict[str, Any]] = [frame(choice({"role": "assistant", "content": ""}))]
    frames += [frame(choice({"content": piece})) for piece in pieces]
    frames.append(frame(choice({}, finish_reason)))
    if usage is not None:
        frames.append(frame([], usage=usage))
    return [*frames, "[DONE]"] if done else frames


def chat_stream(
    pieces: Sequence[str],
    usage: dict[str, Any] | None = None,
    *,
    done: bool = True,
    delay_s: float = 0.0,
    split: int | None = None,
    model: str = "gpt-x",
) -> list[Step]:
    return list(sse(chat_frames(pieces, usage, model=model, done=done), delay_s=delay_s, split=split))


# ------------------------------------------------------------------------------------ misbehaviours


def closed_port_url() -> str:
    """A URL that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def reset() -> list[Step]:
    """The request is read, then RST."""
    return [Reset()]


def hang_up() -> list[Step]:
    """The request is read, then FIN without a byte."""
    return [Close()]


def stall() -> list[Step]:
    """Nothing before the headers, ever."""
    return [Stall()]


def stall_mid_body(sent: bytes = b'{"half":', length: int = 100) -> list[Step]:
    return [head(200, [("Content-Type", "application/json"), ("Content-Length", str(length))]) + sent, Stall()]


def cut_stream(frames: Sequence[bytes | str | dict[str, Any]], how: Step = Reset()) -> list[Step]:
    """These frames, then RST (or Close(), or Stall()) inside the chunked body."""
    return [*sse(frames, end=False), Wait(0.02), how]


def drip(answer: Answer, size: int = 0, delay_s: float = 0.0) -> list[Step]:
    """The same bytes in writes of `size` (0: a random 1 to 7)."""
    steps: list[Step] = []
    for step in answer:
        steps += _cut(step, size, delay_s) if isinstance(step, bytes) else [step]
    return steps


def comments_only(interval_s: float = 0.05, times: int = 1000) -> Iterator[Step]:
    """An event stream that is alive but never says anything."""
    yield head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])
    for _ in range(times):
        yield chunk(b": keep-alive\n\n")
        yield Wait(interval_s)
    yield chunk(b"")


def short_body(body: bytes = b'{"a":1}', missing: int = 10) -> list[Step]:
    """Content-Length promises more than comes before FIN."""
    return [head(200, [("Content-Type", "application/json"), ("Content-Length", str(len(body) + missing))]) + body, Close()]


def extra_bytes(
    answer: Answer, extra: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nLEAKED", after_s: float | None = None
) -> list[Step]:
    """Bytes past the end of the reply: in the same write, or `after_s` seconds later while the connection idles."""
    steps = list(answer)
    if after_s is not None:
        return [*steps, Later(after_s, extra)]
    assert isinstance(steps[-1], bytes)
    return [*steps[:-1], steps[-1] + extra]


def gzip_reply(value: Any) -> Reply:
    """gzip although identity was asked for."""
    body = gzip.compress(json.dumps(value).encode())
    return Reply(200, [("Content-Type", "application/json"), ("Content-Encoding", "gzip")], body)


def html_reply(status: int = 200) -> Reply:
    return Reply(status, [("Content-Type", "text/html")], b"<!doctype html><title>Sorry</title><p>Back soon.")


def invalid_json() -> Reply:
    return Reply(200, [("Content-Type", "application/json")], b'{"choices": [{"message": ')


def endless_line(total: int = 64 * 1024 * 1024, piece: int = 64 * 1024) -> Iterator[Step]:
    """An event stream whose one line never ends (it does after `total` bytes)."""
    yield head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])
    yield chunk(b"data: ")
    block = chunk(b"x" * piece)
    for _ in range(total // piece):
        yield block
    yield chunk(b"")


def giant_header(size: int = 200 * 1024) -> Reply:
    return Reply(200, [("X-Giant", "x" * size)], b"{}")


def error_frame(message: str = "overloaded") -> list[Step]:
    """200, then an error in the first frame."""
    return list(sse([{"error": {"message": message, "type": "server_error", "code": 503}}]))


def truncated_stream(pieces: Sequence[str] = ("Hel", "lo")) -> list[Step]:
    """A stream that ends cleanly on the wire, without finish_reason, usage or [DONE]."""
    return list(sse(chat_frames(pieces, done=False)[:-1]))


# ------------------------------------------------------------------------------------- what was received


@dataclass
class Received:
    """One request as it came. `disconnected` is set when the peer closes before the reply was complete."""

    method: str
    target: str
    raw_headers: list[tuple[bytes, bytes]]
    body: bytes
    connection: int
    received_at: float
    closed_at: float | None = None
    replied: bool = False
    disconnected: threading.Event = field(default_factory=threading.Event)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.raw_headers if key.lower() == wanted), None)

    @property
    def everything(self) -> bytes:
        """All bytes of the request that a secret could hide in."""
        lines = b"".join(name + b": " + value + b"\n" for name, value in self.raw_headers)
        return f"{self.method} {self.target}\n".encode("latin-1") + lines + self.body


# ----------------------------------------------------------------------------------- default behaviour

DEFAULT_PIECES = ("Hello", " from", " the", " scripted", " upstream", ".")
DEFAULT_MODELS = ("gpt-x", "gpt-x-mini")


def default_answer(request: Received) -> Answer:
    """A server of chat completions and messages: one token per word of the prompt, one per piece of the answer."""
    if request.path.endswith("/chat/completions") and request.method == "POST":
        return _default_chat(request)
    if request.path.endswith("/messages") and request.method == "POST":
        return _default_message(request)
    if request.path.endswith("/models"):
        models = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "scripted"} for name in DEFAULT_MODELS]
        return json_reply({"object": "list", "data": models})
    return json_reply({"method": request.method, "path": request.path, "query": request.query, "bytes": len(request.body)})


def usage_of(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _default_chat(request: Received) -> Answer:
    try:
        body = request.json
    except ValueError:
        return error_reply(400, "not JSON", type="invalid_request_error")
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or len(DEFAULT_PIECES)
    pieces = DEFAULT_PIECES[:limit]
    finish = "stop" if len(pieces) == len(DEFAULT_PIECES) else "length"
    usage, model = usage_of(_words(body.get("messages", [])), len(pieces)), body.get("model", "gpt-x")
    if not body.get("stream"):
        return chat_reply("".join(pieces), usage, model=model, finish_reason=finish)
    wanted = (body.get("stream_options") or {}).get("include_usage")
    return list(sse(chat_frames(pieces, usage if wanted else None, model=model, finish_reason=finish)))


def _default_message(request: Received) -> Answer:
    try:
        body = request.json
    except ValueError:
        return error_reply(400, "not JSON", type="invalid_request_error")
    pieces = DEFAULT_PIECES[: body.get("max_tokens") or len(DEFAULT_PIECES)]
    reason = "end_turn" if len(pieces) == len(DEFAULT_PIECES) else "max_tokens"
    read = _words(body.get("messages", []))
    message: dict[str, Any] = {
        "id": "msg_scripted", "type": "message", "role": "assistant", "model": body.get("model", "claude-x"), "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": read, "output_tokens": 1},
    }  # fmt: skip
    if not body.get("stream"):
        usage = {"input_tokens": read, "output_tokens": len(pieces)}
        content = [{"type": "text", "text": "".join(pieces)}]
        return json_reply({**message, "content": content, "stop_reason": reason, "usage": usage})
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}} for piece in pieces),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": len(pieces)},
        },
        {"type": "message_stop"},
    ]
    return list(sse([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]))


def _words(messages: Any) -> int:
    texts: list[str] = []
    for message in messages:
        content = message.get("content") or ""
        texts += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return sum(len(text.split()) for text in texts)


# --------------------------------------------------------------------------------------------- server


class ScriptedUpstream:
    """The server. Everything public may be called from any thread.

    `on_connect` "reset" or "close" ends every new connection at once, "stall" never reads from it.
    `record=False` keeps no requests (for runs of 100,000).
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None, record: bool = True) -> None:
        self.requests: list[Received] = []
        self.on_connect: str | None = None
        self.connections = 0
        self.open_connections = 0
        self._ssl, self._record = ssl_context, record
        self._queue: deque[Answer | Handler] = deque()
        self._routes: dict[str, Answer | Handler] = {}
        self._always: Answer | Handler = default_answer
        self._lock = threading.Lock()
        self._arrived = threading.Condition()
        self._ready = threading.Event()
        self._peers: set[_Peer] = set()
        self._ids = itertools.count(1)
        self._thread = threading.Thread(target=self._run, name="scripted-upstream", daemon=True)

    def script(self, *answers: Answer | Handler) -> None:
        """Queue answers: each serves one request, in order, before routes and `always` are asked."""
        with self._lock:
            self._queue.extend(_again(answer) for answer in answers)

    def route(self, path: str, answer: Answer | Handler) -> None:
        with self._lock:
            self._routes[path] = _again(answer)

    def always(self, answer: Answer | Handler) -> None:
        with self._lock:
            self._always = _again(answer)

    def wait_for(self, count: int, timeout_s: float = 5.0) -> list[Received]:
        """Block until so many requests have come; from a coroutine use `await up.arrived(count)`."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, timeout_s), (
                f"{len(self.requests)} of {count} requests came"
            )
            return list(self.requests)

    async def arrived(self, count: int, timeout_s: float = 5.0) -> list[Received]:
        deadline = time.monotonic() + timeout_s
        while len(self.requests) < count:
            assert time.monotonic() < deadline, f"{len(self.requests)} of {count} requests came"
            await asyncio.sleep(0.002)
        return list(self.requests)

    def drop_connections(self) -> None:
        """Close every open connection from this side (FIN)."""
        self._loop.call_soon_threadsafe(self._close_peers)

    def _close_peers(self) -> None:
        for peer in list(self._peers):
            peer.transport.close()

    def answer(self, request: Received) -> Answer:
        with self._lock:
            chosen = self._queue.popleft() if self._queue else self._routes.get(request.path, self._always)
        return chosen(request) if callable(chosen) else chosen

    # -- running

    def __enter__(self) -> ScriptedUpstream:
        self._thread.start()
        assert self._ready.wait(5), "the scripted upstream did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    @property
    def url(self) -> str:
        """Without a trailing slash and without /v1."""
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self.port}"

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(lambda: _Peer(self), "127.0.0.1", 0, ssl=self._ssl, backlog=1024)
        self.port: int = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for peer in list(self._peers):
            peer.transport.abort()
        await asyncio.sleep(0)

    def _note(self, request: Received) -> None:
        if self._record and len(self.requests) < MAX_RECORDED:
            with self._arrived:
                self.requests.append(request)
                self._arrived.notify_all()


def _again(answer: Answer | Handler) -> Answer | Handler:
    """A generator plays once; make it a list when it is given as data. Endless ones belong in a handler."""
    return list(answer) if isinstance(answer, Iterator) else answer


class _Peer(asyncio.Protocol):
    """One connection: requests one after the other, each answered by its steps."""

    transport: asyncio.Transport

    def __init__(self, server: ScriptedUpstream) -> None:
        self.server, self.id = server, next(server._ids)
        self.buffer = bytearray()
        self.request: Received | None = None
        self.task: asyncio.Task[None] | None = None
        self.may_write = asyncio.Event()
        self.may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server._peers.add(self)
        self.server.connections += 1
        self.server.open_connections += 1
        if self.server.on_connect == "reset":
            self.reset()
        elif self.server.on_connect == "close":
            transport.close()

    @property
    def socket(self) -> Any:
        return self.transport.get_extra_info("socket")

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self.server._peers.discard(self)
        self.server.open_connections -= 1
        self.may_write.set()
        if self.request is not None and not self.request.replied:
            self.request.closed_at = time.monotonic()
            self.request.disconnected.set()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def data_received(self, data: bytes) -> None:
        if self.server.on_connect == "stall":
            return
        self.buffer += data
        if self.task is None:
            self.next_request()

    def next_request(self) -> None:
        request = self.parse()
        if request is None:
            return
        self.request = request
        self.server._note(request)
        answer = self.server.answer(request)
        if isinstance(answer, Reply):  # the fast path: one write, no task
            request.replied = True
            self.transport.write(next(iter(answer)))  # type: ignore[arg-type]
            self.server._loop.call_soon(self.next_request)
            return
        self.task = self.server._loop.create_task(self.play(request, answer))

    def parse(self) -> Received | None:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MAX_HEAD_BYTES:
                self.transport.abort()
            return None
        first, *lines = bytes(self.buffer[:end]).split(b"\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        by_name = {name.lower(): value for name, value in headers}
        if by_name.get(b"transfer-encoding", b"").lower() == b"chunked":
            found = self.dechunk(end + 4)
            if found is None:
                return None
            body, after = found
        else:
            length = int(by_name.get(b"content-length", b"0"))
            after = end + 4 + length
            if length > MAX_BODY_BYTES or len(self.buffer) < after:
                return None
            body = bytes(self.buffer[end + 4 : after])
        del self.buffer[:after]
        method, target = first.decode("latin-1").split(" ")[:2]
        return Received(method, target, headers, body, self.id, time.monotonic())

    def dechunk(self, at: int) -> tuple[bytes, int] | None:
        pieces = []
        while (line := self.buffer.find(b"\r\n", at)) >= 0:
            size = int(self.buffer[at:line].split(b";")[0], 16)
            if len(self.buffer) < line + 2 + size + 2:
                return None
            pieces.append(bytes(self.buffer[line + 2 : line + 2 + size]))
            at = line + 2 + size + 2
            if size == 0:
                return b"".join(pieces), at
        return None

    def write_late(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    async def play(self, request: Received, answer: Answer) -> None:
        for step in answer:
            if self.transport.is_closing():
                return
            if isinstance(step, bytes):
                self.transport.write(step)
                if not self.may_write.is_set():
                    await self.may_write.wait()
                continue
            if isinstance(step, Later):
                self.server._loop.call_later(step.seconds, self.write_late, step.data)
            elif isinstance(step, Close):
                request.replied = True
                self.transport.close()
                return
            elif isinstance(step, Reset):
                request.replied = True
                self.reset()
                return
            elif isinstance(step, Until):
                while not step.event.is_set():  # noqa: ASYNC110  set in another thread
                    await asyncio.sleep(0.002)
            else:
                await asyncio.sleep(MAX_STALL_S if isinstance(step, Stall) else step.seconds)
        request.replied = True
        self.task = None
        if self.buffer:
            self.next_request()
