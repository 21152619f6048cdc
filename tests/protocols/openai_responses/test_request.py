"""Requests: what clients send, what is refused and dropped by the tables, what a provider is asked."""

from __future__ import annotations

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
from daemon.protocols.openai_responses import OpenAIResponses, tables

API = OpenAIResponses()
HI = {"role": "user", "content": "hi"}
ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}}


def decoded(**fields: Any) -> Chat:
    return API.decode_request({"model": "m", "input": "hi", **fields})


def said(*items: Any) -> tuple[Message, ...]:
    return decoded(input=list(items)).messages


def refused(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        decoded(**fields)
    assert raised.value.http_status == 400
    return raised.value


def test_a_string_is_what_the_user_says_after_the_instructions() -> None:
    assert decoded(instructions="be brief").messages == (
        Message(Role.SYSTEM, (Text("be brief"),)),
        Message(Role.USER, (Text("hi"),)),
    )


def test_a_turn_of_codex() -> None:
    """As Codex CLI sends it: developer messages, a namespace of tools, web search, its own history."""
    chat = API.decode_request(
        {
            "model": "gpt-codex",
            "instructions": "You are Codex.",
            "input": [
                {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix it"}]},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "content": None,
                 "encrypted_content": "gAAAAB"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "On it."}]},
                {"type": "function_call", "name": "exec", "arguments": '{"cmd":"ls"}', "call_id": "c1"},
                {"type": "function_call", "name": "search", "namespace": "mcp__docs__", "arguments": "{}", "call_id": "c2"},
                {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin", "call_id": "c3"},
                {"type": "function_call_output", "call_id": "c1", "output": "a.py"},
                {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "doc"}]},
                {"type": "custom_tool_call_output", "call_id": "c3", "output": "done"},
                {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}},
            ],
            "tools": [
                {"type": "function", "name": "exec", "description": "run", "strict": False, "parameters": {"type": "object"}},
                {"type": "namespace", "name": "mcp__docs__", "description": "Docs", "tools": [
                    {"type": "function", "name": "search", "strict": False, "parameters": {"type": "object"}}]},
                {"type": "custom", "name": "apply_patch", "description": "patch",
                 "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
                {"type": "web_search", "external_web_access": False},
            ],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "reasoning": {"effort": "medium", "summary": "auto"},
            "store": False,
            "stream": True,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": "thread-1",
            "text": {"verbosity": "low"},
            "client_metadata": {"x": "y"},
        }
    )  # fmt: skip
    assert chat.messages == (
        Message(Role.SYSTEM, (Text("You are Codex."),)),
        Message(Role.DEVELOPER, (Text("rules"),)),
        Message(Role.USER, (Text("fix it"),)),
        Message(
            Role.ASSISTANT,
            (
                Thinking("hm", encrypted="gAAAAB", origin="openai_responses"),
                Text("On it."),
                ToolCall("c1", "exec", '{"cmd":"ls"}'),
                ToolCall("c2", "mcp__docs___-_search", "{}"),
                ToolCall("c3", "apply_patch", "*** Begin", custom=True),
            ),
        ),
        Message(
            Role.TOOL,
            (
                ToolResult("c1", (Text("a.py"),)),
                ToolResult("c2", (Text("doc"),)),
                ToolResult("c3", (Text("done"),), custom=True),
            ),
        ),
    )
    assert [tool.name for tool in chat.tools] == ["exec", "mcp__docs___-_search", "apply_patch"]
    assert chat.tools[2].format == {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    assert chat.tool_choice == ToolChoice(ToolMode.AUTO)
    assert (chat.parallel_tool_calls, chat.stream, chat.include_encrypted, chat.verbosity) == (True, True, True, "low")
    assert chat.reasoning == Reasoning("medium", summary="auto")
    assert set(chat.dropped) == {
        "prompt_cache_key", "input.web_search_call", "tools.web_search", "tools.namespace.description",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"type": "input_text", "text": "a"}, Text("a")),
        ({"type": "text", "text": ""}, Text("")),
        ({"type": "input_image", "image_url": "https://x/a.png", "detail": "low"},
         Media(MediaKind.IMAGE, url="https://x/a.png", detail="low")),
        ({"type": "input_image", "image_url": "data:image/jpeg;base64,AAAA"}, Media(MediaKind.IMAGE, "image/jpeg", "AAAA")),
        ({"type": "input_image", "image_url": {"url": "https://x/a.png"}}, Media(MediaKind.IMAGE, url="https://x/a.png")),
        ({"type": "input_image", "file_id": "file-1", "detail": "auto"},
         Media(MediaKind.IMAGE, file_id="file-1", detail="auto")),
        ({"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
         Media(MediaKind.FILE, "application/pdf", "AAAA", name="a.pdf")),
        ({"type": "input_file", "filename": "a.pdf", "file_data": "AAAA"}, Media(MediaKind.FILE, None, "AAAA", name="a.pdf")),
        ({"type": "input_file", "file_url": "https://x/a.pdf"}, Media(MediaKind.FILE, url="https://x/a.pdf")),
        ({"type": "input_file", "file_id": "file-1"}, Media(MediaKind.FILE, file_id="file-1")),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
         Media(MediaKind.AUDIO, "audio/mpeg", "AAAA")),
    ],
)  # fmt: skip
def test_content_of_a_user(part: dict[str, Any], found: Any) -> None:
    assert said({"role": "user", "content": [part]})[0].parts == (found,)


