"""Errors in the envelopes that SDKs understand."""

from __future__ import annotations

import json

from daemon.domain.errors import ApiError
from daemon.protocols.anthropic_errors import anthropic_error_body, anthropic_error_frame
from daemon.protocols.openai_chat import error_body, error_frame
from daemon.protocols.sse import parse_frame

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
