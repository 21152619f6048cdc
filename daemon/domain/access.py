"""Whether a known key may be used now. Pure."""

from __future__ import annotations

from daemon.domain.errors import ApiError
from db.identity import Identity


def check_identity(identity: Identity, now: int) -> None:
    """401 for a key that is disabled, revoked or expired (all alike), 403 for a suspended account."""
    if identity.key_status != "active" or identity.user_status == "deleted":
        raise ApiError.of("invalid_api_key")
    if identity.key_expires_at is not None and now >= identity.key_expires_at:
        raise ApiError.of("invalid_api_key")
    if identity.user_status != "active":
        raise ApiError.of("account_suspended")
