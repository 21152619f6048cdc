"""One worker: Hypercorn in-process on a socket that is already open, with a drain of our own before it stops.

SIGTERM and the first SIGINT start the drain: running requests finish (for at most `drain_timeout_s`), new billable ones are
answered 503. What still runs then is cut, charged for what it delivered, and told so. A second SIGINT cuts at once; a second
SIGTERM changes nothing, because a supervisor and a process group may both send one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from functools import partial

import uvloop
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import Handshake

from daemon import background, log
from daemon.app import create_app, make_gateway
from daemon.gateway import Gateway
from db import holds, processes
from db.secrets import MasterKeys
from db.settings import Settings

CUT_S = 5.0
ORPHAN_DRAIN_S = 0.2
GRACEFUL_S = 3.0
LINGER_S, LINGER_AT_STOP_S = 30.0, 1.0
GIL_SWITCH_S = 0.001


class Stop:
    """When and how this worker was told to stop."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.now = asyncio.Event()
        self._parent = os.getppid()

    def on_sigterm(self) -> None:
        self.asked.set()
        if os.getppid() != self._parent:  # the supervisor is dead: make room for the next one
            asyncio.get_running_loop().call_later(ORPHAN_DRAIN_S, self.now.set)

    def on_sigint(self) -> None:
        if self.asked.is_set():
            self.now.set()
        self.asked.set()


def _config(sock: socket.socket) -> Config:
    config = Config()
    config.bind = [f"fd://{sock.fileno()}"]
    config.graceful_timeout = GRACEFUL_S
    config.keep_alive_timeout = 15
    config.read_timeout = None  # it would cut every longer reply
    config.include_server_header = False
    config.include_date_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.backlog = 2048
    config.h11_max_incomplete_size = 64 * 1024
    config.alpn_protocols = ["http/1.1"]
    config.keep_alive_max_requests = 1_000_000
    return config


def speak_http1_only() -> None:
    """Keep Hypercorn 0.18 from leaving HTTP/1.1 in clear text when a client asks (h2c, or the preface `PRI *`).

    On HTTP/2 an early error on one stream drops its siblings, and what a proxy in front refuses could be smuggled past it.
    There is no setting for it.
    """

    async def stay(self: H11Protocol, event: object) -> None:
        return

    H11Protocol._check_protocol = stay


def answer_upgrades_ourselves() -> None:
    """Keep Hypercorn 0.18 from answering 400 without a word to a WebSocket handshake that is incomplete: the front says 426.

    No WebSocket is ever accepted here, so nothing else depends on the handshake.
    """
    Handshake.is_valid = lambda self: True


def close_in_time() -> None:
    """Keep Hypercorn 0.18 from waiting for ever, also at a stop, until a client has read what was written to it."""
    close = TCPServer._close

    async def abort_if_stuck(self: TCPServer) -> None:
        until = self.loop.time() + LINGER_S
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            if self.context.terminated.is_set() or self.loop.time() >= until:
                self.writer.transport.abort()
            else:
                timer = self.loop.call_later(LINGER_AT_STOP_S, look)

        timer = self.loop.call_later(LINGER_AT_STOP_S, look)
        try:
            await close(self)
        finally:
            timer.cancel()

    TCPServer._close = abort_if_stuck


async def drain(gateway: Gateway, stop: Stop) -> None:
    """Let running exchanges finish, then cut the rest; every hold of ours is closed when this returns."""
    gateway.draining = True
    gateway.tokens.load_no_more()
    log.info("draining", running=len(gateway.tasks))
    deadline = time.monotonic() + gateway.settings.drain_timeout_s
    while len(gateway.tasks) and time.monotonic() < deadline and not stop.now.is_set():
        await gateway.tasks.wait(0.25)
    if len(gateway.tasks):
        log.warning("cutting requests", running=len(gateway.tasks))
        gateway.tasks.cancel_all()
        await gateway.tasks.wait(CUT_S)


async def run(settings: Settings, master: MasterKeys, sock: socket.socket) -> None:
    """Serve until told to stop."""
    loop = asyncio.get_running_loop()
    stop = Stop()
    loop.add_signal_handler(signal.SIGTERM, stop.on_sigterm)
    loop.add_signal_handler(signal.SIGINT, stop.on_sigint)
    gateway = await make_gateway(settings, master)
    loops = background.start(gateway)
    app = create_app(gateway)
    speak_http1_only()
    answer_upgrades_ourselves()
    close_in_time()
    finished = asyncio.Event()

    async def stopping() -> None:
        await stop.asked.wait()
        await drain(gateway, stop)
        finished.set()

    watcher = asyncio.create_task(stopping(), name="stop")
    try:
        await hypercorn_serve(app, _config(sock), shutdown_trigger=finished.wait, mode="asgi")
    finally:
        watcher.cancel()
        for task in loops:
            task.cancel()
        await asyncio.gather(watcher, *loops, return_exceptions=True)
        await gateway.tasks.wait(CUT_S)
        await gateway.close_upstreams()
        await _leave(gateway)
        await gateway.store.close()
        if gateway.counters is not None:
            await gateway.counters.close()
        gateway.tokens.close()
        log.info("stopped")
        for name in (signal.SIGTERM, signal.SIGINT):  # one more must not spoil the exit code now
            loop.remove_signal_handler(name)
            signal.signal(name, signal.SIG_IGN)


async def _leave(gateway: Gateway) -> None:
    """Say that we ended, unless holds of ours are open: then the next process finds us dead and closes them."""
    left = await gateway.store.read(holds.open_holds, [gateway.process_id])
    if not left:
        await gateway.store.write(partial(processes.end, gateway.process_id))


def work(settings: Settings, master: MasterKeys, sock: socket.socket) -> int:
    """Run one worker in this process; returns its exit code."""
    log.configure(level=settings.log_level, as_json=settings.log_format == "json")
    sys.setswitchinterval(GIL_SWITCH_S)  # the writer thread takes turns with the event loop many times a batch
    try:
        uvloop.run(run(settings, master, sock))
    finally:
        log.stop()
    return 0
