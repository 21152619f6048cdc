"""Functions that are called at the same moment, each in a thread (and so over a database connection) of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from db import engine

LIMIT_S = 60.0


def together(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call all of them at once; their results in the given order. The first exception is raised again."""
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(functions))

    def run(number: int) -> None:
        try:
            engine.database.connect(reuse_if_open=True)
            barrier.wait(LIMIT_S)
            results[number] = functions[number]()
        except BaseException as error:
            errors.append(error)
            barrier.abort()
        finally:
            engine.close_connection()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads)
    return results
