"""Run coding agents as their users do, but without a terminal, in an empty home, and with no host except this machine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.clients.stage import Stage
from tests.support.packages import node_packages

SOURCE: Final = Path(__file__).parent
LIMIT_S: Final = 60
TASK: Final = "What is 20 + 22? Ask the shell."
# Every other host fails at once: nothing listens on this proxy's port.
NO_NETWORK: Final = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
QUIET: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
}
# A provider of its own, as docs of Codex have it; `built in` is the one that tries a WebSocket first.
CODEX_PROVIDER: Final = """
model_provider = "gateway"
[model_providers.gateway]
name = "Gateway"
base_url = "{url}/v1"
env_key = "CODEX_API_KEY"
wire_api = "responses"
"""
CODEX_BUILT_IN: Final = """
openai_base_url = "{url}/v1"
"""
NO_SEARCH: Final = 'web_search = "disabled"\n'


def claude_code(stage: Stage, home: Path, model: str) -> dict[str, Any]:
    """The result of `claude -p` as it prints it."""
    variables = {
        "ANTHROPIC_BASE_URL": stage.gateway.url,
        "ANTHROPIC_AUTH_TOKEN": stage.key,
        "ANTHROPIC_SMALL_FAST_MODEL": model,
        **QUIET,
    }
    launcher = packages() / "node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs"
    options = ("--model", model, "--allowedTools", "Bash", "--output-format", "json")
    result: dict[str, Any] = json.loads(_run(["node", str(launcher), "-p", TASK, *options], home, variables))
    return result


def codex(
    stage: Stage, home: Path, model: str, *, config: str = NO_SEARCH, provider: str = CODEX_PROVIDER
) -> list[dict[str, Any]]:
    """The events of `codex exec` as it prints them."""
    settings = home / ".codex"
    settings.mkdir(parents=True)
    text = f'model = "{model}"\ncheck_for_update_on_startup = false\n{config}{provider.format(url=stage.gateway.url)}'
    (settings / "config.toml").write_text(text + "[analytics]\nenabled = false\n")
    launcher = packages() / "node_modules/@openai/codex/bin/codex.js"
    options = ("exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
    printed = _run(["node", str(launcher), *options, TASK], home, {"CODEX_API_KEY": stage.key})
    return [json.loads(line) for line in printed.splitlines()]


def packages() -> Path:
    """The directory with both agents."""
    return node_packages(SOURCE, name="agents")


def _run(command: list[str], home: Path, variables: dict[str, str]) -> str:
    work = home / "work"
    work.mkdir(parents=True)
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **NO_NETWORK, **variables}
    done = subprocess.run(
        command, env=environment, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
