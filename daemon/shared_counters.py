"""Counters in Redis: windows of limits, one script call per request, and sums per day, written behind the requests.

Calls that come together go out together, over one connection. Redis may be gone at any time: who asks then is told None at
once, and the database counts. It is asked again in the background until it answers. No money depends on it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from daemon import log
from db import clock
from db.limits import Limit, Limits, Standing, Window
from db.redis_keys import DAY_TTL_S, LIMIT_TTL_MS, day_key, limit_key

TIMEOUT_S = 0.05
PROBE_S = 0.5
FLUSH_S = 0.02
MOST_WAITING = 10_000
MOST_SUMS = 50_000
FAILURES = (RedisError, OSError, TimeoutError, ValueError)

# KEYS: the key's window, the user's. ARGV: now, rpm, tpm, rpm of the user (-1: no limit), tokens to reserve, time to live.
# The rules are those of db.limits: a window is 60 s and begins with its first request, at a whole second.
TAKE = """
local now = tonumber(ARGV[1])
local rpm, tpm, user_rpm, tokens = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local function window(name)
  local found = redis.call('HMGET', name, 'at', 'requests', 'tokens')
  local at = tonumber(found[1])
  if at and at - 60000 <= now and now < at + 60000 then
    return {at, tonumber(found[2]) or 0, tonumber(found[3]) or 0}
  end
  return {now - now % 1000, 0, 0}
end
local function write(name, one)
  redis.call('HSET', name, 'at', string.format('%.0f', one[1]), 'requests', one[2], 'tokens', string.format('%.0f', one[3]))
  redis.call('PEXPIRE', name, ARGV[6])
end
local key, user, refused = window(KEYS[1]), {0, 0, 0}, ''
if user_rpm >= 0 then user = window(KEYS[2]) end
if user_rpm >= 0 and user[2] >= user_rpm then
  refused = 'user_requests'
elseif rpm >= 0 and key[2] >= rpm then
  refused = 'requests'
elseif tpm >= 0 and tokens > 0 and key[3] + tokens > tpm then
  refused = 'tokens'
else
  key[2] = key[2] + 1
  key[3] = key[3] + tokens
  write(KEYS[1], key)
  if user_rpm >= 0 then
    user[2] = user[2] + 1
    write(KEYS[2], user)
  end
end
return {refused, key[1], key[2], key[3], user[1], user[2]}
"""

# KEYS: the key's window, the user's. ARGV: the window's start, more tokens, fewer requests (of the user's window too).
CORRECT = """
for number = 1, #KEYS do
  local found = redis.call('HMGET', KEYS[number], 'at', 'requests', 'tokens')
  if found[1] and (number == 2 or tonumber(found[1]) == tonumber(ARGV[1])) then
    local requests = math.max(0, (tonumber(found[2]) or 0) - tonumber(ARGV[3]))
    local tokens = math.max(0, (tonumber(found[3]) or 0) + (number == 1 and tonumber(ARGV[2]) or 0))
    redis.call('HSET', KEYS[number], 'requests', requests, 'tokens', string.format('%.0f', tokens))
  end
