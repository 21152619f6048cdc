"""What bounds the cost of a request, and the URL that names its model."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.domain.admission import ANY_NUMBER
from daemon.domain.errors import ApiError
from daemon.protocols.gemini import (
    model_and_method,
    path_of,
    read,
)

HI = {"role": "user", "parts": [{"text": "hi"}]}
IMAGE = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
BOTH_SOUND = {"audio_input", "audio_output"}
IMAGES = {"image_input", "image_output"}


def asked(**fields: Any) -> Any:
    return read({"model": "m", "stream": False, "contents": [HI], **fields}, 1000)


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
