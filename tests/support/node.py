"""Run a script of tests/clients/node with its pinned packages, which are kept in a cache outside the tree."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "clients" / "node"
INSTALL_LIMIT_S = 120


def installed() -> Path:
    """The directory with node_modules; skips the test, with a word why, where it cannot be had."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed: apt install nodejs npm")
    lock = (SOURCE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatewayctl-tests"
    directory = cache / f"node-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not (directory / "complete").exists():
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCE / name, directory)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=directory, capture_output=True, text=True, timeout=INSTALL_LIMIT_S,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"npm ci failed (no network?): {done.stderr[-300:]}")
        (directory / "complete").touch()
    return directory


def run(script: str, env: Mapping[str, str], *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a script; it finds its packages, and no proxy."""
    directory = installed()
    shutil.copy(SOURCE / script, directory)
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        ["node", script], cwd=directory, env=clean | dict(env), capture_output=True, text=True, timeout=timeout_s
    )
