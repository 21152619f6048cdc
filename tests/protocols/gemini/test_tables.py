"""What the tables say of each field happens: carried, dropped and named, or refused."""

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
    Part,
    Reasoning,
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
from daemon.protocols.gemini import Gemini
from daemon.protocols.gemini.seals import SKIPPED
from daemon.protocols.gemini.tables import (
    CARRIED,
    CONFIG,
    DROPPED,
    ENCODED,
    PARTS,
    REFUSED,
    REQUEST,
    TOOLS,
    Table,
)

API = Gemini()
BODY: dict[str, Any] = {"model": "m", "contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
TOOL = Tool("f", parameters={"type": "object"})
CACHE = {"type": "ephemeral"}
V2, V25, PRO25, V3, PRO3 = "gemini-2.0-flash", "gemini-2.5-flash", "gemini-2.5-pro", "gemini-3-flash-preview", "gemini-3.1-pro"


def said(*parts: Part, role: Role = Role.USER) -> Message:
    return Message(role, parts)


def chat(*messages: Message, **fields: Any) -> Chat:
    return Chat("m", messages or (said(Text("hi")),), **fields)


def rows(table: Table, fate: str) -> set[str]:
    return {name for name, (found, _) in table.items() if found == fate}


def parts(*given: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"contents": [{"role": role, "parts": list(given)}]}


def config(**fields: Any) -> dict[str, Any]:
    return {"generationConfig": fields}


# -- encode_request

LOSSES: list[tuple[str, str, Chat]] = [
    ("tool.format", V25, chat(tools=(Tool("f", custom=True, format={"type": "grammar"}),))),
    ("tool.strict", V25, chat(tools=(Tool("f", strict=True),))),
    ("parallel_tool_calls", V25, chat(tools=(TOOL,), parallel_tool_calls=False)),
    ("system.position", V25, chat(said(Text("hi")), said(Text("s"), role=Role.SYSTEM))),
    ("system.media", V25, chat(said(Text("s"), Media(MediaKind.IMAGE, url="u"), role=Role.SYSTEM), said(Text("hi")))),
    ("output_format.tools", V25, chat(tools=(TOOL,), output_format=OutputFormat({"type": "object"}))),
    ("reasoning.effort", V3, chat(reasoning=Reasoning("none"))),
    ("reasoning.effort", PRO25, chat(reasoning=Reasoning(budget_tokens=0))),
    ("reasoning.model", V2, chat(reasoning=Reasoning("low"))),
    ("reasoning.model", "gemma-3-27b-it", chat(reasoning=Reasoning(summary="auto"))),
    ("seed.range", V25, chat(seed=2**31)),
    ("metadata", V25, chat(metadata={"a": "b"})),
    ("user", V25, chat(user="u")),
    ("verbosity", V25, chat(verbosity="low")),
    ("service_tier.other", V25, chat(service_tier="scale")),
    ("cache_control", V25, chat(said(Text("a", CACHE)))),
    ("cache_control", V25, chat(tools=(Tool("f", cache_control=CACHE),))),
    ("cache_control", V25, chat(said(Media(MediaKind.IMAGE, url="u", cache_control=CACHE)))),
    ("cache_control", V25, chat(said(ToolResult("a", (), cache_control=CACHE), role=Role.TOOL))),
    ("message.name", V25, chat(Message(Role.USER, (Text("hi"),), "bob"))),
    ("media.detail", V25, chat(said(Media(MediaKind.IMAGE, url="u", detail="low")))),
    ("media.name", V25, chat(said(Media(MediaKind.FILE, "application/pdf", "AAAA", name="a.pdf")))),
    ("citations", V25, chat(said(Text("a", citations=({"url": "u"},)), role=Role.ASSISTANT))),
    ("thinking", V25, chat(said(Thinking("t", "s", origin="anthropic_messages"), Text("a"), role=Role.ASSISTANT))),
]
REFUSALS: list[tuple[str, Chat]] = [("file_id", chat(said(Media(MediaKind.FILE, file_id="file-123"))))]


@pytest.mark.parametrize(("name", "model", "given"), LOSSES, ids=[f"{name} {model}" for name, model, _ in LOSSES])
def test_what_a_request_loses_is_named(name: str, model: str, given: Chat) -> None:
    losses = Losses()
    API.encode_request(given, model, losses)
    assert losses.names == [name]


@pytest.mark.parametrize(("name", "given"), REFUSALS, ids=[name for name, _ in REFUSALS])
def test_what_a_request_cannot_lose_is_refused(name: str, given: Chat) -> None:
    with pytest.raises(ApiError) as caught:
        API.encode_request(given, V25, Losses())
    assert (caught.value.code, caught.value.http_status, caught.value.param) == ("unsupported_parameter", 400, "messages")


def test_every_row_of_the_table_of_requests_has_a_case() -> None:
    assert {name for name, _, _ in LOSSES} == rows(ENCODED, DROPPED)
    assert {name for name, _ in REFUSALS} == rows(ENCODED, REFUSED)


def encoded(model: str = V3, *messages: Message, **fields: Any) -> dict[str, Any]:
    return API.encode_request(chat(*messages, **fields), model, Losses())


@pytest.mark.parametrize(
    ("model", "wanted", "found"),
    [
        (V25, Reasoning("medium"), {"thinkingBudget": 8192}),
        (V25, Reasoning("none"), {"thinkingBudget": 0}),
        (V25, Reasoning(adaptive=True, summary="auto"), {"thinkingBudget": -1, "includeThoughts": True}),
        (V25, Reasoning(summary="concise"), {"includeThoughts": True}),
        (PRO25, Reasoning(budget_tokens=0), {"thinkingBudget": 128}),
        (PRO25, Reasoning(budget_tokens=5), {"thinkingBudget": 128}),
        (V3, Reasoning("xhigh"), {"thinkingLevel": "high"}),
        (V3, Reasoning("none"), {"thinkingLevel": "minimal"}),
        (V3, Reasoning(budget_tokens=500), {"thinkingBudget": 500}),
        (V3, Reasoning("low", adaptive=True), {"thinkingLevel": "low"}),
        (V3, Reasoning(adaptive=True), None),
        (PRO3, Reasoning("minimal"), {"thinkingLevel": "low"}),
        ("gemini-flash-latest", Reasoning("low"), {"thinkingLevel": "low"}),
        ("models/gemini-2.5-flash-lite", Reasoning("minimal"), {"thinkingBudget": 512}),
        (V2, Reasoning("none"), None),
    ],
)
def test_thinking_is_asked_for_as_the_generation_knows_it(model: str, wanted: Reasoning, found: dict[str, Any] | None) -> None:
    assert encoded(model, reasoning=wanted).get("generationConfig", {}).get("thinkingConfig") == found


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        (ToolChoice(ToolMode.AUTO), {"mode": "AUTO"}),
        (ToolChoice(ToolMode.NONE), {"mode": "NONE"}),
        (ToolChoice(ToolMode.REQUIRED), {"mode": "ANY"}),
        (ToolChoice(ToolMode.NAMED, "f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_a_choice_of_tools_is_told(choice: ToolChoice, found: dict[str, Any]) -> None:
    assert encoded(tools=(TOOL,), tool_choice=choice)["toolConfig"] == {"functionCallingConfig": found}
    assert "toolConfig" not in encoded(tool_choice=choice)


CALLED = said(Text("a"), ToolCall("1", "f", "{}"), ToolCall("2", "g", "[1]"), role=Role.ASSISTANT)
PICTURE = Media(MediaKind.IMAGE, "image/png", "AAAA")
RESULTS = (
    said(ToolResult("1", (Text("r"), Text("s"))), role=Role.TOOL),
    said(ToolResult("2", (PICTURE,), True), role=Role.TOOL),
    said(Text("and?")),
)


def test_results_of_one_turn_are_one_content_and_name_their_functions() -> None:
    _, model, results, last = encoded(V3, said(Text("hi")), CALLED, *RESULTS)["contents"]
    first, second = model["parts"][1:]
    assert first == {"functionCall": {"id": "1", "name": "f", "args": {}}, "thoughtSignature": SKIPPED}
    assert second == {"functionCall": {"id": "2", "name": "g", "args": {"_raw": "[1]"}}}
    inline = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    assert results == {
        "role": "user",
        "parts": [
            {"functionResponse": {"id": "1", "name": "f", "response": {"output": "r\ns"}}},
            {"functionResponse": {"id": "2", "name": "g", "response": {"error": ""}, "parts": [inline]}},
        ],
    }
    assert last == {"role": "user", "parts": [{"text": "and?"}]}


def test_older_models_get_media_beside_results_and_no_signature() -> None:
    _, model, results, _ = encoded(V25, said(Text("hi")), CALLED, *RESULTS)["contents"]
    assert all("thoughtSignature" not in part for part in model["parts"])
    assert [next(iter(part)) for part in results["parts"]] == ["functionResponse", "functionResponse", "inlineData"]


def test_json_beside_tools_is_asked_for_in_words_where_it_cannot_be_said() -> None:
    wanted = OutputFormat({"type": "object"})
    body = encoded(V25, tools=(TOOL,), output_format=wanted)
    assert "generationConfig" not in body
    assert '{"type":"object"}' in body["systemInstruction"]["parts"][-1]["text"]
    body = encoded(V3, tools=(TOOL,), output_format=wanted)
    assert body["generationConfig"] == {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}}


@pytest.mark.parametrize(
    ("media", "found"),
    [
        (Media(MediaKind.IMAGE, None, "/9j/AA"), {"inlineData": {"mimeType": "image/jpeg", "data": "/9j/AA"}}),
        (Media(MediaKind.IMAGE, "image/jpg", "AAAA"), {"inlineData": {"mimeType": "image/jpeg", "data": "AAAA"}}),
        (Media(MediaKind.FILE, None, "AAAA"), {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}}),
        (
            Media(MediaKind.IMAGE, url="https://e.org/a.PNG?b=c"),
            {"fileData": {"fileUri": "https://e.org/a.PNG?b=c", "mimeType": "image/png"}},
        ),
        (Media(MediaKind.AUDIO, url="https://e.org/a"), {"fileData": {"fileUri": "https://e.org/a", "mimeType": "audio/mpeg"}}),
        (Media(MediaKind.VIDEO, url="https://youtu.be/a"), {"fileData": {"fileUri": "https://youtu.be/a"}}),
        (Media(MediaKind.FILE, file_id="files/abc"), {"fileData": {"fileUri": "files/abc"}}),
    ],
)
def test_media_are_told_by_type(media: Media, found: dict[str, Any]) -> None:
    assert encoded(V3, said(media))["contents"][0]["parts"] == [found]


def test_a_conversation_of_system_messages_becomes_the_users() -> None:
    body = encoded(V3, said(Text("s"), role=Role.SYSTEM))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "s"}]}]}


