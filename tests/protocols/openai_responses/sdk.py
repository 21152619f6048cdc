"""The official SDK reads bytes: a client whose transport answers with them."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai


def client(content: bytes, kind: str = "application/json") -> openai.OpenAI:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=content, headers={"content-type": kind})

    transport = httpx2.MockTransport(answer)
    return openai.OpenAI(
        api_key="k", base_url="http://localhost/v1", http_client=httpx2.Client(transport=transport), max_retries=0
    )


def reply(body: dict[str, Any]) -> Any:
    return client(json.dumps(body).encode()).responses.create(model="m", input="hi")


def stream(content: bytes) -> tuple[Any, list[Any]]:
    """The response that the stream accumulator ends with (of the last event when it is not complete), and every event."""
    with client(content, "text/event-stream").responses.stream(model="m", input="hi") as events:
        seen = list(events)
        if seen[-1].type == "response.completed":
            return events.get_final_response(), seen
        return seen[-1].response, seen
