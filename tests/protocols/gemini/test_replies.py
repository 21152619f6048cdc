"""What becomes of the parts and reasons of a reply."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.domain.chat import (
    Choice,
    Finish,
    Losses,
    Part,
    Refusal,
    Reply,
    Text,
    Thinking,
    ToolCall,
)
from daemon.protocols.gemini import Gemini
from daemon.protocols.gemini.tables import (
    DROPPED,
    ENCODED_REPLY,
    FINISH,
    FINISH_NUMBERS,
    REASON,
    Table,
)

API = Gemini()


def rows(table: Table, fate: str) -> set[str]:
    return {name for name, (found, _) in table.items() if found == fate}


def test_what_a_reply_loses_is_named() -> None:
    thought = Thinking("t", "s", "e", origin="openai_responses")
    choice = Choice((Text("a", citations=({"title": "t"},)), thought), Finish.STOP_SEQUENCE, "END")
    losses = Losses()
    API.encode_reply(Reply("i", "m", 5, (choice, choice)), "m", losses)
    assert sorted(losses.names) == sorted(rows(ENCODED_REPLY, DROPPED) - {"created", "pings"})


def test_every_reason_has_a_word_and_every_word_a_reason() -> None:
    assert set(REASON) == {None, *Finish}
    assert set(REASON.values()) <= set(FINISH)
    assert set(FINISH_NUMBERS) <= set(FINISH)
    for word, finish in FINISH.items():
        assert API.decode_reply({"candidates": [{"finishReason": word}]}).choices[0].finish is finish
    assert API.decode_reply({"candidates": [{"finishReason": 2}]}).choices[0].finish is Finish.LENGTH
    assert API.decode_reply({"candidates": [{"finishReason": "FUTURE"}]}).choices[0].finish is Finish.ERROR
    assert API.decode_reply({"candidates": [{}]}).choices[0].finish is None


@pytest.mark.parametrize(
    ("given", "finish", "reason"),
    [
        ((Text("a"),), None, "STOP"),
        ((ToolCall("a", "f", "{}"),), Finish.TOOL_CALLS, "STOP"),
        ((Refusal("no"),), Finish.STOP, "SAFETY"),
        ((Text("a"),), Finish.REFUSAL, "SAFETY"),
        ((Text("a"),), Finish.ERROR, "OTHER"),
    ],
)
def test_the_reason_says_what_happened(given: tuple[Part, ...], finish: Finish | None, reason: str) -> None:
    body = API.encode_reply(Reply("i", "m", 0, (Choice(given, finish),)), "m", Losses())
    assert body["candidates"][0]["finishReason"] == reason


@pytest.mark.parametrize(
    ("body", "choice"),
    [
        (
            {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "No."}},
            Choice((Refusal("No."),), Finish.CONTENT_FILTER),
        ),
        ({"promptFeedback": {"blockReason": "OTHER"}, "usageMetadata": {}}, Choice((), Finish.CONTENT_FILTER)),
        ({"candidates": [{"finishReason": "SPII", "finishMessage": "No."}]}, Choice((Refusal("No."),), Finish.CONTENT_FILTER)),
        ({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "x"}]}, Choice((), Finish.ERROR)),
        ({"usageMetadata": {"promptTokenCount": 1}}, Choice((), None)),
    ],
)
def test_a_filter_is_told(body: dict[str, Any], choice: Choice) -> None:
    assert API.decode_reply(body).choices == (choice,)


@pytest.mark.parametrize("body", [{}, {"error": {"code": 500}}, {"candidates": 1}, {"choices": []}])
def test_what_is_no_reply_is_a_value_error(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no candidates"):
        API.decode_reply(body)