end
"""


Correction = tuple[list[str], int, int, int]  # keys, start of the window, more tokens, fewer requests


class SharedCounters:
    """The counters of one worker's Redis. Make it inside the running event loop, then `start`."""

    def __init__(self, url: str) -> None:
        self._redis: Any = Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            max_connections=8,
        )
        self._asked: list[tuple[Limits, asyncio.Future[Standing | None]]] = []
        self._corrections: list[Correction] = []
        self._sums: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.up = False

    async def start(self) -> None:
        """Ask Redis for the first time, and begin the work in the background."""
        await self._probe()
        if not self.up:
            log.error("redis away: the database counts")
        self._tasks = [
            asyncio.create_task(self._answer(), name="redis counters"),
            asyncio.create_task(self._write_behind(), name="redis sums"),
        ]

    async def close(self) -> None:
        """Write what waits, once, and end."""
        for task in self._tasks:
            task.cancel()
        if self.up:
            await self._write()
        with suppress(*FAILURES):
            await self._redis.aclose()

    # -- limits

    async def take(self, limits: Limits) -> Standing | None:
        """Count a request, or say which limit refuses it (parallel requests are the database's). None: Redis is away."""
        if not self.up or len(self._asked) >= MOST_WAITING:
            return None
        future: asyncio.Future[Standing | None] = asyncio.get_running_loop().create_future()
        self._asked.append((limits, future))
        self._wake.set()
        return await future

    def correct(self, limits: Limits, window_at: int, more_tokens: int, fewer_requests: int = 0) -> None:
        """Some time soon: what was used takes the place of what was reserved; a request may not count after all."""
        if self.up and (more_tokens or fewer_requests) and len(self._corrections) < MOST_WAITING:
            keys = [limit_key("key", limits.key_id)]
            if fewer_requests and limits.user_rpm is not None:
                keys.append(limit_key("user", limits.user_id))
            self._corrections.append((keys, window_at, more_tokens, fewer_requests))
            self._wake.set()

    def add(self, scope: str, subject: int | str, at: int, *, tokens: int, cost_nanos: int) -> None:
        """Some time soon: one request more in the sums of the day that holds `at`."""
        if len(self._sums) >= MOST_SUMS:
            return
        stem = day_key(at, scope, subject)
        for name, amount in (("requests", 1), ("tokens", tokens), ("cost_nano", cost_nanos)):
            full = f"{stem}:{name}"
            self._sums[full] = self._sums.get(full, 0) + amount

    # -- in the background

    async def _answer(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._asked = self._asked, []
            live = [(limits, future) for limits, future in asked if not future.done()]
            if not live and not self._corrections:
                continue
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    found = await self._take([limits for limits, _ in live])
            except FAILURES as error:
                self._down(error)
                found = [None] * len(live)
            for (_, future), standing in zip(live, found, strict=True):
                if not future.done():
                    future.set_result(standing)

    async def _take(self, asked: list[Limits]) -> list[Standing | None]:
        at = clock.now_ms()
        corrections, self._corrections = self._corrections, []
        async with self._redis.pipeline(transaction=False) as pipe:
            _add_corrections(pipe, corrections)
            for limits in asked:
                pipe.eval(
                    TAKE, 2, limit_key("key", limits.key_id), limit_key("user", limits.user_id), at,
                    *(-1 if limit is None else limit for limit in (limits.rpm, limits.tpm, limits.user_rpm)),
                    limits.reserved_tokens, LIMIT_TTL_MS,
                )  # fmt: skip
            replies = (await pipe.execute())[len(corrections) :]
        return [_standing(limits, at, reply) for limits, reply in zip(asked, replies, strict=True)]

    async def _write_behind(self) -> None:
        last_probe = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(FLUSH_S)
            if self.up and (self._corrections or self._sums):
                await self._write()
            if loop.time() - last_probe >= PROBE_S:  # also when it is there: a worker without requests must notice too
                last_probe, was_up = loop.time(), self.up
                await self._probe()
                if self.up != was_up:
                    log.info("redis is back: it counts again") if self.up else log.error("redis away: the database counts")

    async def _write(self) -> None:
        corrections, self._corrections = self._corrections, []
        sums, self._sums = self._sums, {}
        try:
            async with asyncio.timeout(TIMEOUT_S * 4), self._redis.pipeline(transaction=False) as pipe:
                _add_corrections(pipe, corrections)
                for name, amount in sums.items():
                    pipe.incrby(name, amount)
                    pipe.expire(name, DAY_TTL_S)
                await pipe.execute()
        except FAILURES as error:
            self._down(error)
            for name, amount in sums.items():  # they are written when it is back; windows are over by then
                self._sums[name] = self._sums.get(name, 0) + amount

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._redis.ping()
            self.up = True
        except FAILURES:
            self.up = False

    def _down(self, error: Exception) -> None:
        if self.up:
            self.up = False
            log.error("redis away: the database counts", error=type(error).__name__)


def _add_corrections(pipe: Any, corrections: list[Correction]) -> None:
    for keys, window_at, more, fewer in corrections:
        pipe.eval(CORRECT, len(keys), *keys, window_at, more, fewer)


def _standing(limits: Limits, at: int, reply: list[Any]) -> Standing:
    refused, key_at, requests, tokens, user_at, user_requests = reply
    return Standing(
        at,
        Window(int(key_at), int(requests), int(tokens)),
        None if limits.user_rpm is None else Window(int(user_at), int(user_requests), 0),
        Limit(refused.decode()) if refused else None,
    )
