"""Only the bytes that must change do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.strict_json import decode_object
from daemon.protocols.openai_chat import rewrite_reply_usage, rewrite_request
from daemon.protocols.rename import rename_model

ODD = b'{ "messages":[{"role":"user","content":"\\"model\\":\\"x\\" \\u00e9"}],\t"temperature":1.0e0,"model" : "a", "n":1}'


def rewrite(body: bytes, **wanted: Any) -> bytes:
    return rewrite_request(body, decode_object(body), **wanted)


@pytest.mark.parametrize(
    ("body", "wanted", "result"),
    [
        (b'{"model":"a"}', {}, b'{"model":"a"}'),
        (b'{"model":"a"}', {"model": "a"}, b'{"model":"a"}'),
        (b'{"model":"a"}', {"model": "b"}, b'{"model":"b"}'),
        (b'{"model":"a"}', {"model": 'q"\\\n\u00e9'}, '{"model":"q\\"\\\\\\n\u00e9"}'.encode()),
        (rb'{"mod\u0065l":"a"}', {"model": "b"}, rb'{"mod\u0065l":"b"}'),
        (rb'{"x":{"model":"a"},"mod\u0065l":"a"}', {"model": "b"}, rb'{"x":{"model":"a"},"mod\u0065l":"b"}'),
        (b'{"x":{"model":"a"},"model":"a"}', {"model": "b"}, b'{"x":{"model":"a"},"model":"b"}'),
        (ODD, {"model": "b"}, ODD.replace(b'"a"', b'"b"')),
        (b'{"model":"a"}', {"include_usage": True}, b'{"stream_options":{"include_usage":true},"model":"a"}'),
        (b'{"model":"a"}', {"include_usage": False}, b'{"model":"a"}'),
        (b'{"model":"a","stream_options":null}', {"include_usage": True},
         b'{"model":"a","stream_options":{"include_usage":true}}'),
        (b'{"model":"a","stream_options":{}}', {"include_usage": True},
         b'{"model":"a","stream_options":{"include_usage":true}}'),
        (b'{"stream_options": { "include_usage" : false , "x":1},"model":"a"}', {"include_usage": True},
         b'{"stream_options": { "include_usage" : true , "x":1},"model":"a"}'),
        (b'{"stream_options":{"x":1},"model":"a"}', {"include_usage": True, "model": "b"},
         b'{"stream_options":{"include_usage":true,"x":1},"model":"b"}'),
        (b'{"stream_options":{"include_usage":null},"model":"a"}', {"include_usage": True},
         b'{"stream_options":{"include_usage":true},"model":"a"}'),
        (b'{"stream_options":{"include_usage":true},"model":"a"}', {"include_usage": True},
         b'{"stream_options":{"include_usage":true},"model":"a"}'),
        (b'{"model":"a"}', {"max_tokens": 5}, b'{"max_tokens":5,"model":"a"}'),
        (b'{"model":"a"}', {"max_tokens": 5, "max_tokens_field": "max_completion_tokens"},
         b'{"max_completion_tokens":5,"model":"a"}'),
        (b'{"model":"a","max_tokens":9}', {"max_tokens": 5}, b'{"model":"a","max_tokens":5}'),
        (b'{"model":"a","max_tokens":null}', {"max_tokens": 5}, b'{"model":"a","max_tokens":5}'),
        (b'{"model":"a","max_tokens":4}', {"max_tokens": 5}, b'{"model":"a","max_tokens":4}'),
        (b'{"max_completion_tokens":9,"model":"a"}', {"max_tokens": 5}, b'{"max_completion_tokens":5,"model":"a"}'),
        (b'{"max_completion_tokens":9,"model":"a","max_tokens":4}', {"max_tokens": 5},
         b'{"max_completion_tokens":5,"model":"a","max_tokens":4}'),
        (b'{"model":"a"}', {"model": "b", "include_usage": True, "max_tokens": 5},
         b'{"max_tokens":5,"stream_options":{"include_usage":true},"model":"b"}'),
        (b' \n{ "model":"a"}', {"max_tokens": 5}, b' \n{"max_tokens":5, "model":"a"}'),
    ],
)  # fmt: skip
def test_the_edit_is_minimal(body: bytes, wanted: dict[str, Any], result: bytes) -> None:
    assert rewrite(body, **wanted) == result


strings = st.sampled_from(["model", '"model":"a"', "\\", '"', "}", "é", "\u0001", "stream_options", "{"])
nested = st.recursive(
    strings | st.integers(0, 9) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3),
)
bodies = st.fixed_dictionaries(
    {"model": st.just("a")},
    optional={
        "messages": nested,
        "é": nested,
        "max_tokens": st.integers(1, 9) | st.none(),
        "max_completion_tokens": st.integers(1, 9) | st.none(),
        "stream_options": st.none() | st.dictionaries(st.sampled_from(["x", "model"]), nested, max_size=2)
        | st.fixed_dictionaries({"include_usage": st.booleans() | st.none()}, optional={"y": nested}),
    },
)  # fmt: skip


@settings(max_examples=400)
@given(
    bodies,
    st.randoms(use_true_random=False),
    st.booleans(),
    st.none() | st.just("b"),
    st.booleans(),
    st.none() | st.integers(1, 9),
)
def test_the_sent_body_is_the_body_with_just_these_changes(
    obj: dict[str, Any], random: Any, pretty: bool, model: str | None, usage: bool, limit: int | None
) -> None:
    order = list(obj)
    random.shuffle(order)
    obj = {key: obj[key] for key in order}
    body = json.dumps(obj, indent=1 if pretty else None, ensure_ascii=pretty).encode()
    expected = dict(obj)
    if model:
        expected["model"] = model
    if usage:
        expected["stream_options"] = {**(obj.get("stream_options") or {}), "include_usage": True}
    if limit:
        given_limits = [name for name in ("max_tokens", "max_completion_tokens") if obj.get(name) is not None]
        for name in given_limits or ["max_tokens"]:
            expected[name] = min(limit, obj.get(name) or limit)
    assert decode_object(rewrite(body, model=model, include_usage=usage, max_tokens=limit)) == expected


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (b'{"id":"1","model":"up","choices":[{"model":"x"}]}', b'{"id":"1","model":"me","choices":[{"model":"x"}]}'),
        (b'{"choices":[{"model":"x"}], "model" : "up"}', b'{"choices":[{"model":"x"}], "model" : "me"}'),
        (b'{"choices":[{"message":{"content":"\\"model\\":\\"up\\""}}],"model":null}',
         b'{"choices":[{"message":{"content":"\\"model\\":\\"up\\""}}],"model":"me"}'),
        (b'{"choices":[{"model":"x"}]}', b'{"choices":[{"model":"x"}]}'),
        (b"not json", b"not json"),
        (b'{"model', b'{"model'),
        (b'["model",{"model":"up"}]', b'["model",{"model":"up"}]'),
    ],
)  # fmt: skip
def test_a_reply_is_given_the_name_that_was_asked_for(reply: bytes, result: bytes) -> None:
    assert rename_model(reply, "me") == result


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (b'{"id":"1"}', b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7},"id":"1"}'),
        (b' {\n"usage": null, "id":"1"}',
         b' {\n"usage": {"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}, "id":"1"}'),
        (b"{}", b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'),
    ],
)  # fmt: skip
def test_a_reply_without_usage_is_given_what_was_counted(reply: bytes, result: bytes) -> None:
    assert rewrite_reply_usage(reply, 3, 4) == result
