"""What passes through to the provider and back, as tables."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.upstream.headers import (
    check_path,
    clean_query,
    credential_header,
    join_url,
    redact,
    reply_headers,
    request_headers,
)
from db.presets import PRESETS

NEVER_TO_THE_PROVIDER = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "host",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "accept-encoding",
    "proxy-authorization",
    "openai-organization",
    "openai-project",
    "x-stainless-lang",
    "x-stainless-os",
    "x-request-id",
    "origin",
    "referer",
    "expect",
    "range",
    "cf-connecting-ip",
]

NEVER_TO_THE_CUSTOMER = [
    "set-cookie",
    "openai-organization",
    "openai-project",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-tokens",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-organization-id",
    "server",
    "cf-ray",
    "cf-cache-status",
    "content-encoding",
    "content-length",
    "transfer-encoding",
    "connection",
    "alt-svc",
    "strict-transport-security",
    "via",
    "x-envoy-upstream",
    "retry-after",
    "date",
    "www-authenticate",
    "location",
]


@pytest.mark.parametrize("name", NEVER_TO_THE_PROVIDER)
@pytest.mark.parametrize("protocol", ["openai", "anthropic", "gemini"])
def test_request_header_stays_behind(name: str, protocol: str) -> None:
    sent = request_headers([(name.encode(), b"sk-customer"), (name.upper().encode(), b"sk-customer")], protocol, None)
    assert [header for header in sent if header[0] != b"anthropic-version"] == []


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        ("openai", b"Content-Type"),
        ("openai", b"Accept"),
        ("openai", b"OpenAI-Beta"),
        ("openai", b"Idempotency-Key"),
        ("openai", b"User-Agent"),
        ("openai", b"traceparent"),
        ("anthropic", b"anthropic-beta"),
        ("anthropic", b"anthropic-version"),
        ("gemini", b"Content-Type"),
    ],
)
def test_request_header_is_forwarded(protocol: str, name: bytes) -> None:
    assert (name.lower(), b"v") in request_headers([(name, b"v")], protocol, None)


def test_headers_of_another_protocol_stay_behind() -> None:
    assert request_headers([(b"openai-beta", b"x")], "anthropic", None) == [(b"anthropic-version", b"2023-06-01")]
    assert request_headers([(b"anthropic-beta", b"x")], "openai", None) == []


def test_a_header_that_holds_the_customers_key_stays_behind() -> None:
    sent = request_headers(
        [(b"user-agent", b"app sk-customer-1"), (b"accept", b"*/*")], "openai", None, secrets=[b"sk-customer-1"]
    )
    assert sent == [(b"accept", b"*/*")]


def test_only_the_first_of_a_repeated_header_goes() -> None:
    given_headers = [(b"content-type", b"a"), (b"content-type", b"b"), (b"openai-beta", b"x"), (b"openai-beta", b"y")]
    sent = request_headers(given_headers, "openai", None)
    assert sent == [(b"content-type", b"a"), (b"openai-beta", b"x"), (b"openai-beta", b"y")]


@pytest.mark.parametrize(
    ("protocol", "header", "prefix", "expected"),
    [
        ("openai", None, None, (b"Authorization", b"Bearer sk-1")),
        ("anthropic", None, None, (b"x-api-key", b"sk-1")),
        ("gemini", None, None, (b"x-goog-api-key", b"sk-1")),
        ("openai", "X-API-Key", "", (b"X-API-Key", b"sk-1")),
        ("openai", "X-API-Key", None, (b"X-API-Key", b"sk-1")),
        ("openai", "api-key", None, (b"api-key", b"sk-1")),
        ("openai", None, "", (b"Authorization", b"sk-1")),
        ("openai", None, "Token ", (b"Authorization", b"Token sk-1")),
        ("anthropic", "Authorization", None, (b"Authorization", b"Bearer sk-1")),
    ],
)
def test_credential_header(protocol: str, header: str | None, prefix: str | None, expected: tuple[bytes, bytes]) -> None:
    credential = credential_header(protocol, "sk-1", header, prefix)
    assert credential == expected
    assert expected in request_headers([(b"authorization", b"Bearer customer")], protocol, credential)


def test_credential_replaces_a_forwarded_header_of_its_name() -> None:
    assert request_headers([(b"user-agent", b"x")], "openai", (b"User-Agent", b"sk-1")) == [(b"User-Agent", b"sk-1")]


@pytest.mark.parametrize("name", NEVER_TO_THE_CUSTOMER)
def test_reply_header_stays_behind(name: str) -> None:
    assert reply_headers([(name.encode(), b"v"), (name.title().encode(), b"v")]) == []


def test_reply_headers_that_pass() -> None:
    upstream = [
        (b"Content-Type", b"application/json"),
        (b"X-Request-Id", b"req_1"),
        (b"request-id", b"req_2"),
        (b"OpenAI-Processing-Ms", b"12"),
        (b"openai-version", b"2020-10-01"),
        (b"Retry-After", b"7"),
    ]
    passed = [
        (b"content-type", b"application/json"),
        (b"x-upstream-request-id", b"req_1"),
        (b"openai-processing-ms", b"12"),
        (b"openai-version", b"2020-10-01"),
    ]
    assert reply_headers(upstream) == passed
    assert reply_headers(upstream, retry_after=True) == [*passed, (b"retry-after", b"7")]


def test_reply_header_that_echoes_a_secret_stays_behind() -> None:
    upstream = [(b"x-request-id", b"for SK-upstream-AAA"), (b"content-type", b"text/plain")]
    assert reply_headers(upstream, secrets=[b"sk-upstream-AAA"]) == [(b"content-type", b"text/plain")]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ""),
        ("alt=sse", "alt=sse"),
        ("alt=sse&key=SECRET", "alt=sse"),
        ("KEY=SECRET&a=1", "a=1"),
        ("api_key=SECRET", ""),
        ("api-key=x&access_token=y&b=%20", "b=%20"),
        ("k%65y=SECRET&c=3", "c=3"),
        ("+key=SECRET", ""),
        ("a=sk-cust%6Fmer&b=2", "b=2"),
        ("a&b&&c=", "a&b&&c="),
    ],
)
def test_clean_query(query: str, expected: str) -> None:
    assert clean_query(query, secrets=["sk-customer"]) == expected


@pytest.mark.parametrize("query", ["a=\r\nX: y", "a=b c", "a=\x00", "a=ü", "a#b"])
def test_query_refused(query: str) -> None:
    with pytest.raises(ValueError, match="must be percent-encoded"):
        clean_query(query)


@pytest.mark.parametrize(
    ("base", "path", "query", "expected"),
    [
        ("https://h/v1", "/chat/completions", "", "https://h/v1/chat/completions"),
        ("https://h/v1", "/v1/chat/completions", "", "https://h/v1/chat/completions"),
        ("https://h/v1/", "v1/chat/completions", "", "https://h/v1/chat/completions"),
        ("https://h", "/v1/models", "a=1", "https://h/v1/models?a=1"),
        ("https://h/", "/v1/models", "", "https://h/v1/models"),
        ("https://h/api/v1", "/v1/models", "", "https://h/api/v1/models"),
        ("https://h/v1beta", "/v1beta/models/g:generateContent", "", "https://h/v1beta/models/g:generateContent"),
        ("https://h/v1beta/openai", "/v1/models", "", "https://h/v1beta/openai/models"),
        ("https://h/api/paas/v4", "/v1/chat/completions", "", "https://h/api/paas/v4/chat/completions"),
        ("https://h/openai", "/v1/models", "", "https://h/openai/v1/models"),
        ("https://h/v1", "/v1beta/x", "", "https://h/v1/x"),
        ("https://h/v1", "/v1/v2/rerank", "", "https://h/v1/v2/rerank"),
        ("https://h/v1", "/files/v1/x", "", "https://h/v1/files/v1/x"),
        ("https://h/openai?api-version=2024", "/x", "b=2", "https://h/openai/x?api-version=2024&b=2"),
        ("http://127.0.0.1:80", "/v1/files/a%2Fb", "", "http://127.0.0.1:80/v1/files/a%2Fb"),
        ("https://h/v1", "", "", "https://h/v1"),
        ("https://h/v1", "/v1", "", "https://h/v1"),
        ("https://h", "", "", "https://h/"),
        ("https://h/models", "/models", "", "https://h/models/models"),
    ],
)
def test_join_url(base: str, path: str, query: str, expected: str) -> None:
    assert join_url(base, path, query) == expected


PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "gemini": "/v1beta/models/m:generateContent"}


@pytest.mark.parametrize("slug", [preset.slug for preset in PRESETS.values() if re.search(r"/v\d", preset.base_url)])
def test_a_presets_base_url_is_what_stands_before_the_endpoint(slug: str) -> None:
    preset = PRESETS[slug]
    path = PATHS[preset.protocol]
    assert join_url(preset.base_url, path) == preset.base_url + "/" + path.split("/", 2)[2]


BAD_PATHS = [
    "/../x",
    "/a/..",
    "/a/../b",
    "/./a",
    "/a/.",
    "/%2e%2e/x",
    "/%2E%2e/x",
    "/.%2e/x",
    "/%2e/x",
    "/a//b",
    "//evil/x",
    "/a%2f%2fb",
    "/a%2f..%2fb",
    "/%252e%252e/x",
    "/a%00b",
    "/a%0d%0ab",
    "/a%0a",
    "/a\\b",
    "/a%5cb",
    "/a%255cb",
    "/%zz",
    "/%2",
    "/%25252525252e",
    "/ä",
]


@pytest.mark.parametrize("path", [*BAD_PATHS, "/a b", "/a\r\nX: y", "/a\x00", "/a\x7f", "/a?b=1", "/a#b"])
def test_path_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        join_url("https://h/v1", path)


@pytest.mark.parametrize("base", ["ftp://h", "//h/v1", "h/v1", "https://", "https://u:p@h/v1", "https://u@h", "https://h/#f",
                                  "https://h/../v1", "https://h//v1", "https://h/v1\r\n", "https://h h/"])  # fmt: skip
def test_base_url_refused(base: str) -> None:
    with pytest.raises(ValueError) as refused:
        join_url(base, "/v1/models")
    assert "u:p" not in str(refused.value)


@given(st.text(max_size=40))
def test_an_accepted_path_cannot_climb_or_split_the_request_line(path: str) -> None:
    try:
        check_path(path)
    except ValueError:
        return
    assert path.isascii()
    assert not set(path) & set(" \r\n\t\\\x00")
    assert ".." not in path.split("/")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Incorrect API key provided: sk-upstream-AAA.", "Incorrect API key provided: [redacted]."),
        ("key plain-secret-7 is bad", "key [redacted] is bad"),
        ("q=pl%2Fain", "q=[redacted]"),
        ("sk-proj-abc****wxyz", "[redacted]"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [redacted]"),
        ("AIzaSyA1234567890abcdefg", "[redacted]"),
        ("gsk_12345678abcdef", "[redacted]"),
        ("see https://API.provider.test/v1/x", "see https://[upstream]/v1/x"),
        ("a risk-based task-forceful approach", "a risk-based task-forceful approach"),
        ("the monkey-business-as-usual", "the monkey-business-as-usual"),
        ("", ""),
    ],
)
def test_redact(text: str, expected: str) -> None:
    secrets, hosts = ["sk-upstream-AAA", "plain-secret-7", "pl/ain", "abc"], ["api.provider.test"]
    assert redact(text, secrets, hosts) == expected
    assert redact(text.encode(), secrets, hosts) == expected.encode()


def test_redact_keeps_bytes_that_are_not_text() -> None:
    assert redact(b"\xff\xfe sk-upstream-AAA \x80", ["sk-upstream-AAA"]) == b"\xff\xfe [redacted] \x80"
