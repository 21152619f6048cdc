"""The tables of usage say what the readers do: each field, alone, counts in the meter that its row names."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.usage import METERS, Usage
from daemon.protocols import (
    anthropic_messages,
    asks,
    gemini,
    openai_audio,
    openai_chat,
    openai_images,
    openai_responses,
    rerank,
)
from daemon.protocols.anthropic_messages import tables as anthropic_tables
from daemon.protocols.gemini import tables as gemini_tables
from daemon.protocols.openai_chat import tables as openai_chat_tables
from daemon.protocols.openai_responses import tables as openai_responses_tables

Read = Callable[[dict[str, Any]], Usage | None]
FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
CHAT = {"prompt_tokens": 100, "completion_tokens": 50}
RESPONSE = {"input_tokens": 100, "output_tokens": 50}
MESSAGE = {"input_tokens": 100, "output_tokens": 50}
GEMINI = {"promptTokenCount": 100, "candidatesTokenCount": 50}
SPECIAL: dict[str, dict[str, Any]] = {
    "total_tokens": {"total_tokens": 157},
    "input_tokens_details.cache_write_tokens_details.ttl_12h_tokens": {
        "input_tokens_details": {"cache_write_tokens": 7, "cache_write_tokens_details": {"ttl_12h_tokens": 7}}
    },
    "cache_creation.ephemeral_1h_input_tokens": {
        "cache_creation_input_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": 7},
    },
    "iterations": {"iterations": [{"input_tokens": 107, "output_tokens": 50}]},
    "promptTokensDetails AUDIO": {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 7}]},
    "candidatesTokensDetails AUDIO": {"candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 7}]},
    "candidatesTokensDetails IMAGE": {"candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 7}]},
}  # fmt: skip


def nested(field: str, count: int) -> dict[str, Any]:
    """'a.b' → {"a": {"b": count}}; '*' is some name."""
    first, _, rest = field.partition(".")
    return {first.replace("*", "web_search"): nested(rest, count) if rest else count}


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(base)
    for name, value in more.items():
        found[name] = merged(found[name], value) if isinstance(value, dict) and isinstance(found.get(name), dict) else value
    return found


def count_of(usage: Usage, meter: str) -> int:
    if meter == "reasoning":
        return usage.reasoning
    if meter == "all":
        return usage.total_tokens
    return sum(count for key, count in usage.meters.items() if key.partition("/")[0] == meter)


CONVERSATIONS: list[tuple[Read, str, dict[str, Any], dict[str, tuple[str, str]], frozenset[str]]] = [
    (openai_chat.usage_of, "usage", CHAT, openai_chat_tables.USAGE, frozenset()),
    (
        openai_responses.OpenAIResponses().usage_of,
        "usage",
        RESPONSE,
        openai_responses_tables.USAGE,
        frozenset({"prompt_tokens"}),
    ),
    (anthropic_messages.AnthropicMessages().usage_of, "usage", MESSAGE, anthropic_tables.USAGE, frozenset()),
    (gemini.Gemini().usage_of, "usageMetadata", GEMINI, gemini_tables.USAGE, frozenset({"totalTokenCount"})),
]
ROWS = [
    pytest.param(read, holder, base, field, meter, id=f"{read.__module__.rpartition('.')[0]}-{field}")
    for read, holder, base, table, other in CONVERSATIONS
    for field, (meter, _) in table.items()
    if field not in other
]


@pytest.mark.parametrize(("read", "holder", "base", "field", "meter"), ROWS)
def test_a_field_counts_in_its_meter(read: Read, holder: str, base: dict[str, Any], field: str, meter: str) -> None:
    more = SPECIAL.get(field) or nested(field, base.get(field, 0) + 7)
    if field == "total_tokens" and base is RESPONSE:
        more = {"total_tokens": 157, "output_tokens_details": {"reasoning_tokens": 7}}
    before, after = read({holder: base}), read({holder: merged(base, more)})
    assert before is not None
    assert after is not None
    assert count_of(after, meter) == count_of(before, meter) + 7


def test_every_meter_of_every_table_is_one() -> None:
    tables = [table for *_, table, _ in CONVERSATIONS]
    tables += [asks.USAGE, openai_images.USAGE, openai_audio.USAGE, rerank.USAGE]
    named = {meter for table in tables for meter, _ in table.values()}
    assert named - {"reasoning", "all"} <= METERS.keys()
    assert named >= METERS.keys() - {"request"}


def test_gemini_s_total_counts_where_nothing_else_does() -> None:
    found = gemini.Gemini().usage_of({"usageMetadata": {"promptTokenCount": 100, "totalTokenCount": 107}})
    assert found is not None
    assert found.meters == {"input": 100, "output": 7}


def test_a_response_may_report_under_the_names_of_chat_completions() -> None:
    usage = {
        "prompt_tokens": 19, "completion_tokens": 1969, "total_tokens": 1988, "audio_prompt_tokens": 0,
        "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 1900},
    }  # fmt: skip
    found = openai_responses.OpenAIResponses().usage_of({"usage": usage})
    assert found == Usage({"input": 15, "cached_input": 4, "output": 1969}, 1900)


@pytest.mark.skipif(not FIXTURES.exists(), reason="the recorded exchanges are not here")
def test_the_recorded_response_of_azure_that_does_so() -> None:
    name = "azure/openai_responses__azure_deepseek_reasoning_1__0.response.json"
    found = openai_responses.OpenAIResponses().usage_of(json.loads((FIXTURES / name).read_bytes()))
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (19, 1969)
