"""For bytes that pass: what bounds the cost, the URL, the few bytes that change, errors, usage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.domain.admission import ANY_NUMBER
from daemon.domain.errors import CATALOGUE, ApiError
from daemon.domain.usage import MAX_COUNT, InvalidUsage, Usage
from daemon.protocols.gemini import (
    StreamAdapter,
    error_body,
    error_frame,
    model_and_method,
    path_of,
    read,
    read_error,
    reply_text,
    rewrite_reply_model,
    rewrite_request_model,
    set_output_limit,
    usage_of,
)
from daemon.protocols.gemini.errors import STATUSES
from daemon.protocols.gemini.schemas import json_schema
from daemon.protocols.gemini.usage import usage_object
from daemon.protocols.sse import LineTooLong

HI = {"role": "user", "parts": [{"text": "hi"}]}
IMAGE = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
BOTH_SOUND = {"audio_input", "audio_output"}
IMAGES = {"image_input", "image_output"}


def asked(**fields: Any) -> Any:
    return read({"model": "m", "stream": False, "contents": [HI], **fields}, 1000)


# -- what bounds the cost


def test_a_plain_question() -> None:
    ask = asked(stream=True)
    assert (ask.model, ask.stream, ask.body_bytes, ask.input_bound, ask.output_limit) == ("m", True, 1000, 1000, None)
    assert (ask.n, ask.media_parts, ask.features, ask.unbounded, ask.tier) == (1, 0, frozenset(), (), None)
    assert ask.not_used == BOTH_SOUND | IMAGES


@pytest.mark.parametrize(
    ("fields", "features"),
    [
        ({"tools": [{"functionDeclarations": []}]}, {"tools"}),
        ({"generationConfig": {"responseMimeType": "application/json"}}, {"json_mode"}),
        ({"generation_config": {"response_json_schema": {}}}, {"structured_outputs"}),
        ({"generationConfig": {"thinkingConfig": {}, "seed": 0, "logprobs": 1}}, {"reasoning", "seed", "logprobs"}),
        ({"contents": {"parts": IMAGE}}, {"vision"}),
        ({"contents": [{"parts": [{"file_data": {"file_uri": "https://youtu.be/x"}}]}]}, {"video_input"}),
        ({"contents": [{"parts": [{"fileData": {"mime_type": "audio/mp3", "fileUri": "gs://a"}}]}]}, {"audio_input"}),
        ({"contents": [{"parts": [{"fileData": {"fileUri": "files/a"}}]}]}, {"file_input"}),
        ({"systemInstruction": {"parts": [IMAGE]}}, {"vision"}),
        ({"generationConfig": {"responseModalities": ["AUDIO"]}}, {"audio_output"}),
    ],
)
def test_what_a_request_uses(fields: dict[str, Any], features: set[str]) -> None:
    ask = asked(**fields)
    assert ask.features == features
    assert ask.media_parts == len(features & {"vision", "video_input", "audio_input", "file_input"})
    heard = features & {"video_input", "audio_input", "file_input", "audio_output"}
    assert ask.not_used == (IMAGES if heard else BOTH_SOUND | IMAGES)
    assert ask.input_bound == (1512 if "tools" in features else 1000)


def test_media_in_results_count_too() -> None:
    result = {"functionResponse": {"name": "f", "response": {}, "parts": [IMAGE, {"inline_data": {}}]}}
    assert asked(contents=[{"parts": [result, IMAGE]}]).media_parts == 3


def test_images_may_be_generated_beyond_the_limit() -> None:
    ask = asked(generationConfig={"responseModalities": ["TEXT", "Image"], "maxOutputTokens": 10, "candidateCount": 2})
    assert (ask.output_limit, ask.output_extra, ask.n) == (10, 8192, 2)
    assert ask.not_used == BOTH_SOUND | {"image_input"}


@pytest.mark.parametrize(
    ("fields", "unbounded"),
    [
        ({"modelArmorConfig": {"a": 1}}, "modelArmorConfig"),
        ({"generationConfig": {"routingConfig": {"autoMode": {}}}}, "generationConfig.routingConfig"),
        ({"generationConfig": {"responseModalities": ["VIDEO"]}}, "generationConfig.responseModalities:VIDEO"),
    ],
)
def test_what_nothing_bounds_is_named(fields: dict[str, Any], unbounded: str) -> None:
    assert asked(**fields).unbounded == (unbounded,)


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        ("googleSearch", "web_search"),
        ("google_search_retrieval", "web_search"),
        ("enterpriseWebSearch", "web_search"),
        ("urlContext", "web_fetch"),
        ("codeExecution", "code_interpreter"),
        ("fileSearch", "file_search"),
        ("mcpServers", "mcp"),
        ("computerUse", "computer_use"),
        ("computer_use", "computer_use"),
        ("googleMaps", "google_maps"),
        ("future", "future"),
    ],
)
def test_tools_that_google_runs_are_named(tool: str, name: str) -> None:
    assert asked(tools=[{"functionDeclarations": []}, {tool: {}}]).hosted == {name: ANY_NUMBER}
    assert asked(tools=[{"function_declarations": [], "googleMaps": None}]).hosted == {}


def test_a_stored_prompt_is_told() -> None:
    assert asked(cached_content="cachedContents/x").stored is True
    assert asked(cachedContent="").stored is False


@pytest.mark.parametrize(
    ("given", "tier"), [("STANDARD", None), ("unspecified", None), ("flex", "flex"), ("Priority", "priority"), (None, None)]
)
def test_a_tier_is_asked_for(given: str | None, tier: str | None) -> None:
    assert asked(service_tier=given).tier == tier


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("model", {"model": ""}),
        ("contents", {"contents": None}),
        ("contents[0].parts[0]", {"contents": [{"parts": ["hi"]}]}),
        ("contents[0].parts[0].inlineData", {"contents": [{"parts": [{"inlineData": "x"}]}]}),
        ("generationConfig", {"generationConfig": 5}),
        ("generationConfig", {"generationConfig": {}, "generation_config": {}}),
        ("generationconfig", {"generationconfig": {}}),
        ("Contents", {"Contents": []}),
        ("generationConfig.maxOutputTokens", {"generationConfig": {"maxOutputTokens": "9"}}),
        ("generationConfig.maxOutputTokens", {"generationConfig": {"maxOutputTokens": 0}}),
        ("generationConfig.maxOutputTokens", {"generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 9}}),
        ("generationConfig.MaxOutputTokens", {"generationConfig": {"MaxOutputTokens": 9}}),
        ("generationConfig.candidateCount", {"generationConfig": {"candidateCount": 0}}),
        ("generationConfig.responseModalities", {"generationConfig": {"responseModalities": [1]}}),
        ("contents[0].parts[0].InlineData", {"contents": [{"parts": [{"InlineData": {}}]}]}),
        ("tools", {"tools": "x"}),
        ("serviceTier", {"serviceTier": 1}),
    ],
)
def test_what_decides_the_cost_must_be_clear(param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        asked(**fields)
    assert (caught.value.http_status, caught.value.param) == (400, param)


# -- the URL


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v1beta/models/gemini-2.5-pro:generateContent", ("gemini-2.5-pro", "generateContent")),
        ("/v1/models/Google%23gemini:streamGenerateContent", ("Google#gemini", "streamGenerateContent")),
        ("/v1beta/models/google/gemini%2Fx:countTokens", ("google/gemini/x", "countTokens")),
        ("/v1beta/models/ft:a:b:generateContent", ("ft:a:b", "generateContent")),
        ("/v1beta/models/models/m:embedContent", ("m", "embedContent")),
        ("/v1beta/tunedModels/mine:batchEmbedContents", ("tunedModels/mine", "batchEmbedContents")),
        ("/v1alpha/models/%C3%BC:generateContent", ("ü", "generateContent")),
        ("/v1beta/models/%FF:generateContent", None),
        ("/v1beta/models/m:delete", None),
        ("/v1beta/models/:generateContent", None),
        ("/v1beta/models/m", None),
        ("/v2/models/m:generateContent", None),
        ("/v1beta/files/m:generateContent", None),
    ],
)
def test_the_url_names_the_model(path: str, found: tuple[str, str] | None) -> None:
    assert model_and_method(path) == found


@pytest.mark.parametrize("model", ["gemini-3-pro", "tunedModels/a b", "a/../b", "x?key=1#y%2F", "ft:a:b", "ü"])
def test_a_path_names_its_model_and_nothing_else(model: str) -> None:
    path = path_of(model, True)
    assert model_and_method(path) == (model, "streamGenerateContent")
    assert path.count("/") == 3
    assert not set("?# ") & set(path)
    assert path_of(model, False).endswith(":generateContent")
    assert path_of("models/m", False) == path_of("m", False) == "/v1beta/models/m:generateContent"


# -- the bytes that change


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{ "contents": [] }', '{"generationConfig":{"maxOutputTokens":7}, "contents": [] }'),
        ('{"generationConfig" : { } }', '{"generationConfig" : {"maxOutputTokens":7 } }'),
        ('{"generationConfig":null}', '{"generationConfig":{"maxOutputTokens":7}}'),
        ('{"generation_config": {"topK": 1}}', '{"generation_config": {"maxOutputTokens":7,"topK": 1}}'),
        (
            '{"a":{"maxOutputTokens":9},"generationConfig":{"max_output_tokens" : 9 }}',
            '{"a":{"maxOutputTokens":9},"generationConfig":{"max_output_tokens" : 7 }}',
        ),
        ('{"generationConfig":{"maxOutputTokens":null}}', '{"generationConfig":{"maxOutputTokens":7}}'),
        ('{"generationConfig":{"maxOutputTokens":7}}', '{"generationConfig":{"maxOutputTokens":7}}'),
        ('{"generationConfig":{"maxOutputTokens":5}}', '{"generationConfig":{"maxOutputTokens":5}}'),
    ],
)
def test_a_limit_is_lowered_in_its_place(body: str, found: str) -> None:
    assert set_output_limit(body.encode(), json.loads(body), 7) == found.encode()


def test_a_body_names_no_other_model_than_the_url() -> None:
    assert rewrite_request_model(b'{"model": "models/dear", "contents": [{"model": "x"}]}', "cheap") == (
        b'{"model": "models/cheap", "contents": [{"model": "x"}]}'
    )
    assert rewrite_request_model(b'{"mod\\u0065l":"x"}', "tunedModels/a") == b'{"mod\\u0065l":"tunedModels/a"}'
    for other in (b'{"contents":[{"model":"x"}]}', b"{}"):
        assert rewrite_request_model(other, "m") == other


def test_only_the_top_model_of_a_reply_is_replaced() -> None:
    body = b'{"candidates": [{"modelVersion": "x", "text": "\\"modelVersion\\":"}], "modelVersion" : "x"}'
    assert rewrite_reply_model(body, "Gö#m") == body[:-4] + '"Gö#m"}'.encode()
    for other in (b"[1]", b"{", b"{}", b"no json"):
        assert rewrite_reply_model(other, "m") == other


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (
            b'data: {"modelVersion":"x"}\r\n\r\n: ping\n\ndata: 5\n\n',
            b'data: {"modelVersion":"m"}\r\n\r\n: ping\n\ndata: 5\n\n',
        ),
        (
            b' \n[ {"modelVersion" : "x"}\n, {"a":[{"modelVersion":"x"}]} ]\n',
            b' \n[ {"modelVersion" : "m"}\n, {"a":[{"modelVersion":"x"}]} ]\n',
        ),
        (b'[{"modelVersion":"x"},{"modelVersion":"x', b'[{"modelVersion":"m"},{"modelVersion":"x'),
        (b'{"error": {}}', b'{"error": {}}'),
        (b"", b""),
    ],
)
def test_a_stream_passes_with_another_model(stream: bytes, found: bytes) -> None:
    for pieces in ([stream], [bytes([byte]) for byte in stream]):
        adapter = StreamAdapter("m")
        assert b"".join(map(adapter.feed, pieces)) + adapter.flush() == found


def test_what_is_too_long_does_not_pass() -> None:
    for stream in (b'[{"a":"bbbbbbbbbbbbbbbbb', b"data: aaaaaaaaaaaaaaaaaaaa"):
        with pytest.raises(LineTooLong):
            StreamAdapter("m", most=16).feed(stream)


# -- errors


def test_every_error_has_a_word_of_googles() -> None:
    assert {spec.status for spec in CATALOGUE.values()} <= set(STATUSES)


def test_an_error_says_the_field_and_how_long_to_wait() -> None:
    found = json.loads(error_body(ApiError.of("invalid_value", param="contents", reason="it must be an array")))["error"]
    assert (found["code"], found["status"]) == (400, "INVALID_ARGUMENT")
    info, request = found["details"]
    assert (info["reason"], info["domain"]) == ("INVALID_VALUE", "gatewayctl")
    assert request["fieldViolations"] == [{"field": "contents", "description": found["message"]}]
    found = json.loads(error_body(ApiError.of("rate_limit_exceeded", limit="rpm", retry_after_s=9)))["error"]
    assert found["details"][-1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "9s"}


def test_an_error_ends_either_form_of_stream() -> None:
    error = ApiError.of("overloaded")
    assert error_frame(error) == b"data: " + error_body(error) + b"\r\n\r\n"
    assert json.loads(error_frame(error, sse=False, first=True)) == [json.loads(error_body(error))]
    assert json.loads(b"[{}" + error_frame(error, sse=False)) == [{}, json.loads(error_body(error))]


@pytest.mark.parametrize("body", [None, [], {}, {"error": 5}, {"error": {"message": 1, "code": True}}, "x"])
def test_an_error_body_may_lack_everything(body: object) -> None:
    found = read_error(body)
    assert (found.message, found.type, found.code) == ("", "", "")
    assert read_error({"error": "words"}).message == "words"


# -- usage


def audio(count: int) -> list[dict[str, Any]]:
    return [{"modality": "AUDIO", "tokenCount": count}, {"modality": "TEXT", "tokenCount": 1}]


@pytest.mark.parametrize(
    ("raw", "meters", "reasoning"),
    [
        (
            {"promptTokenCount": 9, "cachedContentTokenCount": 4, "toolUsePromptTokenCount": 3},
            {"input": 8, "cached_input": 4},
            0,
        ),
        ({"promptTokenCount": 9, "cacheTokensDetails": audio(3)}, {"input": 5, "cached_input": 4}, 0),
        ({"candidatesTokenCount": 2, "thoughtsTokenCount": 5}, {"output": 7}, 5),
        ({"promptTokenCount": 9, "totalTokenCount": 20, "toolUsePromptTokenCount": 1}, {"input": 10, "output": 10}, 0),
        ({"promptTokenCount": 9, "candidatesTokenCount": 0, "totalTokenCount": 20}, {"input": 9}, 0),
        ({"promptTokenCount": 9, "promptTokensDetails": audio(6)}, {"input": 3, "audio_input": 6}, 0),
        (
            {
                "promptTokenCount": 9,
                "promptTokensDetails": audio(6),
                "cachedContentTokenCount": 5,
                "cacheTokensDetails": audio(4),
            },
            {"input": 2, "cached_input": 5, "audio_input": 2},
            0,
        ),
        ({"toolUsePromptTokenCount": 9, "toolUsePromptTokensDetails": audio(4)}, {"input": 5, "audio_input": 4}, 0),
        (
            {"candidatesTokenCount": 9, "thoughtsTokenCount": 1, "candidatesTokensDetails": audio(4)},
            {"output": 6, "audio_output": 4},
            1,
        ),
        (
            {"candidatesTokenCount": 9, "candidatesTokensDetails": [{"modality": 2, "tokenCount": 7}]},
            {"output": 2, "image_output": 7},
            0,
        ),
        ({"promptTokenCount": 1, "promptTokensDetails": audio(50)}, {"input": 0, "audio_input": 1}, 0),
    ],
)
def test_usage_is_disjoint(raw: dict[str, Any], meters: dict[str, int], reasoning: int) -> None:
    assert usage_of({"usageMetadata": raw}) == Usage({"input": 0, "output": 0} | meters, reasoning)


@pytest.mark.parametrize("raw", [{}, {"trafficType": "ON_DEMAND"}, {"promptTokenCount": None}])
def test_without_a_count_there_is_no_usage(raw: dict[str, Any]) -> None:
    assert usage_of({"usageMetadata": raw}) is None
    assert usage_of({}) is None


@pytest.mark.parametrize(
    "raw",
    [
        5,
        {"promptTokenCount": "5"},
        {"promptTokenCount": True},
        {"promptTokenCount": -1},
        {"candidatesTokenCount": 1.5},
        {"promptTokenCount": 5, "cachedContentTokenCount": 6},
        {"promptTokenCount": MAX_COUNT, "toolUsePromptTokenCount": 1},
        {"candidatesTokenCount": MAX_COUNT, "thoughtsTokenCount": 1},
        {"promptTokenCount": 5, "promptTokensDetails": 1},
        {"promptTokenCount": 5, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": "x"}]},
    ],
)
def test_usage_that_cannot_be_true_is_told(raw: object) -> None:
    with pytest.raises(InvalidUsage):
        usage_of({"usageMetadata": raw})


@pytest.mark.parametrize(
    ("raw", "tier"),
    [
        ({"serviceTier": "PRIORITY"}, "priority"),
        ({"trafficType": "ON_DEMAND_FLEX"}, "flex"),
        ({"trafficType": "ON_DEMAND"}, None),
    ],
)
def test_usage_names_its_tier(raw: dict[str, Any], tier: str | None) -> None:
    found = usage_of({"usageMetadata": {"promptTokenCount": 1, **raw}})
    assert found is not None
    assert found.tier == tier


WORK: dict[str, Any] = {
    "groundingMetadata": {
        "webSearchQueries": ["a", "b", "a", 5],
        "retrievalQueries": ["c"],
        "groundingChunks": [{"maps": {}}, {"maps": {}}],
    },
    "urlContextMetadata": {
        "urlMetadata": [{"retrievedUrl": "https://example.com/1"}, {"retrievedUrl": "https://example.com/2"}]
    },
    "content": {"parts": [{"executableCode": {"code": "1"}}, {"text": "x"}]},
}


@pytest.mark.parametrize(("model", "searches"), [("gemini-3-flash", 2), ("gemini-2.5-pro", 1), ("", 2)])
def test_calls_of_hosted_tools_are_counted(model: str, searches: int) -> None:
    found = usage_of({"candidates": [WORK], "usageMetadata": {"promptTokenCount": 1}, "modelVersion": model})
    assert found is not None
    names = {"web_search": searches, "file_search": 1, "google_maps": 1, "web_fetch": 2, "code_interpreter": 1}
    assert found.meters == {"input": 1, "output": 0, **{f"hosted_call/{name}": count for name, count in names.items()}}


def test_usage_is_written_as_google_does() -> None:
    usage = Usage({"input": 5, "cached_input": 2, "cache_write_5m": 1, "audio_input": 3, "output": 9, "image_output": 4}, 6)
    assert usage_object(usage, "default") == {
        "promptTokenCount": 11,
        "candidatesTokenCount": 7,
        "totalTokenCount": 24,
        "thoughtsTokenCount": 6,
        "cachedContentTokenCount": 2,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}, {"modality": "AUDIO", "tokenCount": 3}],
        "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 3}, {"modality": "IMAGE", "tokenCount": 4}],
        "serviceTier": "standard",
    }


def test_what_was_generated_can_be_counted() -> None:
    parts = [
        {"text": "a", "thought": True},
        {"functionCall": {"name": "f", "args": {"b": 1}}},
        {"executableCode": {"code": "c"}},
        {},
    ]
    assert reply_text({"candidates": [{"content": {"parts": parts}}, {"content": 5}]}) == 'a\nf\n{"b":1}\nc'
    assert reply_text({}) == ""


# -- schemas


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"type": "STRING", "nullable": True, "enum": ["a"]}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"anyOf": [{"type": "INTEGER"}], "nullable": True}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (
            {"any_of": [{"type": 5, "max_items": "3"}], "property_ordering": ["a"]},
            {"anyOf": [{"type": "array", "maxItems": 3}]},
        ),
        ({"type": "TYPE_UNSPECIFIED", "nullable": False, "example": 1}, {"examples": [1]}),
        (
            {"properties": {"type": {"type": "NUMBER"}, "max_items": {}}},
            {"properties": {"type": {"type": "number"}, "max_items": {}}},
        ),
        ({"ref": "#/defs/a", "defs": {"a": {"type": "NULL"}}}, {"$ref": "#/defs/a", "$defs": {"a": {"type": "null"}}}),
        (
            {"type": ["object", "null"], "additionalProperties": False, "minLength": "²"},
            {"type": ["object", "null"], "additionalProperties": False, "minLength": "²"},
        ),
    ],
)
def test_googles_schemas_become_json_schema(schema: dict[str, Any], found: dict[str, Any]) -> None:
    assert json_schema(schema, "s") == found


def test_a_schema_without_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100):
        schema = {"items": schema}
    with pytest.raises(ApiError, match="nested too deeply"):
        json_schema(schema, "s")
