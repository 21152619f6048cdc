"""Pinned packages of clients, installed once into a cache outside the tree."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

NPM_CI: Sequence[str] = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
NODE_MISSING = "node and npm are not installed: apt install nodejs npm"
INSTALL_LIMIT_S = 300


def cache() -> Path:
    """The directory that holds a directory for each set of packages."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatewayctl-tests"


def node_packages(source: Path, *commands: Sequence[str], name: str = "node") -> Path:
    """A directory with the node_modules of a package-lock.json; `commands` replace `npm ci`. Skips where it cannot be had."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip(NODE_MISSING)
    files = [source / "package-lock.json", source / "package.json"]
    return _installed(name, files, commands or (NPM_CI,))


def python_packages(lock: Path) -> Path:
    """The interpreter of an environment with exactly what a file of hashes names. Skips where it cannot be had."""
    pip = ("bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", lock.name)
    return _installed("python", [lock], ((sys.executable, "-m", "venv", "."), pip)) / "bin" / "python"


def _installed(name: str, files: Sequence[Path], commands: Iterable[Sequence[str]]) -> Path:
    """A directory of the cache named by what the files hold, after the commands ran there beside copies of the files."""
    content = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    directory = cache() / f"{name}-{content.hexdigest()[:16]}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of the tests install it once
        if not (directory / "complete").exists():
            for file in files:
                shutil.copy(file, directory)
            for command in commands:
                done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)
                if done.returncode:
                    pytest.skip(f"{' '.join(command[:4])} failed (no network?): {done.stderr[-300:]}")
            (directory / "complete").touch()
    return directory
