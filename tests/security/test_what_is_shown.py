"""What strangers wrote is shown harmlessly, and secrets not at all, however they are written."""

from __future__ import annotations

import io
import json
from base64 import b64encode, urlsafe_b64encode

import pytest

from daemon import log
from daemon.upstream.headers import check_path, redact
from gatewayctl.output import _cell
from tests.support.gateway import OPENAI_SECRET, ask
from tests.support.upstream import Reply
from tests.support.world import World, dump

NASTY = "a\x1b[2J\x9b31m\u202egnp\u2028"


def test_names_of_models_do_not_steer_the_terminal() -> None:
    shown = _cell(NASTY)
    assert shown.isprintable()
    assert "\\x1b[2J\\x9b31m\\u202egnp\\u2028" in shown
    assert _cell([NASTY, {"x": NASTY}]).isprintable()
    assert _cell("Việt ñ 漢字") == "Việt ñ 漢字"


def test_log_lines_hold_no_signs_that_steer_a_terminal() -> None:
    out = io.StringIO()
    sink = log._Sink()
    sink.stream = out
    sink._write([sink._format(0, "info", "event", {"name": NASTY + "\n2026 error forged"})])
    assert out.getvalue().rstrip("\n").isprintable()
    assert "\\u202e" in out.getvalue()


@pytest.mark.parametrize("segment", ["..;", "..;x=1", "%2e%2e;", ".;x", "..%3b", "%2e.%3Bx"])
def test_a_segment_that_some_servers_cut_to_dots_is_refused(segment: str) -> None:
    with pytest.raises(ValueError, match="dot segment"):
        check_path(f"/v1/files/{segment}/x")
    check_path("/v1/files/a;b/..x;c")


@pytest.mark.parametrize("path", ["chat/completions", "openai/chat/completions", "openai/responses"])
def test_a_model_must_be_printable(world: World, path: str) -> None:
    reply = world.gateway.post(f"/v1/{path}", world.alice.key, {**ask(model="x\x1b[2J\n"), "input": "x"})
    assert reply.status_code == 400


def test_a_key_is_no_request_id(world: World) -> None:
    key = world.alice.key
    for given in (key, f"id-{key}", key[:40]):
        for model in ("gpt-4o-mini", "nothing"):
            reply = world.gateway.post("/v1/chat/completions", key, ask(model=model), headers={"X-Request-Id": given})
            assert reply.headers["x-request-id"].startswith("req_")
    assert key not in dump(world.home)
    assert key not in world.gateway.log


SPELLINGS = {
    "json": json.dumps({"error": {"message": OPENAI_SECRET}}).replace("-", "\\u002d").encode(),
    "json in part": b'{"error":{"message":"\\u0073k-upstream-AAA"}}',
    "upper": OPENAI_SECRET.upper().encode(),
    "hex": OPENAI_SECRET.encode().hex().encode(),
    "percent": OPENAI_SECRET.replace("-", "%2D").encode(),
    **{f"basic {n}": b"Basic " + b64encode(b"u" * n + b":" + OPENAI_SECRET.encode()) for n in range(4)},
    "url base64": urlsafe_b64encode(OPENAI_SECRET.encode() + b"?>"),
}


@pytest.mark.parametrize("body", [body for name, body in SPELLINGS.items() if name != "percent"])
def test_our_credential_is_masked_in_every_spelling(world: World, body: bytes) -> None:
    world.openai.script(Reply(400, [("Content-Type", "application/json")], body))
    text = world.gateway.chat(world.alice.key).text
    assert "[redacted]" in text
    with pytest.raises(ValueError, match="substring"):
        text.lower().index("upstream-aaa")


def test_an_error_that_hides_nothing_stays_readable() -> None:
    for text in ("max_tokens is too large: 5. It must be <= 4", "c2stdX is base64 of sk-u", '{"error": {"message": "é"}}'):
        assert redact(text, [OPENAI_SECRET]) == text