def test_content_of_the_assistant() -> None:
    note = {"type": "url_citation", "url": "https://x", "title": "X", "start_index": 1, "end_index": 2}
    parts = [
        {"type": "output_text", "text": "yes", "annotations": [note, {"type": "file_citation", "file_id": "f"}]},
        {"type": "refusal", "refusal": "no"},
    ]
    assert said({"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": parts})[0].parts == (
        Text("yes", citations=({"url": "https://x", "title": "X", "start": 1, "end": 2},)),
        Refusal("no"),
    )


def test_another_protocols_thoughts_come_back_to_it() -> None:
    (message,) = said(
        {"type": "reasoning", "summary": [{"text": "so"}], "encrypted_content": "thought:anthropic:signature:a:b="},
        {"type": "reasoning", "summary": [], "encrypted_content": "thought:anthropic:encrypted:xyz"},
        {"type": "reasoning", "summary": [], "encrypted_content": "thought::call:sig"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "raw"}]},
        {"type": "reasoning", "id": "rs_2", "summary": []},
    )
    assert message.parts == (
        Thinking("so", signature="a:b=", origin="anthropic"),
        Thinking(encrypted="xyz", origin="anthropic"),
        ToolCall("c", "f", "{}", signature="sig"),
        Thinking("raw"),
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 1}, "model"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
        ({"input": [HI, {"role": "user", "content": 1}]}, "input[1].content"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "smell"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "name": "f", "call_id": "c"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "x"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{**ADD, "parameters": []}]}, "tools[0].parameters"),
        ({"tools": [ADD], "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "name": "sub"}}, "tool_choice.name"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"verbosity": "loud"}}, "text.verbosity"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": "high"}, "reasoning"),
        ({"include": "all"}, "include"),
        ({"metadata": []}, "metadata"),
        ({"instructions": [HI]}, "instructions"),
    ],
)
def test_a_malformed_field_is_named(fields: dict[str, Any], param: str) -> None:
    error = refused(**fields)
    assert (error.param, error.code in ("invalid_value", "missing_required_parameter")) == (param, True)


GIVEN: dict[str, Any] = {
    "previous_response_id": "resp_1",
    "conversation": {"id": "conv_1"},
    "background": True,
    "prompt": {"id": "pmpt_1"},
    "moderation": {"model": "m"},
    "store": True,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"ttl": "30m"},
    "truncation": "auto",
    "context_management": [{"type": "compaction"}],
    "max_tool_calls": 3,
    "stream_options": {"include_obfuscation": False},
    "access_programs": {"cyber": "standard"},
    "image": {"context_compression": "auto"},
}


@pytest.mark.parametrize("name", [name for name, (fate, _) in tables.REQUEST.items() if fate != tables.CARRIED])
def test_the_table_says_which_fields_are_refused_and_which_dropped(name: str) -> None:
    if tables.REQUEST[name][0] == tables.REFUSED:
        error = refused(**{name: GIVEN[name]})
        assert (error.code, error.param) == ("unsupported_parameter", name)
        assert name in error.message
    else:
        assert decoded(**{name: GIVEN[name]}).dropped == (name,)
    assert decoded(**{name: None}).dropped == ()


