"""Run the scripts of the SDKs: each once in a run of the tests, in a process of its own, with what it needs to know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.clients.stage import Stage
from tests.support import node
from tests.support.packages import python_packages

PYTHON: Final = Path(__file__).parent / "python"
LIMIT_S: Final = 90
# Every SDK in the version of its lock; without this the Python ones that the tests' own environment has.
EVERY: Final = os.environ.get("GATEWAYCTL_TEST_CLIENTS") == "all"


@dataclass(frozen=True)
class Sdk:
    """`script` is a file of python/ or node/; `at_hand`: the tests' own environment has it, too."""

    script: str
    at_hand: bool = False


SDKS: Final = {
    "openai-python": Sdk("openai_sdk.py", at_hand=True),
    "anthropic-python": Sdk("anthropic_sdk.py", at_hand=True),
    "openai-node": Sdk("openai.mjs"),
    "anthropic-node": Sdk("anthropic.mjs"),
    "genai-python": Sdk("genai_sdk.py"),
    "langchain-openai": Sdk("langchain_openai_sdk.py"),
    "langchain-anthropic": Sdk("langchain_anthropic_sdk.py"),
    "ai": Sdk("ai.mjs"),
}
CHOSEN: Final = [name for name, sdk in SDKS.items() if EVERY or sdk.at_hand]


def report_of(name: str, stage: Stage) -> dict[str, Any]:
    """What the script of an SDK reports."""
    script = SDKS[name].script
    if script.endswith(".mjs"):
        done = node.run(script, stage.variables, timeout_s=LIMIT_S)
    else:
        interpreter = str(python_packages(PYTHON / "requirements.lock")) if EVERY else sys.executable
        done = subprocess.run(
            [interpreter, script], cwd=PYTHON, env=node.without_proxies() | stage.variables | {"PYTHONPATH": ""},
            capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found
