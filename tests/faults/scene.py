"""A gateway between a scripted upstream and clients, with customers to charge: what every fault test starts from.

A request says in its own prompt how the upstream shall answer it (`Order`), so that thousands with different faults can
run at once, and carries its request id there, so that the oracle knows which requests the upstream saw.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.support.gateway import Gateway, Home, make_home
from tests.support.upstream import (
    Answer,
    Close,
    Received,
    Reset,
    ScriptedUpstream,
    Stall,
    Step,
    Until,
    Wait,
    chat_frames,
    chat_reply,
    chunk,
    error_reply,
    head,
)

MODEL, OTHER = "fault-model", "fault-model-b"
INPUT_USD, OUTPUT_USD = Decimal("3"), Decimal("15")  # per million tokens
PROMPT_TOKENS = 50
PROVIDER_CANARY = "sk-canaryProviderSecret0123456789abcdefXYZ"
PROMPT_CANARY = "canary-prompt-5d1f0b"
REPLY_CANARY = "canary-reply-9a77c2"


@dataclass(frozen=True)
class Order:
    """How the upstream answers one request. `pieces` are output tokens; `fault` happens after `fault_at` of them."""

    id: str
    pieces: int = 10
    delay_ms: int = 0  # before the head
    pace_ms: int = 0  # between pieces
    fault: str = ""  # reset, close, stall (mid-reply); refuse_NNN (a status)
    fault_at: int = 0
    usage: bool = True

    def body(self, *, stream: bool, model: str = MODEL, max_tokens: int | None = None, **more: Any) -> bytes:
        """The request's body; `max_tokens` defaults to exactly what the upstream will say."""
        prompt = f"{PROMPT_CANARY} {json.dumps(asdict(self))}"
        return json.dumps(
            {
                "model": model,
                "messages": [{"role": "user", "content": prompt}],
                "stream": stream,
                "max_tokens": self.pieces if max_tokens is None else max_tokens,
                **more,
            }
        ).encode()

    @property
    def cost(self) -> Decimal:
        """What it costs in USD when it is answered whole, with usage."""
        return (PROMPT_TOKENS * INPUT_USD + self.pieces * OUTPUT_USD) / 1_000_000


def order_of(request: Received) -> Order | None:
    """The order in a request; None when it carries none."""
    try:
        content = request.json["messages"][-1]["content"]
        return Order(**json.loads(content[content.index("{") :]))
    except (ValueError, KeyError, TypeError, IndexError):
        return None


@dataclass
class Kitchen:
    """Answers orders, and remembers which it saw. Each piece names its order, so that a mixed-up reply is noticed."""

    seen: dict[str, int] = field(default_factory=dict)
    requests: dict[str, Received] = field(default_factory=dict)
    keep: bool = False  # the requests themselves too
    gate: threading.Event | None = None  # no answer before it is set
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Received) -> Answer:
        order = order_of(request)
        if order is None:
            return error_reply(400, "no order")
        with self.lock:
            self.seen[order.id] = self.seen.get(order.id, 0) + 1
            if self.keep:
                self.requests[order.id] = request
        return self._steps(order, bool(request.json.get("stream")), request.json["model"])

    def _steps(self, order: Order, stream: bool, model: str) -> Iterator[Step]:
        if self.gate is not None:
            yield Until(self.gate)
        if order.delay_ms:
            yield Wait(order.delay_ms / 1000)
        if order.fault.startswith("refuse_"):
            yield from error_reply(int(order.fault[7:]))
            return
        usage = None
        if order.usage:
            total = PROMPT_TOKENS + order.pieces
            usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": order.pieces, "total_tokens": total}
        pieces = [f"{REPLY_CANARY}:{order.id}:{number} " for number in range(order.pieces)]
        if not stream:
            if order.fault:
                yield head(200, [("Content-Type", "application/json"), ("Content-Length", "5000")]) + b'{"half":'
                yield _end(order.fault)
                return
            yield from chat_reply("".join(pieces), usage, model=model)
            return
        frames = chat_frames(pieces, usage, model=model)
        yield head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])
        for number, frame in enumerate(frames):
            if order.fault and number == order.fault_at + 1:
                yield _end(order.fault)
                return
            text = frame if isinstance(frame, str) else json.dumps(frame)
            last = chunk(b"") if number == len(frames) - 1 else b""
            yield chunk(f"data: {text}\n\n".encode()) + last
            if order.pace_ms and number < len(frames) - 3:
                yield Wait(order.pace_ms / 1000)


def _end(fault: str) -> Step:
    return {"reset": Reset(), "close": Close(), "stall": Stall()}[fault]


@dataclass
class Customer:
    """A user with a key and the top-ups that were acknowledged."""

    name: str
    key: str
    topups: list[Decimal]


@dataclass
class Scene:
    """Upstream, home and customers. `start()` runs the gateway; `gateways` are all that ever ran."""

    home: Home
    upstream: ScriptedUpstream
    kitchen: Kitchen
    customers: list[Customer]

    def start(self, *, workers: int = 1, port: int | None = None, **env: str) -> Gateway:
        """Run the gateway on the home."""
        return self.home.start(workers=workers, port=port, env=env)

    @property
    def url(self) -> str:
        """The database's URL."""
        return self.home.database

    @property
    def logs(self) -> list[Path]:
        """The logs of every daemon that ran."""
        return [gateway.log_path for gateway in self.home.running]

    def customer(self, name: str, balance: str = "100", *options: str) -> Customer:
        """One more user with a key."""
        user = self.home.user(name, *options, balance=balance)
        made = Customer(name, user.key, [Decimal(balance)])
        self.customers.append(made)
        return made


def make_scene(
    directory: Path,
    upstream: ScriptedUpstream,
    *,
    url: str | None = None,
    balances: Sequence[str] = ("100",),
    provider: Sequence[str] = (),
    model: Sequence[str] = (),
) -> Scene:
    """A provisioned home over a running upstream; `provider` and `model` are more options of their commands."""
    kitchen = Kitchen()
    upstream.always(kitchen)
    home = make_home(directory, url=url)
    home.ok(
        "providers", "add", "up", "--protocol", "openai", "--base-url", f"{upstream.url}/v1",
        "--max-connections", "4096", *provider,
    )  # fmt: skip
    home.ok("credentials", "add", "up", "--from-env", "SECRET", env={"SECRET": PROVIDER_CANARY})
    home.ok(
        "models", "add", MODEL, "--provider", "up", "--input-price", str(INPUT_USD), "--output-price", str(OUTPUT_USD), *model
    )
    scene = Scene(home, upstream, kitchen, [])
    for number, balance in enumerate(balances):
        scene.customer(f"customer-{number}", balance)
    return scene


_environment = dict(os.environ)  # read before the tests' own fixtures clear such variables


def amount(name: str, default: int) -> int:
    """A number that the environment may raise: how many kills, how many clients."""
    return int(_environment.get(name, default))
