"""API keys (made, checked, hashed) and provider credentials (encrypted at rest).

A key is `sk-gw-` + public id (8) + `_` + secret (36) + checksum (6), all base 62. The public id finds the row, the
checksum (CRC-32 of what stands before it) lets scanners and the gateway discard typing errors without a look-up, and
only the SHA-256 of the whole is stored.

A credential is AES-256-GCM: 4 bytes that name the master key, 12 of nonce, then the ciphertext. The key is derived from
the master key per purpose (HKDF-SHA-256); the row it belongs to is bound as associated data, so that a ciphertext copied to
another row does not decrypt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets as _random
import zlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from db.errors import Invalid, NotInitialised

KEY_PREFIX = "sk-gw-"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ALPHABET_SET = frozenset(_ALPHABET)
PUBLIC_ID_LENGTH = 8
_SECRET_LENGTH = 36
_CHECKSUM_LENGTH = 6
KEY_LENGTH = len(KEY_PREFIX) + PUBLIC_ID_LENGTH + 1 + _SECRET_LENGTH + _CHECKSUM_LENGTH


def _base62(length: int) -> str:
    return "".join(_random.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode("ascii")), []
    for _ in range(_CHECKSUM_LENGTH):
        number, index = divmod(number, 62)
        digits.append(_ALPHABET[index])
    return "".join(reversed(digits))


@dataclass(frozen=True, slots=True)
class NewKey:
    """A freshly made key: `text` is shown once and never stored."""

    text: str
    public_id: str
    digest: bytes

    def __repr__(self) -> str:
        return f"NewKey(public_id={self.public_id!r})"


def make_key() -> NewKey:
    """A new random key (214 bits of secret)."""
    public_id = _base62(PUBLIC_ID_LENGTH)
    body = f"{KEY_PREFIX}{public_id}_{_base62(_SECRET_LENGTH)}"
    text = body + _checksum(body)
    return NewKey(text=text, public_id=public_id, digest=digest_of(text))


def digest_of(text: str) -> bytes:
    """SHA-256 of a whole key."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def public_id_of(text: str) -> str | None:
    """The public id of a well-formed key whose checksum is right, else None. Decides nothing about validity."""
    if len(text) != KEY_LENGTH or not text.startswith(KEY_PREFIX) or not text.isascii():
        return None
    body, checksum = text[:-_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    separator = len(KEY_PREFIX) + PUBLIC_ID_LENGTH
    public_id = body[len(KEY_PREFIX) : separator]
    if body[separator] != "_" or not _ALPHABET_SET.issuperset(public_id):
        return None
    return public_id if hmac.compare_digest(_checksum(body), checksum) else None


def digests_equal(one: bytes, other: bytes) -> bool:
    """Constant-time comparison."""
    return hmac.compare_digest(one, other)


def mask(secret: str) -> str:
    """'sk-…AAA': enough to tell two secrets apart, not enough to use one."""
    if len(secret) < 12:
        return "…"
    return f"{secret[:3]}…{secret[-3:]}"


MASTER_KEY_VARIABLE = "GATEWAYCTL_MASTER_KEY"
_KNOWN_BAD = frozenset({"", "changeme", "secret", "master", "default", "password"})


class MasterKeys:
    """The current master key and older ones that may still decrypt. Never printed."""

    def __init__(self, keys: list[bytes]) -> None:
        if not keys:
            raise Invalid("The master key is empty", "Run: gatewayctl init")
        self._keys = {hashlib.sha256(key).digest()[:4]: key for key in keys}
        self._current = hashlib.sha256(keys[0]).digest()[:4]

    def __repr__(self) -> str:
        return f"MasterKeys({len(self._keys)})"

    def _cipher(self, key_name: bytes, purpose: str) -> AESGCM:
        master = self._keys[key_name]
        derived = HKDF(SHA256(), 32, salt=None, info=f"gatewayctl/{purpose}/v1".encode()).derive(master)
        return AESGCM(derived)

    def encrypt(self, plaintext: str, *, purpose: str, row: str) -> bytes:
        """Ciphertext bound to `purpose` and `row` (for example 'credentials:7:secret')."""
        nonce = os.urandom(12)
        sealed = self._cipher(self._current, purpose).encrypt(nonce, plaintext.encode(), row.encode())
        return self._current + nonce + sealed

    def decrypt(self, ciphertext: bytes, *, purpose: str, row: str) -> str:
        """The plaintext; Invalid when the master key is another one or the row was tampered with."""
        name, nonce, sealed = ciphertext[:4], ciphertext[4:16], ciphertext[16:]
        if name not in self._keys:
            raise Invalid(
                "A stored credential was encrypted with another master key",
                "Put the old key on a second line of master.key, then run: gatewayctl credentials reencrypt",
            )
        try:
            return self._cipher(name, purpose).decrypt(nonce, sealed, row.encode()).decode()
        except (InvalidTag, ValueError):
            raise Invalid("A stored credential is damaged: it does not decrypt in its row") from None

    def is_current(self, ciphertext: bytes) -> bool:
        """True when `ciphertext` needs no re-encryption."""
        return ciphertext[:4] == self._current

    def derive(self, purpose: str) -> bytes:
        """32 bytes for another purpose (signing, tokens)."""
        return HKDF(SHA256(), 32, salt=None, info=f"gatewayctl/{purpose}/v1".encode()).derive(self._keys[self._current])


def _parse_master(text: str) -> list[bytes]:
    keys = []
    for line in text.split():
        if line.lower() in _KNOWN_BAD:
            raise Invalid("The master key is a well-known word", "Run: gatewayctl init")
        try:
            key = base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Invalid("The master key is not base64 text of 32 bytes") from error
        if len(key) != 32 or len(set(key)) < 8:
            raise Invalid("The master key must be 32 random bytes in base64")
        keys.append(key)
    return keys


def create_master_key(path: Path) -> bool:
    """Write a new random key with mode 0600 unless one is there. True when it was made."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(base64.b64encode(os.urandom(32)).decode() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return True


def load_master_keys(path: Path) -> MasterKeys:
    """From the environment, else from the file (one base64 key a line, the current one first)."""
    text = os.environ.get(MASTER_KEY_VARIABLE)
    if text is None:
        try:
            mode = path.stat().st_mode & 0o077
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise NotInitialised(f"There is no master key at {path}", "Run: gatewayctl init") from None
        if mode:
            raise Invalid(f"{path} is readable by others", f"Run: chmod 600 {path}")
    return MasterKeys(_parse_master(text))
