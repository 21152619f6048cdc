"""Price old requests again: by today's prices and multipliers, or by the terms that they were charged by.

Imports the daemon's pricing: import this module inside the function that uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from daemon.domain.catalog import Catalog, is_priced, make_provider
from daemon.domain.pricing import Terms, price
from daemon.domain.usage import Usage, with_counted
from db import identity, ledger, request_log, snapshot
from db.errors import Refused
from db.identity import Identity
from db.ledger import Posted
from db.reports import Filters
from db.request_log import Priced

REASON = "priced again"


@dataclass(frozen=True, slots=True)
class Again:
    """A record and what it comes to, in nano-USD. `cost_nanos` None: it cannot be priced, and `problem` says why."""

    record: Priced
    cost_nanos: int | None
    problem: str = ""

    @property
    def due_nanos(self) -> int:
        """What its user should have paid. What was absorbed then is not asked for now."""
        record, cost = self.record, self.cost_nanos
        if cost is None:
            return record.charged_nanos
        if cost > record.cost_nanos:
            return record.charged_nanos + cost - record.cost_nanos
        return min(cost, record.charged_nanos)

    @property
    def differs(self) -> bool:
        return self.cost_nanos is not None and self.cost_nanos != self.record.cost_nanos


class Pricer:
    """Prices records one after another; the catalogue is read once, each caller once."""

    def __init__(self, *, stored_terms: bool) -> None:
        self._stored_terms = stored_terms
        stored = snapshot.load()
        providers = {provider.id: make_provider(provider, ()) for provider in stored.providers}
        self._catalog = Catalog(stored, providers)
        self._models = {model.id: model for model in stored.models}
        self._callers: dict[int, Identity | None] = {}

    def again(self, record: Priced) -> Again:
        """The record at its stored terms, or at today's. An estimate never comes to more than was held."""
        try:
            charged_by = Terms.from_json(record.terms)
        except ValueError as error:
            return Again(record, None, f"its terms cannot be read: {error}")
        usage = Usage(record.usage, estimated=record.estimated, tier=record.service_tier)
        terms = charged_by if self._stored_terms else self._todays(record, charged_by.asked)
        if terms is None:
            return Again(record, None, "its model is gone or has no price today")
        if terms is not charged_by and terms.key("request") is not None:  # not counted when requests had no price
            usage = with_counted(usage, {"request": 1})
        cost = price(usage, terms).cost_nanos
        if record.estimated and record.held_nanos is not None:
            cost = min(cost, record.held_nanos)
        return Again(record, cost)

    def _todays(self, record: Priced, asked: str | None) -> Terms | None:
        model = self._models.get(record.model_id or 0)
        if record.key_id not in self._callers:
            self._callers[record.key_id] = identity.find_by_key_id(record.key_id)
        caller = self._callers[record.key_id]
        if model is None or caller is None or not is_priced(model):
            return None
        return self._catalog.terms(model, caller, asked)[0]


def priced_again(chosen: Filters, request_id: str | None, *, stored_terms: bool) -> Iterator[Again]:
    """Every charged request that `chosen` selects, the oldest first."""
    pricer = Pricer(stored_terms=stored_terms)
    for record in request_log.priced(chosen, request_id=request_id):
        yield pricer.again(record)


def book(again: Again) -> tuple[Posted | None, str]:
    """Bring what the request has cost its user to what is due; (entry or None, why none). Twice is once."""
    try:
        return ledger.rebill(again.record.request_id, again.due_nanos, reason=REASON), ""
    except Refused as error:
        return None, error.message
