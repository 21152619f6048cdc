"""What the scripted hosts do for a coding agent: run one command in its shell, look at what came of it, and say so."""

from __future__ import annotations

import json
from typing import Final

from tests.clients.persona import Act, Turn

COMMAND: Final = "echo sum-$((20+22))"
PRINTED: Final = "sum-42"  # which stands nowhere in the command
DONE: Final = f"The shell said {PRINTED}."
# The shells of the agents, by the name of their tool, with the arguments of a call.
SHELLS: Final = {
    "Bash": {"command": COMMAND, "description": "Adds two numbers"},
    "exec_command": {"cmd": COMMAND},
}


def decide(turn: Turn) -> Act:
    """A call of the shell for a first request that offers one; what an agent asks beside it gets a short answer."""
    if turn.result is not None:
        return Act((DONE if PRINTED in turn.result else f"It failed: {turn.result[:500]}",))
    for name, arguments in SHELLS.items():
        if any(tool.name == name for tool in turn.tools):
            return Act(call=(name, json.dumps(arguments)))
    return Act(("A title",))
