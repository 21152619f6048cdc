"""Who serves a model: its deployments in tiers with weights, and the models that stand in for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from db import audit, clock
from db.engine import transaction
from db.errors import Conflict, Invalid, NotFound, Refused
from db.models import CatalogModel, Deployment, Provider
from db.names import check_label, model_row, provider_row
from db.reading import reading
from db.versions import bump_catalog

MAX_WEIGHT = 1_000_000
MAX_PRIORITY = 1000
MOST_FALLBACKS = 10


def _checked(weight: int | None, priority: int | None, enabled: bool | None) -> dict[str, int]:
    if weight is not None and not 1 <= weight <= MAX_WEIGHT:
        raise Invalid(f"A weight must be from 1 to {MAX_WEIGHT}")
    if priority is not None and not 0 <= priority <= MAX_PRIORITY:
        raise Invalid(f"A priority must be from 0 (asked first) to {MAX_PRIORITY}")
    given = {"weight": weight, "priority": priority, "enabled": None if enabled is None else int(enabled)}
    return {name: value for name, value in given.items() if value is not None}


def _of(model_id: int, provider: str, upstream: str | None) -> list[Any]:
    query = Deployment.select(Deployment, Provider).join(Provider)
    query = query.where((Deployment.model == model_id) & (Deployment.provider == provider_row(provider).id))
    return list(query if upstream is None else query.where(Deployment.upstream_name == upstream))


def _one(model: Any, provider: str, upstream: str | None) -> Any:
    found = _of(model.id, provider, upstream)
    if len(found) > 1:
        names = ", ".join(row.upstream_name for row in found)
        raise Conflict(f"{provider} serves {model.public_id!r} under several names: {names}", "Say which: --upstream NAME")
    return found[0] if found else None


@transaction
def deploy(
    name: str,
    provider: str,
    *,
    upstream: str | None = None,
    weight: int | None = None,
    priority: int | None = None,
    enabled: bool | None = None,
) -> None:
    """Let a provider serve a model too, or change how it does. `upstream`: its own name of the model, by default the id."""
    model = model_row(name)
    values = _checked(weight, priority, enabled)
    row = _one(model, provider, upstream)
    if row is None:
        owner = provider_row(provider)
        known = check_label("upstream name", upstream, 200) if upstream else model.public_id
        Deployment.insert(model=model.id, provider=owner.id, upstream_name=known, **values).execute()
        before = None
    else:
        known = row.upstream_name
        before = {field: getattr(row, field) for field in values}
        if before == values:
            return
        Deployment.update(**values).where(Deployment.id == row.id).execute()
    bump_catalog()
    audit.record("models.deploy", f"{model.public_id}@{provider}/{known}", before=before, after=values)


@transaction
def undeploy(name: str, provider: str, *, upstream: str | None = None) -> None:
    """A provider serves a model no more. Refused for the last one."""
    model = model_row(name)
    row = _one(model, provider, upstream)
    if row is None:
        raise NotFound(f"{provider} does not serve {model.public_id!r}", f"See: gatewayctl models show {model.public_id}")
    if Deployment.select().where(Deployment.model == model.id).count() == 1:
        raise Refused(
            f"Nobody else serves {model.public_id!r}",
            "Disable it (gatewayctl models disable), or move it (gatewayctl models update --provider)",
        )
    Deployment.delete().where(Deployment.id == row.id).execute()
    bump_catalog()
    before = {"weight": row.weight, "priority": row.priority}
    audit.record("models.undeploy", f"{model.public_id}@{provider}/{row.upstream_name}", before=before)


@transaction
def set_fallbacks(name: str, targets: Sequence[str]) -> None:
    """The models to ask, in order, when nobody can serve this one; none: no fallback."""
    model = model_row(name)
    rows = list({row.id: row for row in map(model_row, targets)}.values())
    if len(rows) > MOST_FALLBACKS:
        raise Invalid(f"A model has at most {MOST_FALLBACKS} fallbacks")
    for row in rows:
        if row.id == model.id:
            raise Invalid(f"{model.public_id!r} cannot stand in for itself", "Name another model")
        if row.type != model.type:
            raise Invalid(f"{row.public_id!r} is of type {row.type}, {model.public_id!r} is of type {model.type}")
    before, after = json.loads(model.fallbacks), [row.id for row in rows]
    if before == after:
        return
    CatalogModel.update(fallbacks=json.dumps(after)).where(CatalogModel.id == model.id).execute()
    bump_catalog()
    audit.record("models.fallback", model.public_id, before={"models": before}, after={"models": after})


@transaction
def note_open(deployment_id: int, reason: str | None) -> None:
    """Remember, for people to read, that a worker stopped sending requests there (`reason`), or began again (None)."""
    since = None if reason is None else clock.now_ms()
    Deployment.update(open_since_at=since, open_reason=reason).where(Deployment.id == deployment_id).execute()


@transaction
def forget_open() -> None:
    """A worker starts, and leaves nothing out yet."""
    Deployment.update(open_since_at=None, open_reason=None).where(Deployment.open_since_at.is_null(False)).execute()


@reading
def left_out() -> dict[int, tuple[int, str]]:
    """Deployments that a worker leaves out: since when (ms since the epoch) and why."""
    rows = Deployment.select(Deployment.id, Deployment.open_since_at, Deployment.open_reason)
    return {row.id: (row.open_since_at, row.open_reason or "") for row in rows.where(Deployment.open_since_at.is_null(False))}
