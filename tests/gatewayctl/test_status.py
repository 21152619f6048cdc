"""status repeats what a gateway says of itself, and says clearly when none answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.cli import Gateway

DATA = {
    "version": "0.1.0", "start_time": 1_700_000_000, "uptime_seconds": 12, "system_name": "gatewayctl",
    "server_address": "http://127.0.0.1", "docs_link": "", "status": "up",
    "upstreams": [{"name": "OpenAI", "status": "up", "latency_ms": 20, "checked_at": None}],
}  # fmt: skip
METRICS = """\
# HELP gatewayctl_requests_total Requests by endpoint and outcome
# TYPE gatewayctl_requests_total counter
gatewayctl_requests_total{endpoint="/v1/chat/completions",status="ok",stream="1"} 1234.0
gatewayctl_requests_total{endpoint="/v1/chat/completions",status="error",stream="0"} 6.0
gatewayctl_nanos_usd_total{kind="charged"} 1.5e+09
gatewayctl_nanos_usd_total{kind="upstream"} 9.0
gatewayctl_tokens_total{direction="input"} 100.0
gatewayctl_tokens_total{direction="output"} 50.0
gatewayctl_exchanges 3.0
gatewayctl_odd NaN
"""
Answers = dict[str, tuple[int, bytes]]


@pytest.fixture
def server() -> Iterator[Callable[[Answers], str]]:
    """Starts small HTTP servers with given answers; the function returns the base URL."""
    started: list[ThreadingHTTPServer] = []

    def start(answers: Answers) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answers.get(self.path, (404, b"{}"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Silent."""

        found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}).start()
        started.append(found)
        return f"http://127.0.0.1:{found.server_port}"

    yield start
    for one in started:
        one.shutdown()
        one.server_close()


def _status(data: object = DATA) -> bytes:
    return json.dumps({"success": True, "message": "", "data": data}).encode()


def test_what_it_says(local: Gateway, server: Callable[[Answers], str]) -> None:
    url = server({"/api/status": (200, _status()), "/metrics": (200, METRICS.encode())})
    found = local.json("status", "--url", f"{url}/")
    assert found == {
        "url": url,
        "status": "up",
        "name": "gatewayctl",
        "version": "0.1.0",
        "started_at": "2023-11-14T22:13:20.000Z",
        "uptime_seconds": 12,
        "load": {
            "running": 3, "requests": 1240, "errors": 6, "input_tokens": 100, "output_tokens": 50, "charged": "1.5",
        },
        "upstreams": DATA["upstreams"],
    }  # fmt: skip
    assert "OpenAI" in local.ok("status", "--url", url).out
    assert local.ok("status", "--url", url, "--quiet").out == "up\n"


def test_metrics_that_are_not_for_us_are_left_out(local: Gateway, server: Callable[[Answers], str]) -> None:
    found = local.json("status", "--url", server({"/api/status": (200, _status())}))
    assert found["load"] is None


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": []}', b'{"data": {"version": "1"}}'])
def test_something_else_on_the_port_is_said(local: Gateway, server: Callable[[Answers], str], body: bytes) -> None:
    result = local.run("status", "--url", server({"/api/status": (200, body)}))
    assert result.code == 1
    assert "not a gateway" in result.err


def test_nothing_on_the_port_is_said(local: Gateway) -> None:
    result = local.run("status", "--url", "http://127.0.0.1:1", "--json")
    assert result.code == 1
    assert result.json["error"]["code"] == "failed"
    assert "gatewayctl serve" in result.json["error"]["hint"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_default_is_where_serve_listens(local: Gateway, host: str) -> None:
    result = local.run("status", env={"GATEWAYCTL_PORT": "1", "GATEWAYCTL_HOST": host})
    assert "http://127.0.0.1:1" in result.err


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:8000", "http://"])
def test_what_is_no_url_is_said(local: Gateway, url: str) -> None:
    assert local.run("status", "--url", url).code == 1


def test_waiting_ends_when_it_answers_or_in_time(local: Gateway, server: Callable[[Answers], str]) -> None:
    assert local.run("status", "--url", "http://127.0.0.1:1", "--wait", "1s").code == 1
    url = server({"/api/status": (200, _status())})
    assert local.ok("status", "--url", url, "--wait", "30s", "--quiet").out == "up\n"
