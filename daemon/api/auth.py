"""Who is calling: a key from Authorization (Bearer), x-api-key or x-goog-api-key, on every route alike; never from the URL."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.domain.access import check_identity
from daemon.domain.errors import ApiError
from daemon.gateway import Gateway
from daemon.snapshot import public_id_of
from db import clock
from db.identity import Identity, proves
from db.secrets import KEY_PREFIX, PUBLIC_ID_LENGTH

PUBLIC_ID = slice(len(KEY_PREFIX), len(KEY_PREFIX) + PUBLIC_ID_LENGTH)
KEY_HEADERS = (b"x-api-key", b"x-goog-api-key")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `key` is what they presented: it must go nowhere."""

    identity: Identity
    public_id: str
    key: bytes

    def __repr__(self) -> str:
        return f"Caller({self.identity!r})"


def presented_key(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The key as sent; None when there is none. Authorization wins over the others."""
    other: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            return key.strip() if scheme.lower() == b"bearer" else b""
        if name in KEY_HEADERS and other is None:
            other = value.strip()
    return other


async def authenticate(gateway: Gateway, headers: list[tuple[bytes, bytes]], *, fresh: bool = False) -> Caller:
    """The caller, or 401 / 403. `fresh`: read the key from the database, for routes that place no hold.

    A remembered key may be old knowledge: it admits only what a hold confirms, and is read again before it refuses.
    """
    key = presented_key(headers)
    if key is None:
        raise ApiError.of("missing_api_key")
    text = key.decode("latin-1")
    identity = None if fresh else gateway.snapshot.known(text[PUBLIC_ID])
    if identity is None or not _usable(identity, text):
        public_id = public_id_of(text)
        if public_id is None:
            raise ApiError.of("invalid_api_key")
        identity = await gateway.snapshot.look_up(public_id)
        if identity is None or not proves(identity, text):
            raise ApiError.of("invalid_api_key")
        check_identity(identity, clock.now_ms())
    return Caller(identity, text[PUBLIC_ID], key)


def _usable(identity: Identity, key: str) -> bool:
    if not proves(identity, key):
        return False
    try:
        check_identity(identity, clock.now_ms())
    except ApiError:
        return False
    return True
