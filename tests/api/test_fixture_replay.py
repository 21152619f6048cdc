"""Every recorded reply of a real host, through the daemon in its own dialect: the same bytes, and the true usage billed."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from daemon.api.billable import UNIFIED
from tests.support.crossing import CHAT, GEMINI, MESSAGES, NOT_SERVED, PRICES, RESPONSES, SECRET, SERVED, Crossing
from tests.support.recordings import ABSENT, RECORDINGS, Recording, counted
from tests.support.upstream import ScriptedUpstream, Until, chunk, sse

pytestmark = pytest.mark.skipif(not RECORDINGS, reason=ABSENT)
MESSAGE = {"role": "user", "content": "hi"}
MISTAKES = (400, 404)  # the caller's: the provider's words pass
# An error is all that this stream says: whether it is a status or an event depends on how far the client's reply has come.
NOTHING_BUT_AN_ERROR = [found for found in RECORDINGS if "midstream_error" in found.features and found.usage is None]
STRANGER = "azure/openai_responses__azure_deepseek_reasoning_1__0"  # a chat completion, whatever its name says
REPLAYED = [found for found in RECORDINGS if found not in NOTHING_BUT_AN_ERROR]


@dataclass(frozen=True)
class Api:
    """How one API of the recordings is asked: the least body, and which side of the crossing serves it."""

    path: str
    body: dict[str, Any]
    side: str
    type: str = "chat"
    when_streaming: dict[str, Any] = field(default_factory=lambda: {"stream": True})
    prices: tuple[str, ...] = ("input", "output")


APIS = {
    "openai.chat": Api(
        "/chat/completions", {"messages": [MESSAGE]}, CHAT,
        when_streaming={"stream": True, "stream_options": {"include_usage": True}},
    ),
    "openai.responses": Api("/responses", {"input": "hi"}, RESPONSES),
    "anthropic.messages": Api("/messages", {"messages": [MESSAGE], "max_tokens": 1000}, MESSAGES),
    "gemini.generate": Api(":generateContent", {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}, GEMINI),
    "gemini.stream": Api(":streamGenerateContent", {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}, GEMINI),
    "openai.completions": Api("/completions", {"prompt": "hi", "max_tokens": 16}, CHAT),
    "openai.embeddings": Api("/embeddings", {"input": ["a", "b"]}, CHAT, "embedding", prices=("input",)),
    "openai.images": Api("/images/generations", {"prompt": "a cat", "n": 2}, CHAT, "image", prices=("image",)),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(crossing: Crossing) -> dict[str, str]:
    """A model per API, each of the type that its endpoint serves."""
    made = {}
    for name, api in APIS.items():
        if api.side not in SERVED:
            continue
        if api.type == "chat":
            made[name] = crossing.sides[api.side].model
            continue
        made[name] = f"replayed-{api.type}"
        priced = [f"--price={meter}={PRICES.get(meter, '0.04')}" for meter in api.prices]
        provider = crossing.sides[api.side].provider
        crossing.home.ok("models", "add", made[name], "--provider", provider, "--type", api.type, "--group", "all", *priced)
    return made


def where(recording: Recording, model: str, provider: str | None) -> str:
    """The URL that the client asks at: the unified route, or the provider's own."""
    api = APIS[recording.api]
    if api.side == GEMINI:
        version = "/v1beta" if provider is None else f"/v1/{provider}/v1beta"
        return f"{version}/models/{model}{api.path}" + ("?alt=sse" if recording.events else "")
    return f"/v1{api.path}" if provider is None else f"/v1/{provider}{api.path}"


@pytest.mark.parametrize("route", ["unified", "prefixed"])
@pytest.mark.parametrize("recording", REPLAYED, ids=lambda recording: recording.name)
def test_a_recorded_reply_reaches_the_client_as_it_is(
    crossing: Crossing, models: dict[str, str], recording: Recording, route: str
) -> None:
    api = APIS[recording.api]
    if api.side not in SERVED:
        pytest.skip(NOT_SERVED)
    if route == "unified" and api.side != GEMINI and f"/v1{api.path}" not in UNIFIED:
        pytest.skip("the daemon has no unified route for it")
    side, model = crossing.sides[api.side], models[recording.api]
    side.upstream.always(recording.answer(random.Random(f"{recording.name} {route}")))
    body, request_id = body_of(recording, model), crossing.new_id()

    url = where(recording, model, None if route == "unified" else side.provider)
    reply = crossing.post(url, body, request_id=request_id)

    assert json.loads(received(side.upstream)) == body
    record = crossing.record(request_id)
    if recording.status == 429:
        crossing.refresh_credential(api.side)
    if recording.status != 200:
        check_refusal(recording, reply.status_code, reply.content)
        assert (record["status"], record["http_status"], record["usage"]) == ("error", reply.status_code, {})
        return
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == recording.content_type
    assert reply.content == recording.content
    check_record(recording, record)


