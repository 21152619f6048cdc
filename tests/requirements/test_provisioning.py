"""The provisioning script at the end of the command line's contract, as it stands there, run by a real shell, twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.gateway import Home, free_port
from tests.support.upstream import ScriptedUpstream

# Changed: the provider's base URL, the port, and at the end the wait for the daemon and its stop.
SCRIPT = """
gatewayctl init
gatewayctl providers add openai --protocol openai --base-url {upstream}/v1 --if-not-exists
gatewayctl credentials add openai --from-env OPENAI_API_KEY --name ci --if-not-exists
gatewayctl models add gpt-4o-mini --provider openai --input-price 0.15 --output-price 0.60 --if-not-exists
gatewayctl users create alice --if-not-exists
gatewayctl topup alice 5.00 --ref "$BUILD_ID"
KEY=$(gatewayctl keys create --user alice --name ci --quiet)
gatewayctl serve --host 127.0.0.1 --port {port} &
curl -sS --retry 100 --retry-connrefused --retry-delay 0 --retry-max-time 20 -o health http://127.0.0.1:{port}/health
curl -sS http://127.0.0.1:{port}/v1/chat/completions -H "Authorization: Bearer $KEY" -d '{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"hi"}}]}}' > chat
kill -TERM $!
wait $!
"""  # noqa: E501


def test_the_provisioning_script_works_twice_without_a_second_top_up(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    programs, work = tmp_path / "bin", tmp_path / "work"
    programs.mkdir()
    work.mkdir()
    command = programs / "gatewayctl"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gatewayctl "$@"\n')
    command.chmod(0o755)
    with ScriptedUpstream() as upstream:
        variables = home.environment({"OPENAI_API_KEY": "sk-upstream-ci-000", "BUILD_ID": "build-1"})
        variables["PATH"] = f"{programs}:{variables['PATH']}"
        for turn in (1, 2):
            script = "set -eu\n" + SCRIPT.format(upstream=upstream.url, port=free_port())
            done = run_in_bash(script, variables, work)
            assert done == "", done
            reply = json.loads((work / "chat").read_text())
            assert reply["choices"][0]["message"]["content"] == "Hello from the scripted upstream."
            assert len(upstream.requests) == turn
            assert upstream.requests[-1].header("authorization") == "Bearer sk-upstream-ci-000"
    entries = home.json("ledger", "list", "--user", "alice")
    assert [entry["kind"] for entry in entries].count("topup") == 1
    assert home.balance("alice") == "4.9999925"  # 2 × (1 × 0.15 + 6 × 0.60) millionths
    assert len(home.json("keys", "list")) == 2


def run_in_bash(script: str, variables: dict[str, str], directory: Path) -> str:
    """Nothing when the script succeeded, else what it said."""
    done = subprocess.run(["bash", "-c", script], cwd=directory, env=variables, capture_output=True, text=True, timeout=90)
    return "" if done.returncode == 0 else f"{done.returncode}: {done.stderr}"
