"""Errors in the envelopes that SDKs understand."""

from __future__ import annotations

import json

from daemon.domain.errors import ApiError
from daemon.protocols.anthropic_errors import anthropic_error_body, anthropic_error_frame
from daemon.protocols.dialects import envelope_of, error_event
from daemon.protocols.openai_chat import error_body, error_frame
from daemon.protocols.sse import Framer, parse_frame

ERROR = ApiError.of("model_not_found", model='x"\u00e9', param="model")
MESSAGE = 'The model `x"\u00e9` does not exist or you do not have access to it.'


def test_the_openai_envelope() -> None:
    fields = {"message": MESSAGE, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    assert json.loads(error_body(ERROR)) == {"error": fields}
    frame = parse_frame(error_frame(ERROR))
    assert (frame.event, json.loads(frame.data)) == ("", {"error": fields})
    assert b"\n" not in error_body(ERROR)


def test_the_anthropic_envelope() -> None:
    fields = {"type": "invalid_request_error", "message": MESSAGE, "code": "model_not_found"}
    wrapped = {"type": "error", "error": fields, "request_id": "req_1"}
    assert json.loads(anthropic_error_body(ERROR, "req_1")) == wrapped
    frame = parse_frame(anthropic_error_frame(ERROR, "req_1"))
    assert (frame.event, json.loads(frame.data)) == ("error", wrapped)


def test_a_stream_of_responses_that_breaks_ends_as_the_translated_ones_do() -> None:
    passed = b'event: x\ndata: {"type":"x","sequence_number":7}\n\n'
    events = Framer().feed(error_event(ERROR, envelope_of("/v1/responses"), "req_1", passed))
    assert [event.event for event in events] == ["error", "response.failed"]
    error, failed = (json.loads(event.data) for event in events)
    assert (error["type"], error["sequence_number"], failed["sequence_number"]) == ("error", 8, 9)
    assert error["error"] == json.loads(error_body(ERROR))["error"]
    assert (error["code"], error["message"]) == ("model_not_found", MESSAGE)
    assert failed["response"]["error"] == {"code": "model_not_found", "message": MESSAGE}


def test_half_an_event_does_not_swallow_the_error() -> None:
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1beta/models/m:streamGenerateContent?alt=sse"):
        envelope = envelope_of(*path.split("?"))
        assert error_event(ERROR, envelope, "r", b"data: {}\n\n") == error_event(ERROR, envelope, "r")
        assert error_event(ERROR, envelope, "r", b'data: {"half') == b"\n\n" + error_event(ERROR, envelope, "r")
