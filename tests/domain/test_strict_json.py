"""Nothing that two parsers could read differently is decoded, and refusals do not repeat what was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.strict_json import InvalidJson, decode_object

SECRET = "sk-secret"


def nested(opening: str, closing: str, depth: int) -> bytes:
    return (opening * depth + "1" + closing * depth).encode()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"a"', "must be a JSON object"),
        (b"12", "must be a JSON object"),
        (b"{", "ends in the middle"),
        (b'{"a":', "ends in the middle"),
        (b'{"a":"b', "ends in the middle"),
        (b'{"a":1,}', "comma"),
        (b'{"a":1}}', "after the end"),
        (b'{"a":1}{"a":1}', "after the end"),
        (b'{"a":1}\x00', "after the end"),
        (b'{"a":1} garbage', "after the end"),
        (b"{a:1}", "not a string"),
        (b"{'a':1}", "not a string"),
        (b'{"a":NaN}', "not well formed"),
        (b'{"a":Infinity}', "not well formed"),
        (b'{"a":-Infinity}', "number"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":-1E+999}', "too large"),
        (b'{"a":[[{"b":1e400}]]}', "too large"),
        (b'{"a":' + b"1" * 400 + b".0}", "too large"),
        (b'{"a":' + b"1" * 5000 + b"}", "too many digits"),
        (b'{"a":18446744073709551616}', "64 bits"),
        (b'{"a":-9223372036854775809}', "64 bits"),
        (b'{"a":[{"b":1' + b"0" * 40 + b"}]}", "64 bits"),
        (b'{"a":01}', "number"),
        (b'{"a":1.}', "number"),
        (b'{"a":.5}', "not well formed"),
        (b'{"a":+1}', "not well formed"),
        (b'{"a":0x10}', "not well formed"),
        (b'{"a":tru}', "not well formed"),
        (b'{"a":1,"a":2}', 'the key "a" twice (line 1 column'),
        (b'{"x":{"model":1,"model":1}}', 'the key "model" twice'),
        (b'{"x":[{"b":[{"c":1,"c":2}]}]}', 'the key "c" twice'),
        (rb'{"model":1,"mod\u0065l":2}', 'the key "model" twice'),
        (rb'{"a":"\ud800"}', "surrogate"),
        (rb'{"a":"\udc00"}', "surrogate"),
        (rb'{"a":"\ud800x"}', "surrogate"),
        (rb'{"a":"\udc00\ud800"}', "surrogate"),
        (rb'{"\ud800":1}', "surrogate"),
        (b'{"a":"\xed\xa0\x80"}', "UTF-8"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'{"a":"\xc3"}', "UTF-8"),
        (b'{"a":"\xc0\xaf"}', "UTF-8"),
        (rb'{"a":"\x"}', "escape"),
        (rb'{"a":"\u12"}', "valid JSON"),
        (b'{"a":"\n"}', "control character"),
        (b'{"a":"\x00"}', "control character"),
        (b'\xef\xbb\xbf{"a":1}', "byte order mark"),
        ('{"a":1}'.encode("utf-16"), "UTF-16"),
        ('{"a":1}'.encode("utf-16-le"), "UTF-16"),
        ('{"a":1}'.encode("utf-16-be"), "UTF-16"),
        ('{"a":1}'.encode("utf-32"), "UTF-16"),
        ('{"a":1}'.encode("utf-32-be"), "UTF-16"),
        (nested('{"a":', "}", 300), "nested too deeply"),
        (b'{"a":' + nested("[", "]", 300) + b"}", "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"<html></html>", "not well formed"),
        (b"model=gpt-4o&stream=true", "not well formed"),
        (b'{"a":1 /* x */}', "valid JSON"),
    ],
)
def test_a_body_that_is_not_plain_json_is_refused_in_one_sentence(body: bytes, says: str) -> None:
    with pytest.raises(InvalidJson) as caught:
        decode_object(body)
    message = str(caught.value)
    assert says in message
    assert message.startswith("The request body ")
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 160


@pytest.mark.parametrize(
    "body",
    [b'{"a":"sk-secret', b'{"a":sk-secret}', b'{"sk-secret":1,}', b'{"a":"sk-secret\xff"}', b'{"a":1}sk-secret', b"sk-secret"],
)
def test_a_refusal_does_not_repeat_the_body(body: bytes) -> None:
    with pytest.raises(InvalidJson) as caught:
        decode_object(body)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", ["k" * 1000, "a\r\nSet-Cookie: x", "\x00\x1b[31m", 'a"b', "\u202eabc", "x" * 39 + "\n\n"])
def test_a_duplicate_key_is_shown_short_and_printable(key: str) -> None:
    name = json.dumps(key)
    with pytest.raises(InvalidJson) as caught:
        decode_object(f"{{{name}:1,{name}:2}}".encode())
    assert str(caught.value).isprintable()
    assert "twice" in str(caught.value)
    assert len(str(caught.value)) < 140


@pytest.mark.parametrize(
    "obj",
    [{}, {"a": 2**64 - 1, "b": -(2**63), "c": 1e308, "d": -0.0, "e": "😀\u0000é", "f": [[], {}, None, True, False]}],
)
def test_what_every_parser_reads_alike_is_decoded(obj: dict[str, Any]) -> None:
    assert decode_object(json.dumps(obj).encode()) == obj
    assert decode_object(b" \r\n\t" + json.dumps(obj, ensure_ascii=False, indent=2).encode() + b"\n") == obj


@given(st.dictionaries(st.text(), st.recursive(st.integers(-(2**63), 2**63) | st.text(), st.lists)))
def test_strict_decoding_agrees_with_json(obj: dict[str, Any]) -> None:
    assert decode_object(json.dumps(obj).encode()) == obj


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    try:
        assert decode_object(body) == json.loads(body)
    except InvalidJson:
        pass
