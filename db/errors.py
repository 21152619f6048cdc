"""What can go wrong in the database layer; the command line turns each into a sentence and an exit code."""

from __future__ import annotations


class StoreError(Exception):
    """Base of all below. `hint` is the next step for a person."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotFound(StoreError):
    """The named thing does not exist."""


class Conflict(StoreError):
    """It exists already, or is in a state that forbids the action."""


class Refused(StoreError):
    """The rules of money or safety forbid it."""


class Invalid(StoreError):
    """A value that cannot be stored."""


class NotInitialised(StoreError):
    """There is no database at the given place."""


class SchemaMismatch(StoreError):
    """The database's schema is older or newer than this program's."""


class DatabaseUnavailable(StoreError):
    """The database cannot be reached, is locked for too long, or its disk is full."""


class DatabaseDamaged(DatabaseUnavailable):
    """The file is not an SQLite database, or parts of it are unreadable."""