def test_a_custom_tool_takes_one_string() -> None:
    call = said(ToolCall("1", "patch", "*** Begin", custom=True), role=Role.ASSISTANT)
    body = encoded(V25, said(Text("hi")), call, tools=(Tool("patch", custom=True),))
    declared = body["tools"][0]["functionDeclarations"][0]
    assert declared["parametersJsonSchema"]["required"] == ["input"]
    assert body["contents"][1]["parts"][0]["functionCall"]["args"] == {"input": "*** Begin"}


# -- decode_request

DROPS: dict[str, dict[str, Any]] = {
    "safetySettings": {"safetySettings": []},
    "store": {"store": False},
    "toolConfig.retrievalConfig": {"toolConfig": {"retrievalConfig": {}}},
    "speechConfig": config(speechConfig={}),
    "imageConfig": config(imageConfig={}),
    "audioTimestamp": config(audioTimestamp=True),
    "enableEnhancedCivicAnswers": config(enableEnhancedCivicAnswers=True),
    "enableAffectiveDialog": config(enable_affective_dialog=True),
    "audioTranscriptionConfig": config(audioTranscriptionConfig={}),
    "partMetadata": parts({"text": "a", "partMetadata": {"a": 1}}),
    "functionResponse.scheduling": parts({"functionResponse": {"name": "f", "scheduling": "SILENT"}}),
    "functionResponse.willContinue": parts({"functionResponse": {"name": "f", "willContinue": True}}),
    "functionDeclarations.response": {"tools": [{"functionDeclarations": [{"name": "f", "responseJsonSchema": {}}]}]},
    "functionDeclarations.behavior": {"tools": [{"functionDeclarations": [{"name": "f", "behavior": "BLOCKING"}]}]},
}


