"""Compare what a provider lists with what is offered of it, and offer what is new and has a known price."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from db import catalog, groups, known_models, meters, names, providers
from db.errors import Conflict, Invalid
from db.known_models import KnownModel
from db.prices import NewPrice
from db.providers import ProviderView
from gatewayctl import output
from gatewayctl.upstream_list import Listed, listed


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to do. `everything`: add also what has no known price, disabled. `prefix` stands before each public id."""

    dry_run: bool = False
    pattern: str | None = None
    everything: bool = False
    prefix: str = ""
    groups: Sequence[str] = ()


@dataclass(slots=True)
class Report:
    """Public ids by what became of them, or would. `rows`: the same for people, existing ones left out."""

    provider: str
    dry_run: bool
    added: list[str] = field(default_factory=list)
    existing: list[str] = field(default_factory=list)
    unpriced: list[str] = field(default_factory=list)  # with `everything` added, disabled
    gone: list[str] = field(default_factory=list)  # offered, but not listed any more
    skipped: list[dict[str, str]] = field(default_factory=list)  # {"id", "reason"}
    rows: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "rows"}


@dataclass(slots=True)
class _Catalogue:
    """`mine`: what the provider serves, its own name -> public id; `taken`: every name in lower case -> public id."""

    mine: dict[str, str]
    taken: dict[str, str]


def sync(slug: str, wanted: Wanted) -> Report:
    """Read the list and add what is wanted of it. Prices and everything else of existing models stay as they are."""
    provider = providers.show(slug)
    names.check_model_id(f"{wanted.prefix}x")
    for group in wanted.groups:
        groups.show(group)
    found, _ = listed(slug)
    chosen = sorted((item for item in found if _fits(item.id, wanted.pattern)), key=lambda item: item.id)
    report = Report(provider.slug, wanted.dry_run)
    offered = catalog.list_all()
    mine = {deployment.upstream: view for view in offered for deployment in view.deployments if deployment.provider == slug}
    names_of = {name.lower(): view.public_id for view in offered for name in (view.public_id, *view.aliases)}
    catalogue = _Catalogue({upstream: view.public_id for upstream, view in mine.items()}, names_of)
    with output.progress() as bar:
        task = bar.add_task("models", total=len(chosen)) if bar else None
        for item in chosen:
            _compare(item, provider, wanted, catalogue, report)
            if bar and task is not None:
                bar.advance(task)
    there = {item.id for item in found}
    for upstream, view in sorted(mine.items(), key=lambda pair: pair[1].public_id):
        if upstream not in there and _fits(upstream, wanted.pattern) and view.public_id not in report.gone:
            report.gone.append(view.public_id)
            report.rows.append(_row(view.public_id, upstream, "gone: the provider does not list it any more"))
    return report


def _fits(name: str, pattern: str | None) -> bool:
    return pattern is None or fnmatch.fnmatchcase(name, pattern)


def _compare(
    item: Listed,
    provider: ProviderView,
    wanted: Wanted,
    catalogue: _Catalogue,
    report: Report,
) -> None:
    public_id = wanted.prefix + item.id
    if item.id in catalogue.mine:
        report.existing.append(catalogue.mine[item.id])
        return
    holder = catalogue.taken.get(public_id.lower())
    if holder is not None:
        if holder in catalogue.mine.values():  # the same name for another one of the provider's
            report.existing.append(holder)
        else:
            _skip(report, public_id, item.id, f"{holder} is another provider's; --prefix makes it another name")
        return
    known = known_models.find(item.id, provider_slug=provider.slug, base_url=provider.base_url)
    if known is not None and meters.missing(known.type, set(known.prices)):
        known = None
    if known is None and not wanted.everything:
        report.unpriced.append(public_id)
        report.rows.append(_row(public_id, item.id, "no known price"))
        return
    model = _model(public_id, item, provider.slug, known, wanted.groups or None)
    try:
        names.check_model_id(public_id)
        if not wanted.dry_run:
            catalog.add(model)
    except (Conflict, Invalid) as error:
        _skip(report, public_id, item.id, error.message)
        return
    catalogue.mine[item.id] = catalogue.taken[public_id.lower()] = public_id
    prices = {key: meters.format_price(key, price.nanos) for key, price in model.prices.items()}
    if known is None:
        report.unpriced.append(public_id)
        report.rows.append(_row(public_id, item.id, f"{'would be ' * wanted.dry_run}added, disabled: no known price"))
    else:
        report.added.append(public_id)
        report.rows.append(_row(public_id, item.id, f"{'would be ' * wanted.dry_run}added", prices))


def _skip(report: Report, public_id: str, upstream: str, reason: str) -> None:
    report.skipped.append({"id": public_id, "reason": reason})
    report.rows.append(_row(public_id, upstream, f"skipped: {reason}"))


def _row(public_id: str, upstream: str, action: str, prices: dict[str, str] | None = None) -> dict[str, Any]:
    return {"id": public_id, "upstream": upstream, "action": action, "prices": prices}


def _model(
    public_id: str, item: Listed, provider: str, known: KnownModel | None, allowed: Sequence[str] | None
) -> catalog.NewModel:
    """As the provider tells it, else as it is known; without a price it is disabled."""
    model_type = known.type if known else known_models.type_of(item.id)
    return catalog.NewModel(
        public_id=public_id,
        provider=provider,
        upstream=item.id,
        type=model_type,
        prices={key: NewPrice(nanos, known.source, known.source_date) for key, nanos in known.prices.items()} if known else {},
        display_name=_label(item.name) or (known.display_name if known else public_id),
        context_length=item.context_length or (known.context_length if known else None),
        max_output=(item.max_output or (known.max_output if known else None)) if model_type == "chat" else None,
        features=known.features if known else known_models.features_of(item.id, model_type),
        input_modalities=known.input_modalities if known else ("text",),
        output_modalities=known.output_modalities if known else ("text",),
        groups=allowed,
        enabled=known is not None,
    )


def _label(name: str | None) -> str | None:
    return name if name is not None and name.isprintable() and len(name) <= 200 else None
