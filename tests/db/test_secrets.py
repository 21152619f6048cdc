"""Keys that scanners know, stored as a hash; credentials that decrypt in their own row and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import credentials, identity, secrets
from db.errors import Invalid, NotInitialised
from db.models import Credential
from db.secrets import KEY_LENGTH, KEY_PREFIX, MASTER_KEY_VARIABLE, MasterKeys
from tests.support import records

KEY = re.compile(r"sk-gw-[0-9A-Za-z]{8}_[0-9A-Za-z]{36}[0-9A-Za-z]{6}")
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
MASTER, OTHER = os.urandom(32), os.urandom(32)
GOOD = base64.b64encode(MASTER).decode()


def test_a_key_has_the_published_form() -> None:
    made = secrets.make_key()
    assert KEY.fullmatch(made.text)
    assert len(made.text) == KEY_LENGTH
    assert made.text[6:14] == made.public_id == secrets.public_id_of(made.text)
    assert made.digest == hashlib.sha256(made.text.encode()).digest()


def test_the_checksum_is_the_crc_of_what_stands_before() -> None:
    """Written down so that a scanner elsewhere can do the same: CRC-32, base 62, six digits, the highest first."""
    text = secrets.make_key().text
    number = 0
    for digit in text[-6:]:
        number = number * 62 + ALPHABET.index(digit)
    assert number == zlib.crc32(text[:-6].encode())


def test_keys_do_not_repeat() -> None:
    made = [secrets.make_key() for _ in range(2000)]
    assert len({key.public_id for key in made}) == len({key.text for key in made}) == 2000
    assert len({letter for key in made for letter in key.text[15:51]}) == 62


@given(st.integers(0, KEY_LENGTH - 1), st.characters(max_codepoint=0x3FF))
def test_a_typing_error_is_found_without_a_look_up(position: int, letter: str) -> None:
    text = secrets.make_key().text
    wrong = text[:position] + letter + text[position + 1 :]
    assert (secrets.public_id_of(wrong) is not None) is (wrong == text)


@given(st.text(max_size=80) | st.from_regex(KEY, fullmatch=True))
def test_any_text_may_be_presented(text: str) -> None:
    assert secrets.public_id_of(text) is None or KEY.fullmatch(text)
    assert len(secrets.digest_of(text)) == 32


def test_lone_surrogates_have_a_digest() -> None:
    assert len(secrets.digest_of("sk-gw-\ud800")) == 32


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[object, object]] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: bool(compared.append((one, other))) or compare(one, other))
    made, other = secrets.make_key(), secrets.make_key()
    assert not secrets.digests_equal(made.digest, other.digest)
    assert secrets.digests_equal(made.digest, secrets.digest_of(made.text))
    assert secrets.public_id_of(made.text)
    found = identity.Identity(
        key_id=1, digest=made.digest, key_name="", key_status="active", key_expires_at=None, models=None, budget_nanos=None,
        budget_period=None, rpm=None, tpm=None, max_parallel=None, user_id=1, user="alice", user_status="active",
        user_version=1, groups=frozenset(), multipliers={},
    )  # fmt: skip
    assert identity.proves(found, made.text)
    assert not identity.proves(found, made.text[:-1] + "0")
    assert len(compared) == 5


def test_no_secret_stands_in_a_repr() -> None:
    made, keys = secrets.make_key(), MasterKeys([MASTER])
    assert made.text not in repr(made)
    assert repr(keys) == "MasterKeys(1)"


@pytest.mark.parametrize(
    ("secret", "shown"), [("sk-proj-0123456789abcdef", "sk-…def"), ("short", "…"), ("", "…"), ("elevenchars", "…")]
)
def test_a_mask_shows_little(secret: str, shown: str) -> None:
    assert secrets.mask(secret) == shown


ROW = {"purpose": "credential", "row": "credentials:7:secret"}


@given(st.text(max_size=300).filter(lambda text: text.isprintable()))
def test_what_is_encrypted_comes_back(plaintext: str) -> None:
    keys = MasterKeys([MASTER])
    sealed = keys.encrypt(plaintext, **ROW)
    assert keys.decrypt(sealed, **ROW) == plaintext
    assert len(plaintext) < 8 or plaintext.encode() not in sealed


def test_the_same_secret_never_looks_the_same() -> None:
    keys = MasterKeys([MASTER])
    assert len({keys.encrypt("secret", **ROW) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "other",
    [
        {"purpose": "credential", "row": "credentials:8:secret"},
        {"purpose": "credential", "row": "providers:7:secret"},
        {"purpose": "webhook", "row": "credentials:7:secret"},
    ],
)
def test_a_ciphertext_belongs_to_its_row_and_purpose(other: dict[str, str]) -> None:
    keys = MasterKeys([MASTER])
    with pytest.raises(Invalid, match="damaged"):
        keys.decrypt(keys.encrypt("secret", **ROW), **other)


def test_a_ciphertext_that_was_touched_does_not_decrypt() -> None:
    keys = MasterKeys([MASTER])
    sealed = keys.encrypt("secret", **ROW)
    for position in range(4, len(sealed)):
        touched = bytearray(sealed)
        touched[position] ^= 1
        with pytest.raises(Invalid, match="damaged"):
            keys.decrypt(bytes(touched), **ROW)
    for length in (0, 3, 4, 16, len(sealed) - 1):
        with pytest.raises(Invalid):
            keys.decrypt(sealed[:length], **ROW)


def test_a_copied_ciphertext_fails_in_the_database(database: str) -> None:
    """Who may write to the database but has no master key cannot point one provider's credential at another's."""
    keys = MasterKeys([MASTER])
    for slug in ("openai", "evil"):
        records.provider(slug)
        credentials.add(slug, f"sk-{slug}-0123456789", keys)
    assert credentials.reveal_one("openai", keys) == "sk-openai-0123456789"
    [good] = Credential.select(Credential.secret).where(Credential.id == 1).tuples().get()
    Credential.update(secret=bytes(good)).where(Credential.id == 2).execute()
    with pytest.raises(Invalid, match="damaged"):
        credentials.reveal_one("evil", keys)
    assert b"sk-openai" not in b"".join(bytes(row.secret) for row in Credential.select())


def test_an_old_master_key_still_reads_and_the_new_one_writes(database: str) -> None:
    old, both, new = MasterKeys([MASTER]), MasterKeys([OTHER, MASTER]), MasterKeys([OTHER])
    records.provider("openai")
    credentials.add("openai", "sk-0123456789abcdef", old)
    assert credentials.reveal_one("openai", both) == "sk-0123456789abcdef"
    with pytest.raises(Invalid, match="another master key"):
        credentials.reveal_one("openai", new)
    assert credentials.reencrypt(both) == 1
    assert credentials.reencrypt(both) == 0
    assert credentials.reveal_one("openai", new) == "sk-0123456789abcdef"
    with pytest.raises(Invalid):
        credentials.reveal_one("openai", old)


def test_purposes_have_keys_of_their_own() -> None:
    keys = MasterKeys([MASTER])
    derived = {keys.derive(purpose) for purpose in ("credential", "webhook", "token")} | {MASTER}
    assert len(derived) == 4
    assert all(len(key) == 32 for key in derived)
    assert keys.derive("token") == MasterKeys([MASTER, OTHER]).derive("token") != MasterKeys([OTHER]).derive("token")


def test_a_master_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    earlier = os.umask(0)
    try:
        assert secrets.create_master_key(path)
    finally:
        os.umask(earlier)
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert not secrets.create_master_key(path)
    assert path.read_text() == text
    assert repr(secrets.load_master_keys(path)) == "MasterKeys(1)"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_master_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    secrets.create_master_key(path)
    path.chmod(mode)
    with pytest.raises(Invalid, match="readable by others") as caught:
        secrets.load_master_keys(path)
    assert "chmod 600" in caught.value.hint


def test_no_master_key_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(NotInitialised):
        secrets.load_master_keys(tmp_path / "master.key")


@pytest.mark.parametrize(
    "text",
    [
        "", " \n", "changeme", "CHANGEME", "secret", "password", "default", "master", "not base64!", GOOD[:-4], GOOD + "AAAA",
        base64.b64encode(bytes(32)).decode(), base64.b64encode(b"ab" * 16).decode(), base64.b64encode(b"a" * 31).decode(),
        f"{GOOD}\nchangeme",
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", ["file", "environment"])
def test_known_and_weak_master_keys_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, text: str
) -> None:
    path = tmp_path / "master.key"
    secrets.create_master_key(path)
    if source == "file":
        path.write_text(text)
    else:
        monkeypatch.setenv(MASTER_KEY_VARIABLE, text)
    with pytest.raises(Invalid) as caught:
        secrets.load_master_keys(path)
    assert len(text) < 20 or text not in str(caught.value)


def test_the_environment_stands_in_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MASTER_KEY_VARIABLE, f"{GOOD}\n{base64.b64encode(OTHER).decode()}\n")
    keys = secrets.load_master_keys(tmp_path / "none")
    assert repr(keys) == "MasterKeys(2)"
    assert keys.is_current(MasterKeys([MASTER]).encrypt("x", **ROW))
    assert not keys.is_current(MasterKeys([OTHER]).encrypt("x", **ROW))


def test_the_prefix_is_known_to_secret_scanners() -> None:
    assert KEY_PREFIX == "sk-gw-"