@pytest.mark.parametrize("kind", [kind for kind, (fate, _) in tables.ITEMS.items() if fate != tables.CARRIED])
def test_the_table_says_which_items_are_refused_and_which_dropped(kind: str) -> None:
    items = [HI, {"type": kind, "id": "x"}]
    if tables.ITEMS[kind][0] == tables.REFUSED:
        error = refused(input=items)
        assert (error.code, error.param) == ("unsupported_parameter", "input[1]")
        assert kind in error.message
    else:
        assert decoded(input=items).dropped == (f"input.{kind}",)


@pytest.mark.parametrize("kind", [kind for kind, (fate, _) in tables.TOOLS.items() if fate != tables.CARRIED])
def test_the_table_says_which_tools_are_refused_and_which_dropped(kind: str) -> None:
    if tables.TOOLS[kind][0] == tables.REFUSED:
        error = refused(tools=[ADD, {"type": kind}])
        assert (error.code, error.param) == ("unsupported_parameter", "tools[1]")
        assert kind in error.message
    else:
        chat = decoded(tools=[{"type": kind}], tool_choice="auto", parallel_tool_calls=True)
        assert (chat.dropped, chat.tools, chat.tool_choice, chat.parallel_tool_calls) == ((f"tools.{kind}",), (), None, None)


def test_unknown_items_and_tools_are_refused_and_unknown_fields_ignored() -> None:
    assert refused(input=[HI, {"type": "telepathy"}]).code == "unsupported_parameter"
    assert refused(tools=[{"type": "telepathy"}]).code == "unsupported_parameter"
    assert refused(input=[HI, {"id": "msg_1"}]).code == "unsupported_parameter"
    assert decoded(client_metadata={"a": 1}, future=True).dropped == ()


def test_web_search_is_refused_when_the_choice_demands_it() -> None:
    search = {"type": "web_search"}
    assert refused(tools=[search], tool_choice="required").param == "tool_choice"
    assert refused(tools=[search, ADD], tool_choice={"type": "web_search"}).param == "tool_choice"
    assert decoded(tools=[{"type": "web_search_2025_08_26"}]).dropped == ("tools.web_search_2025_08_26",)
    assert decoded(tools=[{"type": "tool_search", "execution": "client", "parameters": {}}]).dropped == ("tools.tool_search",)
    assert refused(tools=[{"type": "web_search_preview_2025_03_11"}]).code == "unsupported_parameter"


def test_choices_among_tools() -> None:
    space = {"type": "namespace", "name": "n", "description": "", "tools": [{"type": "function", "name": "f"}]}
    patch = {"type": "custom", "name": "patch"}
    fields = {"tools": [ADD, space, patch]}
    named = decoded(**fields, tool_choice={"type": "function", "name": "f", "namespace": "n"})
    assert named.tool_choice == ToolChoice(ToolMode.NAMED, "n_-_f")
    assert decoded(**fields, tool_choice={"type": "custom", "name": "patch"}).tool_choice == ToolChoice(ToolMode.NAMED, "patch")
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "add"}]}
    some = decoded(**fields, tool_choice=allowed)
    assert ([tool.name for tool in some.tools], some.tool_choice) == (["add"], ToolChoice(ToolMode.REQUIRED))


def test_names_of_a_namespace_that_would_not_come_back_are_refused() -> None:
    assert decoded(tools=[{"type": "function", "name": "a_-_b"}]).tools[0].name == "_-_a_-_b"
    space = {"type": "namespace", "name": "a_-_b", "description": "", "tools": [ADD]}
    assert refused(tools=[space]).param == "tools[0].tools[0].name"
    assert refused(tools=[{**space, "name": "n", "tools": [{"type": "mcp"}]}]).code == "unsupported_parameter"


