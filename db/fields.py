"""Column types: what a money, instant, flag or short text column is, and the checks it carries."""

from __future__ import annotations

from typing import Any

from peewee import SQL, BigAutoField, BigIntegerField, Check, Context, IntegerField, NodeList, TextField


def short_text(name: str, length: int = 200, **options: Any) -> TextField:
    """A text column of at most `length` characters (CharField does not work in STRICT tables)."""
    return TextField(constraints=[Check(f"length({name}) <= {length}")], **options)


def one_of(name: str, values: tuple[str, ...], **options: Any) -> TextField:
    """A text column that holds one of `values`."""
    listed = ", ".join(f"'{value}'" for value in values)
    return TextField(constraints=[Check(f"{name} IN ({listed})")], **options)


def added_one_of(name: str, values: tuple[str, ...], default: str) -> TextField:
    """The same for a column that came by a migration: the database itself knows the default of rows that were there."""
    listed = ", ".join(f"'{value}'" for value in values)
    return TextField(default=default, constraints=[SQL(f"DEFAULT '{default}'"), Check(f"{name} IN ({listed})")])


def added_json(default: str) -> TextField:
    """A JSON text that came by a migration: the database itself knows what rows have that were there."""
    return TextField(default=default, constraints=[SQL(f"DEFAULT '{default}'")])


def added_number(default: int, *checks: str) -> BigIntegerField:
    """A whole number that came by a migration: the database itself knows what rows have that were there."""
    return BigIntegerField(default=default, constraints=[SQL(f"DEFAULT {default}"), *(Check(check) for check in checks)])


def amount(name: str, **options: Any) -> BigIntegerField:
    """A non-negative number of nano-USD, below 2^62."""
    return BigIntegerField(constraints=[Check(f"{name} >= 0 AND {name} <= 4611686018427387904")], **options)


def instant(**options: Any) -> BigIntegerField:
    """Milliseconds since the epoch, UTC."""
    return BigIntegerField(**options)


def flag(name: str, **options: Any) -> IntegerField:
    """0 or 1 (an integer on both databases, so that SQL text is the same)."""
    return IntegerField(constraints=[Check(f"{name} IN (0, 1)")], **options)


class NumberedField(BigAutoField):
    """A primary key that is never used again after its row was deleted (SQLite reuses the highest one otherwise).

    For rows that can be deleted while records of the past still name them.
    """

    def ddl(self, ctx: Context) -> NodeList:
        nodes = super().ddl(ctx)
        if self.ddl_datatype(ctx).sql == "INTEGER":
            return NodeList((*nodes.nodes, SQL("AUTOINCREMENT")))
        return nodes
