"""What becomes of a client's request: read into a Chat, and written for a provider."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from daemon.domain.chat import (
    Chat,
    Losses,
    Media,
    MediaKind,
    Message,
    OutputFormat,
    Reasoning,
    Refusal,
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
from daemon.protocols.openai_chat import HABITS, OpenAIChat
from daemon.protocols.openai_chat.tables import DROPPED, ENCODED, REFUSED, REQUEST

HELLO = [{"role": "user", "content": "Hi"}]
PIXEL = "iVBORw0KGgo="
PROTOCOL = OpenAIChat()


def decoded(**fields: Any) -> Chat:
    return PROTOCOL.decode_request({"model": "m", "messages": HELLO, **fields})


def messages(*items: dict[str, Any]) -> tuple[Message, ...]:
    return PROTOCOL.decode_request({"model": "m", "messages": list(items)}).messages


def user_parts(*parts: Any) -> tuple[Any, ...]:
    return messages({"role": "user", "content": list(parts)})[0].parts


def encoded(chat: Chat, host: str = "", model: str = "up") -> tuple[dict[str, Any], list[str]]:
    losses = Losses()
    protocol = OpenAIChat(HABITS[host]) if host else PROTOCOL
    return protocol.encode_request(chat, model, losses), losses.names


def said(*sent: Message, **fields: Any) -> Chat:
    return Chat("m", sent, **fields)


SHAPE = {"name": "x", "schema": {"type": "object"}, "strict": True}
FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_tokens": 5}, {"max_output": 5}),
    ({"max_tokens": 50, "max_completion_tokens": 7}, {"max_output": 7}),
    ({"temperature": 0, "top_p": 0.5, "top_k": 4}, {"temperature": 0, "top_p": 0.5, "top_k": 4}),
    ({"stop": "END"}, {"stop": ("END",)}),
    ({"stop": ["a", "b"]}, {"stop": ("a", "b")}),
    ({"stop": []}, {"stop": ()}),
    ({"n": 3, "seed": 7, "presence_penalty": -1, "frequency_penalty": 0.5}, {"n": 3, "seed": 7, "presence_penalty": -1}),
    ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ({"service_tier": "flex", "verbosity": "low"}, {"service_tier": "flex", "verbosity": "low"}),
    ({"metadata": {"a": "b"}, "user": "u"}, {"metadata": {"a": "b"}, "user": "u"}),
    ({"safety_identifier": "s", "user": "u"}, {"user": "s"}),
    ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True, "include_usage": True}),
    ({"stream": True}, {"stream": True, "include_usage": None}),
    ({"reasoning_effort": "high"}, {"reasoning": Reasoning("high")}),
    ({"reasoning_effort": "max"}, {"reasoning": Reasoning("xhigh")}),
    ({"reasoning_effort": "default"}, {"reasoning": None}),
    ({"reasoning": {"max_tokens": 2000}}, {"reasoning": Reasoning(budget_tokens=2000)}),
    ({"reasoning": {"enabled": False}}, {"reasoning": Reasoning("none")}),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning": Reasoning(budget_tokens=1024)}),
    ({"thinking": {"type": "disabled"}}, {"reasoning": Reasoning("none")}),
    ({"thinking": {"type": "adaptive"}}, {"reasoning": Reasoning(adaptive=True)}),
    ({"response_format": {"type": "text"}}, {"output_format": None}),
    ({"response_format": {"type": "json_object"}}, {"output_format": OutputFormat()}),
    (
        {"response_format": {"type": "json_schema", "json_schema": SHAPE}},
        {"output_format": OutputFormat({"type": "object"}, "x", None, True)},
    ),
    ({"modalities": ["text"], "logit_bias": {}, "store": False}, {"dropped": ()}),
    ({"store": True, "prompt_cache_key": "k", "prediction": {"type": "content", "content": "x"}},
     {"dropped": ("store", "prompt_cache_key", "prediction")}),
    ({"min_p": 0.1, "transforms": ["x"]}, {"dropped": ()}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), FIELDS, ids=lambda row: ",".join(row))
def test_a_field_is_carried(given: dict[str, Any], expected: dict[str, Any]) -> None:
    chat = decoded(**given)
    assert {name: getattr(chat, name) for name in expected} == expected


def test_tools_of_every_form() -> None:
    schema = {"type": "object", "properties": {}}
    chat = decoded(
        tools=[
            {"type": "function", "function": {"name": "a", "description": "A", "parameters": schema, "strict": True}},
            {"function": {"name": "b"}},
            {"type": "function", "name": "c", "parameters": schema},
            {"type": "custom", "custom": {"name": "d", "format": {"type": "text"}}, "cache_control": {"type": "ephemeral"}},
        ],
        tool_choice={"type": "custom", "custom": {"name": "d"}},
        parallel_tool_calls=False,
    )
    assert chat.tools == (
        Tool("a", "A", schema, True),
        Tool("b"),
        Tool("c", None, schema),
        Tool("d", custom=True, format={"type": "text"}, cache_control={"type": "ephemeral"}),
    )
    assert chat.tool_choice == ToolChoice(ToolMode.NAMED, "d")
    assert chat.parallel_tool_calls is False
    body, losses = encoded(chat)
    assert body["tool_choice"] == {"type": "custom", "custom": {"name": "d"}}
    assert body["tools"][3] == {"type": "custom", "custom": {"name": "d", "format": {"type": "text"}}}
    assert losses == ["cache_control"]


def test_allowed_tools_leaves_the_others_out() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "abc"]
    allowed = [{"type": "function", "function": {"name": "a"}}, {"type": "function", "name": "c"}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": allowed}}
    chat = decoded(tools=tools, tool_choice=choice)
    assert [tool.name for tool in chat.tools] == ["a", "c"]
    assert chat.tool_choice == ToolChoice(ToolMode.REQUIRED)


def test_legacy_functions_are_tools() -> None:
    chat = PROTOCOL.decode_request(
        {
            "model": "m",
            "messages": [
                *HELLO,
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "42"},
            ],
            "functions": [{"name": "f", "parameters": {"type": "object"}}],
            "function_call": {"name": "f"},
        }
    )
    assert chat.legacy_functions
    assert chat.tools == (Tool("f", None, {"type": "object"}),)
    assert chat.tool_choice == ToolChoice(ToolMode.NAMED, "f")
    assert chat.messages[1].parts == (ToolCall("call_1", "f", "{}"),)
    assert chat.messages[2].parts == (ToolResult("call_1", (Text("42"),), name="f"),)


PARTS: list[tuple[dict[str, Any], Any]] = [
    ({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}, Text("x", {"type": "ephemeral"})),
    ({"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}, Text("x", {"type": "ephemeral"})),
    ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
     Media(MediaKind.IMAGE, "image/png", PIXEL, detail="low")),
    ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, Media(MediaKind.IMAGE, url="https://x/y.png")),
    ({"type": "image_url", "image_url": "https://x/y.png"}, Media(MediaKind.IMAGE, url="https://x/y.png")),
    ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}, Media(MediaKind.AUDIO, "audio/mpeg", "AAAA")),
    ({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
     Media(MediaKind.FILE, "application/pdf", "AAAA", name="a.pdf")),
    ({"type": "file", "file": {"filename": "a.pdf", "file_data": "AAAA"}},
     Media(MediaKind.FILE, "application/pdf", "AAAA", name="a.pdf")),
    ({"type": "file", "file": {"file_id": "file-1"}}, Media(MediaKind.FILE, file_id="file-1")),
    ({"type": "video_url", "video_url": {"url": "https://x/y.mp4"}}, Media(MediaKind.VIDEO, url="https://x/y.mp4")),
    ({"type": "document_url", "document_url": "https://x/y.pdf"}, Media(MediaKind.FILE, url="https://x/y.pdf")),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), PARTS, ids=lambda row: str(getattr(row, "kind", ""))[:20])
def test_a_part_is_carried(given: dict[str, Any], expected: Any) -> None:
    assert user_parts(given) == (expected,)


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "invalid_value", "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "missing_required_parameter",
     "messages[0].tool_calls[0].function.name"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "missing_required_parameter", "messages[0].tool_call_id"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "missing_required_parameter",
     "messages[0].content[0].image_url"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,abc"}}]}]},
     "invalid_value", "messages[0].content[0].image_url"),
    ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "unsupported_parameter",
     "messages[0].content[0].type"),
    ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].function"),
    ({"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools[0].type"),
    ({"tool_choice": "maybe"}, "invalid_value", "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "missing_required_parameter", "tool_choice.function.name"),
    ({"seed": "x"}, "invalid_value", "seed"),
    ({"metadata": []}, "invalid_value", "metadata"),
    ({"reasoning_effort": "huge"}, "invalid_value", "reasoning_effort"),
    ({"response_format": {"type": "grammar"}}, "unsupported_parameter", "response_format.type"),
    ({"web_search_options": {}}, "unsupported_parameter", "web_search_options"),
    ({"logit_bias": {"50256": -100}}, "unsupported_parameter", "logit_bias"),
    ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
    ({"functions": 5}, "invalid_value", "functions"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "code", "param"), BAD, ids=[row[2] for row in BAD])
def test_what_is_malformed_or_cannot_be_carried_is_400(given: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        decoded(**given)
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (400, code, param)
    assert param in caught.value.message


def test_every_refused_and_dropped_field_of_the_table_is_so() -> None:
    for name, (fate, _) in REQUEST.items():
        if fate is REFUSED:
            with pytest.raises(ApiError):
                decoded(**{name: {"x": 1}})
        elif fate is DROPPED:
            assert decoded(**{name: "x"}).dropped == (name,)


def test_a_tool_round_trip_in_history() -> None:
    found = messages(
        *HELLO,
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": '}},
                {"id": "", "type": "function", "function": {"name": "g", "arguments": {"b": 1}}},
                {"id": "c3", "type": "custom", "custom": {"name": "h", "input": "free"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "one"}]},
        {"role": "tool", "tool_call_id": "", "content": "two"},
        {"role": "tool", "tool_call_id": "c3", "content": ""},
    )
    assert found[1].parts == (
        Thinking("hm"),
        ToolCall("c1", "f", '{"a": '),
        ToolCall("call_1_1", "g", '{"b":1}'),
        ToolCall("c3", "h", "free", custom=True),
    )
    assert found[2] == Message(
        Role.TOOL,
        (
            ToolResult("c1", (Text("one"),)),
            ToolResult("call_1_1", (Text("two"),)),
            ToolResult("c3", (Text(""),), custom=True),
        ),
    )


BLOCKS = [{"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "redacted_thinking", "data": "d"}]


def test_thoughts_in_history_in_every_form() -> None:
    signed = {"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1", "index": 0}
    hidden = {"type": "reasoning.encrypted", "data": "d", "id": "rs_1", "format": "openai-responses-v1", "index": 1}
    forms: list[tuple[dict[str, Any], tuple[Thinking, ...]]] = [
        ({"reasoning": "r"}, (Thinking("r"),)),
        ({"reasoning_content": "r", "reasoning": "r"}, (Thinking("r"),)),
        (
            {"reasoning_content": "t", "reasoning_details": [signed, hidden]},
            (Thinking("t", "s", origin="anthropic_messages"), Thinking("", None, "d", "rs_1", "openai_responses")),
        ),
        (
            {"thinking_blocks": BLOCKS},
            (Thinking("t", "s", origin="anthropic_messages"), Thinking(encrypted="d", origin="anthropic_messages")),
        ),
    ]  # fmt: skip
    for fields, expected in forms:
        message = messages(*HELLO, {"role": "assistant", "content": "x", **fields})[1]
        assert message.parts == (*expected, Text("x"))
    nested = [{"type": "thinking", "thinking": [{"type": "text", "text": "m"}]}, {"type": "text", "text": "x"}]
    assert messages(*HELLO, {"role": "assistant", "content": nested})[1].parts == (Thinking("m"), Text("x"))


def test_google_signatures_come_back_to_google_only() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    call["extra_content"] = {"google": {"thought_signature": "sig"}}
    chat = PROTOCOL.decode_request({"model": "m", "messages": [*HELLO, {"role": "assistant", "tool_calls": [call]}]})
    assert chat.messages[1].parts[0] == ToolCall("c", "f", "{}", signature="sig")
    assert encoded(chat, model="google/gemini-3-pro")[0]["messages"][1]["tool_calls"][0] == call
    body, losses = encoded(chat, model="gpt-5")
    assert "extra_content" not in body["messages"][1]["tool_calls"][0]
    assert "tool_call.signature" in losses


def test_images_of_tool_results_come_after_the_results() -> None:
    image = Media(MediaKind.IMAGE, "image/png", PIXEL)
    calls = (ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}"))
    results = (ToolResult("a", (Text("see"), image), is_error=True), ToolResult("b", (Text("no"),)))
    chat = said(Message(Role.ASSISTANT, calls), Message(Role.TOOL, results), Message(Role.USER, (Text("so?"),)))
    body, losses = encoded(chat)
    assert [item["role"] for item in body["messages"]] == ["assistant", "tool", "tool", "user", "user"]
    assert body["messages"][1]["content"] == "see"
    assert body["messages"][3]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert losses == ["tool_result.is_error"]


def test_a_text_document_becomes_text() -> None:
    data = base64.b64encode("Grüße".encode()).decode()
    chat = said(Message(Role.USER, (Media(MediaKind.FILE, "text/plain", data, name="a.txt"), Text("?"))))
    assert encoded(chat)[0]["messages"][0]["content"][0] == {"type": "text", "text": "a.txt:\n\nGrüße"}


@pytest.mark.parametrize(
    "media",
    [
        Media(MediaKind.VIDEO, url="https://x"),
        Media(MediaKind.FILE, url="https://x"),
        Media(MediaKind.AUDIO, url="https://x"),
        Media(MediaKind.IMAGE, file_id="f"),
    ],
    ids=lambda media: media.kind.value,
)
def test_media_without_a_form_is_refused(media: Media) -> None:
    with pytest.raises(ApiError) as caught:
        encoded(said(Message(Role.USER, (media,))))
    assert caught.value.code == "unsupported_parameter"


def test_what_a_host_accepts_decides() -> None:
    thought = Thinking("t", "s", origin="anthropic_messages")
    chat = said(
        Message(Role.DEVELOPER, (Text("be brief", {"type": "ephemeral"}),)),
        Message(Role.ASSISTANT, (thought, Text("x"))),
        Message(Role.USER, (Text("y"),)),
        max_output=9,
        top_k=3,
        metadata={"a": "b"},
    )
    body, losses = encoded(chat)
    assert body["messages"][0] == {"role": "system", "content": "be brief"}
    assert body["max_tokens"] == 9
    assert set(losses) == {"cache_control", "thinking", "top_k", "metadata"}
    assert encoded(chat, model="gpt-5.2")[0]["max_completion_tokens"] == 9
    body, losses = encoded(chat, "openrouter")
    assert body["messages"][0]["role"] == "developer"
    assert body["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert body["messages"][1]["reasoning_details"][0]["signature"] == "s"
    assert (body["top_k"], losses) == (3, ["metadata"])
    body, losses = encoded(chat, "deepseek")
    assert body["messages"][1]["reasoning_content"] == "t"


@pytest.mark.parametrize(("budget", "effort"), [(0, "none"), (1024, "low"), (8000, "medium"), (32000, "high")])
def test_a_budget_becomes_an_effort(budget: int, effort: str) -> None:
    body, losses = encoded(said(reasoning=Reasoning(budget_tokens=budget)))
    assert (body["reasoning_effort"], losses) == (effort, ["reasoning.budget_tokens"])


def test_usage_is_always_asked_for_in_a_stream() -> None:
    assert encoded(said(stream=True))[0]["stream_options"] == {"include_usage": True}


def test_every_loss_stands_in_the_table() -> None:
    image = Media(MediaKind.IMAGE, url="https://x")
    cited = Text("x", {"type": "ephemeral"}, ({"url": "https://x"},))
    result = ToolResult("a", (Text("x"),), True, "f", cache_control={"type": "ephemeral"})
    _, losses = encoded(
        said(
            Message(Role.TOOL, (result,)),
            Message(Role.ASSISTANT, (Thinking("t"), cited, image, Refusal("no"), ToolCall("c", "f", "", signature="s"))),
            top_k=1,
            metadata={},
            service_tier="batch",
            include_encrypted=True,
            reasoning=Reasoning(budget_tokens=1, summary="auto"),
            tools=(Tool("f", cache_control={}),),
        )
    )
    assert set(losses) <= ENCODED.keys()
    assert set(losses) >= {name for name, (fate, _) in ENCODED.items() if fate is DROPPED}
