"""One table: what went wrong → its code in JSON and the exit code of the command."""

from __future__ import annotations

from db import errors as store
from db.money import MoneyError

DONE, FAILED, USAGE, NOT_FOUND, CONFLICT, REFUSED = 0, 1, 2, 3, 4, 5


class Usage(store.StoreError):
    """The command was called wrongly in a way that Typer cannot see."""


class Failed(store.StoreError):
    """The command ran and its answer is no: a check failed, a provider did not answer."""


TABLE: tuple[tuple[type[Exception], str, int], ...] = (
    (Usage, "usage", USAGE),
    (Failed, "failed", FAILED),
    (store.NotFound, "not_found", NOT_FOUND),
    (store.Conflict, "conflict", CONFLICT),
    (store.Refused, "refused", REFUSED),
    (store.Invalid, "invalid", USAGE),
    (MoneyError, "invalid", USAGE),
    (store.NotInitialised, "not_initialised", FAILED),
    (store.SchemaMismatch, "schema_mismatch", FAILED),
    (store.DatabaseUnavailable, "database_unavailable", FAILED),
    (store.StoreError, "failed", FAILED),
)


def classify(error: Exception) -> tuple[str, int] | None:
    """(code, exit code) of a known exception, None for one that is a defect of the program."""
    for kind, code, exit_code in TABLE:
        if isinstance(error, kind):
            return code, exit_code
    return None
