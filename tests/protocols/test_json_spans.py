"""A value is found by its place in the top-level object, whatever the strings and nested objects say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.protocols.json_spans import apply_edits, known_key_span, member_edit, top_level_span, top_level_spans

keys = st.one_of(st.sampled_from(["model", "x", "stream", '"model":', "m\\", "modèl", "}", ""]), st.text(max_size=5))
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=10),
        st.sampled_from(['"model":"x"', '\\"model\\":', '{"model":1}', "\\", '"', "]}", "\\\\"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)
objects = st.dictionaries(keys, values, max_size=6)
spellings = st.sampled_from(
    [{}, {"indent": 1}, {"indent": "\t"}, {"separators": (",", ":")}, {"ensure_ascii": False}, {"separators": (" , ", " : ")}]
)


def spelled(obj: dict[str, Any], how: dict[str, Any]) -> bytes:
    return json.dumps(obj, **how).encode("utf-8", "surrogatepass")


@settings(max_examples=500)
@given(objects, spellings)
def test_every_span_holds_exactly_its_value(obj: dict[str, Any], how: dict[str, Any]) -> None:
    body = spelled(obj, how)
    spans = top_level_spans(body, obj)
    # A key that is half a surrogate pair is not UTF-8; the strict decoder refuses such bodies.
    assert spans.keys() >= {key for key in obj if key.isprintable()}
    for key, (start, end) in spans.items():
        assert json.loads(body[start:end]) == obj[key]
    for key in obj.keys() & {"model", "x", "stream", "modèl"}:
        assert top_level_span(body, key) == spans[key]
        if key.isascii():
            assert known_key_span(body, key) == spans[key]


@settings(max_examples=500)
@given(objects, spellings, st.sampled_from(["model", "x", "stream"]), st.sampled_from(["y", 7, None, {"a": []}]))
def test_an_edit_changes_one_member_and_no_other_byte(obj: dict[str, Any], how: dict[str, Any], key: str, value: Any) -> None:
    body = spelled(obj, how)
    span = top_level_span(body, key)
    assert (span is not None) == (key in obj)
    raw = json.dumps(value).encode()
    edited = apply_edits(body, [member_edit(body, key, raw, span)])
    assert json.loads(edited) == {**obj, key: value}
    if span is not None:
        assert edited == body[: span[0]] + raw + body[span[1] :]
    else:
        assert body.startswith(b"{")
        assert edited.endswith(body[1:])


@pytest.mark.parametrize(
    "body",
    [
        rb'{"mod\u0065l":"a","x":1}',
        rb'{"x":{"model":"b"},"mod\u0065l":"a"}',
        rb'{"x":"\"model\":\"b\"","model":"a"}',
        rb'{"x":"\\","model":"a"}',
        rb'{"x":"\\\"model","model":"a"}',
        rb'{"object":"model","model":"a"}',
        rb'{"x":["model",{"model":["}"]}],"model":"a"}',
        rb'{"x":"{[","model":"a"}',
        b' \n\t{ "model" \n:\r\t"a" } ',
        '{"é":"\\u00e9","model":"a"}'.encode(),
    ],
)
def test_a_key_is_told_from_its_likenesses(body: bytes) -> None:
    span = top_level_span(body, "model")
    assert span is not None
    assert body[slice(*span)] == b'"a"'
    assert known_key_span(body, "model") == span


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"a":"x', b'{"a":"x\\', b'{"a":"x\\"', b'{"a":[1',
     b'{"a":["x]', b'{"a":1 "b":2}', b"{a:1}", b'{"a":1,}', b'{"a":}', b'{"\\x":1}', b"null", b'{"a":"\\"'],
)  # fmt: skip
def test_what_is_not_json_has_no_span(body: bytes) -> None:
    assert top_level_span(body, "model") is None
    with pytest.raises(ValueError):
        top_level_spans(body, ["model"])


def test_an_empty_object_has_no_spans_and_takes_a_first_member() -> None:
    assert top_level_spans(b" { } ", ["a"]) == {}
    assert apply_edits(b"{}", [member_edit(b"{}", "a", b"1", None)]) == b'{"a":1}'


@pytest.mark.parametrize("unit", [b'\\"', b"\\\\", b"[]", b"x", b'","', b"{"])
def test_hostile_strings_are_scanned_in_linear_time(unit: bytes) -> None:
    body = b'{"a":["' + unit * 300_000 + b'"],"model":"m"}'
    span = top_level_span(body, "model")
    assert span is not None
    assert body[slice(*span)] == b'"m"'
