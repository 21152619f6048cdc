"""Install the peers at pinned versions into a cache outside the tree, once per version of their lock."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench.procs import Unavailable

LOCKS = Path(__file__).parent / "peers"
INSTALL_S = 900


def cache_dir() -> Path:
    """`$GATEWAYCTL_BENCH_CACHE`, or gatewayctl-bench in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatewayctl-bench"
    path = Path(os.environ.get("GATEWAYCTL_BENCH_CACHE") or default)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _once(name: str, locks: list[Path], install: Callable[[Path], None]) -> Path:
    """The directory of this lock; `install` fills it when it is not complete. Unavailable when that fails."""
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()[:12]
    target = cache_dir() / f"{name}-{digest}"
    if not (target / ".complete").exists():
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        print(f"installing {name} into {target}", file=sys.stderr)
        install(target)
        (target / ".complete").touch()
    return target


def _run(*command: str | Path, cwd: Path) -> None:
    try:
        done = subprocess.run(
            [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"could not be installed: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Unavailable(f"could not be installed: {said[-1][:200]}")


def litellm() -> tuple[Path, str]:
    """(the `litellm` command in a venv of its own, version)."""
    lock = LOCKS / "litellm.txt"

    def install(target: Path) -> None:
        _run(sys.executable, "-m", "venv", target, cwd=target)
        pip = (target / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, "-r", lock, cwd=target)

    target = _once("litellm", [lock], install)
    pinned = [line for line in lock.read_text().splitlines() if line.startswith("litellm[proxy]==")]
    return target / "bin/litellm", pinned[0].split("==")[1]


def portkey() -> tuple[Path, str]:
    """(the script that node runs, version with node's)."""
    if not shutil.which("npm") or not shutil.which("node"):
        raise Unavailable("node and npm are not installed")
    locks = [LOCKS / "portkey/package.json", LOCKS / "portkey/package-lock.json"]

    def install(target: Path) -> None:
        for lock in locks:
            shutil.copy(lock, target)
        _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=target)

    package = _once("portkey", locks, install) / "node_modules/@portkey-ai/gateway"
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    return package / "build/start-server.js", f"{json.loads((package / 'package.json').read_text())['version']}, node {node}"
