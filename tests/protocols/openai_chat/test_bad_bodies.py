"""Some 600 bodies that are not what they seem: each is a 400 with a message, on both kinds of route where it matters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.domain.errors import ApiError
from daemon.domain.strict_json import InvalidJson, decode_object
from daemon.protocols.openai_chat import error_body, parse_loose, parse_request

MEMBERS = {"model": '"m"', "messages": '[{"role":"user","content":"hi"}]'}

# Spellings that no field accepts: they are not JSON as every parser reads it.
NEVER = ["NaN", "-NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1E+400", "1" * 400 + ".0", "18446744073709551616",
         "1" * 5000, "-9223372036854775809", "01", "+1", ".5", "1.", "0x10", "1_000", "True", "None", "undefined", "'a'",
         r'"\ud800"', r'"\udfff"', r'"\ud800\ud800"', r'"\x41"', '"\x00"', '"\n"', "", '"', "[", "{", "[1,]", '{"a":1,}',
         '{"a":1,"a":1}', '[{"b":1,"b":2}]', "[" * 300 + "]" * 300, "// 1", "1 2"]  # fmt: skip
COUNTS = ["0", "-1", "1.0", "10.5", "1e2", '"10"', '""', "true", "false", "[]", "[10]", "{}", "9223372036854775807",
          "9223372036854775808", "1000000001", "-0.0", '"1e999"']  # fmt: skip
FIELDS: dict[str, list[str]] = {
    "model": ["null", '""', "1", "true", "[]", "{}", '["m"]', r'"a\nb"', r'"a\r\nX: 1"', r'"\u0000"', '" "',
              '"' + "x" * 600 + '"'],
    "messages": ["null", "[]", "{}", '"hi"', "1", "true", "[null]", "[1]", '["hi"]', "[[]]", "[{}]", '[{"role":"user"}]',
                 '[{"role":"wizard","content":"x"}]', '[{"role":"user","content":1}]', '[{"role":"user","content":null}]',
                 '[{"role":1,"content":"x"}]', '[{"content":"x"}]', '[{"role":"user","content":[1]}]',
                 '[{"role":"user","content":[{}]}]', '[{"role":"user","content":[{"type":"text"}]}]',
                 '[{"role":"user","content":{"type":"text","text":"x"}}]'],
    "max_tokens": COUNTS,
    "max_completion_tokens": COUNTS,
    "n": [*COUNTS, "129", "1000"],
    "best_of": [*COUNTS, "129", "1000"],
    "temperature": ["-1", "2.1", '"1"', "true", "[]", "{}", "1e300"],
    "top_p": ["-1", "1.1", '"1"', "true", "[]", "{}"],
    "stream": ["1", "0", '"true"', '"yes"', "[]", "{}", "0.0"],
    "stop": ["1", "true", "{}", "[1]", "[null]", '[["a"]]'],
    "tools": ["1", '"x"', "{}", "[1]", "[null]", "[{}]", '[{"type":1}]'],
    "tool_choice": ["1", "true", "[]"],
    "response_format": ["1", '"json"', "[]", "{}", '{"type":1}', '{"type":null}'],
    "stream_options": ["1", "true", "[]", '{"include_usage":1}', '{"include_usage":"true"}', '{"include_usage":[]}'],
    "modalities": ["1", '"text"', '{"a":1}', "[1]", "[null]"],
}  # fmt: skip
PRICED = ("model", "max_tokens", "max_completion_tokens", "n", "best_of")


def body_with(field: str, value: str) -> str:
    return "{" + ",".join(f'"{name}":{raw}' for name, raw in {**MEMBERS, field: value}.items()) + "}"


def text_rows() -> list[str]:
    rows = [body_with(field, value) for field, values in FIELDS.items() for value in values]
    rows += [body_with(field, value) for field in (*FIELDS, "foo") for value in NEVER if field in PRICED or value[:1] in 'N1"[']
    # The same key twice, spelled in different ways.
    for field, values in FIELDS.items():
        good = MEMBERS.get(field, "null")
        escaped = f"\\u{ord(field[0]):04x}{field[1:]}"
        rest = "".join(f',"{name}":{raw}' for name, raw in MEMBERS.items() if name != field)
        rows.append(f'{{"{field}":{good},"{field}":{values[0]}{rest}}}')
        rows.append(f'{{"{field}":{good},"{escaped}":{good}{rest}}}')
        rows.append(f'{{"{escaped}":{good}{rest},"{field}":{good}}}')
    return rows


GOOD = body_with("stream", "true").encode()
BYTE_ROWS = [
    b"", b" ", b"\x00", b"null", b"[]", b"[" + GOOD + b"]", b'"' + GOOD.replace(b'"', b"'") + b'"', GOOD + GOOD, GOOD + b"\x00",
    GOOD + b",", GOOD[:-1], GOOD[1:], b"\xef\xbb\xbf" + GOOD, b")]}'\n" + GOOD, GOOD + b"\r\n0\r\n\r\n", b"data: " + GOOD,
    *(GOOD.decode().encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-7")
      if name != "utf-7"),
    *(GOOD.replace(b"hi", bad) for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\x01")),
    *(GOOD[:cut] for cut in range(1, len(GOOD), 4)),
]  # fmt: skip
ROWS = [row.encode() for row in text_rows()] + BYTE_ROWS


def refuse(body: bytes, parse: Any) -> ApiError | None:
    try:
        parse(decode_object(body))
    except InvalidJson as error:
        return ApiError.of("invalid_json", message=str(error))
    except ApiError as error:
        return error
    return None


def test_the_table_is_as_long_as_it_says() -> None:
    assert len(ROWS) > 500
    assert refuse(GOOD, parse_request) is None


@pytest.mark.parametrize("body", ROWS, ids=range(len(ROWS)))
def test_a_bad_body_is_a_400_that_names_its_fault(body: bytes) -> None:
    error = refuse(body, parse_request)
    assert error is not None
    assert error.http_status == 400
    assert error.code in ("invalid_json", "invalid_value", "missing_required_parameter")
    shown = json.loads(error_body(error))["error"]
    assert shown == {"message": error.message, "type": "invalid_request_error", "param": error.param, "code": error.code}
    assert error.message.isprintable()
    assert len(error.message) < 300
    assert (error.code == "invalid_json") == (error.param is None)


@pytest.mark.parametrize("field", PRICED)
def test_what_the_price_depends_on_is_refused_on_prefixed_routes_too(field: str) -> None:
    for value in [*NEVER, *FIELDS[field]]:
        error = refuse(body_with(field, value).encode(), parse_loose)
        assert error is not None, value
        assert error.http_status == 400
