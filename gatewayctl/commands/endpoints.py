"""gatewayctl endpoints: every base URL that clients may use."""

from __future__ import annotations

from gatewayctl import context, output
from gatewayctl.addresses import base_urls, public_base_url

DEFAULT_SLUGS = ("openai", "anthropic")


def command() -> None:
    """Print every base URL that clients may use (from the setting public_base_url).

    Example: gatewayctl endpoints
    """
    from db import providers

    context.open_database()
    slugs = sorted({*DEFAULT_SLUGS, *(view.slug for view in providers.list_all())})
    rows = base_urls(public_base_url(context.settings()), slugs)
    output.rows(rows, ("url", "for"), id="url")
