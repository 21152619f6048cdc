"""Count requests that place no hold against the limits of their key: lists, own account, counting, forwarded ones, errors."""

from __future__ import annotations

from functools import partial

from daemon.domain.errors import ApiError
from daemon.domain.limits import Headers, limit_headers, rate_limited
from daemon.gateway import Gateway
from db import limits
from db.identity import Identity


async def counted(gateway: Gateway, identity: Identity) -> tuple[Headers, ApiError | None]:
    """The headers for the reply, and the 429 if a limit is used up. The identity must be no old knowledge."""
    asked = identity.limits()
    if asked is None:
        return [], None
    standing = None if gateway.counters is None else await gateway.counters.take(asked)
    if standing is None:
        standing = await gateway.store.write(partial(limits.count, asked), order=identity.user_id)
    return limit_headers(identity, standing), None if standing.refused is None else rate_limited(identity, standing)
