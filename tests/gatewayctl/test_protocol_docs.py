"""The page of the protocols says everything that their tables say, and names what is lost as they name it."""

from __future__ import annotations

from types import ModuleType

import pytest

from daemon.protocols.anthropic_messages import tables as anthropic_tables
from daemon.protocols.gemini import tables as gemini_tables
from daemon.protocols.openai_chat import tables as chat_tables
from daemon.protocols.openai_responses import tables as responses_tables
from gatewayctl.crossings import CASES, DIALECTS, Crossing, cross
from gatewayctl.protocol_docs import cell, protocols_page

MODULES = (chat_tables, responses_tables, anthropic_tables, gemini_tables)
FATES = {"carried", "dropped", "refused"}
PAGE = protocols_page()


def rows_of(tables: ModuleType) -> dict[str, str]:
    """Every name that a table of fates has, and its fates."""
    found: dict[str, str] = {}
    for table in vars(tables).values():
        if isinstance(table, dict):
            for name, row in table.items():
                if isinstance(row, tuple) and row[0] in FATES:
                    found[name] = f"{found.get(name, '')} {row[0]}"
    return found


@pytest.mark.parametrize("tables", MODULES, ids=lambda tables: tables.NAME)
def test_every_row_of_every_table_is_on_the_page(tables: ModuleType) -> None:
    section = PAGE.partition(f"\n## {DIALECTS[tables.NAME].title}\n")[2].partition("\n## ")[0]
    assert len(rows_of(tables)) > 50
    for name, fates in rows_of(tables).items():
        for fate in fates.split():
            assert f"| `{name}` | {fate} |" in section


def test_what_a_cell_names_is_dropped_or_refused_by_a_table() -> None:
    rows = {tables.NAME: rows_of(tables) for tables in MODULES}
    seen = set()
    for case in CASES:
        for client in DIALECTS:
            for provider in DIALECTS:
                found = cross(client, provider, case)
                for name in (*found.request, *found.reply):
                    seen.add(name)
                    assert "dropped" in rows[provider].get(name, "") + rows[client].get(name, ""), name
                if found.refused:
                    assert "refused" in rows[provider][found.refused]
    assert {"reasoning.summary", "tool_result.name", "stop_sequence"} <= seen


def test_each_kind_of_cell_is_on_the_page() -> None:
    kinds = {
        "passes": ("gemini", "gemini", Crossing()),
        "carried": ("gemini", "openai_chat", Crossing()),
        "no word for `stop`": ("openai_responses", "openai_chat", Crossing(unasked="stop")),
        "refused: `stop`": ("gemini", "openai_responses", Crossing(refused="stop")),
        "without `stop_sequence` in the reply": ("gemini", "anthropic_messages", Crossing(reply=("stop_sequence",))),
        "without `tool_result.name`": ("gemini", "openai_chat", Crossing(request=("tool_result.name",))),
    }
    for words, asked in kinds.items():
        assert cell(*asked) == words
        assert f" {words} |" in PAGE
