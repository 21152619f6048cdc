"""The table base class and the database it is bound to (set by db.engine.open_database)."""

from __future__ import annotations

from peewee import DatabaseProxy, Model

database = DatabaseProxy()


class Table(Model):
    """Base of all tables: STRICT on SQLite, snake_case names."""

    class Meta:
        database = database
        legacy_table_names = False
        strict_tables = True