@pytest.mark.parametrize("name", DROPS)
def test_what_decoding_leaves_out_is_named(name: str) -> None:
    assert API.decode_request({**BODY, **DROPS[name]}).dropped == (name,)


REFUSED_FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "cachedContent": ("cachedContent", {"cached_content": "cachedContents/x"}),
    "modelArmorConfig": ("modelArmorConfig", {"modelArmorConfig": {"a": 1}}),
    "routingConfig": ("generationConfig.routingConfig", config(routingConfig={"autoMode": {}})),
    "modelSelectionConfig": ("generationConfig.modelSelectionConfig", config(modelSelectionConfig={"a": 1})),
    "responseFormat": ("generationConfig.responseFormat", config(responseFormat=[{"text": {}}])),
    "translationConfig": ("generationConfig.translationConfig", config(translationConfig={"a": 1})),
    "continuationToken": ("generationConfig.continuationToken", config(continuationToken="x")),
    "videoMetadata": ("contents[0].parts[0].videoMetadata", parts({"fileData": {"fileUri": "u"}, "videoMetadata": {"fps": 2}})),
    "toolCall": ("contents[0].parts[0].toolCall", parts({"toolCall": {"toolType": "GOOGLE_SEARCH"}}, role="model")),
    "toolResponse": ("contents[0].parts[0].toolResponse", parts({"tool_response": {}}, role="model")),
    "everything else": ("tools[0].googleSearch", {"tools": [{"googleSearch": {}}]}),
}


