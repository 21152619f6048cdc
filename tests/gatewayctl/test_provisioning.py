"""The provisioning script of the command line's contract, run by a shell, twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
set -eu
gatewayctl init
gatewayctl providers add openai --protocol openai --base-url https://api.openai.com/v1 --if-not-exists
gatewayctl credentials add openai --from-env OPENAI_API_KEY --name ci --if-not-exists
gatewayctl models add gpt-4o-mini --provider openai --input-price 0.15 --output-price 0.60 --if-not-exists
gatewayctl users create alice --if-not-exists
gatewayctl topup alice 5.00 --ref "$BUILD_ID"
KEY=$(gatewayctl keys create --user alice --name ci --quiet)
echo "KEY $KEY"
"""


def _run(script: str, home: Path, url: str) -> subprocess.CompletedProcess[str]:
    home.mkdir(exist_ok=True)
    bin_directory = home / "bin"
    bin_directory.mkdir(exist_ok=True)
    program = bin_directory / "gatewayctl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gatewayctl "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{bin_directory}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GATEWAYCTL_HOME": str(home / "data"),
        "GATEWAYCTL_DB": url,
        "OPENAI_API_KEY": "sk-not-a-real-key-000",
        "BUILD_ID": "build-1",
    }
    return subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_the_script_runs_twice_without_a_second_top_up(database_url: str, tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        done = _run(SCRIPT, tmp_path, database_url)
        assert done.returncode == 0, done.stderr
        keys += [line.split()[1] for line in done.stdout.splitlines() if line.startswith("KEY ")]
    assert len(set(keys)) == 2
    shown = _run("gatewayctl balances show alice --json; gatewayctl ledger verify --json", tmp_path, database_url)
    balance, verified = [json.loads(line) for line in shown.stdout.splitlines()]
    assert balance["balance"] == "5"
    assert (verified["ok"], verified["entries"]) == (True, 1)
