"""A gateway as its users have it: a home, the command line over it, and the daemon as a process of its own.

    home = make_home(tmp_path)                     # or make_home(tmp_path, url=server.new_database())
    home.ok("users", "create", "alice")            # a command in this process; home.shell(...) is a real process
    with ScriptedUpstream() as up, home.start(workers=2) as gateway:
        fixture = provision(home, up.url)          # alice, bob, their keys, two providers, six models
        reply = gateway.chat(fixture.alice.key, model="gpt-4o-mini")
        assert gateway.stop() == 0

A home that was made with `fake_clock=True` has a `clock` that moves commands and daemon together.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from db import clock
from tests.support import cli
from tests.support.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 20.0
STOP_LIMIT_S = 45.0
PRESS = 10.0  # seconds that a plain request may take

OPENAI_SECRET = "sk-upstream-AAA"
ANTHROPIC_SECRET = "sk-ant-upstream-BBB"
CHAT, ALIAS, CLAUDE, SECRET = "gpt-4o-mini", "altllm-basic", "claude-3-5-sonnet-20240620", "secret-model"
EMBEDDING, IMAGE = "text-embedding-3-small", "gpt-image-1"


@dataclass
class FakeClock:
    """The file that GATEWAYCTL_FAKE_CLOCK names."""

    path: Path

    def forward(self, seconds: int) -> None:
        """So many seconds ahead of the real time."""
        self._write(str(seconds))

    def stand_at(self, epoch_s: int) -> None:
        """Stand still at this instant."""
        self._write(f"={epoch_s}")

    def _write(self, text: str) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.path)  # a reader never sees half of it


class Home(cli.Gateway):
    """A home with its database, and commands over it. `run`, `ok` and `json` run a command in this process."""

    def __init__(self, home: Path, url: str | None = None, *, fake_clock: bool = False) -> None:
        super().__init__(home, url)
        self.clock = FakeClock(home / "clock")
        self.has_fake_clock = fake_clock
        self.running: list[Gateway] = []
        if fake_clock:
            self.clock.forward(0)

    @property
    def database(self) -> str:
        return self.url or f"sqlite:///{self.home / 'gateway.db'}"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a process over this home needs: the developer's own variables do not reach it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAYCTL_")}
        kept |= {"GATEWAYCTL_HOME": str(self.home), "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
        if self.url:
            kept["GATEWAYCTL_DB"] = self.url
        if self.has_fake_clock:
            kept[clock.FAKE_CLOCK_VARIABLE] = str(self.clock.path)
        return kept | dict(extra or {})

    def run(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> cli.Result:
        earlier = clock._fake_path
        clock._fake_path = str(self.clock.path) if self.has_fake_clock else None
        try:
            return super().run(*arguments, stdin=stdin, env=env)
        finally:
            clock._fake_path = earlier

    def shell(
        self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None, timeout_s: float = 30
    ) -> cli.Result:
        """Run `gatewayctl …` as a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "gatewayctl", *arguments],
            input=stdin, env=self.environment(env), cwd=ROOT, capture_output=True, text=True, timeout=timeout_s,
        )  # fmt: skip
        return cli.Result(done.returncode, done.stdout, done.stderr)

    def key(self, user: str, *options: str) -> str:
        """A fresh key of a user."""
        return self.ok("keys", "create", "--user", user, "--quiet", *options).out.strip()

    def user(self, name: str, *options: str, balance: str | None = "5", key: Sequence[str] = ()) -> User:
        """A fresh user with money and a key."""
        self.ok("users", "create", name, *options)
        if balance is not None:
            self.ok("topup", name, balance)
        made = self.json("keys", "create", "--user", name, *key)
        return User(name, made["key"], made["id"])

    def balance(self, user: str) -> str:
        return str(self.json("balances", "show", user)["balance"])

    def usage(self, *options: str) -> list[dict[str, Any]]:
        """Usage records, the newest first."""
        rows: list[dict[str, Any]] = self.json("usage", "log", *options)
        return rows

    def record_of(self, request_id: str, timeout_s: float = 5.0) -> dict[str, Any]:
        """The one usage record of a request; it is written a moment after the reply's last byte."""
        deadline = time.monotonic() + timeout_s
        while True:
            rows = self.usage("--request-id", request_id)
            if rows or time.monotonic() > deadline:
                assert len(rows) == 1, f"{len(rows)} usage records of {request_id}"
                return rows[0]
            time.sleep(0.02)

    def start(self, *, workers: int = 1, env: Mapping[str, str] | None = None, port: int | None = None) -> Gateway:
        """The daemon over this home, answering."""
        return Gateway(self, workers=workers, env=env or {}, port=port or free_port())

    def close(self) -> None:
        """End every daemon that this home started and that still runs."""
        for gateway in self.running:
            gateway.kill()


@dataclass(frozen=True)
class User:
    """A user with one key."""

    name: str
    key: str
    key_id: str


