"""The checklist's fixture with its daemon and both upstreams, and the checks that most requirements share."""

from __future__ import annotations

import itertools
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.gateway import Fixture, Gateway, Home, User, make_home, provision
from tests.support.upstream import ScriptedUpstream

ENVELOPE = {"message", "type", "param", "code"}
_numbers = itertools.count(1)


@dataclass
class World:
    """`openai` and `claude` are the upstreams behind the two providers; `home` and `gateway` as in tests.support.gateway."""

    home: Home
    gateway: Gateway
    openai: ScriptedUpstream
    claude: ScriptedUpstream
    alice: User
    bob: User

    def person(self, *options: str, group: str = "g1", balance: str | None = "5", key: tuple[str, ...] = ()) -> User:
        """A fresh user in a group, with money and a key; `options` are of `users create`, `key` of `keys create`."""
        return self.home.user(f"user{next(_numbers)}", "--group", group, *options, balance=balance, key=key)

    def name(self, stem: str) -> str:
        """A name that no other test uses."""
        return f"{stem}-{next(_numbers)}"

    def provider(self, *options: str, url: str | None = None, secret: str = "sk-upstream-own") -> str:
        """A fresh provider (by default at the upstream of `openai`) with one credential; its slug."""
        slug = self.name("host")
        self.home.ok("providers", "add", slug, "--protocol", "openai", "--base-url", f"{url or self.openai.url}/v1", *options)
        if "--no-auth" not in options:
            self.home.ok("credentials", "add", slug, "--from-env", "S", env={"S": secret})
        return slug

    def unpriced_model(self) -> str:
        """A model whose prices are gone. No command allows that, so the rows are removed behind its back."""
        public_id = self.model()
        execute(self.home, "DELETE FROM prices WHERE model_id = (SELECT id FROM models WHERE public_id = ?)", public_id)
        self.home.ok("models", "update", public_id, "--description", "without a price")  # a new version of the catalogue
        return public_id

    def model(self, *options: str, provider: str = "openai", price: tuple[str, str] = ("0.6", "2.4"), group: str = "g1") -> str:
        """A fresh chat model; its id."""
        public_id = self.name("model")
        prices = ("--input-price", price[0], "--output-price", price[1])
        self.home.ok("models", "add", public_id, "--provider", provider, *prices, "--group", group, *options)
        return public_id


def build(stack: ExitStack, directory: Path, *, url: str | None = None, workers: int = 1, fake_clock: bool = False,
          env: dict[str, str] | None = None, balance: str = "5", clock_at: int | None = None) -> World:  # fmt: skip
    """A world of its own: home, fixture, two upstreams, daemon. `stack` ends it. At `clock_at` (epoch s) time stands still."""
    home = make_home(directory, url=url, fake_clock=fake_clock or clock_at is not None)
    if clock_at is not None:
        home.clock.stand_at(clock_at)
    openai = stack.enter_context(ScriptedUpstream())
    claude = stack.enter_context(ScriptedUpstream())
    made: Fixture = provision(home, openai.url, claude.url, balance=balance)
    stack.callback(home.close)
    gateway = home.start(workers=workers, env=env)
    return World(home, gateway, openai, claude, made.alice, made.bob)


def refreshed(world: World, stack: ExitStack) -> World:
    """The same daemon with upstreams that nothing was told yet."""
    openai = stack.enter_context(ScriptedUpstream())
    claude = stack.enter_context(ScriptedUpstream())
    world.home.ok("providers", "update", "openai", "--base-url", f"{openai.url}/v1")
    world.home.ok("providers", "update", "anthropic", "--base-url", f"{claude.url}/v1")
    return replace(world, openai=openai, claude=claude)


def error_of(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of a reply that must be exactly this one, in the envelope of its API."""
    assert reply.status_code == status, f"{reply.status_code}: {reply.text[:500]}"
    assert reply.headers["content-type"].startswith("application/json")
    body = reply.json()
    error: dict[str, Any] = body["error"]
    if reply.request.url.path.endswith(":generateContent"):
        assert set(error) == {"code", "message", "status", "details"}
        assert error["code"] == status
        error = {**error, "code": error["details"][0]["reason"].lower()}
    elif reply.request.url.path.endswith(("/messages", "/messages/count_tokens")):
        assert (set(body), body["type"]) == ({"type", "error", "request_id"}, "error")
        assert set(error) == ENVELOPE - {"param"}
    else:
        beside = {"message"} if reply.request.url.path.endswith("/rerank") else set()  # where Cohere's clients look
        assert set(body) == {"error"} | beside
        assert set(error) >= ENVELOPE
    assert error["code"] == code, error
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


def raw_exchange(gateway: Gateway, request: bytes, *, limit_s: float = 10.0) -> tuple[int, dict[str, str], bytes]:
    """Send these very bytes on a connection of their own; status, headers (lower case), body.

    A reply without a Content-Length ends with its connection: the request should then say `Connection: close`.
    """
    received, length = b"", None
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=limit_s) as connection:
        connection.sendall(request)
        while length is None or len(received.partition(b"\r\n\r\n")[2]) < length:
            piece = connection.recv(65536)
            if not piece:
                break
            received += piece
            if found := re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n(?=.*\r\n\r\n)", received, re.DOTALL):
                length = int(found.group(1))
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


def execute(home: Home, statement: str, *values: str) -> None:
    """Run one statement behind the gateway's back; `?` stands for a value."""
    if home.url is not None:
        with psycopg.connect(home.url, autocommit=True) as server:
            server.execute(statement.replace("?", "%s").encode(), values)
        return
    with closing(sqlite3.connect(home.home / "gateway.db")) as connection, connection:
        connection.execute(statement, values)


def only_sqlite(home: Home) -> None:
    """Skip a test that looks into the file."""
    if home.url is not None:
        pytest.skip("looks into the file of SQLite")


def dump(home: Home) -> str:
    """Everything in the database: as `sqlite3 FILE .dump` shows it, or each table of a PostgreSQL as text."""
    if home.url is not None:
        return "\n".join(_rows(home.url))
    with closing(sqlite3.connect(home.home / "gateway.db")) as connection:
        return "\n".join(connection.iterdump())


def _rows(url: str) -> Iterator[str]:
    with psycopg.connect(url) as server:
        names = server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
        for (name,) in names:
            for (row,) in server.execute(f'SELECT t::text FROM "{name}" t ORDER BY 1'.encode()):
                yield f'INSERT INTO "{name}" {row}'


def data_lines(text: str) -> list[str]:
    """The payloads of an event stream."""
    return [line[6:] for line in text.splitlines() if line.startswith("data: ")]
