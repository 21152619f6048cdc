"""A Gemini provider's own routes: the model stands in the URL, is priced and is what the provider gets."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.crossing import CHAT, GEMINI, Crossing
from tests.support.upstream import json_reply

BODY = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
REPLY = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3},
    "modelVersion": "another",
}


def post(crossing: Crossing, path: str, provider: str | None = None) -> httpx.Response:
    side = crossing.sides[GEMINI]
    side.upstream.always(json_reply(REPLY))
    return crossing.post(f"/v1/{provider or side.provider}/{path}", BODY)


@pytest.mark.parametrize(
    "path", ["v1beta/models/{}:generateContent", "v1/models/{}:generateContent", "models/{}:generateContent"]
)
def test_every_spelling_reaches_the_provider_under_its_own_name(crossing: Crossing, path: str) -> None:
    side = crossing.sides[GEMINI]
    reply = post(crossing, path.format(side.model))
    assert reply.json() == REPLY
    assert side.upstream.requests[-1].path == f"/v1beta/models/{side.model}:generateContent"
    assert side.upstream.requests[-1].json == BODY


def refusal(reply: httpx.Response) -> dict[str, Any]:
    """The error, which must be in Google's form."""
    error: dict[str, Any] = reply.json()["error"]
    assert set(reply.json()) == {"error"}
    assert (error["code"], type(error["status"])) == (reply.status_code, str)
    return error


def test_a_model_without_a_price_is_refused(crossing: Crossing) -> None:
    reply = post(crossing, "v1beta/models/never-heard-of:generateContent")
    assert reply.status_code == 400
    assert refusal(reply)["message"] == "Unknown model pricing: never-heard-of"


@pytest.mark.parametrize("method", ["embedContent", "batchEmbedContents", "predict", "generateContent/x"])
def test_other_methods_are_refused(crossing: Crossing, method: str) -> None:
    side = crossing.sides[GEMINI]
    before = len(side.upstream.requests)
    assert post(crossing, f"v1beta/models/{side.model}:{method}").status_code == 403
    assert len(side.upstream.requests) == before


def test_another_protocols_provider_is_not_asked_by_url(crossing: Crossing) -> None:
    chat = crossing.sides[CHAT]
    before = len(chat.upstream.requests)
    reply = post(crossing, f"v1beta/models/{chat.model}:generateContent", chat.provider)
    assert (reply.status_code, refusal(reply)["status"]) == (403, "PERMISSION_DENIED")
    assert len(chat.upstream.requests) == before
