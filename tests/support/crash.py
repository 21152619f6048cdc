"""A process that dies, or loses its connection, at a chosen statement of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from db import counters
from db.models import TABLES, database

COMMIT = 0  # instead of the number of a statement


class Crash(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@dataclass
class Injected:
    """What came of it: how many statements were run inside transactions, how many commits, and whether the crash was
    reached."""

    statements: int = 0
    commits: int = 0
    crashed: bool = False

    @property
    def committed(self) -> bool:
        """Whether what was to be done was done."""
        return self.commits > 0


@contextmanager
def crash_at(statement: int, *, after: bool) -> Iterator[Injected]:
    """The `statement`-th (from 1; COMMIT: the commit) inside a transaction raises Crash, before it is run or after.

    From then on nothing reaches the database, not even a ROLLBACK: the connection is cut, as a kill cuts it.
    """
    target, seen = database.obj, Injected()
    execute, commit, rollback = target.execute_sql, target.commit, target.rollback

    def crash() -> None:
        seen.crashed = True
        raise Crash

    def counted(sql: str, params: Any = None) -> Any:
        if seen.crashed:
            raise Crash
        if not target.in_transaction():
            return execute(sql, params)
        seen.statements += 1
        here = seen.statements == statement
        if here and not after:
            crash()
        cursor = execute(sql, params)
        if here:
            crash()
        return cursor

    def committing() -> None:
        if seen.crashed or (statement == COMMIT and not after):
            crash()
        commit()
        seen.commits += 1
        if statement == COMMIT:
            crash()

    def cut() -> None:
        if not seen.crashed:
            rollback()
            return
        connection = target._state.conn
        if connection is not None:
            connection.close()

    target.execute_sql, target.commit, target.rollback = counted, committing, cut
    try:
        yield seen
    finally:
        for name in ("execute_sql", "commit", "rollback"):
            delattr(target, name)
        if seen.crashed:
            counters.discard()
            if target._state.conn is not None:
                target._state.conn.close()
            target.dispose()


TABLE_NAMES = tuple(str(table._meta.table_name) for table in TABLES)


def dump(names: Iterable[str] = TABLE_NAMES) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the tables: what two moments have in common when nothing happened between them."""
    return {name: sorted(database.execute_sql(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}