class Gateway:
    """A running daemon: `url`, `log`, `stop()`, `kill()`, and the calls that tests make most."""

    def __init__(self, home: Home, *, workers: int, env: Mapping[str, str], port: int) -> None:
        self.home = home
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log_path = home.home / f"daemon-{len(home.running)}.log"
        settings = {"GATEWAYCTL_LOG_LEVEL": "debug", "GATEWAYCTL_LOG_FORMAT": "json", "GATEWAYCTL_FREE_AUTH_FAILURES": "0"}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gatewayctl", "serve", "--port", str(port), "--workers", str(workers)],
                env=home.environment({**settings, **env}), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        home.running.append(self)
        self.client = httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=PRESS)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            try:
                if self.client.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the daemon did not start:\n{self.log[-4000:]}")
            time.sleep(0.02)

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """Everything that it wrote so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log's lines."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def workers(self) -> list[int]:
        """Process ids of the workers (the daemon's own when it has but one)."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children] or [self.process.pid]

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM and wait; the exit code."""
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.process.wait(STOP_LIMIT_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL for the daemon and every worker at once; harmless when it has ended."""
        self.client.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # its own session: the group is the daemon and its workers
            self.process.wait(10)

    # -- calls

    def headers(self, key: str | None) -> dict[str, str]:
        return {} if key is None else {"Authorization": f"Bearer {key}"}

    def get(self, path: str, key: str | None = None, **options: Any) -> httpx.Response:
        """GET, with a key as bearer token when there is one."""
        return self.client.get(path, headers=self.headers(key) | options.pop("headers", {}), **options)

    def post(self, path: str, key: str | None = None, body: Any = None, **options: Any) -> httpx.Response:
        """POST a JSON body; bytes go as they are."""
        headers = self.headers(key) | options.pop("headers", {})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if not isinstance(body, bytes):
            headers = {"Content-Type": "application/json"} | headers
        return self.client.post(path, content=content, headers=headers, **options)

    def chat(
        self, key: str | None, text: str = "hi", *, model: str = CHAT, path: str = "/v1/chat/completions", **body: Any
    ) -> httpx.Response:
        """A chat completion of one user message; `body` adds fields."""
        return self.post(path, key, ask(text, model=model, **body))


def ask(text: str = "hi", *, model: str = CHAT, **body: Any) -> dict[str, Any]:
    """The body of a chat completion of one user message."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **body}


_template: Path | None = None


def _initialised() -> Path:
    """A home after `init` on SQLite; made once in a test run and copied from then on."""
    global _template
    if _template is None:
        directory = Path(tempfile.mkdtemp(prefix="gateway-template-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        Home(directory).ok("init")
        _template = directory
    return _template


def make_home(directory: Path, *, url: str | None = None, fake_clock: bool = False) -> Home:
    """An initialised home in a fresh directory; on SQLite, or on the empty database at `url`."""
    if url is not None:
        directory.mkdir(parents=True, exist_ok=True)
        home = Home(directory, url, fake_clock=fake_clock)
        home.ok("init")
        return home
    shutil.copytree(_initialised(), directory, dirs_exist_ok=True)
    return Home(directory, fake_clock=fake_clock)


@dataclass(frozen=True)
class Fixture:
    """What `provision` made."""

    home: Home
    alice: User
    bob: User


def provision(home: Home, openai_url: str, anthropic_url: str | None = None, *, balance: str = "5") -> Fixture:
    """The fixture of the checklist: alice in g1 with $5, bob in g2; two providers, five public models and a secret one.

    `openai` speaks chat completions, `anthropic` the Messages API. URLs are those of scripted upstreams, without /v1.
    """
    for group in ("g1", "g2"):
        home.ok("groups", "create", group)
    for slug, name, url, secret in (
        ("openai", "OpenAI", openai_url, OPENAI_SECRET),
        ("anthropic", "Claude", anthropic_url or openai_url, ANTHROPIC_SECRET),
    ):
        home.ok("providers", "add", slug, "--protocol", slug, "--name", name, "--base-url", f"{url}/v1")
        home.ok("credentials", "add", slug, "--from-env", "UPSTREAM_SECRET", env={"UPSTREAM_SECRET": secret})
    price = ("--input-price", "0.6", "--output-price", "2.4")
    home.ok("models", "add", CHAT, "--provider", "openai", *price, "--group", "g1", "--alias", ALIAS)
    home.ok(
        "models", "add", CLAUDE, "--provider", "anthropic",
        "--input-price", "3", "--output-price", "15", "--group", "g1",
    )  # fmt: skip
    home.ok("models", "add", EMBEDDING, "--provider", "openai", "--group", "g1")
    home.ok("models", "add", IMAGE, "--provider", "openai", "--group", "g1")
    home.ok("models", "add", SECRET, "--provider", "openai", *price, "--private", "--group", "g2")
    alice = home.user("alice", "--group", "g1", balance=balance)
    bob = home.user("bob", "--group", "g2", balance=None)
    return Fixture(home, alice, bob)
