"""The ASGI front: every request passes here first. Billable endpoints are answered here, the rest goes to Quart.

A plain ASGI callable serves a third more requests than Quart's request machinery, so the hot endpoints do without it.
The life of a billable request runs in a task of the app's own (daemon.relay.exchange); this handler only waits until the
connection is done, and tells the exchange when the client left.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from daemon import log
from daemon.api import passthrough
from daemon.api.auth import Caller, authenticate
from daemon.api.billable import UNIFIED, Endpoint, take_in, url_named, url_named_at
from daemon.api.count_tokens import Question, count_tokens, question_of
from daemon.api.count_tokens import Request as Counting
from daemon.api.incoming import Headers, Receive, Request, read_body
from daemon.api.limits import counted
from daemon.api.paths import is_model_list, normalise, provider_endpoint
from daemon.domain.errors import ApiError
from daemon.gateway import Gateway
from daemon.protocols import dialects
from daemon.relay import settlement
from daemon.relay.call import Call, ClientGone
from daemon.relay.client import Client
from daemon.relay.exchange import Exchange
from daemon.relay.forward import forward
from daemon.watchdog import Watchdog
from db import clock, secrets
from db.errors import DatabaseUnavailable
from db.usage import UsageRow

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

READ_ON_S, READ_ON_BYTES = 5.0, 128 << 20
KEY_PREFIX = secrets.KEY_PREFIX.encode()  # a key in the place of an id would be stored and logged
_SANE_ID = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")
_ALLOW_HEADERS = (
    b"authorization, content-type, x-api-key, x-goog-api-key, anthropic-version, anthropic-beta, "
    b"anthropic-dangerous-direct-browser-access, openai-organization, openai-project, openai-beta, x-request-id, "
    b"idempotency-key, cache-control, x-gateway-tools, x-stainless-arch, x-stainless-lang, x-stainless-os, "
    b"x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, "
    b"x-stainless-timeout, x-stainless-helper-method, x-stainless-poll-helper, x-stainless-async"
)
_EXPOSE_HEADERS = (
    b"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-RateLimit-Limit-Requests, "
    b"X-RateLimit-Remaining-Requests, X-RateLimit-Reset-Requests, X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Tokens, "
    b"X-RateLimit-Reset-Tokens, X-FairUse-Limit, X-FairUse-Remaining, X-FairUse-Reset, Retry-After, X-Request-Id, "
    b"X-Gateway-Model, X-Gateway-Provider, X-Gateway-Cost, X-Gateway-Max-Tokens, X-Gateway-Dropped"
)
CORS: Headers = [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSE_HEADERS)]


class Front:
    """Wraps Quart's ASGI app."""

    def __init__(self, inner: Asgi, gateway: Callable[[], Gateway]) -> None:
        self._inner = inner
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await _refuse_websocket(self._gateway(), scope, receive, send)
        else:
            await self._inner(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        gateway = self._gateway()
        headers: Headers = scope["headers"]
        request_id = html = origin = length = chunked = anthropic = None
        for name, value in headers:
            if name == b"x-request-id":
                request_id = value
            elif name == b"accept":
                html = b"text/html" in value
            elif name == b"origin":
                origin = value
            elif name == b"content-length":
                length = value
            elif name == b"transfer-encoding":
                chunked = value
            elif name == b"anthropic-version":
                anthropic = value
        given = request_id is not None and _SANE_ID.fullmatch(request_id) and KEY_PREFIX not in request_id
        identifier = request_id.decode() if given and request_id else gateway.new_request_id()
        common: Headers = [(b"x-request-id", identifier.encode())]
        if anthropic is not None:
            common.append((b"request-id", common[0][1]))  # where Anthropic's clients look for it
        if origin is not None:
            common += CORS
        client = Client(send, common, gateway.watchdog)
        raw = scope.get("raw_path") or scope["path"].encode()
        path = normalise(raw.decode("latin-1"), bool(html))
        query = scope["query_string"].decode("latin-1")
        request = Request(
            scope["method"],
            path,
            query,
            headers,
            length=length,
            receive=receive,
            request_id=identifier,
            started=started,
            client=client,
        )
        request.unread = chunked is not None or (length is not None and length != b"0")
        try:
            if length is not None and chunked is not None:
                client.close_after = True
                raise ApiError.of(
                    "invalid_value", param="Transfer-Encoding", reason="it must not come together with Content-Length"
                )
            if KEY_PREFIX in raw or (b"%" in raw and KEY_PREFIX in unquote_to_bytes(raw)):
                request.path = log.redact(unquote(path))  # what is logged
                message = "Invalid API key: it stands in the URL. Send it as 'Authorization: Bearer <key>'."
                raise ApiError.of("invalid_api_key", message=message)
            if b"%00" in raw or b"\\" in raw:
                raise ApiError.of("unknown_url", method=request.method, path=unquote(path))
            if request.method == "OPTIONS":
                await client.whole(204, _preflight(headers) if origin is not None else [(b"allow", b"GET, HEAD, POST")], b"")
                return
            if request.method == "POST" and (endpoint := UNIFIED.get(path)) is not None:
                await self._billable(gateway, request, endpoint, None)
                return
            if request.method == "POST" and (question := question_of(path)) is not None:
                await self._count(gateway, request, question)
                return
            if request.method == "POST" and (named := url_named(path)) is not None:
                await self._billable(gateway, request, named[0], None, said=named[1])
                return
            prefixed = provider_endpoint(path)
            if prefixed is not None and not (request.method in ("GET", "HEAD") and is_model_list(prefixed[1])):
                await self._prefixed(gateway, request, *prefixed)
                return
        except ApiError as error:
            if error.http_status == 401:
                await gateway.door.failed(address_of(gateway, scope))
            await self._refuse(gateway, request, error)
        except ClientGone:
            pass
        except DatabaseUnavailable as error:
            log.error("database unavailable", request_id=identifier, text=error.message)
            await _answer(gateway, request, ApiError.of("database_unavailable"))
        except Exception as error:
            log.exception("request failed", error, request_id=identifier)
            await _answer(gateway, request, ApiError.of("internal_error"))
        else:
            if request.unread:  # no route of Quart's takes a body
                await _read_on(gateway.watchdog, receive)
            await self._quart(scope, receive, send, request, common)
        finally:
            _log_access(request)

    async def _quart(self, scope: Scope, receive: Receive, send: Send, request: Request, common: Headers) -> None:
        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                request.client.status = message["status"]
                if message["status"] == 401:
                    gateway = self._gateway()
                    await gateway.door.failed(address_of(gateway, scope))
                message = {**message, "headers": [*message.get("headers", ()), *common, *state["limit_headers"]]}
            await send(message)

        state: dict[str, Any] = {**scope.get("state", {}), "request_id": request.request_id, "limit_headers": []}
        path, raw_path = unquote(request.path), request.path.encode("latin-1")
        await self._inner({**scope, "path": path, "raw_path": raw_path, "state": state}, receive, sending)

    async def _refuse(self, gateway: Gateway, request: Request, error: ApiError) -> None:
        """Answer with the error. Whoever was authenticated has made a request, that counts like any other."""
        if request.caller is not None and request.caller.identity.limited:
            try:
                await self._count_request(gateway, request, request.caller)
            except ApiError as exceeded:
                error = exceeded
            except DatabaseUnavailable as problem:
                log.error("request not counted", request_id=request.request_id, text=problem.message)
        await _answer(gateway, request, error)

    async def _count_request(self, gateway: Gateway, request: Request, caller: Caller) -> None:
        """Once for each request that no hold counts; 429 when a limit is used up."""
        if request.counted:
            return
        request.counted = True
        identity = await gateway.snapshot.look_up(caller.public_id) or caller.identity
        headers, exceeded = await counted(gateway, identity)
        request.client.tell(headers)
        if exceeded is not None:
            raise exceeded

    async def _prefixed(self, gateway: Gateway, request: Request, slug: str, endpoint: str) -> None:
        caller = request.caller = await authenticate(gateway, request.headers)
        hot = request.method == "POST" and passthrough.is_chat(endpoint)  # never allow-listed unbilled
        if not hot or slug not in gateway.snapshot.catalog.provider_by_slug:
            await gateway.snapshot.refresh()  # no hold will confirm what is decided here
        provider = gateway.snapshot.catalog.provider_by_slug.get(slug)
        if provider is None:
            raise ApiError.of("unknown_provider", method=request.method, path=request.path, provider=slug)
        if request.method == "POST" and provider.stored.protocol == "gemini" and (named := url_named_at(endpoint)) is not None:
            await self._billable(gateway, request, named[0], slug, caller, said=named[1])
            return
        if not hot and passthrough.allowed(provider.stored.allow_endpoints, request.method, unquote(endpoint)):
            await self._forward(gateway, request, slug, endpoint)
            return
        if request.method != "POST":
            raise ApiError.of(
                "endpoint_not_allowed",
                endpoint=f"{request.method} {request.path}",
                message=f"{request.method} {unquote(request.path)[:200]} is not allowed: only requests for a priced model, and "
                "endpoints that the operator allow-listed, pass to a provider.",
            )
        await self._billable(gateway, request, passthrough.endpoint_of(endpoint), slug, caller)

    async def _billable(
        self,
        gateway: Gateway,
        request: Request,
        endpoint: Endpoint,
        slug: str | None,
        caller: Caller | None = None,
        said: dict[str, Any] | None = None,
    ) -> None:
        """`said`: fields that stand in the URL instead of the body."""
        if gateway.draining:
            request.client.close_after = True
            raise ApiError.of("shutting_down")
        if caller is None:
            caller = request.caller = await authenticate(gateway, request.headers)
        request.user = caller.identity.user
        try:
            given = await take_in(gateway, request, endpoint, slug, said)
        except ApiError as error:
            raise await self._recorded_refusal(gateway, request, caller, error) from error
        request.counted = True  # by the exchange
        call = Call(
            request_id=request.request_id,
            at=clock.now_ms(),
            started=request.started,
            identity=caller.identity,
            public_id=caller.public_id,
            endpoint=request.path,
            upstream_path=endpoint.upstream_path,
            query=request.query,
            presented_key=caller.key,
            headers=request.headers,
            body=given.body,
            data=given.data,
            ask=given.ask,
            upload=given.upload,
            model_types=endpoint.model_types,
            protocols=endpoint.protocols if slug is None else None,
            dialect=endpoint.dialect,
            envelope=dialects.envelope_of(request.path, request.query),
            provider=slug,
        )
        exchange = Exchange(gateway, call, request.client)
        exchange.start()
        # Hypercorn says http.disconnect when the client left, and also when the reply is complete. A reply that will
        # never be complete ends this wait by cancelling it; returning then closes the connection.
        try:
            await _until_gone(request.receive)
        except asyncio.CancelledError:
            if not exchange.ended and not request.client.gone:
                exchange.leave()
                raise
            return
        exchange.leave()

    async def _count(self, gateway: Gateway, request: Request, question: Question) -> None:
        caller = request.caller = await authenticate(gateway, request.headers, fresh=True)
        request.user = caller.identity.user
        if caller.identity.limited:
            await self._count_request(gateway, request, caller)
        await gateway.snapshot.refresh()
        body = await read_body(gateway, request)
        record = self._record(request, caller, status="ok", http_status=200, code=None)
        reply = await count_tokens(Counting(gateway, caller, question, record, body, request.headers, request.query))
        await request.client.whole(200, [(b"content-type", b"application/json")], reply)

    async def _recorded_refusal(self, gateway: Gateway, request: Request, caller: Caller, error: ApiError) -> ApiError:
        """The error to answer with, once it is recorded and counted."""
        record = self._record(request, caller, status="refused", http_status=error.http_status, code=error.code)
        identity = caller.identity
        if identity.limited:
            identity = await gateway.snapshot.look_up(caller.public_id) or identity
        request.counted = True
        error, headers = await settlement.refuse(gateway, record, error, identity)
        request.client.tell(headers)
        return error

    def _record(self, request: Request, caller: Caller, *, status: str, http_status: int, code: str | None) -> UsageRow:
        return UsageRow(
            request_id=request.request_id,
            at=clock.now_ms(),
            user_id=caller.identity.user_id,
            key_id=caller.identity.key_id,
            endpoint=request.path[:300],
            requested_model="",
            status=status,
            http_status=http_status,
            latency_ms=int((time.monotonic() - request.started) * 1000),
            error_code=code,
        )

    async def _forward(
        self,
        gateway: Gateway,
        request: Request,
        slug: str,
        endpoint: str,
    ) -> None:
        caller = request.caller = await authenticate(gateway, request.headers, fresh=True)
        request.user = caller.identity.user
        if caller.identity.limited:
            await self._count_request(gateway, request, caller)
        body = await read_body(gateway, request)
        provider = gateway.snapshot.catalog.provider_by_slug[slug]
        work = forward(
            gateway,
            provider,
            request.client,
            self._record(request, caller, status="ok", http_status=200, code=None),
            method=request.method,
            path=f"/v1/{endpoint}",
            query=request.query,
            request_headers=request.headers,
            key=caller.key,
            body=body,
        )
        task = gateway.tasks.spawn(work, name=f"forward {request.request_id}", report=False)
        watch = asyncio.ensure_future(_until_gone(request.receive))
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        finally:
            watch.cancel()
        if not task.cancelled() and (problem := task.exception()) is not None:
            raise problem


def address_of(gateway: Gateway, scope: Scope) -> str:
    """The client's address; behind a trusted proxy, the last one that it names and that is no trusted proxy itself."""
    peer = scope.get("client")
    address = str(peer[0]) if peer else ""
    trusted = gateway.settings.trusted_proxies
    if address not in trusted:
        return address
    named = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1").split(",")
    return next((one.strip()[:64] for one in reversed(named) if one.strip() and one.strip() not in trusted), address)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(gateway: Gateway, request: Request, error: ApiError) -> None:
    client = request.client
    status, head, body = dialects.error_reply(error, dialects.envelope_of(request.path), request.request_id)
    if client.close_after:
        head.append((b"connection", b"close"))
    try:
        if not request.unread or client.close_after or client.started:
            await client.whole(status, head, body)
            return
        await client.start(status, [*head, (b"content-length", b"%d" % len(body))])
        await client.write(body)
        await _read_on(gateway.watchdog, request.receive)
        await client.finish()
    except ClientGone:
        return


async def _read_on(watchdog: Watchdog, receive: Receive) -> None:
    """Throw away what is left of a body, for a while: a connection closed on unread bytes is reset, and loses the reply."""
    read = 0
    try:
        with watchdog.wait(READ_ON_S):
            while read < READ_ON_BYTES:
                message = await receive()
                if not message.get("more_body"):
                    return
                read += len(message["body"])
    except TimeoutError:
        return


def _preflight(headers: Headers) -> Headers:
    asked = next((v for n, v in headers if n == b"access-control-request-headers" and len(v) < 4096), b"")
    extra = b", " + asked if asked and asked.isascii() and b"\n" not in asked else b""
    return [
        (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"),
        (b"access-control-allow-headers", _ALLOW_HEADERS + extra),
        (b"access-control-max-age", b"86400"),
    ]


async def _refuse_websocket(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    """426: clients that try a WebSocket first (Codex) then post at once, where another status costs them attempts."""
    await receive()
    path = normalise((scope.get("raw_path") or scope["path"].encode()).decode("latin-1"), False)
    request_id = gateway.new_request_id()
    error = ApiError.of("upgrade_required", path=unquote(path))
    status, head, body = dialects.error_reply(error, dialects.envelope_of(path), request_id)
    head += [(b"x-request-id", request_id.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "websocket.http.response.start", "status": status, "headers": head})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
    log.info("websocket refused", path=path, request_id=request_id)


def _log_access(request: Request) -> None:
    client = request.client
    log.info(
        "request",
        method=request.method,
        path=request.path,
        status=client.status,
        ms=int((time.monotonic() - request.started) * 1000),
        request_id=request.request_id,
        user=request.user,
    )
