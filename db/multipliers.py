"""Multipliers: factors on the price for a user, group or model, for one meter or every one ('*')."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from db import audit
from db.engine import transaction
from db.errors import Invalid, NotFound
from db.meters import EVERY_METER, meter
from db.models import CatalogModel, Group, Multiplier, User
from db.money import PPM, format_multiplier
from db.names import group_row, model_row, user_row
from db.reading import reading
from db.versions import bump_catalog, bump_user

SCOPES = ("model", "user", "group")
_FIND = {"user": user_row, "group": group_row, "model": model_row}


@dataclass(frozen=True, slots=True)
class MultiplierView:
    """One factor, in parts per million."""

    scope: str
    subject: str
    meter: str
    ppm: int


def _checked(scope: str, meter_name: str, ppm: int) -> None:
    if scope not in SCOPES:
        raise Invalid(f"There is no scope {scope!r}", f"Scopes: {', '.join(SCOPES)}")
    if meter_name != EVERY_METER:
        meter(meter_name)
    if isinstance(ppm, bool) or not isinstance(ppm, int) or not 0 <= ppm <= 1000 * PPM:
        raise Invalid("A multiplier must be between 0 and 1000", "0 makes it free")


def store(scope: str, subject_id: int, meter_name: str, ppm: int) -> None:
    """Write a factor without audit or version: for callers that do both themselves."""
    _checked(scope, meter_name, ppm)
    Multiplier.insert(scope=scope, subject_id=subject_id, meter=meter_name, ppm=ppm).on_conflict(
        conflict_target=[Multiplier.scope, Multiplier.subject_id, Multiplier.meter],
        update={Multiplier.ppm: ppm},
    ).execute()


def forget(scope: str, subject_id: int) -> None:
    """Remove every factor of a subject that is going away."""
    Multiplier.delete().where((Multiplier.scope == scope) & (Multiplier.subject_id == subject_id)).execute()


def _bump(scope: str, subject_id: int) -> None:
    if scope == "user":
        bump_user(subject_id)
    else:
        bump_catalog()


def _row(scope: str, subject_id: int, meter_name: str) -> Any:
    return Multiplier.get_or_none(
        (Multiplier.scope == scope) & (Multiplier.subject_id == subject_id) & (Multiplier.meter == meter_name)
    )


@transaction
def set_for(scope: str, subject: str, ppm: int, meter_name: str = EVERY_METER) -> MultiplierView:
    """Set a factor; effective on the next request."""
    _checked(scope, meter_name, ppm)
    row = _FIND[scope](subject)
    earlier = _row(scope, row.id, meter_name)
    store(scope, row.id, meter_name, ppm)
    _bump(scope, row.id)
    audit.record(
        "multipliers.set",
        f"{scope} {subject} {meter_name}",
        before={"multiplier": format_multiplier(earlier.ppm)} if earlier else None,
        after={"multiplier": format_multiplier(ppm)},
    )
    return MultiplierView(scope, row.public_id if scope == "model" else row.name, meter_name, ppm)


@transaction
def unset(scope: str, subject: str, meter_name: str = EVERY_METER) -> MultiplierView:
    """Remove a factor, so that it is 1 again."""
    _checked(scope, meter_name, PPM)
    row = _FIND[scope](subject)
    earlier = _row(scope, row.id, meter_name)
    if earlier is None:
        raise NotFound(f"The {scope} {subject!r} has no multiplier for {meter_name}", "See: gatewayctl multipliers list")
    earlier.delete_instance()
    _bump(scope, row.id)
    audit.record(
        "multipliers.unset",
        f"{scope} {subject} {meter_name}",
        before={"multiplier": format_multiplier(earlier.ppm)},
    )
    return MultiplierView(scope, subject, meter_name, PPM)


def by_subject(scope: str, subject_id: int | None = None) -> dict[int, dict[str, int]]:
    """subject id → {meter or '*': parts per million}, of one subject or all."""
    query = Multiplier.select(Multiplier.subject_id, Multiplier.meter, Multiplier.ppm)
    query = query.where(Multiplier.scope == scope)
    if subject_id is not None:
        query = query.where(Multiplier.subject_id == subject_id)
    found: dict[int, dict[str, int]] = {}
    for subject, meter_name, ppm in query.order_by(Multiplier.meter).tuples():
        found.setdefault(subject, {})[meter_name] = ppm
    return found


@reading
def list_all() -> list[MultiplierView]:
    """Every factor, by scope and subject."""
    names: dict[str, dict[int, str]] = {
        "user": dict(User.select(User.id, User.name).tuples()),
        "group": dict(Group.select(Group.id, Group.name).tuples()),
        "model": dict(CatalogModel.select(CatalogModel.id, CatalogModel.public_id).tuples()),
    }
    found = [
        MultiplierView(row.scope, names[row.scope].get(row.subject_id, f"#{row.subject_id}"), row.meter, row.ppm)
        for row in Multiplier.select()
    ]
    return sorted(found, key=lambda view: (SCOPES.index(view.scope), view.subject, view.meter))