@pytest.mark.parametrize("name", REFUSED_FIELDS)
def test_what_no_other_dialect_can_carry_is_refused(name: str) -> None:
    param, fields = REFUSED_FIELDS[name]
    with pytest.raises(ApiError) as caught:
        API.decode_request({**BODY, **fields})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("tools[0].codeExecution", {"tools": {"codeExecution": {}}}),
        ("generationConfig.responseModalities", config(responseModalities=["TEXT", "IMAGE"])),
        ("generationConfig.responseMimeType", config(responseMimeType="text/x.enum")),
    ],
)
def test_what_is_carried_in_part_is_refused_for_the_rest(param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        API.decode_request({**BODY, **fields})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)


def test_every_dropped_and_refused_row_has_a_case() -> None:
    tables = (REQUEST, CONFIG, PARTS, TOOLS)
    assert set(DROPS) == set().union(*(rows(table, DROPPED) for table in tables))
    assert set(REFUSED_FIELDS) == set().union(*(rows(table, REFUSED) for table in tables))
    assert all(fate in (CARRIED, DROPPED, REFUSED) for table in tables for fate, _ in table.values())


@pytest.mark.parametrize(
    ("code", "param", "fields"),
    [
        ("missing_required_parameter", "model", {"model": ""}),
        ("missing_required_parameter", "contents", {"contents": []}),
        ("invalid_value", "contents", {"contents": "hi"}),
        ("invalid_value", "contents[0]", {"contents": ["hi"]}),
        ("invalid_value", "contents[0].role", {"contents": [{"role": "assistant", "parts": []}]}),
        ("invalid_value", "contents[0].parts", {"contents": [{"parts": "hi"}]}),
        ("invalid_value", "contents[0].parts[0]", parts("hi")),  # type: ignore[arg-type]
        ("invalid_value", "contents[0].parts[0].text", parts({"text": 1})),
        ("invalid_value", "contents[0].parts", parts({"functionCall": {"name": "f"}})),
        ("invalid_value", "contents[0].parts", parts({"functionResponse": {"name": "f"}}, role="model")),
        ("missing_required_parameter", "contents[0].parts[0].functionCall.name", parts({"functionCall": {}}, role="model")),
        (
            "invalid_value",
            "contents[0].parts[0].functionCall.args",
            parts({"functionCall": {"name": "f", "args": "x"}}, role="model"),
        ),
        ("missing_required_parameter", "contents[0].parts[0].inlineData.mimeType", parts({"inlineData": {"data": "AAAA"}})),
        ("missing_required_parameter", "contents[0].parts[0].fileData.fileUri", parts({"fileData": {}})),
        ("invalid_value", "systemInstruction.parts", {"systemInstruction": {"parts": [{"fileData": {"fileUri": "u"}}]}}),
        ("invalid_value", "generationConfig", {"generationConfig": []}),
        ("invalid_value", "generationConfig.maxOutputTokens", config(maxOutputTokens="5")),
        ("invalid_value", "generationConfig.maxOutputTokens", config(max_output_tokens=0)),
        ("invalid_value", "generationConfig.temperature", config(temperature=3)),
        ("invalid_value", "generationConfig.topK", config(topK=1.5)),
        ("invalid_value", "generationConfig.stopSequences", config(stopSequences=[1])),
        ("invalid_value", "generationConfig.thinkingConfig.thinkingLevel", config(thinkingConfig={"thinkingLevel": "MUCH"})),
        (
            "invalid_value",
            "generationConfig.responseSchema.properties",
            config(responseMimeType="application/json", responseSchema={"properties": 1}),
        ),
        ("invalid_value", "toolConfig.functionCallingConfig.mode", {"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}}),
        ("missing_required_parameter", "tools[0].functionDeclarations[0].name", {"tools": [{"functionDeclarations": [{}]}]}),
        ("invalid_value", "stream", {"stream": 1}),
    ],
)
def test_a_malformed_field_is_named(code: str, param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        API.decode_request({**BODY, **fields})
    assert (caught.value.code, caught.value.param) == (code, param)


@pytest.mark.parametrize(
    ("calling", "choice", "names"),
    [
        ({"mode": "ANY", "allowedFunctionNames": ["g"]}, ToolChoice(ToolMode.NAMED, "g"), ["f", "g", "h"]),
        ({"mode": "any", "allowed_function_names": ["g", "h"]}, ToolChoice(ToolMode.REQUIRED), ["g", "h"]),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["f"]}, ToolChoice(ToolMode.AUTO), ["f"]),
        ({}, ToolChoice(ToolMode.AUTO), ["f", "g", "h"]),
        ({"mode": "NONE"}, ToolChoice(ToolMode.NONE), ["f", "g", "h"]),
    ],
)
def test_allowed_names_shorten_the_tools(calling: dict[str, Any], choice: ToolChoice, names: list[str]) -> None:
    tools = [{"functionDeclarations": [{"name": name} for name in "fgh"]}]
    found = API.decode_request({**BODY, "tools": tools, "toolConfig": {"functionCallingConfig": calling}})
    assert (found.tool_choice, [tool.name for tool in found.tools]) == (choice, names)


def test_calls_without_ids_get_the_same_ones_each_time() -> None:
    call = {"functionCall": {"name": "f"}}
    answer = {"functionResponse": {"name": "f", "response": {"a": 1}}}
    body = {
        "model": "m",
        "contents": [
            {"role": "model", "parts": [{"functionCall": {"id": "call_1", "name": "g"}}, call, call]},
            {"role": "function", "parts": [answer, {"functionResponse": {"id": "call_1", "name": "g"}}, answer, answer]},
        ],
    }
    called, results = API.decode_request(body).messages
    ids = [part.id for part in called.parts if isinstance(part, ToolCall)]
    assert ids == ["call_1", "call_1_", "call_2"]
    assert [part.call_id for part in results.parts if isinstance(part, ToolResult)] == ["call_1_", "call_1", "call_2", "call_3"]
    assert API.decode_request(body) == API.decode_request(body)


@pytest.mark.parametrize(
    ("response", "words", "failed"),
    [
        ({"output": "a"}, "a", False),
        ({"result": "a"}, "a", False),
        ({"error": "a"}, "a", True),
        ({"output": {"a": 1}}, '{"output":{"a":1}}', False),
        ({"output": "a", "more": 1}, '{"output":"a","more":1}', False),
    ],
)
def test_a_response_is_text(response: dict[str, Any], words: str, failed: bool) -> None:
    (message,) = API.decode_request({**BODY, **parts({"functionResponse": {"name": "f", "response": response}})}).messages
    assert message.parts == (ToolResult("call_0", (Text(words),), failed, "f"),)


def test_a_dummy_signature_is_none_and_code_is_text() -> None:
    given = parts(
        {"functionCall": {"id": "a", "name": "f"}, "thoughtSignature": SKIPPED},
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        {"codeExecutionResult": {"output": "2"}},
        {"text": "x", "thoughtSignature": "EjQ="},
        role="model",
    )
    (message,) = API.decode_request({**BODY, **given}).messages
    assert message.parts == (
        *(ToolCall("a", "f", "{}"), Text("\n```python\n1\n```\n"), Text("\n```\n2\n```\n"), Text("x")),
        Thinking("", "EjQ=", origin="gemini"),
    )