def test_formats_and_reasoning() -> None:
    schema = {"type": "json_schema", "name": "s", "schema": {"type": "object"}, "strict": True}
    assert decoded(text={"format": schema}).output_format == OutputFormat({"type": "object"}, "s", None, True)
    assert decoded(text={"format": {"type": "json_object"}}).output_format == OutputFormat()
    assert decoded(text={"format": {"type": "text"}}).output_format is None
    high = decoded(reasoning={"effort": "max", "generate_summary": "detailed", "context": "all_turns"})
    assert high.reasoning == Reasoning("xhigh", summary="detailed")
    assert high.dropped == ("reasoning.effort.max", "reasoning.context")
    assert decoded(reasoning={"effort": None, "summary": None}).reasoning is None
    assert decoded(include=["message.output_text.logprobs"], top_logprobs=2).top_logprobs == 2
    assert decoded(top_logprobs=2).top_logprobs is None
    assert decoded(user="u", safety_identifier="s").user == "s"


# -- what a provider is asked


def encoded(*messages: Message, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    losses = Losses()
    chat = Chat("m", messages or (Message(Role.USER, (Text("hi"),)),), **fields)
    return API.encode_request(chat, "up", losses), losses.names


def test_a_plain_request_for_a_provider() -> None:
    body, losses = encoded(Message(Role.SYSTEM, (Text("be brief"),)), Message(Role.USER, (Text("hi"),)), stream=True)
    assert body == {
        "model": "up",
        "instructions": "be brief",
        "input": [{"type": "message", "role": "user", "content": "hi"}],
        "store": False,
        "stream": True,
    }
    assert losses == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"stop": ("END",)}, "stop"), ({"n": 2}, "n")],
)
def test_what_would_change_the_meaning_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as raised:
        encoded(**fields)
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", param)


@pytest.mark.parametrize(
    "media",
    [
        Media(MediaKind.VIDEO, url="https://x"),
        Media(MediaKind.AUDIO, url="https://x"),
        Media(MediaKind.AUDIO, "audio/ogg", "A"),
    ],
)
def test_media_that_have_no_place_are_refused(media: Media) -> None:
    with pytest.raises(ApiError, match="Unsupported parameter"):
        encoded(Message(Role.USER, (media,)))


def test_what_a_provider_is_not_told_is_named() -> None:
    cache = {"type": "ephemeral"}
    _, losses = encoded(
        Message(Role.SYSTEM, (Text("s", cache_control=cache),)),
        Message(Role.USER, (Text("hi"),), name="ann"),
        Message(
            Role.ASSISTANT,
            (
                Thinking("hm", signature="s", origin="anthropic"),
                Thinking("hm"),
                Text("x", citations=({"title": "doc", "text": "quoted"},)),
                Media(MediaKind.AUDIO, "audio/wav", "AAAA"),
                ToolCall("c", "f", "{}", signature="g"),
            ),
        ),
        Message(Role.TOOL, (ToolResult("c", (Text("bad"),), is_error=True),)),
        top_k=5,
        seed=1,
        presence_penalty=0,
        frequency_penalty=0.5,
        reasoning=Reasoning(budget_tokens=2000),
    )
    assert set(losses) == {
        "cache_control", "message.name", "thinking", "citations", "assistant.media", "tool_call.signature",
        "tool_result.is_error", "top_k", "seed", "frequency_penalty", "reasoning.budget_tokens",
    }  # fmt: skip
    assert all(tables.ENCODED[name][0] == tables.DROPPED for name in losses)


@pytest.mark.parametrize(("budget", "effort"), [(0, "none"), (2000, "low"), (8000, "medium"), (32000, "high")])
def test_a_budget_becomes_an_effort(budget: int, effort: str) -> None:
    assert encoded(reasoning=Reasoning(budget_tokens=budget))[0]["reasoning"] == {"effort": effort}


def test_tools_for_a_provider_are_not_strict_unless_said() -> None:
    tools = (Tool("a"), Tool("n_-_f", "d", {"type": "object"}, True), Tool("n_-_g", custom=True))
    body, _ = encoded(tools=tools, tool_choice=ToolChoice(ToolMode.NAMED, "n_-_g"))
    assert body["tools"] == [
        {"type": "function", "name": "a", "parameters": {"type": "object", "properties": {}}, "strict": False},
        {"type": "namespace", "name": "n", "description": "n", "tools": [
            {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
            {"type": "custom", "name": "g"}]},
    ]  # fmt: skip
    assert body["tool_choice"] == {"type": "custom", "name": "g", "namespace": "n"}
