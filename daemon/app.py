"""The composition root: the only module that names every concrete part of a worker."""

from __future__ import annotations

import asyncio
import logging
import ssl
from functools import partial
from typing import cast

from quart import Quart, request
from werkzeug.routing import BaseConverter

from daemon import log
from daemon.api import account, errors, health, models, openapi, pricing
from daemon.api.billable import UNIFIED, URL_NAMED
from daemon.api.count_tokens import PATHS as COUNT_PATHS
from daemon.api.front import Asgi, Front
from daemon.api.paths import RESERVED
from daemon.domain.catalog import Provider
from daemon.domain.errors import ApiError
from daemon.gateway import Gateway
from daemon.metrics import Metrics
from daemon.shared_counters import SharedCounters
from daemon.snapshot import Snapshot
from daemon.store import Store
from daemon.tasks import Tasks
from daemon.token_counter import TokenCounter
from daemon.upstream.base import Upstream
from daemon.upstream.demo import DemoUpstream
from daemon.upstream.httpx_client import Provider as HttpProvider
from daemon.upstream.send import Upstream as Connections
from daemon.upstream.transport import tls_context
from daemon.watchdog import Watchdog
from db import __version__, deployments, processes
from db.secrets import MasterKeys
from db.settings import Settings

KEEPALIVE_S = 15.0


async def make_gateway(settings: Settings, master: MasterKeys) -> Gateway:
    """Open the database threads, register this process as an owner of holds, read the catalogue."""
    metrics = Metrics()

    def failed(error: BaseException) -> None:
        metrics.database_error()
        log.error("background write failed", error=type(error).__name__, text=str(error)[:300])

    store = Store(on_error=failed)
    counters = SharedCounters(settings.redis_url) if settings.redis_url else None
    if counters is not None:
        await counters.start()
    process_id = await store.write(processes.register)
    await store.write(deployments.forget_open)
    return Gateway(
        settings=settings,
        store=store,
        snapshot=await Snapshot.open(store, master),
        tasks=Tasks(),
        watchdog=Watchdog(),
        metrics=metrics,
        process_id=process_id,
        make_upstream=partial(make_upstream, await asyncio.to_thread(tls_context)),
        tokens=TokenCounter(),
        counters=counters,
    )


def make_upstream(tls: ssl.SSLContext, provider: Provider) -> Upstream:
    """The way to a provider, by its protocol."""
    stored = provider.stored
    if stored.protocol == "demo":
        return cast(Upstream, DemoUpstream())
    connections = Connections(limit=stored.max_connections, keepalive_s=KEEPALIVE_S, tls=tls, version=__version__)
    return cast(Upstream, HttpProvider(connections))


def create_app(gateway: Gateway) -> Quart:
    """Quart with every route, behind the ASGI front."""
    app = Quart("daemon", static_folder=None)
    app.config.update(
        RESPONSE_TIMEOUT=None,
        BODY_TIMEOUT=30,
        MAX_CONTENT_LENGTH=gateway.settings.max_body_bytes,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["provider"] = _ProviderSlug
    for module in (models, account, health, openapi, pricing):
        app.register_blueprint(module.make_blueprint(gateway))
    for path in UNIFIED:
        app.add_url_rule(path, f"billable {path}", _answered_by_the_front, methods=["POST"])
    for path in URL_NAMED:
        app.add_url_rule(path, f"billable {path}", _answered_by_the_front, methods=["POST"])
    for path in COUNT_PATHS:
        app.add_url_rule(path, f"free {path}", _answered_by_the_front, methods=["POST"])
    app.add_url_rule("/v1/<provider:slug>/<path:endpoint>", "billable prefixed", _answered_by_the_front, methods=["POST"])
    errors.install(app)
    app.asgi_app = Front(cast(Asgi, app.asgi_app), lambda: gateway)
    for name in ("httpx", "httpcore", "aiohttp", "asyncio", "quart.app", "quart.serving", "hypercorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return app


class _ProviderSlug(BaseConverter):
    """Any segment but a reserved one: /v1/chat/… is never the front's."""

    regex = f"(?!(?:{'|'.join(sorted(RESERVED))})$)[^/]+"
    part_isolating = True


async def _answered_by_the_front(**parts: str) -> None:
    """Here so that other methods are 405. What comes this far is another spelling (an escaped slash): nobody's path."""
    raise ApiError.of("unknown_url", method=request.method, path=request.path)
