"""A daemon over four scripted hosts, one for each API of conversation, with a model of each, for clients to try."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.clients.openai_hosts import chat_host, responses_host
from tests.clients.other_hosts import gemini_host, messages_host
from tests.clients.persona import Decide, decide
from tests.support.gateway import Gateway, Home, make_home
from tests.support.upstream import Answer, ScriptedUpstream

CHAT, RESPONSES, MESSAGES, GEMINI = "gpt-4.1", "gpt-4.1-mini", "claude-sonnet-4-6", "gemini-2.5-flash"
MODELS: Final = (CHAT, RESPONSES, MESSAGES, GEMINI)
EMBEDDING, IMAGE, SPEECH, TRANSCRIPTION = "text-embedding-3-small", "gpt-image-1", "tts-1", "whisper-1"
PAUSED: Final = "paused-model"
ALIAS: Final = "fast"
# slug → options of `providers add`, the path of its base URL, what it answers with, its chat model
HOSTS: Final[Mapping[str, tuple[tuple[str, ...], str, Callable[..., Answer], str]]] = {
    "chat-host": (("--protocol", "openai", "--chat-api", "chat"), "/v1", chat_host, CHAT),
    "responses-host": (("--protocol", "openai", "--chat-api", "responses"), "/v1", responses_host, RESPONSES),
    "messages-host": (
        (
            "--protocol",
            "anthropic",
        ),
        "/v1",
        messages_host,
        MESSAGES,
    ),
    "gemini-host": (
        (
            "--protocol",
            "gemini",
        ),
        "/v1beta",
        gemini_host,
        GEMINI,
    ),
}
PRICE: Final = ("--input-price", "0.6", "--output-price", "2.4")
FEATURES: Final = ("tools", "json_mode", "structured_outputs", "vision")
ONE_SHOT: Final = {
    EMBEDDING: ("--type", "embedding", "--input-price", "0.02"),
    IMAGE: ("--type", "image", "--price", "image=0.04"),
    SPEECH: ("--type", "audio", "--price", "character=0.000015"),
    TRANSCRIPTION: ("--type", "audio", "--price", "second=0.0001"),
}


@dataclass(frozen=True)
class Stage:
    """`hosts` are the upstreams by the slug of their provider; `case` is what a client's script is told."""

    home: Home
    gateway: Gateway
    hosts: Mapping[str, ScriptedUpstream]
    case: Mapping[str, Any]

    @property
    def key(self) -> str:
        return str(self.case["key"])

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a script."""
        return {"CLIENT_CASE": json.dumps(dict(self.case))}


def raise_stage(stack: ExitStack, directory: Path, decide: Decide = decide) -> Stage:
    """Everything that a client may want: models of each dialect, a rich key and a poor one, a provider that is paused."""
    home = make_home(directory)
    hosts = {}
    for slug, (options, path, handler, model) in HOSTS.items():
        hosts[slug] = upstream = stack.enter_context(ScriptedUpstream())
        upstream.always(partial(handler, decide=decide))
        add_provider(home, slug, f"{upstream.url}{path}", *options)
        add_model(home, model, slug, *(("--alias", ALIAS) if model == CHAT else ()))
    for model, options in ONE_SHOT.items():
        home.ok("models", "add", model, "--provider", "chat-host", *options)
    add_provider(home, "paused-host", f"{hosts['chat-host'].url}/v1", "--protocol", "openai")
    add_model(home, PAUSED, "paused-host")
    home.ok("providers", "pause", "paused-host")
    rich, poor = home.user("rich", balance="1000"), home.user("poor", balance=None)
    stack.callback(home.close)
    gateway = home.start()
    case = {
        "url": gateway.url, "key": rich.key, "poor_key": poor.key, "paused_model": PAUSED, "models": MODELS,
        "names": [CHAT, ALIAS, f"gemini-host#{GEMINI}"],
        "embedding_model": EMBEDDING, "image_model": IMAGE, "speech_model": SPEECH, "transcription_model": TRANSCRIPTION,
    }  # fmt: skip
    return Stage(home, gateway, hosts, case)


def add_provider(home: Home, slug: str, url: str, *options: str) -> None:
    """A provider with one credential."""
    home.ok("providers", "add", slug, "--base-url", url, *options)
    home.ok("credentials", "add", slug, "--from-env", "HOST_SECRET", env={"HOST_SECRET": "sk-of-the-host"})


def add_model(home: Home, model: str, provider: str, *options: str) -> None:
    """A chat model that can do everything."""
    features = [option for name in FEATURES for option in ("--feature", name)]
    home.ok("models", "add", model, "--provider", provider, *PRICE, "--streaming", *features, *options)
