"""The few bytes that change while a request or reply passes, and errors in Google's form."""

from __future__ import annotations

import json

import pytest

from daemon.domain.errors import CATALOGUE, ApiError
from daemon.protocols.gemini import (
    StreamAdapter,
    error_body,
    error_frame,
    read_error,
    rewrite_reply_model,
    rewrite_request_model,
    set_output_limit,
)
from daemon.protocols.gemini.errors import STATUSES
from daemon.protocols.sse import LineTooLong


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
