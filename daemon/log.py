"""Structured logs to stderr, one line an event, without secrets. Formatting and writing happen on a thread of their own.

Every text that may hold foreign words passes `redact`: API keys, bearer tokens and common provider key shapes are masked.
Prompts, replies, query strings and headers are never logged.
"""

from __future__ import annotations

import atexit
import json
import queue
import re
import sys
import threading
import traceback
from typing import Any, TextIO

from db import clock

_SECRETS = re.compile(
    r"(sk-[A-Za-z0-9_\-]{4})[A-Za-z0-9_\-]{8,}"
    r"|((?:gsk_|xai-|AIza|pk-|rk_live_|sk_live_)[A-Za-z0-9_\-]{2})[A-Za-z0-9_\-]{12,}"
    r"|((?i:bearer|basic)\s+)[A-Za-z0-9._~+/=\-]{8,}"
    r"|((?i:[?&](?:key|api_key|access_token)=))[^&\s\"']+"
)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_MOST_WAITING = 20_000


def redact(text: str) -> str:
    """`text` with everything that looks like a secret masked."""
    return _SECRETS.sub(lambda found: f"{next(part for part in found.groups() if part)}…", text)


class _Sink:
    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[tuple[int, str, str, dict[str, Any]] | None] = queue.SimpleQueue()
        self.level = 20
        self.as_json = False
        self.stream: TextIO = sys.stderr
        self.dropped = 0
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, name="log", daemon=True)
        self.thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        if self.thread is not None:
            self.queue.put(None)
            self.thread.join(2)
            self.thread = None

    def _run(self) -> None:
        while True:
            lines: list[str] = []
            more = True
            item = self.queue.get()
            while more:
                if item is None:
                    self._write(lines)
                    return
                lines.append(self._format(*item))
                try:
                    item = self.queue.get_nowait()
                except queue.Empty:
                    more = False
            self._write(lines)

    def _write(self, lines: list[str]) -> None:
        try:
            self.stream.write("".join(lines))
            self.stream.flush()
        except (OSError, ValueError):
            self.dropped += len(lines)  # nowhere left to say it

    def _format(self, at: int, level: str, event: str, fields: dict[str, Any]) -> str:
        if self.as_json:
            record = {"at": clock.iso(at), "level": level, "event": event, **fields}
            return redact(json.dumps(record, default=str, ensure_ascii=False)) + "\n"
        shown = " ".join(f"{name}={_plain(value)}" for name, value in fields.items() if value is not None)
        return redact(f"{clock.iso(at)} {level:7} {event} {shown}".rstrip()) + "\n"


def _plain(value: Any) -> str:
    text = str(value)
    if not text.isprintable():
        return json.dumps(text)  # all but ASCII escaped: there are signs beyond it that steer a terminal
    return json.dumps(text, ensure_ascii=False) if " " in text else text


_sink = _Sink()


def configure(*, level: str = "info", as_json: bool = False, stream: TextIO | None = None) -> None:
    """Start logging. Before this, events are written at once (a short-lived process has no thread)."""
    _sink.level = _LEVELS[level]
    _sink.as_json = as_json
    _sink.stream = stream or sys.stderr
    if _sink.thread is None:
        _sink.start()


def stop() -> None:
    """Write what waits and stop the thread."""
    _sink.stop()


def event(level: str, name: str, **fields: Any) -> None:
    """Log one event. Fields must be plain values; None is left out in text form."""
    if _LEVELS[level] < _sink.level:
        return
    item = (clock.now_ms(), level, name, fields)
    if _sink.thread is None:
        _sink._write([_sink._format(*item)])
    elif _sink.queue.qsize() < _MOST_WAITING:
        _sink.queue.put(item)
    else:
        _sink.dropped += 1


def info(name: str, **fields: Any) -> None:
    """Something an admin may want to follow."""
    event("info", name, **fields)


def warning(name: str, **fields: Any) -> None:
    """Something an admin should look at."""
    event("warning", name, **fields)


def error(name: str, **fields: Any) -> None:
    """Something failed that should not have."""
    event("error", name, **fields)


def exception(name: str, problem: BaseException, **fields: Any) -> None:
    """A failure that nobody expected: type, text and where, with secrets masked."""
    where = "".join(traceback.format_tb(problem.__traceback__)[-6:])
    event("error", name, **fields, error=type(problem).__name__, text=str(problem)[:500], traceback=where)
