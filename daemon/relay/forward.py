"""Forward a request that an admin allow-listed: authenticated, recorded, not billed."""

from __future__ import annotations

import time
from dataclasses import replace

from daemon.domain.catalog import Provider
from daemon.domain.errors import ApiError
from daemon.gateway import Gateway
from daemon.relay import attempts, settlement
from daemon.relay.client import Client
from daemon.upstream import headers
from daemon.upstream.base import Deadlines, UpstreamRequest
from daemon.upstream.errors import UpstreamError
from db.usage import UsageRow


async def forward(
    gateway: Gateway,
    provider: Provider,
    client: Client,
    record: UsageRow,
    *,
    method: str,
    path: str,
    query: str,
    request_headers: list[tuple[bytes, bytes]],
    key: bytes,
    body: bytes,
) -> None:
    """Relay one request and its reply as they are. Raises ApiError before the first byte."""
    stored = provider.stored
    if stored.paused:
        raise ApiError.of("provider_paused", provider=stored.slug)
    if not provider.usable:
        raise ApiError.of("no_active_api_keys", provider=stored.slug)
    credential = gateway.routes.credential(provider)
    secrets = (credential.secret.encode(),) if credential else ()
    request = UpstreamRequest(
        method=method,
        url=attempts.url_of(stored.base_url, path, query, key),
        headers=headers.request_headers(
            request_headers,
            stored.protocol,
            attempts.credential_header(provider, credential),
            secrets=(key,),
            user=record.user_id,
        ),
        body=body or None,
        deadlines=Deadlines(
            stored.connect_timeout_ms / 1000,
            stored.first_byte_timeout_ms / 1000,
            stored.read_timeout_ms / 1000,
            stored.total_timeout_ms / 1000,
        ),
    )
    began = time.monotonic()
    try:
        reply = await gateway.upstream(provider).send(request)
    except UpstreamError as error:
        raise attempts.timeout_or_error(error, stored.slug) from error
    try:
        if reply.status in attempts.CREDENTIAL_REFUSED or reply.status >= 500 or reply.status < 200:
            raise ApiError.of("upstream_error", provider=stored.slug, reason=f"it answered with status {reply.status}")
        await client.start(reply.status, headers.reply_headers(reply.headers, secrets=secrets))
        try:
            async for chunk in reply.chunks():
                reply.progress()
                await client.write(chunk)
        finally:
            spent = int((time.monotonic() - began) * 1000)
            await settlement.refused(gateway, replace(record, http_status=reply.status, latency_ms=spent))
        await client.finish()
    finally:
        await reply.aclose()
