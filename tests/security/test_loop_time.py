"""Work on the event loop is bounded, whatever a body or an error text is made of: everybody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from daemon.domain.strict_json import InvalidJson, decode_object
from daemon.protocols.json_spans import top_level_spans
from daemon.upstream.headers import MASK, redact

SIZE = 4 * 1024 * 1024
LIMIT_S = 1.0  # the old code took between 3 and 600 seconds for each of these


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.mark.parametrize(
    "values",
    [b"1," * (SIZE // 2), b"{}," * (SIZE // 3), b"[]," * (SIZE // 3), b'{"a":"b"},' * (SIZE // 10), b'"\\\\",' * (SIZE // 5)],
    ids=["numbers", "objects", "arrays", "messages", "strings"],
)
def test_a_body_of_very_many_values_is_refused(values: bytes) -> None:
    body = b'{"model":"m","x":[' + values + b"1]}"

    def decode() -> None:
        with pytest.raises(InvalidJson, match="too many values"):
            decode_object(body)

    assert seconds(decode) < LIMIT_S


def test_long_strings_are_not_values() -> None:
    text = '{\\"a\\": [1, 2, {}], ' * (SIZE // 20)
    assert decode_object(b'{"model":"m","x":"' + text.encode() + b'"}')["x"].startswith('{"a": [1')
    assert decode_object(b'{"x":[' + b"1," * 300_000 + b"1]}")["x"][-1] == 1  # token ids of an embedding


def test_a_string_of_backslashes_is_skipped_quickly() -> None:
    body = b'{"x":"' + b"\\\\" * (SIZE // 2) + b'","model":"m"}'
    assert seconds(lambda: top_level_spans(body, ("model",))) < LIMIT_S
    assert body[slice(*top_level_spans(body, ("model",))["model"])] == b'"m"'
    for count in range(1, 6):
        body = b'{"x":"a' + b"\\\\" * count + b'\\"b","model":"m"}'
        assert body[slice(*top_level_spans(body, ("model",))["model"])] == b'"m"'


@pytest.mark.parametrize("piece", [b"-eyJ", b"-eyJaaaaaaaa.", b"sk-", b"-sk-a", b"bearer ", b"AIza-", b"ya29.", b"eyJ_"])
def test_masking_an_error_text_takes_time_in_proportion(piece: bytes) -> None:
    assert seconds(lambda: redact(piece * (64 * 1024 // len(piece)), ["sk-upstream-AAA"], ["host"])) < LIMIT_S


def test_tokens_are_masked_still() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.sig_-nature"
    for text in (token, f"token={token}", f'"{token}"', f" {token},", f"x/{token}"):
        assert "sig_" not in redact(text)
        assert MASK in redact(text)