def body_of(recording: Recording, model: str) -> dict[str, Any]:
    """The least request that the reply could be of."""
    api = APIS[recording.api]
    body = json.loads(json.dumps(api.body).replace('"hi"', json.dumps(recording.prompt)))
    if api.side == GEMINI:  # its URL says the rest
        return dict(body)
    return {**body, "model": model, **(api.when_streaming if recording.entry["stream"] else {})}


@pytest.mark.parametrize("route", ["unified", "prefixed"])
@pytest.mark.parametrize("recording", NOTHING_BUT_AN_ERROR, ids=lambda recording: recording.name)
def test_an_error_in_a_stream_that_the_client_reads_already_comes_as_it_is_and_costs_nothing(
    crossing: Crossing, models: dict[str, str], recording: Recording, route: str
) -> None:
    side, model = crossing.sides[APIS[recording.api].side], models[recording.api]
    crossing.recover(side.dialect)
    first, _, rest = recording.content.partition(b"\n\n")
    begun, request_id = threading.Event(), crossing.new_id()
    side.upstream.always([*sse([first + b"\n\n"], end=False), Until(begun), chunk(rest) + chunk(b"")])
    url = where(recording, model, None if route == "unified" else side.provider)
    headers = crossing.gateway.headers(crossing.user.key) | {"X-Request-Id": request_id}
    with crossing.gateway.client.stream("POST", url, json=body_of(recording, model), headers=headers) as reply:
        got = b""
        for piece in reply.iter_raw():
            got += piece
            begun.set()
    assert reply.status_code == 200
    assert got == recording.content
    check_record(recording, crossing.record(request_id))


@pytest.mark.parametrize("recording", NOTHING_BUT_AN_ERROR, ids=lambda recording: recording.name)
def test_an_error_that_comes_at_once_is_a_status_with_the_providers_words(
    crossing: Crossing, models: dict[str, str], recording: Recording
) -> None:
    side, model = crossing.sides[APIS[recording.api].side], models[recording.api]
    crossing.recover(side.dialect)
    side.upstream.always(list(sse([recording.content])))
    request_id = crossing.new_id()
    reply = crossing.post(where(recording, model, None), body_of(recording, model), request_id=request_id)
    assert reply.status_code == 502
    assert "You exceeded your current quota" in reply.json()["error"]["message"]
    check_record(recording, crossing.record(request_id))


def received(upstream: ScriptedUpstream) -> bytes:
    """The body of the last request, which came with our credential and not with the caller's key."""
    last = upstream.requests[-1]
    sent = b" ".join(value for _, value in last.raw_headers)
    assert SECRET.encode() in sent
    assert b"sk-gw" not in sent
    return last.body


def check_refusal(recording: Recording, status: int, content: bytes) -> None:
    """The caller's mistakes come with the provider's words; a full provider is told in the gateway's own."""
    assert status == recording.status
    if status in MISTAKES:
        assert json.loads(content) == json.loads(recording.content)
    else:
        assert json.loads(content)["error"]["code"] == "upstream_rate_limited"


def check_record(recording: Recording, record: dict[str, Any]) -> None:
    """What was used, and whether it was told or counted by us. Crossing.record has checked what it cost."""
    failed = "midstream_error" in recording.features
    assert (record["status"], record["http_status"]) == (("error", 502) if failed else ("ok", 200))
    if recording.name == STRANGER:
        told = json.loads(recording.content)["usage"]
        assert (record["usage"]["input"], record["usage"]["output"]) == (told["prompt_tokens"], told["completion_tokens"])
    elif recording.usage is not None:
        assert counted(record["usage"]) == recording.usage
        assert not record["estimated"]
    elif failed:
        assert record["usage"] == {}
    elif recording.api == "openai.images":
        assert record["usage"] == {"image": 2}
        assert not record["estimated"]
    else:
        assert record["estimated"]
        assert record["usage"]["input"] > 0
        assert record["usage"]["output"] > 0
