"""`status`: what a running gateway says of itself, asked over HTTP."""

from __future__ import annotations

import re
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import typer

from gatewayctl import context, output, parse
from gatewayctl.addresses import public_base_url
from gatewayctl.context import state
from gatewayctl.errors import Failed

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 5.0
RETRY_S = 0.2
_SAMPLE = re.compile(r"(?P<name>[a-z_]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def command(
    url: str | None = typer.Option(None, "--url", metavar="U", help="Base URL; default: where serve listens."),
    wait: str | None = typer.Option(None, "--wait", metavar="T", help="Ask again until it answers, at most 30s, 2m …"),
) -> None:
    """Ask a running gateway: version, uptime, providers, load. Exit code 1 when it does not answer.

    Example: gatewayctl status --wait 30s
    """
    settings = context.settings()
    base = (url or public_base_url(settings)).rstrip("/")
    wait_s = 0 if wait is None else parse.duration_s(wait)
    found = _status(base, wait_s)
    load = _load(base, settings.metrics_token)
    shown = {
        "url": base,
        "status": found["status"],
        "name": found["system_name"],
        "version": found["version"],
        "started_at": _iso(found["start_time"]),
        "uptime_seconds": found["uptime_seconds"],
        "load": load,
        "upstreams": found["upstreams"],
    }
    if state.json or state.quiet:
        return output.record(shown, id="status")
    output.record(shown, hide=("upstreams", "load"))
    output.text("")
    if load is not None:
        output.record(load)
        output.text("")
    return output.rows(
        found["upstreams"], ("name", "status", "latency_ms", "checked_at"), right=("latency_ms",), empty="No providers yet."
    )


def _iso(start_time: int) -> str | None:
    from db import clock

    return clock.iso(start_time * 1000)


def _get(url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    import httpx

    # trust_env off: a proxy of the environment must not see the token, and could not reach this machine's loopback.
    with httpx.Client(trust_env=False, timeout=TIMEOUT_S, follow_redirects=False) as client:
        return client.get(url, headers=headers)


def _status(base: str, wait_s: int) -> dict[str, Any]:
    """`data` of GET /api/status. Failed when nothing answers, or something that is no gateway."""
    import httpx

    deadline = time.monotonic() + wait_s
    while True:
        try:
            response = _get(f"{base}/api/status")
            break
        except httpx.InvalidURL as error:
            raise Failed(f"{base!r} is not a URL", "Example: --url http://127.0.0.1:8000") from error
        except httpx.UnsupportedProtocol as error:
            raise Failed(f"{base!r} is not a URL", "Example: --url http://127.0.0.1:8000") from error
        except httpx.TransportError as error:
            if time.monotonic() >= deadline:
                hint = "Start it with: gatewayctl serve; or say where it is: --url http://host:port"
                raise Failed(f"No gateway answers at {base}", hint) from error
        time.sleep(RETRY_S)
    try:
        data = response.json()["data"]
        wanted = ("status", "system_name", "version", "start_time", "uptime_seconds", "upstreams")
        return {name: data[name] for name in wanted}
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(f"What answers at {base} is not a gateway", "Check the port: gatewayctl config show") from error


def _load(base: str, token: str) -> dict[str, Any] | None:
    """Figures since the start, or None where /metrics is not for us (another machine without a token)."""
    import httpx

    from db.money import format_usd

    try:
        response = _get(f"{base}/metrics", {"Authorization": f"Bearer {token}"} if token else None)
    except httpx.TransportError:
        return None
    if response.status_code != 200:
        return None
    samples = _samples(response.text)

    def total(name: str, **wanted: str) -> int:
        return sum(int(value) for labels, value in samples.get(name, []) if wanted.items() <= labels.items())

    return {
        "running": total("gatewayctl_exchanges"),
        "requests": total("gatewayctl_requests_total"),
        "errors": total("gatewayctl_requests_total", status="error"),
        "input_tokens": total("gatewayctl_tokens_total", direction="input"),
        "output_tokens": total("gatewayctl_tokens_total", direction="output"),
        "charged": format_usd(total("gatewayctl_nanos_usd_total", kind="charged")),
    }


def _samples(text: str) -> dict[str, list[tuple[dict[str, str], Decimal]]]:
    """Prometheus' text format: name → [(labels, value)]."""
    found: dict[str, list[tuple[dict[str, str], Decimal]]] = {}
    for line in text.splitlines():
        match = _SAMPLE.fullmatch(line.strip())
        if match and not line.startswith("#") and match["value"] not in {"NaN", "+Inf", "-Inf"}:
            labels = dict(_LABEL.findall(match["labels"] or ""))
            found.setdefault(match["name"], []).append((labels, Decimal(match["value"])))
    return found
