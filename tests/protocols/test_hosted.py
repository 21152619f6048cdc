"""Tools that the provider runs: what requests ask for, what replies say, and the recorded replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.admission import ANY_NUMBER
from daemon.domain.usage import InvalidUsage
from daemon.protocols import anthropic_messages, openai_chat, openai_responses, raw
from daemon.protocols.bounds import hosted, stored, unbounded
from daemon.protocols.hosted import hosted_calls_of, hosted_tools, kinds_of, name_of

ROOT = Path(__file__).parents[3] / "shared" / "fixtures"
RESPONSES, MESSAGES = openai_responses.OpenAIResponses(), anthropic_messages.AnthropicMessages()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("web_search", "web_search"),
        ("web_search_2025_08_26", "web_search"),
        ("web_search_preview_2025_03_11", "web_search"),
        ("web_search_20250305", "web_search"),
        ("openrouter:web_search", "web_search"),
        ("googleSearch", "web_search"),
        ("web_fetch_20250910", "web_fetch"),
        ("urlContext", "web_fetch"),
        ("code_interpreter", "code_interpreter"),
        ("code_execution_20250825", "code_interpreter"),
        ("codeExecution", "code_interpreter"),
        ("file_search", "file_search"),
        ("image_generation", "image_generation"),
        ("mcp", "mcp"),
        ("x_search", "x_search"),
        ("shell", "shell"),
        ("what ever?", "unknown"),
        ("x" * 40, "unknown"),
        ("function", None),
        ("custom", None),
        ("namespace", None),
        ("bash_20250124", None),
        ("text_editor_20250728", None),
        ("computer_use_preview", None),
        ("local_shell", None),
        ("apply_patch", None),
        ("tool_search_tool_bm25_20251119", None),
        ("tool_search", None),
    ],
)
def test_one_name_whatever_a_dialect_calls_the_tool(kind: str, name: str | None) -> None:
    assert name_of(kind) == name


@pytest.mark.parametrize(
    ("kinds", "most", "found"),
    [
        ([("function", None)], 5, {}),
        ([("web_search", None)], None, {"web_search": ANY_NUMBER}),
        ([("web_search", None)], 3, {"web_search": 3}),
        ([("web_search_20250305", 5)], None, {"web_search": 5}),
        ([("web_search_20250305", 5)], 3, {"web_search": 3}),
        ([("web_search", 5), ("google_search", 2), ("mcp", 1)], None, {"web_search": 7, "mcp": 1}),
        ([("web_search", 0)], -1, {"web_search": ANY_NUMBER}),
        ([("web_search", "3")], True, {"web_search": ANY_NUMBER}),
        ([("web_search", 10**12)], 10**12, {"web_search": ANY_NUMBER}),
    ],
)
def test_a_request_may_limit_the_calls_itself(kinds: list[tuple[str, object]], most: object, found: dict[str, int]) -> None:
    assert hosted_tools(kinds, most) == found


@pytest.mark.parametrize(
    ("tools", "kinds", "unjudged"),
    [
        (None, [], []),
        ([], [], []),
        ({"type": "web_search"}, [], ["tools"]),
        (
            [{"google_search": {}}, 5, {"type": 5, "function": {}}],
            [],
            ["tools[0]:unknown", "tools[1]:unknown", "tools[2]:unknown"],
        ),
        ([{"function": {}}, {"name": "f", "input_schema": {}}, {"name": "f", "parameters": {}}], [], []),
        ([{"type": "web_search", "input_schema": {}, "max_uses": 2}], [("web_search", 2)], []),
        ([{"type": "shell", "environment": {"type": "local"}}], [], []),
        ([{"type": "shell"}], [("shell", None)], []),
    ],
)
def test_a_tool_that_cannot_be_judged_is_named(tools: object, kinds: list[Any], unjudged: list[str]) -> None:
    assert kinds_of(tools) == (kinds, unjudged)


def test_what_else_a_body_says_of_hosted_tools_and_stored_state() -> None:
    assert hosted({"mcp_servers": [{"url": "https://x"}]}) == {"mcp": ANY_NUMBER}
    assert hosted({"tools": [{"type": "mcp"}], "max_tool_calls": 2}) == {"mcp": 2}
    assert hosted({}) == {}
    for body in (
        {"previous_response_id": "r"},
        {"conversation": {"id": "c"}},
        {"conversation": "c"},
        {"input": [{"type": "item_reference", "id": "i"}]},
    ):
        assert (stored(body), unbounded(body)) == (True, [])
    assert not stored({"previous_response_id": None, "conversation": "", "input": [{"type": "message"}]})
    assert unbounded({"prompt": {"id": "p"}, "background": True}) == ["background", "prompt"]


CALL = {"type": "web_search_call", "status": "completed"}


@pytest.mark.parametrize(
    ("usage", "items", "calls"),
    [
        ({}, None, {}),
        ({}, [CALL, CALL, {"type": "file_search_call"}, {"type": "message"}, 5], {"web_search": 2, "file_search": 1}),
        ({}, [CALL | {"status": "failed"}], {}),
        (
            {},
            [CALL | {"action": {"type": "search", "query": "x"}}, CALL | {"action": {"type": "open_page"}}],
            {"web_search": 1},
        ),
        ({}, [{"type": kind} for kind in ("function_call", "custom_tool_call", "computer_call", "local_shell_call")], {}),
        ({}, [{"type": "code_interpreter_call"}, {"type": "mcp_call"}], {"code_interpreter": 1, "mcp": 1}),
        ({"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}}, None, {"web_search": 2}),
        ({"server_tool_use": {"code_execution_requests": 1, "tool_search_requests": 4}}, None, {"code_interpreter": 1}),
        ({"server_tool_use": None}, None, {}),
        (
            {"server_side_tool_usage_details": {"x_search_calls": 3, "web_search_calls": 1}},
            [CALL],
            {"x_search": 3, "web_search": 1},
        ),
        ({"server_side_tool_usage_details": {"web_search_calls": 1}}, [CALL, CALL], {"web_search": 2}),
        ({"server_tool_use": {"web_search_requests": None, "else": 7}}, None, {}),
    ],
)
def test_calls_that_a_reply_reports(usage: dict[str, Any], items: object, calls: dict[str, int]) -> None:
    assert hosted_calls_of(usage, items) == calls


@pytest.mark.parametrize("count", [-1, 1.0, "1", True, 10**10])
def test_counts_that_cannot_be_true(count: object) -> None:
    with pytest.raises(InvalidUsage):
        hosted_calls_of({"server_tool_use": {"web_search_requests": count}})


TOKENS = {"input_tokens": 3, "output_tokens": 5}


@pytest.mark.parametrize(
    ("usage_of", "reply"),
    [
        (RESPONSES.usage_of, {"usage": TOKENS, "output": [CALL, {"type": "message"}]}),
        (RESPONSES.usage_of, {"response": {"usage": TOKENS, "output": [CALL]}}),
        (MESSAGES.usage_of, {"usage": TOKENS | {"server_tool_use": {"web_search_requests": 1}}}),
        (raw.usage_of, {"usage": TOKENS | {"server_tool_use": {"web_search_requests": 1}}}),
        (raw.usage_of, {"usage": TOKENS, "output": [CALL]}),
        (
            openai_chat.usage_of,
            {"usage": {"prompt_tokens": 3, "completion_tokens": 5, "server_tool_use": {"web_search_requests": 1}}},
        ),
    ],
)
def test_they_are_a_meter_beside_the_tokens(usage_of: Any, reply: dict[str, Any]) -> None:
    found = usage_of(reply)
    assert found.meters == {"input": 3, "output": 5, "hosted_call/web_search": 1}
    assert found.total_tokens == 8


def test_a_stream_counts_each_call_once_also_those_that_its_last_event_lacks() -> None:
    def frames(*events: dict[str, Any]) -> bytes:
        return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)

    done = [
        {"type": "response.output_item.done", "output_index": index, "item": CALL | {"id": f"w{index}"}} for index in (0, 1)
    ]
    for output in ([], [CALL | {"id": "w0"}, CALL | {"id": "w1"}]):
        decoder = RESPONSES.decoder()
        decoder.feed(frames(*done, {"type": "response.completed", "response": {"usage": TOKENS, "output": output}}))
        assert decoder.usage is not None
        assert decoder.usage.meters["hosted_call/web_search"] == 2
    decoder = RESPONSES.decoder()
    decoder.feed(frames({"type": "response.completed", "response": {"usage": TOKENS, "output": [CALL, CALL, CALL]}}))
    assert decoder.usage is not None
    assert decoder.usage.meters["hosted_call/web_search"] == 3


RECORDED = {
    "openai/openai_responses__openai_include_raw_annotations_streaming__1.response.sse": {"web_search": 1},
    "openai/openai_responses__openai_responses_model_file_search_tool_stream__3.response.sse": {"file_search": 1},
    "openai/openai_responses__openai_image_generation_tool_1__0.response.sse": {"image_generation": 1},
    "openai/openai_responses__openai_mcp_tool_approval_4__0.response.sse": {"mcp": 1},
    "azure/openai_responses__openai_file_search_tool_1__0.response.json": {"file_search": 1},
    "xai/openai_responses__xai_image_generation_tool_1__0.response.json": {"image_generation": 1},
    "anthropic/anthropic_messages__anthropic_web_fetch_tool__0.response.json": {"web_fetch": 1},
    "anthropic_sdk/anthropic_messages__server_tool_use.response.sse": {"web_search": 1},
}


@pytest.mark.skipif(not ROOT.exists(), reason="the recorded exchanges are not here")
@pytest.mark.parametrize(("name", "calls"), RECORDED.items())
def test_recorded_replies_are_counted(name: str, calls: dict[str, int]) -> None:
    api, body = RESPONSES if "responses" in name else MESSAGES, (ROOT / name).read_bytes()
    if name.endswith(".json"):
        usage = api.usage_of(json.loads(body))
    else:
        decoder = api.decoder()
        decoder.feed(body)
        usage = decoder.usage
    assert usage is not None
    found = {key.partition("/")[2]: count for key, count in usage.meters.items() if key.startswith("hosted_call/")}
    assert found == calls
