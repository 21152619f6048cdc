"""`providers test` and `sync-models` against a provider on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.cli import Gateway

SECRET = "sk-upstream-canary-000"


class Provider(ThreadingHTTPServer):
    """Answers GET /v1/models with `status` and `body`; remembers the headers."""

    status = 200
    body: bytes = b"{}"
    seen: list[dict[str, str]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def lists(self, *ids: str) -> None:
        self.body = json.dumps({"data": [{"id": model} for model in ids]}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider(("127.0.0.1", 0), _Handler)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def ready(local: Gateway, provider: Provider) -> Gateway:
    local.ok("init")
    local.ok("providers", "add", "openai", "--base-url", provider.url)
    local.ok("credentials", "add", "openai", "--from-env", "S", env={"S": SECRET})
    return local


def test_a_provider_that_answers(ready: Gateway, provider: Provider) -> None:
    provider.lists("gpt-4o-mini", "gpt-4o")
    result = ready.json("providers", "test", "openai")
    assert (result["ok"], result["models"]) == (True, 2)
    assert provider.seen[0]["authorization"] == f"Bearer {SECRET}"
    assert provider.seen[0]["path"] == "/v1/models"


def test_the_header_and_prefix_that_were_set_are_used(ready: Gateway, provider: Provider) -> None:
    provider.lists()
    ready.ok("providers", "update", "openai", "--auth-header", "X-Key", "--auth-prefix", "")
    ready.ok("providers", "test", "openai")
    assert provider.seen[0]["x-key"] == SECRET
    assert "authorization" not in provider.seen[0]


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [(401, SECRET, "refuses the credential"), (500, SECRET, "HTTP 500"), (302, "", "HTTP 302"), (200, "[1]", "no list")],
)
def test_a_provider_that_does_not_answer_as_it_should(
    ready: Gateway, provider: Provider, status: int, body: str, word: str
) -> None:
    provider.status, provider.body = status, body.encode()
    result = ready.run("providers", "test", "openai")
    assert (result.code, result.out) == (1, "")
    assert word in result.err
    assert SECRET not in result.err
    assert len(provider.seen) == 1  # a redirect is not followed


def test_nobody_listens_or_no_credential(ready: Gateway) -> None:
    ready.ok("providers", "update", "openai", "--base-url", "http://127.0.0.1:9/v1")
    assert ready.run("providers", "test", "openai").code == 1
    ready.ok("credentials", "disable", "openai/default")
    assert ready.run("providers", "test", "openai").code == 4


def test_sync_adds_what_has_a_known_price(ready: Gateway, provider: Provider) -> None:
    provider.lists("gpt-4o-mini", "gpt-4o", "no-such-model", "text-embedding-3-small")
    ready.ok("models", "add", "gpt-4o", "--provider", "openai", "--price", "input=1", "--price", "output=1")
    planned = {row["id"]: row["action"] for row in ready.json("providers", "sync-models", "openai", "--dry-run")}
    assert planned == {
        "gpt-4o-mini": "would be added",
        "gpt-4o": "exists",
        "no-such-model": "no known price",
        "text-embedding-3-small": "would be added",
    }
    assert len(ready.json("models", "list")) == 1
    ready.ok("providers", "sync-models", "openai", "--match", "gpt*")
    found = {row["id"]: row["prices"]["input"] for row in ready.json("models", "list")}
    assert found == {"gpt-4o": "1", "gpt-4o-mini": "0.15"}
    ready.ok("providers", "sync-models", "openai")
    assert ready.json("models", "show", "text-embedding-3-small")["type"] == "embedding"
