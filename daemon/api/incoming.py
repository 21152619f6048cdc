"""What comes in: a request as the front knows it, and its body, read within its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from daemon import log
from daemon.api.auth import Caller
from daemon.domain.errors import ApiError
from daemon.gateway import Gateway
from daemon.protocols.forms import FormReader, is_form
from daemon.relay.call import ClientGone
from daemon.relay.client import Client
from daemon.relay.upload import Upload

Receive = Callable[[], Awaitable[dict[str, Any]]]
Headers = list[tuple[bytes, bytes]]

BODY_TIMEOUT_S = 30.0


class Request:
    """One request. `length` is its Content-Length, None when it names none; `unread`: more of the body may come.

    `caller` is set once authenticated; `counted`: somebody counts, or has counted, it against the limits of the key.
    """

    __slots__ = (
        *(
            "caller",
            "client",
            "counted",
            "headers",
            "length",
            "method",
            "path",
            "query",
            "receive",
            "request_id",
            "started",
            "unread",
            "user",
        ),
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: str,
        headers: Headers,
        *,
        length: bytes | None,
        receive: Receive,
        request_id: str,
        started: float,
        client: Client,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.length = length
        self.receive = receive
        self.request_id = request_id
        self.started = started
        self.client = client
        self.unread = False
        self.user: str | None = None
        self.caller: Caller | None = None
        self.counted = False


async def read_body(gateway: Gateway, request: Request) -> bytes:
    """The whole body; ApiError 413 when it is, or says that it is, too large, 408 when a part of it is too slow."""
    parts = [part async for part in _parts(gateway, request)]
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_form(gateway: Gateway, request: Request, content_type: str) -> Upload:
    """The whole body as a form; ApiError as read_body, and 400 when it is none. The caller closes it."""
    upload = Upload(FormReader(content_type))
    try:
        async for part in _parts(gateway, request):
            await upload.write(part)
        await upload.finish()
    except OSError as error:
        upload.close()
        log.error("no room for an upload", request_id=request.request_id, error=type(error).__name__, number=error.errno)
        raise ApiError.of("overloaded") from error
    except BaseException:
        upload.close()
        raise
    return upload


def form_type(request: Request) -> str | None:
    """The Content-Type of a form; None for any other."""
    found = next((value.decode("latin-1") for name, value in request.headers if name == b"content-type"), "")
    return found if is_form(found) else None


async def _parts(gateway: Gateway, request: Request) -> AsyncIterator[bytes]:
    limit, length = gateway.settings.max_body_bytes, request.length
    if length is not None and (not length.isdigit() or int(length) > limit):
        raise ApiError.of("payload_too_large", limit=limit)
    size, request.unread = 0, True
    while request.unread:
        try:
            with gateway.watchdog.wait(BODY_TIMEOUT_S):
                message = await request.receive()
        except TimeoutError:
            raise ApiError.of("request_timeout") from None
        if message["type"] == "http.disconnect":
            raise ClientGone("the client left before its request was complete")
        part, request.unread = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > limit:
            raise ApiError.of("payload_too_large", limit=limit)
        if part:
            yield part
