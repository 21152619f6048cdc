"""Figures that a fault test measured: printed as one line of JSON, kept in a file when the environment names one."""

from __future__ import annotations

import json
import os
from pathlib import Path

FILE_VARIABLE = "GATEWAYCTL_TEST_FIGURES"
_file = os.environ.get(FILE_VARIABLE)  # read before the tests' own fixtures clear such variables


def figure(row: str, **values: object) -> None:
    """Print `{"row": …, …}`. Floats are rounded to a tenth of a millisecond; show with `pytest -s`."""
    line = json.dumps({"row": row, **{name: round(v, 4) if isinstance(v, float) else v for name, v in values.items()}})
    print(f"\nFIGURES {line}", flush=True)
    if _file:
        with Path(_file).open("a") as out:
            out.write(f"{line}\n")
