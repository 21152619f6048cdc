"""`@reading`: run a function over one consistent look at the database, without taking the write lock."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from db.engine import read_snapshot
from db.models import database

P = ParamSpec("P")
R = TypeVar("R")


def reading(function: Callable[P, R]) -> Callable[P, R]:
    """Inside an open transaction: part of it. Otherwise a read transaction of its own."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if database.in_transaction():
            return function(*args, **kwargs)
        with read_snapshot():
            return function(*args, **kwargs)

    return run
