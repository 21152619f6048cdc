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


def row_name(credential_id: int) -> str:
    """The associated data that binds a ciphertext to its row."""
    return f"credentials:{credential_id}:secret"


def _check_weight(weight: int) -> int:
    if not 1 <= weight <= MAX_WEIGHT:
        raise Invalid(f"A weight must be from 1 to {MAX_WEIGHT}")
    return weight


@transaction
def add(provider: str, secret: str, keys: MasterKeys, *, name: str = "default", weight: int = 1) -> CredentialView:
    """Store a secret at a provider. Conflict when the provider has a credential of that name."""
    if not secret or not secret.isprintable() or not secret.isascii():
        raise Invalid("The secret is empty or has a character that cannot stand in a header")
    owner = provider_row(provider)
    values = {
        "provider": owner.id,
        "name": check_label("name", name) or "default",
        "weight": _check_weight(weight),
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


@transaction
def set_status(reference: str, status: str) -> CredentialView:
    """'active' or 'disabled'; enabling also forgets the last error."""
    row = _row(reference)
    if row.status != status:
        forget: dict[str, Any] = {"last_error": None, "last_error_at": None} if status == "active" else {}
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
def note_error(credential_id: int, text: str) -> None:
    """Remember why a provider refused the credential, for `credentials list`. Its status stays as the admin set it."""
    Credential.update(last_error=text[:300], last_error_at=clock.now_ms()).where(Credential.id == credential_id).execute()
