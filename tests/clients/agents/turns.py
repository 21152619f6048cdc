"""Claude Code and Codex CLI complete a turn with one call of the shell, with models of all four dialects.

Not among the tests that run by themselves: `make test-agents` names this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clients.agents import run
from tests.clients.agents.shell import COMMAND, DONE, PRINTED, decide
from tests.clients.persona import INPUT_TOKENS, OUTPUT_TOKENS
from tests.clients.stage import HOSTS, MESSAGES, MODELS, RESPONSES, Stage, add_model, raise_stage
from tests.support.upstream import Received

KNOWN_TO_CODEX = "gpt-5.5"  # it asks more of models that it knows: patches as free text, reasoning, verbosity
MAY_SEARCH = ("--hosted-tool", "web_search=3", "--price", "hosted_call/web_search=0.01", "--context-length", "400000")
HOST_OF = {model: slug for slug, (_, _, _, model) in HOSTS.items()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        made = raise_stage(stack, tmp_path_factory.mktemp("agents") / "home", decide)
        add_model(made.home, KNOWN_TO_CODEX, HOST_OF[RESPONSES], *MAY_SEARCH)
        yield made
        verified = made.home.json("ledger", "verify")
        assert verified["ok"], verified
        assert made.gateway.stop() == 0


@pytest.fixture
def stage(shared: Stage) -> Stage:
    """The shared daemon, over hosts that were asked nothing yet."""
    for host in shared.hosts.values():
        host.requests.clear()
    return shared


def turn_of(stage: Stage, model: str) -> list[Received]:
    """The two requests of a turn as the model's host got them, after a look at what was recorded of all."""
    rows = stage.home.usage("--model", model)
    assert rows
    assert {row["status"] for row in rows} == {"ok"}
    slug = HOST_OF.get(model, HOST_OF[RESPONSES])
    first, second = stage.hosts[slug].requests
    assert PRINTED.encode() not in first.body
    assert PRINTED.encode() in second.body
    return [first, second]


# ---------------------------------------------------------------------------------------- Claude Code


@pytest.mark.parametrize("model", MODELS)
def test_claude_code_completes_a_turn(stage: Stage, tmp_path: Path, model: str) -> None:
    result = run.claude_code(stage, tmp_path, model)
    assert (result["result"], result["is_error"], result["num_turns"]) == (DONE, False, 2)
    usage = result["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (2 * INPUT_TOKENS, 2 * OUTPUT_TOKENS)
    first, _ = turn_of(stage, model)
    if model == MESSAGES:
        assert first.query == "beta=true"
        assert "," in (first.header("anthropic-beta") or "")
        assert first.json["context_management"]["edits"]


# ------------------------------------------------------------------------------------------ Codex CLI


def said(events: list[dict[str, Any]]) -> None:
    """One command that succeeded, one answer, and the usage of both requests."""
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    [command] = [item for item in items if item["type"] == "command_execution"]
    assert COMMAND in command["command"]
    assert (command["exit_code"], command["aggregated_output"].strip()) == (0, PRINTED)
    assert [item["text"] for item in items if item["type"] == "agent_message"] == [DONE]
    last = events[-1]
    assert last["type"] == "turn.completed"
    assert (last["usage"]["input_tokens"], last["usage"]["output_tokens"]) == (2 * INPUT_TOKENS, 2 * OUTPUT_TOKENS)


@pytest.mark.parametrize("model", MODELS)
def test_codex_completes_a_turn(stage: Stage, tmp_path: Path, model: str) -> None:
    """Its web search is left out of a translation; a model of its own dialect has to allow it, or it is turned off."""
    said(run.codex(stage, tmp_path, model, config=run.NO_SEARCH if model == RESPONSES else ""))
    turn_of(stage, model)


def test_codex_searches_the_web_where_the_model_may(stage: Stage, tmp_path: Path) -> None:
    said(run.codex(stage, tmp_path, KNOWN_TO_CODEX, config=""))
    first, second = turn_of(stage, KNOWN_TO_CODEX)
    for request in (first, second):
        assert "web_search" in {tool["type"] for tool in request.json["tools"]}
        assert request.json["store"] is False


def test_codex_goes_on_without_a_websocket(stage: Stage, tmp_path: Path) -> None:
    said(run.codex(stage, tmp_path, RESPONSES, provider=run.CODEX_BUILT_IN))
    turn_of(stage, RESPONSES)
    assert len([event for event in stage.gateway.events if event.get("event") == "websocket refused"]) == 1
