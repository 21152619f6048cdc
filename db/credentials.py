"""Credentials: our secrets at providers, encrypted at rest and bound to their row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from db import audit, clock, secrets
from db.engine import transaction
from db.errors import Conflict, Invalid, NotFound
from db.models import Credential, Provider
from db.names import check_label, insert, provider_row
from db.reading import reading
from db.secrets import MasterKeys
from db.versions import bump_catalog

PURPOSE = "credential"
MAX_WEIGHT = 1_000_000
MOST_PARALLEL = 100_000
FIRST_BENCH_MS, LONGEST_BENCH_MS = 30_000, 3_600_000  # until a benched credential is tried again; each time twice as long


@dataclass(frozen=True, slots=True)
class CredentialView:
    """A credential without its secret; `hint` is enough to tell two apart."""

    id: int
    provider: str
    name: str
    status: str
    weight: int
    hint: str
    last_error: str | None
    last_error_at: int | None
    created_at: int
    max_parallel: int | None = None  # requests at the same time
    benched_at: int | None = None
    probe_at: int | None = None


def row_name(credential_id: int) -> str:
    """The associated data that binds a ciphertext to its row."""
    return f"credentials:{credential_id}:secret"


def _check_weight(weight: int) -> int:
    if not 1 <= weight <= MAX_WEIGHT:
        raise Invalid(f"A weight must be from 1 to {MAX_WEIGHT}")
    return weight


def _check_parallel(most: int | None) -> int | None:
    if most is not None and not 1 <= most <= MOST_PARALLEL:
        raise Invalid(f"The requests at the same time must be from 1 to {MOST_PARALLEL}")
    return most


@transaction
def add(
    provider: str, secret: str, keys: MasterKeys, *, name: str = "default", weight: int = 1, max_parallel: int | None = None
) -> CredentialView:
    """Store a secret at a provider. Conflict when the provider has a credential of that name."""
    if not secret or not secret.isprintable() or not secret.isascii():
        raise Invalid("The secret is empty or has a character that cannot stand in a header")
    owner = provider_row(provider)
    values = {
        "provider": owner.id,
        "name": check_label("name", name) or "default",
        "weight": _check_weight(weight),
        "max_parallel": _check_parallel(max_parallel),
        "hint": secrets.mask(secret),
        "created_at": clock.now_ms(),
        "secret": b"",
    }
    credential_id = insert(Credential, f"credential {name!r} of {provider!r}", values)
    # The row's own number is part of what is encrypted, so the row comes first.
    sealed = keys.encrypt(secret, purpose=PURPOSE, row=row_name(credential_id))
    Credential.update(secret=sealed).where(Credential.id == credential_id).execute()
    bump_catalog()
    view = show(str(credential_id))
    audit.record("credentials.add", f"{provider}/{name}", after={"hint": view.hint, "weight": weight})
    return view


def _row(reference: str, provider: str | None = None) -> Any:
    """By number, by 'provider/name', or by name when only one provider has it."""
    text = reference.strip()
    query = Credential.select(Credential, Provider).join(Provider)
    if provider is not None:
        query = query.where(Provider.slug == provider)
    slug, slash, name = text.partition("/")
    if text.isdecimal() and len(text) < 19:
        found = list(query.where(Credential.id == int(text)))
    elif slash:
        found = list(query.where((Provider.slug == slug) & (Credential.name == name)))
    else:
        found = list(query.where(Credential.name == text))
    if not found:
        raise NotFound(f"There is no credential {reference!r}", "See: gatewayctl credentials list")
    if len(found) > 1:
        choices = ", ".join(sorted(f"{row.provider.slug}/{row.name}" for row in found))
        raise Conflict(f"{reference!r} is a credential of several providers", f"Say which: {choices}")
    return found[0]


_OFF_THE_BENCH = {"benched_at": None, "probe_at": None, "benches": 0}


@transaction
def update(reference: str, **fields: int | None) -> CredentialView:
    """Change `weight` or `max_parallel` (None: no limit)."""
    row = _row(reference)
    values = {name: _check_weight(value or 0) if name == "weight" else _check_parallel(value) for name, value in fields.items()}
    before = {name: getattr(row, name) for name in values}
    if values and before != values:
        Credential.update(**values).where(Credential.id == row.id).execute()
        bump_catalog()
        audit.record("credentials.update", f"{row.provider.slug}/{row.name}", before=before, after=values)
    return show(str(row.id))


@transaction
def set_status(reference: str, status: str) -> CredentialView:
    """'active' or 'disabled'; enabling also forgets the bench and the last error."""
    row = _row(reference)
    if row.status != status:
        forget: dict[str, Any] = _OFF_THE_BENCH
        if status == "active":
            forget = {**forget, "last_error": None, "last_error_at": None, "enabled_at": clock.now_ms()}
        Credential.update(status=status, **forget).where(Credential.id == row.id).execute()
        bump_catalog()
        verb = "enable" if status == "active" else "disable"
        subject = f"{row.provider.slug}/{row.name}"
        audit.record(f"credentials.{verb}", subject, before={"status": row.status}, after={"status": status})
    return show(str(row.id))


@transaction
def delete(reference: str) -> CredentialView:
    """Remove a credential for good; returns what it was."""
    row = _row(reference)
    view = _view(row)
    Credential.delete().where(Credential.id == row.id).execute()
    bump_catalog()
    audit.record("credentials.delete", f"{view.provider}/{view.name}", before={"hint": view.hint})
    return view


@transaction
def reencrypt(keys: MasterKeys) -> int:
    """Encrypt every secret with the current master key; the number that was not."""
    changed = 0
    for row in Credential.select().order_by(Credential.id):
        sealed = bytes(row.secret)
        if keys.is_current(sealed):
            continue
        secret = keys.decrypt(sealed, purpose=PURPOSE, row=row_name(row.id))
        fresh = keys.encrypt(secret, purpose=PURPOSE, row=row_name(row.id))
        Credential.update(secret=fresh).where(Credential.id == row.id).execute()
        changed += 1
    if changed:
        bump_catalog()
        audit.record("credentials.reencrypt", "all", after={"changed": changed})
    return changed


@reading
def reveal_one(provider: str, keys: MasterKeys) -> str | None:
    """The first usable secret of a provider in clear, for a call that an admin asked for; None when there is none."""
    owner = provider_row(provider)
    row = Credential.get_or_none((Credential.provider == owner.id) & (Credential.status != "disabled"))
    if row is None:
        return None
    return keys.decrypt(bytes(row.secret), purpose=PURPOSE, row=row_name(row.id))


def _view(row: Any) -> CredentialView:
    return CredentialView(
        id=row.id,
        provider=row.provider.slug,
        name=row.name,
        status=row.status,
        weight=row.weight,
        hint=row.hint,
        last_error=row.last_error,
        last_error_at=row.last_error_at,
        created_at=row.created_at,
        max_parallel=row.max_parallel,
        benched_at=row.benched_at,
        probe_at=row.probe_at,
    )


@reading
def show(reference: str, *, provider: str | None = None) -> CredentialView:
    """One credential by number, 'provider/name' or name."""
    return _view(_row(reference, provider))


@reading
def list_all(provider: str | None = None) -> list[CredentialView]:
    """Every credential, or one provider's."""
    query = Credential.select(Credential, Provider).join(Provider).order_by(Provider.slug, Credential.name)
    if provider is not None:
        query = query.where(Credential.provider == provider_row(provider).id)
    return [_view(row) for row in query]


