"""What the tables say of each field happens: carried, dropped and named, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from daemon.domain.chat import (
    Chat,
    Choice,
    Finish,
    Losses,
    Media,
    MediaKind,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Reply,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from daemon.domain.errors import ApiError
from daemon.protocols.anthropic_messages import VERSIONS, AnthropicMessages
from daemon.protocols.anthropic_messages.tables import (
    BLOCKS,
    DROPPED,
    ENCODED,
    ENCODED_REPLY,
    FINISH,
    REFUSED,
    REQUEST,
    STOP_REASON,
    TOOLS,
    Table,
)

API = AnthropicMessages()
BODY: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
TOOL = Tool("f", parameters={"type": "object"})
ADAPTIVE: dict[str, Any] = {"thinking": {"type": "adaptive"}}
SHOWN: dict[str, Any] = {"thinking": {"type": "adaptive", "display": "summarized"}}
OLD, NEW = "claude-haiku-4-5", "claude-opus-4-8"


def said(*parts: Part, role: Role = Role.USER) -> Message:
    return Message(role, parts)


def chat(*messages: Message, **fields: Any) -> Chat:
    return Chat("m", messages or (said(Text("hi")),), **fields)


def rows(table: Table, fate: str) -> set[str]:
    return {name for name, (found, _) in table.items() if found == fate}


# -- encode_request

CALLED = (said(ToolCall("a", "f", "{}"), role=Role.ASSISTANT), said(ToolResult("a", (Text("r"),)), role=Role.TOOL))
LOSSES: list[tuple[str, str, Chat]] = [
    ("tool.format", OLD, chat(tools=(Tool("f", custom=True, format={"type": "grammar"}),))),
    ("system.position", OLD, chat(said(Text("hi")), said(Text("s"), role=Role.SYSTEM))),
    ("system.media", OLD, chat(said(Text("s"), Media(MediaKind.IMAGE, url="u"), role=Role.SYSTEM), said(Text("hi")))),
    ("output_format.json", OLD, chat(output_format=OutputFormat())),
    ("temperature.range", OLD, chat(temperature=1.5)),
    ("sampling", OLD, chat(temperature=0.5, top_p=0.5)),
    ("sampling", NEW, chat(top_k=5)),
    ("sampling", OLD, chat(temperature=0.5, reasoning=Reasoning("low"))),
    ("reasoning.budget_tokens", NEW, chat(reasoning=Reasoning(budget_tokens=5000))),
    ("reasoning.budget_tokens", OLD, chat(reasoning=Reasoning("high"), max_output=4000)),
    ("reasoning.effort", NEW, chat(reasoning=Reasoning("none"))),
    ("reasoning.forced_tool", OLD, chat(reasoning=Reasoning("low"), tools=(TOOL,), tool_choice=ToolChoice(ToolMode.REQUIRED))),
    ("reasoning.tool_loop", OLD, chat(said(Text("hi")), *CALLED, reasoning=Reasoning("low"))),
    ("reasoning.room", OLD, chat(reasoning=Reasoning("low"), max_output=500)),
    ("seed", OLD, chat(seed=0)),
    ("presence_penalty", OLD, chat(presence_penalty=0.5)),
    ("frequency_penalty", OLD, chat(frequency_penalty=0.5)),
    ("logprobs", OLD, chat(logprobs=True)),
    ("metadata", OLD, chat(metadata={"a": "b"})),
    ("verbosity", OLD, chat(verbosity="low")),
    ("user.length", OLD, chat(user="u" * 257)),
    ("service_tier.other", OLD, chat(service_tier="flex")),
    ("message.name", OLD, chat(Message(Role.USER, (Text("hi"),), "bob"))),
    ("media.detail", OLD, chat(said(Media(MediaKind.IMAGE, url="u", detail="low")))),
    ("assistant.media", OLD, chat(said(Text("a")), said(Media(MediaKind.IMAGE, url="u"), role=Role.ASSISTANT))),
    ("citations", OLD, chat(said(Text("a", citations=({"url": "u"},)), role=Role.ASSISTANT))),
    ("thinking", OLD, chat(said(Thinking("t", "s", origin="gemini"), Text("a"), role=Role.ASSISTANT))),
    ("tool_call.signature", OLD, chat(said(ToolCall("a", "f", "{}", signature="s"), role=Role.ASSISTANT))),
]
REFUSALS: list[tuple[str, Chat]] = [
    ("n", chat(n=2)),
    ("stop.blank", chat(stop=("\n",))),
    ("audio", chat(said(Media(MediaKind.AUDIO, "audio/wav", "AAAA")))),
    ("video", chat(said(Media(MediaKind.VIDEO, url="u")))),
    ("image.type", chat(said(Media(MediaKind.IMAGE, "image/tiff", "AAAA")))),
    ("file.type", chat(said(Media(MediaKind.FILE, "application/zip", "AAAA")))),
]


@pytest.mark.parametrize(("name", "model", "given"), LOSSES, ids=[f"{name} {model}" for name, model, _ in LOSSES])
def test_what_a_request_loses_is_named(name: str, model: str, given: Chat) -> None:
    losses = Losses()
    API.encode_request(given, model, losses)
    assert losses.names == [name]


@pytest.mark.parametrize(("name", "given"), REFUSALS, ids=[name for name, _ in REFUSALS])
def test_what_a_request_cannot_lose_is_refused(name: str, given: Chat) -> None:
    with pytest.raises(ApiError) as caught:
        API.encode_request(given, OLD, Losses())
    assert (caught.value.code, caught.value.http_status) == ("unsupported_parameter", 400)
    assert caught.value.param


def test_every_row_of_the_table_of_requests_has_a_case() -> None:
    assert {name for name, _, _ in LOSSES} == rows(ENCODED, DROPPED)
    assert {name for name, _ in REFUSALS} == rows(ENCODED, REFUSED)


def encoded(model: str = OLD, *, api: AnthropicMessages = API, **fields: Any) -> dict[str, Any]:
    return api.encode_request(chat(**fields), model, Losses())


@pytest.mark.parametrize(
    ("model", "wanted", "limit", "found"),
    [
        (OLD, Reasoning("medium"), None, {"thinking": {"type": "enabled", "budget_tokens": 8192}, "max_tokens": 12_288}),
        (OLD, Reasoning(budget_tokens=5), 4000, {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4000}),
        (OLD, Reasoning("high"), 4000, {"thinking": {"type": "enabled", "budget_tokens": 3000}, "max_tokens": 4000}),
        (OLD, Reasoning("none"), 4000, {"thinking": {"type": "disabled"}, "max_tokens": 4000}),
        (OLD, Reasoning(summary="auto"), 4000, {"max_tokens": 4000}),
        ("claude-opus-4-6", Reasoning("xhigh"), 9, {**ADAPTIVE, "output_config": {"effort": "max"}, "max_tokens": 9}),
        (NEW, Reasoning("xhigh", summary="auto"), 9, {**SHOWN, "output_config": {"effort": "xhigh"}, "max_tokens": 9}),
        (NEW, Reasoning(budget_tokens=9000), 9, {**ADAPTIVE, "output_config": {"effort": "medium"}, "max_tokens": 9}),
        (NEW, Reasoning("none"), 9, {"output_config": {"effort": "low"}, "max_tokens": 9}),
        ("kimi-k3", Reasoning("low"), 9000, {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 9000}),
    ],
)  # fmt: skip
def test_thinking_is_asked_for_as_the_generation_knows_it(
    model: str, wanted: Reasoning, limit: int | None, found: dict[str, Any]
) -> None:
    body = encoded(model, reasoning=wanted, max_output=limit)
    assert {name: body[name] for name in ("thinking", "output_config", "max_tokens") if name in body} == found


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("claude-3-7-sonnet-20250219", "enabled"),
        ("claude-opus-4-20250514", "enabled"),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", "enabled"),
        ("anthropic/claude-4.7-opus", "adaptive"),
        ("claude-sonnet-4.6", "adaptive"),
        ("claude-fable-5", "adaptive"),
        ("claude-haiku-5-5", "adaptive"),
        ("deepseek-v4", "enabled"),
    ],
)
def test_generations_are_told_by_name(model: str, kind: str) -> None:
    assert encoded(model, reasoning=Reasoning("low"))["thinking"]["type"] == kind


def test_the_newer_version_gets_no_sampling() -> None:
    newer = AnthropicMessages("2026-10-21")
    assert newer.headers == {"anthropic-version": "2026-10-21"}
    given: dict[str, Any] = {"temperature": 0.5, "top_k": 3}
    assert set(encoded(**given)) & VERSIONS["2026-10-21"] == {"temperature", "top_k"}
    losses = Losses()
    assert not set(newer.encode_request(chat(**given), OLD, losses)) & VERSIONS["2026-10-21"]
    assert losses.names == ["sampling"]


def test_defaults_of_sampling_are_not_said() -> None:
    losses = Losses()
    assert "temperature" not in API.encode_request(chat(temperature=1, top_p=1.0), NEW, losses)
    assert losses.names == []


def test_a_limit_is_always_sent() -> None:
    assert encoded()["max_tokens"] == 4096
    assert encoded(api=AnthropicMessages(default_max_tokens=64_000))["max_tokens"] == 64_000


def test_later_system_messages_stay_where_the_provider_allows_it() -> None:
    given = chat(said(Text("one"), role=Role.DEVELOPER), said(Text("hi")), said(Text("two"), role=Role.SYSTEM))
    body = AnthropicMessages(inline_system=True).encode_request(given, NEW, losses := Losses())
    assert (body["system"], [message["role"] for message in body["messages"]]) == ("one", ["user", "system"])
    assert losses.names == []
    body = API.encode_request(given, NEW, Losses())
    assert [block["text"] for block in body["system"]] == ["one", "two"]


def test_a_conversation_of_system_messages_becomes_the_users() -> None:
    body = API.encode_request(chat(said(Text("s"), role=Role.SYSTEM)), OLD, Losses())
    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": "s"}]


def test_ids_of_calls_are_made_legal_and_unique() -> None:
    turn = (
        said(ToolCall("fn.a:0", "f", "{}"), ToolCall("", "g", "{}"), role=Role.ASSISTANT),
        said(ToolResult("fn.a:0", ()), role=Role.TOOL),
        said(ToolResult("", (Text("x"),)), role=Role.TOOL),
        said(Text("more")),
    )
    body = API.encode_request(chat(*turn, *turn), OLD, Losses())
    blocks = [block for message in body["messages"] for block in message["content"]]
    assert [block["id"] for block in blocks if block["type"] == "tool_use"] == ["fn_a_0", "call", "fn_a_0_", "call_"]


def test_a_repeated_id_is_answered_by_the_last_call_of_it() -> None:
    turn = (said(ToolCall("a", "f", "{}"), role=Role.ASSISTANT), said(ToolResult("a", (Text("x"),)), role=Role.TOOL))
    body = API.encode_request(chat(*turn, *turn), OLD, Losses())
    assert [message["content"][0].get("id") or message["content"][0]["tool_use_id"] for message in body["messages"]] == [
        "a", "a", "a_", "a_"
    ]  # fmt: skip


def test_blank_texts_are_left_out() -> None:
    body = API.encode_request(
        chat(said(Text("hi")), said(Text(" "), role=Role.ASSISTANT), said(Text(""), Text("x"))), OLD, Losses()
    )
    assert body["messages"] == [{"role": "user", "content": "hi"}, {"role": "user", "content": "x"}]


def test_a_schema_is_closed_but_for_what_it_says() -> None:
    inner = {"type": ["object", "null"], "properties": {"default": {"type": "object"}}, "default": {"type": "object"}}
    schema = {"type": "object", "properties": {"a": inner}, "$defs": {"o": {"type": "object", "additionalProperties": True}}}
    found = encoded(output_format=OutputFormat(schema))["output_config"]["format"]["schema"]
    assert found["additionalProperties"] is False
    closed = found["properties"]["a"]
    assert (closed["additionalProperties"], closed["properties"]["default"]["additionalProperties"]) == (False, False)
    assert closed["default"] == {"type": "object"}
    assert found["$defs"]["o"]["additionalProperties"] is True
    assert "additionalProperties" not in schema


# -- decode_request

DROPS: dict[str, dict[str, Any]] = {
    "output_config.effort": {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}},
    "cache_control": {"cache_control": {"type": "ephemeral"}},
    "context_management": {"context_management": {"edits": []}},
    "diagnostics": {"diagnostics": {}},
    "fallbacks": {"fallbacks": []},
    "fallback_credit_token": {"fallback_credit_token": "t"},
    "speed": {"speed": "fast"},
    "user_profile_id": {"user_profile_id": "u"},
    "workspace_id": {"workspace_id": "w"},
    "document.citations": {
        "messages": [{"role": "user", "content": [{
            "type": "document", "citations": {"enabled": True},
            "source": {"type": "text", "media_type": "text/plain", "data": "d"},
        }]}],
    },
    "tool_use.cache_control": {
        "messages": [{"role": "assistant", "content": [
            {"type": "tool_use", "id": "a", "name": "f", "input": {}, "cache_control": {"type": "ephemeral"}},
        ]}],
    },
    "fallback": {"messages": [{"role": "assistant", "content": [{"type": "fallback", "from": {}, "to": {}}]}]},
    "tools.defer_loading": {"tools": [{"name": "f", "input_schema": {}, "defer_loading": True}]},
    "tools.input_examples": {"tools": [{"name": "f", "input_schema": {}, "input_examples": [{}]}]},
    "tools.eager_input_streaming": {"tools": [{"name": "f", "input_schema": {}, "eager_input_streaming": True}]},
    "tools.allowed_callers": {"tools": [{"name": "f", "input_schema": {}, "allowed_callers": ["direct"]}]},
    "tools.tool_search": {"tools": [{"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}]},
}  # fmt: skip


@pytest.mark.parametrize("name", DROPS)
def test_what_decoding_leaves_out_is_named(name: str) -> None:
    assert API.decode_request({**BODY, **DROPS[name]}).dropped == (name,)


def test_every_dropped_row_has_a_case() -> None:
    assert set(DROPS) == rows(REQUEST, DROPPED) | rows(BLOCKS, DROPPED) | rows(TOOLS, DROPPED)


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("container", {"container": "c"}),
        ("mcp_servers", {"mcp_servers": [{}]}),
        ("inference_geo", {"inference_geo": "us"}),
        ("tools[0].type", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("tools[0].type", {"tools": [{"type": "bash_20250124", "name": "bash"}]}),
        ("messages[0].content[0].type", {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]}),
        ("messages[0].content[0].content[0].type", {"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "browser_state"}]},
        ]}]}),
    ],
)  # fmt: skip
def test_what_no_other_dialect_can_carry_is_refused(param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        API.decode_request({**BODY, **fields})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)


@pytest.mark.parametrize(
    ("code", "param", "fields"),
    [
        ("missing_required_parameter", "model", {"model": None}),
        ("missing_required_parameter", "max_tokens", {"max_tokens": None}),
        ("invalid_value", "max_tokens", {"max_tokens": 0}),
        ("invalid_value", "max_tokens", {"max_tokens": True}),
        ("missing_required_parameter", "messages", {"messages": []}),
        ("invalid_value", "messages[0].role", {"messages": [{"role": "tool", "content": "x"}]}),
        ("missing_required_parameter", "messages[0].content", {"messages": [{"role": "user"}]}),
        (
            "invalid_value",
            "messages[0].content",
            {"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "t"}]}]},
        ),
        ("invalid_value", "system", {"system": [{"type": "image", "source": {"type": "url", "url": "u"}}]}),
        ("missing_required_parameter", "tools[0].input_schema", {"tools": [{"name": "f"}]}),
        ("missing_required_parameter", "tool_choice.name", {"tool_choice": {"type": "tool"}}),
        ("invalid_value", "tool_choice.type", {"tool_choice": {"type": "some"}}),
        ("invalid_value", "thinking.type", {"thinking": {"type": "much"}}),
        ("missing_required_parameter", "thinking.budget_tokens", {"thinking": {"type": "enabled"}}),
        ("invalid_value", "output_config.effort", {"output_config": {"effort": "huge"}}),
        ("invalid_value", "output_config.format.type", {"output_config": {"format": {"type": "xml"}}}),
        ("invalid_value", "stop_sequences", {"stop_sequences": [1]}),
        ("invalid_value", "temperature", {"temperature": "hot"}),
        ("invalid_value", "stream", {"stream": 1}),
    ],
)
def test_a_malformed_field_is_named(code: str, param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        API.decode_request({**BODY, **fields})
    assert (caught.value.code, caught.value.param) == (code, param)


# -- replies


def test_what_a_reply_loses_is_named() -> None:
    parts = (Text("a", citations=({"title": "t"},)), Media(MediaKind.IMAGE, url="u"))
    choice = Choice(parts, Finish.STOP, logprobs={"content": []})
    losses = Losses()
    API.encode_reply(Reply("i", "m", 5, (choice, choice)), "m", losses)
    assert sorted(losses.names) == sorted(rows(ENCODED_REPLY, DROPPED) - {"created"})


def test_every_reason_has_a_word_and_every_word_a_reason() -> None:
    assert set(STOP_REASON) == {None, *Finish}
    assert set(STOP_REASON.values()) <= set(FINISH)
    for word, finish in FINISH.items():
        assert API.decode_reply({"content": [], "stop_reason": word}).choices[0].finish is finish


@pytest.mark.parametrize(
    ("parts", "finish", "reason"),
    [
        ((Text("a"),), None, "end_turn"),
        ((ToolCall("a", "f", "{}"),), Finish.STOP, "tool_use"),
        ((Refusal("no"),), Finish.STOP, "refusal"),
        ((Text("a"),), Finish.CONTENT_FILTER, "refusal"),
        ((Text("a"),), Finish.ERROR, "max_tokens"),
    ],
)
def test_the_reason_says_what_happened(parts: tuple[Part, ...], finish: Finish | None, reason: str) -> None:
    assert API.encode_reply(Reply("i", "m", 0, (Choice(parts, finish),)), "m", Losses())["stop_reason"] == reason


def test_the_explanation_of_a_refusal_is_carried() -> None:
    body = {"content": [], "stop_reason": "refusal", "stop_details": {"type": "refusal", "explanation": "Not this."}}
    assert API.decode_reply(body).choices[0] == Choice((Refusal("Not this."),), Finish.REFUSAL)


def test_arguments_that_are_no_object_survive() -> None:
    for text in ('{"a": ', "[1]", "NaN"):
        reply = Reply("i", "m", 0, (Choice((ToolCall("a", "f", text),), Finish.TOOL_CALLS),))
        body = API.encode_reply(reply, "m", Losses())
        assert body["content"][0]["input"] == {"_raw": text}
        assert API.decode_reply(body).choices == reply.choices


def test_proofs_of_other_protocols_come_back_with_the_history() -> None:
    thought = Thinking("t", encrypted="gAAA", origin="openai_responses")
    parts = (thought, Thinking("u", "s", origin="gemini"), ToolCall("a", "f", "{}", signature="sig"))
    body = API.encode_reply(Reply("i", "m", 0, (Choice(parts, Finish.TOOL_CALLS),)), "m", Losses())
    found = API.decode_request({**BODY, "messages": [{"role": "assistant", "content": body["content"]}]})
    assert found.messages == (Message(Role.ASSISTANT, parts),)
    # Anthropic's own models cannot read them.
    losses = Losses()
    API.encode_request(replace(found, model="m"), OLD, losses)
    assert losses.names == ["thinking", "tool_call.signature"]
