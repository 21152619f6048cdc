"""The addresses by which clients reach this gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from db.settings import Settings


def public_base_url(settings: Settings) -> str:
    """The setting, or the address that serve listens on; without a slash at the end."""
    if settings.public_base_url:
        return settings.public_base_url.rstrip("/")
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def base_urls(root: str, slugs: Sequence[str]) -> list[dict[str, str]]:
    """Every base URL: {"path", "url", "for"}."""
    paths = [
        ("/v1", "OpenAI clients"),
        ("", "clients that add /v1 themselves (Anthropic)"),
        ("/api", "the same, as other gateways have it"),
        ("/api/v1", "the same, as other gateways have it"),
        ("/ai", "the same, as other gateways have it"),
        ("/ai/v1", "the same, as other gateways have it"),
    ]
    paths += [(f"/v1/{slug}", f"{slug} in its own format, unchanged") for slug in slugs]
    return [{"path": path or "/", "url": f"{root}{path}", "for": purpose} for path, purpose in paths]
