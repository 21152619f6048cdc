"""A daemon before one provider of every dialect of conversations, each a scripted upstream, for tests of what crosses over.

crossing = build(stack, directory)
side = crossing.sides["openai_chat"]         # provider, upstream, model
side.upstream.script(...)
reply = crossing.post(side.path(side.model), body, request_id="r-1")
record = crossing.record("r-1")              # the usage record; `crossing.cost(record)` is what it must have cost
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from daemon.protocols import dialects
from tests.support.gateway import Gateway, Home, User, make_home
from tests.support.upstream import ScriptedUpstream, json_reply

CHAT, RESPONSES, MESSAGES, GEMINI = "openai_chat", "openai_responses", "anthropic_messages", "gemini"
ALL = (CHAT, RESPONSES, MESSAGES, GEMINI)
SERVED = tuple(name for name in ALL if name in dialects.DIALECTS)
NOT_SERVED = "the daemon does not speak this dialect"
SECRET = "sk-upstream-crossing-0123456789"
# USD per million tokens: whole nano-USD per token, so that every amount is exact.
PRICES = {
    "input": "3", "cached_input": "0.3", "cache_write_5m": "3.75", "cache_write_1h": "6", "output": "15",
    "audio_input": "7", "audio_output": "31", "image_input": "5", "image_output": "40",
}  # fmt: skip
PER_PIECE = {"image": "0.04"}
FEATURES = ("tools", "json_mode", "structured_outputs", "vision", "reasoning", "streaming")
_numbers = itertools.count(1)

# dialect -> slug of its provider, protocol and API in the provider's settings, model
_PROVIDERS = {
    CHAT: ("chat-host", "openai", "chat", "crossing-chat"),
    RESPONSES: ("responses-host", "openai", "responses", "crossing-responses"),
    MESSAGES: ("messages-host", "anthropic", None, "crossing-claude-sonnet-4-6"),
    GEMINI: ("gemini-host", "gemini", None, "crossing-gemini-2.5-pro"),
}


# The least that is a reply.
_WORDS = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok", "annotations": []}]}
SERVED_REPLIES: dict[str, dict[str, Any]] = {
    CHAT: {"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]},
    RESPONSES: {"id": "r", "object": "response", "status": "completed", "output": [{"id": "m", **_WORDS}]},
    MESSAGES: {
        "id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "ok"}],
        "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1},
    },
    GEMINI: {"candidates": [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP"}]},
}  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One dialect: the provider that speaks it, and the model that only this provider serves."""

    dialect: str
    provider: str
    model: str
    upstream: ScriptedUpstream

    @property
    def alias(self) -> str:
        """Another name of the model."""
        return f"also-{self.model}"


@dataclass
class Crossing:
    """`sides` by dialect; `user` may call every model."""

    home: Home
    gateway: Gateway
    sides: dict[str, Side]
    user: User

    def new_id(self) -> str:
        """A request id that no other request has."""
        return f"crossing-{next(_numbers)}"

    def post(
        self, path: str, body: Any, *, request_id: str | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """POST, read to the end."""
        named = {} if request_id is None else {"X-Request-Id": request_id}
        return self.gateway.post(path, self.user.key, body, headers=named | (headers or {}))

    def recover(self, dialect: str) -> None:
        """Let a provider serve one request, so that it is not taken for dead after all the failures that tests make."""
        side = self.sides[dialect]
        side.upstream.always(json_reply(SERVED_REPLIES[dialect]))
        reply = self.post(path_of(CHAT, side.model), {"model": side.model, "messages": [{"role": "user", "content": "hi"}]})
        assert reply.status_code == 200, reply.text

    def refresh_credential(self, dialect: str) -> None:
        """Give a provider a credential that nobody refused: one that was rests for a while."""
        name = f"fresh-{next(_numbers)}"
        added = ("credentials", "add", self.sides[dialect].provider, "--name", name, "--from-env", "S")
        self.home.ok(*added, env={"S": f"{SECRET}-{name}"})

    def record(self, request_id: str) -> dict[str, Any]:
        """The one usage record of a request; its cost is checked against the prices."""
        found = self.home.record_of(request_id)
        cost = sum((count * _price(meter) for meter, count in found["usage"].items()), Decimal(0))
        assert Decimal(found["cost"]) == Decimal(found["charged"]) == cost, found
        return found


def _price(meter: str) -> Decimal:
    if meter in PRICES:
        return Decimal(PRICES[meter]) / 1_000_000
    return Decimal(PER_PIECE.get(meter.partition("/")[0], "0"))


def path_of(dialect: str, model: str, *, stream: bool = False) -> str:
    """The unified route of a dialect."""
    if dialect == GEMINI:
        return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")
    return {CHAT: "/v1/chat/completions", RESPONSES: "/v1/responses", MESSAGES: "/v1/messages"}[dialect]


def model_options(group: str = "all") -> list[str]:
    """Prices and features of a model that can do everything."""
    priced = [option for meter, usd in (PRICES | PER_PIECE).items() for option in ("--price", f"{meter}={usd}")]
    featured = [option for feature in FEATURES for option in ("--feature", feature)]
    return [*priced, *featured, "--media-tokens", "2000", "--modality", "text", "--modality", "image", "--group", group]


def build(stack: ExitStack, directory: Path) -> Crossing:
    """A home with a provider and a model per dialect, its daemon, and the upstreams. `stack` ends it."""
    home = make_home(directory)
    home.ok("groups", "create", "all")
    sides = {}
    for dialect in SERVED:
        slug, protocol, chat_api, model = _PROVIDERS[dialect]
        upstream = stack.enter_context(ScriptedUpstream())
        api = ("--chat-api", chat_api) if chat_api else ()
        version = "v1beta" if dialect == GEMINI else "v1"
        home.ok("providers", "add", slug, "--protocol", protocol, "--base-url", f"{upstream.url}/{version}", *api)
        home.ok("credentials", "add", slug, "--from-env", "S", env={"S": SECRET})
        home.ok("models", "add", model, "--provider", slug, "--alias", f"also-{model}", *model_options())
        sides[dialect] = Side(dialect, slug, model, upstream)
    stack.callback(home.close)
    user = home.user("carol", "--group", "all", balance="10000")
    made = Crossing(home, home.start(), sides, user)
    made.recover(CHAT)  # tells no usage: what the daemon counts of a stream that breaks is approximate until it counted once
    return made
