"""Run a script of tests/clients/node with its pinned packages, which are kept in a cache outside the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.packages import node_packages

SOURCE = Path(__file__).parents[1] / "clients" / "node"


def run(script: str, env: Mapping[str, str], *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a script; it finds its packages and the other scripts, and no proxy."""
    directory = node_packages(SOURCE)
    for file in SOURCE.glob("*.mjs"):
        shutil.copy(file, directory)
    return subprocess.run(
        ["node", script], cwd=directory, env=without_proxies() | dict(env), capture_output=True, text=True, timeout=timeout_s
    )


def without_proxies() -> dict[str, str]:
    """This process's environment, for one that talks to this machine only."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
