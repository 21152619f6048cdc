"""A malformed request is refused by name; what a request can cost is read off it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.errors import ApiError
from daemon.domain.usage import MAX_COUNT
from daemon.protocols.openai_chat import ChatRequest, parse_loose, parse_request

USER = {"role": "user", "content": "hi"}
BODY: dict[str, Any] = {"model": "m", "messages": [USER]}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def refusal(body: dict[str, Any], parse: Any = parse_request) -> tuple[int, str, str | None]:
    with pytest.raises(ApiError) as caught:
        parse(body)
    error = caught.value
    assert error.type == "invalid_request_error"
    assert error.param is None or error.param in error.message
    return error.http_status, error.code, error.param


def with_message(message: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [USER, message]}


def with_part(part: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": [part]}]}


def test_a_plain_request() -> None:
    assert parse_request(BODY) == ChatRequest("m", False, None, None, "", 1, frozenset(), 0, (), None, {})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [USER]}, "model"),
        ({"model": None, "messages": [USER]}, "model"),
        ({"model": "", "messages": [USER]}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": None}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        (with_message({"content": "x"}), "messages[1].role"),
        (with_message({"role": None, "content": "x"}), "messages[1].role"),
        (with_message({"role": "user"}), "messages[1].content"),
        (with_message({"role": "user", "content": None}), "messages[1].content"),
        (with_message({"role": "assistant", "content": None}), "messages[1].content"),
        (with_message({"role": "assistant", "content": None, "tool_calls": None}), "messages[1].content"),
        (with_message({"role": "user", "content": None, "tool_calls": [CALL]}), "messages[1].content"),
        (with_part({"text": "x"}), "messages[0].content[0].type"),
    ],
)
def test_what_is_required_and_missing_is_named(body: dict[str, Any], param: str) -> None:
    assert refusal(body) == (400, "missing_required_parameter", param)


NOT_BOOL = ["yes", "true", 1, 0, [], {}, 1.0]
NOT_COUNT = [0, -1, 1.0, 10.5, "10", True, False, [], {}, 2**63, MAX_COUNT + 1]
INVALID: list[tuple[str, Any]] = [
    *(("model", value) for value in [1, True, [], {}, " ", "a\nb", "a\r\nX: y", "a\x00", "x" * 513]),
    *(("stream", value) for value in NOT_BOOL),
    *(("temperature", value) for value in [2.5, -0.1, "1", True, [], {}, float("nan"), 3]),
    *(("top_p", value) for value in [1.5, -0.1, "1", False, [], 2]),
    *(("max_tokens", value) for value in NOT_COUNT),
    *(("max_completion_tokens", value) for value in NOT_COUNT),
    *(("n", value) for value in [*NOT_COUNT, 129]),
    *(("best_of", value) for value in [*NOT_COUNT, 129]),
    *(("stop", value) for value in [1, True, {}, [1], ["a", None], [["a"]]]),
    *(("tools", value) for value in ["x", 1, {}, True]),
    *(("tool_choice", value) for value in [1, True, []]),
    *(("response_format", value) for value in ["json", 1, [], True]),
    *(("stream_options", value) for value in [True, "x", [], 1]),
    *(("messages", value) for value in ["hi", 1, True, {}, USER]),
    *(("modalities", value) for value in ["audio", {"a": 1}, [1]]),
]
NESTED: list[tuple[dict[str, Any], str]] = [
    ({**BODY, "stream_options": {"include_usage": value}}, "stream_options.include_usage") for value in NOT_BOOL
]
NESTED += [({**BODY, "tools": [value]}, "tools[0]") for value in [1, "x", None, []]]
NESTED += [({**BODY, "tools": [{"type": value}]}, "tools[0].type") for value in [1, None, [], {}]]
NESTED += [({**BODY, "response_format": {"type": value}}, "response_format.type") for value in [1, None, []]]
NESTED += [(with_message(value), "messages[1]") for value in [1, "x", None, [], True]]
NESTED += [(with_message({"role": value, "content": "x"}), "messages[1].role") for value in ["wizard", "", "User", 1, [], {}]]
NESTED += [(with_message({"role": "user", "content": value}), "messages[1].content") for value in [1, True, {}, 1.5]]
NESTED += [(with_message({**USER, "name": value}), "messages[1].name") for value in [1, [], {}, True]]
NESTED += [(with_message({"role": "tool", "content": "x", "tool_call_id": v}), "messages[1].tool_call_id") for v in [1, []]]
NESTED += [
    (with_message({"role": "assistant", "content": "x", "tool_calls": v}), "messages[1].tool_calls") for v in [1, [1], {}]
]
NESTED += [(with_part(value), "messages[0].content[0]") for value in [1, "x", None, []]]
NESTED += [(with_part({"type": value}), "messages[0].content[0].type") for value in [1, [], {}]]
NESTED += [(with_part({"type": "text", "text": value}), "messages[0].content[0].text") for value in [1, None, [], {}]]


@pytest.mark.parametrize(("field", "value"), INVALID)
def test_a_value_of_the_wrong_type_or_range_is_named(field: str, value: Any) -> None:
    assert refusal({**BODY, field: value}) == (400, "invalid_value", field)


@pytest.mark.parametrize(("body", "param"), NESTED)
def test_a_nested_value_is_named_with_its_path(body: dict[str, Any], param: str) -> None:
    assert refusal(body) == (400, "invalid_value", param)


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": "a"},
        {"stop": ["a"]},
        {"temperature": 0, "top_p": 1},
        {"temperature": 2.0, "top_p": 0.0},
        {"foo": 1, "seed": 5, "logit_bias": {"1": -100}, "reasoning_effort": "low", "metadata": {}},
        dict.fromkeys(["stream", "temperature", "top_p", "stop", "tools", "tool_choice", "response_format", "stream_options",
                       "max_tokens", "max_completion_tokens", "n", "modalities", "audio", "prediction", "service_tier"]),
        {"tools": [], "stop": []},
        {"tool_choice": "none"},
        {"tool_choice": {"type": "function"}},
        {"messages": [{"role": role, "content": "x"} for role in
                      ("system", "developer", "user", "assistant", "tool", "function")]},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                      {"role": "tool", "tool_call_id": "c", "content": "1"}]},
        {"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}]},
        {"messages": [USER, {"role": "assistant", "content": None, "refusal": "no"}]},
        {"messages": [USER, {"role": "assistant", "content": None, "function_call": {"name": "f"}}]},
        {"messages": [{**USER, "name": "ann", "cache_control": {"type": "ephemeral"}}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}, {"role": "user", "content": ""}]},
        {"tools": [{"function": {"name": "f"}}]},
    ],
)  # fmt: skip
def test_what_is_allowed_is_taken(fields: dict[str, Any]) -> None:
    request = parse_request({**BODY, **fields})
    assert (request.media_parts, request.unbounded) == (0, ())


@pytest.mark.parametrize(
    ("fields", "limit", "field"),
    [
        ({}, None, ""),
        ({"max_tokens": 5}, 5, "max_tokens"),
        ({"max_completion_tokens": 6}, 6, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6, "max_completion_tokens"),
        ({"max_tokens": 7, "max_completion_tokens": 6}, 7, "max_tokens"),
        ({"max_tokens": 7, "max_completion_tokens": None}, 7, "max_tokens"),
    ],
)
@pytest.mark.parametrize("parse", [parse_request, parse_loose])
def test_the_larger_output_limit_counts(parse: Any, fields: dict[str, Any], limit: int | None, field: str) -> None:
    request = parse({**BODY, **fields})
    assert (request.output_limit, request.output_limit_field) == (limit, field)


@pytest.mark.parametrize(("fields", "n"), [({}, 1), ({"n": 3}, 3), ({"n": 2, "best_of": 5}, 5), ({"n": 128}, 128)])
def test_every_choice_that_is_made_is_counted(fields: dict[str, Any], n: int) -> None:
    assert parse_request({**BODY, **fields}).n == parse_loose({**BODY, **fields}).n == n


@pytest.mark.parametrize(
    ("options", "include"),
    [
        (None, None),
        ({}, None),
        ({"include_usage": None}, None),
        ({"include_usage": True}, True),
        ({"include_usage": False}, False),
    ],
)
def test_whether_the_client_asked_for_usage(options: Any, include: bool | None) -> None:
    request = parse_request({**BODY, "stream": True, "stream_options": options})
    assert (request.stream, request.include_usage) == (True, include)
    assert parse_loose({**BODY, "stream_options": options}).include_usage is include


@pytest.mark.parametrize(
    ("fields", "features"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {"tools"}),
        ({"functions": [{"name": "f"}]}, {"tools"}),
        ({"response_format": {"type": "text"}}, set()),
        ({"response_format": {"type": "json_object"}}, {"json_mode"}),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"structured_outputs"}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs"}),
        ({"logprobs": False}, set()),
        ({"modalities": ["text"]}, set()),
        ({"modalities": ["text", "audio"], "audio": {"voice": "x"}}, {"audio_output"}),
        ({"reasoning_effort": "high"}, {"reasoning"}),
    ],
)
def test_features_in_use(fields: dict[str, Any], features: set[str]) -> None:
    assert parse_request({**BODY, **fields}).features == parse_loose({**BODY, **fields}).features == features


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x"}}, {"vision"}),
        ({"type": "input_audio", "input_audio": {}}, {"audio_input"}),
        ({"type": "file", "file": {}}, {"file_input"}),
        ({"type": "video_url"}, {"video_input"}),
        ({"type": "hologram"}, set()),
    ],
)
@pytest.mark.parametrize("parse", [parse_request, parse_loose])
def test_parts_whose_cost_the_body_does_not_bound_are_counted(parse: Any, part: Any, feature: set[str]) -> None:
    text = {"type": "text", "text": "x"}
    request = parse({"model": "m", "messages": [{"role": "user", "content": [text, part, part]}, USER]})
    assert (request.media_parts, request.features) == (2, feature)


def test_an_earlier_spoken_answer_is_a_media_part() -> None:
    request = parse_request(with_message({"role": "assistant", "content": None, "audio": {"id": "a"}}))
    assert (request.media_parts, request.features) == (1, {"audio_input"})


@pytest.mark.parametrize(
    ("fields", "unbounded"),
    [
        ({"web_search_options": {}}, ("web_search_options",)),
        ({"search_parameters": {"mode": "on"}}, ("search_parameters",)),
        ({"plugins": [{"id": "web"}]}, ("plugins",)),
        ({"models": ["dearer/model"]}, ("models",)),
        ({"tools": [{"function": {}}]}, ()),
        ({"tools": [{"type": "custom", "custom": {}}]}, ()),
        ({"modalities": ["text", "image"]}, ("modalities:image",)),
    ],
)
@pytest.mark.parametrize("parse", [parse_request, parse_loose])
def test_what_costs_more_than_tokens_is_named(parse: Any, fields: dict[str, Any], unbounded: tuple[str, ...]) -> None:
    assert parse({**BODY, **fields}).unbounded == unbounded


@pytest.mark.parametrize("parse", [parse_request, parse_loose])
def test_tools_that_the_host_runs_are_named(parse: Any) -> None:
    tools = [{"type": "function", "function": {}}, {"type": "web_search"}, {"type": "openrouter:web_fetch"}]
    request = parse({**BODY, "tools": tools, "max_tool_calls": 3})
    assert (request.hosted, request.unbounded) == ({"web_search": 3, "web_fetch": 3}, ())


@pytest.mark.parametrize(
    ("prediction", "extra"),
    [
        ({"type": "content", "content": "é1234"}, 6),
        ({"type": "content", "content": [{"type": "text", "text": "abc"}, {"type": "text", "text": "de"}, 7]}, 5),
        ({"type": "content"}, 0),
        ("x", 0),
    ],
)
def test_a_prediction_can_be_billed_on_top_of_the_limit(prediction: Any, extra: int) -> None:
    assert parse_request({**BODY, "prediction": prediction}).output_extra == extra


@pytest.mark.parametrize(
    ("fields", "tier", "unbounded"),
    [
        ({"service_tier": "priority"}, "priority", ()),
        ({"service_tier": "flex"}, "flex", ()),
        ({"service_tier": "auto", "speed": "standard"}, None, ()),
        ({"service_tier": "on_demand", "speed": "fast"}, "fast", ()),
        ({"service_tier": None}, None, ()),
        ({"service_tier": 7}, None, ("service_tier",)),
        ({"service_tier": "priority", "speed": "fast"}, "priority", ("speed",)),
    ],
)
@pytest.mark.parametrize("parse", [parse_request, parse_loose])
def test_a_service_tier_that_may_have_another_price_is_named(
    parse: Any, fields: dict[str, Any], tier: str | None, unbounded: tuple[str, ...]
) -> None:
    request = parse({**BODY, **fields})
    assert (request.tier, request.unbounded) == (tier, unbounded)


def test_the_prompt_is_bounded_by_the_bytes_of_the_body() -> None:
    assert parse_request(BODY).input_bound(1000) == 1000
    assert parse_request({**BODY, "tools": [{"type": "function"}]}).input_bound(1000) == 1512


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "n", "best_of"])
@pytest.mark.parametrize("value", NOT_COUNT)
def test_a_prefixed_route_still_refuses_what_would_change_the_price(field: str, value: Any) -> None:
    assert refusal({**BODY, field: value}, parse_loose) == (400, "invalid_value", field)


@pytest.mark.parametrize("value", [1, True, [], {}, " ", "a\nb", "x" * 513])
def test_a_prefixed_route_needs_a_model(value: Any) -> None:
    assert refusal({"model": value}, parse_loose) == (400, "invalid_value", "model")
    assert refusal({}, parse_loose) == (400, "missing_required_parameter", "model")


@pytest.mark.parametrize(
    "fields",
    [{"messages": value} for value in [None, 1, "x", [], [1], [{"content": [1, None]}], [{"role": "wizard"}]]]
    + [{"temperature": 9}, {"stream": "yes"}, {"stream_options": 1}, {"stop": 1}, {"tool_choice": 1}, {"input": "x"}],
)
def test_a_prefixed_route_leaves_the_rest_to_the_provider(fields: dict[str, Any]) -> None:
    assert parse_loose({"model": "m", **fields}).stream is False


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["role", "content", "type", "text", "user", "function", "include_usage", "name", "audio"]), inner, max_size=3),
)  # fmt: skip
FIELDS = ["messages", "stream", "stream_options", "n", "max_tokens", "tools", "response_format", "modalities", "prediction",
          "stop", "temperature", "functions", "plugins", "service_tier", "tool_choice", "best_of", "audio"]  # fmt: skip


@given(st.fixed_dictionaries({"model": st.just("m")}, optional=dict.fromkeys(FIELDS, junk)))
def test_any_body_is_read_or_refused(body: dict[str, Any]) -> None:
    for parse in (parse_request, parse_loose):
        try:
            assert 1 <= parse(body).n <= 128
        except ApiError as error:
            refused = error.http_status
        else:
            refused = 400
        assert refused == 400
