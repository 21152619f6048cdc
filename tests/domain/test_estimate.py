"""Tokens counted by us are near the truth, fast on hostile text, and never nothing."""

from __future__ import annotations

import importlib.util
import json
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import estimate
from daemon.domain.countable import Countable
from daemon.domain.estimate import approximate_tokens, count_output, count_prompt, count_tokens
from daemon.protocols.openai_chat import StreamReader, reply_text

ROOT = Path(__file__).parents[3] / "shared" / "fixtures"
recorded = pytest.mark.skipif(not ROOT.exists(), reason="the recorded fixtures (../shared/fixtures) are not on this machine")
exact = pytest.mark.skipif(importlib.util.find_spec("bpe_openai") is None, reason="the extra `tokens` is not installed")

# Replies whose text is not all that was generated: hidden reasoning, or shortened when they were recorded.
NOT_WHOLE = ("compatible_api_with_tool_calls", "azure_model_router", "mistral_reasoning", "perplexity", "moonshotai")


def replies() -> list[tuple[str, int]]:
    """(text, true output tokens) of every recorded text reply that is whole."""
    found = []
    for entry in json.loads((ROOT / "index.json").read_bytes())["fixtures"]:
        if entry["api"] != "openai.chat" or not entry["usage_true"] or "tool_calls" in entry["features"]:
            continue
        if any(part in entry["name"] for part in NOT_WHOLE):
            continue
        body = (ROOT / entry["response_file"]).read_bytes()
        if entry["stream"]:
            reader = StreamReader()
            reader.feed(body)
            text = reader.estimate_text()
        else:
            text = reply_text(json.loads(body))
        found.append((text, entry["usage_true"]["output_total"]))
    return found


def median_error(count: Any) -> float:
    return statistics.median(abs(count(text) - true) / true for text, true in replies())


@recorded
@exact
def test_the_estimate_of_recorded_replies_is_within_5_percent() -> None:
    assert len(replies()) >= 8
    assert median_error(count_output) <= 0.05


@recorded
def test_without_a_vocabulary_it_is_within_12_percent() -> None:
    assert median_error(approximate_tokens) <= 0.12


TEXTS = {
    "The gateway holds the most that a request can cost, sends it on, and settles what it really cost.": 20,
    "Das Sprachmodell beantwortet Fragen der Nutzer und hilft beim Schreiben von Texten in verschiedenen Sprachen.": 20,
    "Модель языка отвечает на вопросы пользователя и помогает писать тексты на разных языках мира, включая редкие.": 22,
    "语言模型可以回答用户的问题，并帮助撰写不同语言的文章。今天天气很好，我们去公园散步吧。": 28,
    "言語モデルはユーザーの質問に答え、さまざまな言語で文章を書くのを手伝います。今日はいい天気ですね。": 34,
}


@exact
@pytest.mark.parametrize(("text", "tokens"), TEXTS.items())
def test_known_counts(text: str, tokens: int) -> None:
    assert abs(count_tokens(text) - tokens) <= 2
    assert count_tokens(text * 3000) == pytest.approx(3000 * count_tokens(text), rel=0.08)


@pytest.mark.parametrize(("text", "tokens"), TEXTS.items())
def test_the_approximation_is_near_in_many_languages(text: str, tokens: int) -> None:
    assert approximate_tokens(text) == pytest.approx(tokens, rel=0.35)


@given(st.text())
def test_any_text_has_a_count_and_only_the_empty_one_has_none(text: str) -> None:
    for count in (count_tokens, approximate_tokens):
        assert (count(text) > 0) == bool(text)
        assert count(text) <= 3 * len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("unit", ["A", "a", " ", ".", "\n", "aA", "中", "_", "\n \n", "\u0301", " .", "1"])
def test_hostile_text_is_counted_in_linear_time(unit: str) -> None:
    started = time.perf_counter()
    approximate_tokens(unit * 100_000)
    assert count_tokens(unit * 200_000) > 0
    assert time.perf_counter() - started < 2


def test_more_characters_than_were_kept_are_counted_in_proportion() -> None:
    assert count_output("one two three four", characters=36) == 2 * count_output("one two three four")
    assert count_output("", characters=5) == 0
    assert count_output("x", tool_calls=1) == count_output("x") + 8
    assert count_output("x", tool_calls=2) == count_output("x") + 28


USER = {"role": "user", "content": "Say this is a test"}


@exact
@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"messages": [USER]}, 12),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Say this is a test"}]}]}, 12),
        ({"messages": [USER, USER]}, 21),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 772),
        ({}, 3),
        ({"messages": "x", "tools": 7}, 3),
        ({"messages": [None, {"content": None}]}, 7),
    ],
)
def test_prompts_are_counted_with_their_marks(body: dict[str, Any], tokens: int) -> None:
    assert count_prompt(body) == tokens


def test_tools_calls_names_and_schemas_are_part_of_the_prompt() -> None:
    plain = count_prompt({"messages": [USER]})
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    assert count_prompt({"messages": [USER], "tools": [tool]}) > plain + 8
    assert count_prompt({"messages": [USER, call]}) > plain + 8
    assert count_prompt({"messages": [{**USER, "name": "ann"}]}) > plain
    assert count_prompt({"messages": [USER], "response_format": {"json_schema": {"name": "x"}}}) > plain


@recorded
@exact
def test_the_prompts_of_recorded_requests_are_within_5_percent() -> None:
    errors = []
    for entry in json.loads((ROOT / "index.json").read_bytes())["fixtures"]:
        if entry["api"] == "openai.chat" and entry["provider"] == "openai" and entry["request_file"] and entry["usage_true"]:
            body = json.loads((ROOT / entry["request_file"]).read_bytes())
            true = entry["usage_true"]["input_total"]
            errors.append(abs(count_prompt(body) - true) / true)
    assert len(errors) >= 6
    assert statistics.median(errors) <= 0.05


def test_what_lies_beyond_the_longest_prompt_weighs_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "LONGEST", 4000)
    whole = estimate.count_parts(Countable(["word " * 800]))
    marks = estimate.count_parts(Countable())
    for texts in (["word " * 8000], ["word " * 800] * 10, ["word " * 400, "word " * 7600]):
        assert estimate.count_parts(Countable(texts)) - marks == pytest.approx(10 * (whole - marks), rel=0.01)