@transaction
def bench(credential_id: int, why: str, *, sent_at: int) -> int | None:
    """Use it no more, for a provider refused it; tried again after a pause that doubles with each refusal. Returns when.

    None, and nothing changes: it was disabled or deleted, or enabled after the request was sent (`sent_at`), or another
    request benched it already.
    """
    row = Credential.get_or_none(Credential.id == credential_id)
    if row is None or row.status == "disabled" or (row.enabled_at or 0) > sent_at:
        return None
    if row.status == "benched" and (row.probe_at or 0) > sent_at:
        return None
    now = clock.now_ms()
    until = now + min(FIRST_BENCH_MS << min(row.benches, 10), LONGEST_BENCH_MS)
    Credential.update(
        status="benched",
        benched_at=row.benched_at or now,
        probe_at=until,
        benches=row.benches + 1,
        last_error=why[:300],
        last_error_at=now,
    ).where(Credential.id == row.id).execute()
    bump_catalog()
    if row.status == "active":
        owner = Provider.get_by_id(row.provider_id)
        audit.record("credentials.bench", f"{owner.slug}/{row.name}", before={"status": "active"}, after={"why": why[:300]})
    return until


@transaction
def unbench(credential_id: int) -> bool:
    """The provider accepts it again. False: it was not benched (never touches what an admin disabled)."""
    row = Credential.get_or_none((Credential.id == credential_id) & (Credential.status == "benched"))
    if row is None:
        return False
    Credential.update(status="active", **_OFF_THE_BENCH).where(Credential.id == row.id).execute()
    bump_catalog()
    owner = Provider.get_by_id(row.provider_id)
    audit.record("credentials.unbench", f"{owner.slug}/{row.name}", before={"status": "benched"}, after={"status": "active"})
    return True
