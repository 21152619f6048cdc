"""Whole exchanges in folders, through the canonical conversation and out again in the same dialect.

tests/golden/openai_responses/<case>/: request.json, upstream_request.json, upstream_reply.json or .sse, reply.json or .sse,
usage.json (meters and reasoning, or null). What is asked for as house-basic is served as up-small-2026.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.chat import Chat, Ended, Failed, Losses
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.openai_responses import OpenAIResponses
from tests.protocols.openai_responses import sdk

API = OpenAIResponses()
ROOT = Path(__file__).parents[2] / "golden" / "openai_responses"
CASES = sorted(path for path in ROOT.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_an_exchange_is_as_the_folder_says(case: Path) -> None:
    chat = API.decode_request(loaded(case / "request.json"))
    assert API.encode_request(chat, "up-small-2026", Losses()) == loaded(case / "upstream_request.json")
    if (case / "reply.sse").exists():
        content, usage = streamed(chat, (case / "upstream_reply.sse").read_bytes())
        assert content.decode() == (case / "reply.sse").read_text()
    else:
        reply = API.decode_reply(loaded(case / "upstream_reply.json"))
        body, usage = API.encode_reply(reply, chat.model, Losses(), chat), reply.usage
        assert body == loaded(case / "reply.json")
        sdk.reply(body)
    told = None if usage is None else {"meters": usage.meters, "reasoning": usage.reasoning}
    assert told == loaded(case / "usage.json")


def streamed(chat: Chat, upstream: bytes) -> tuple[bytes, Usage | None]:
    """What the client of a stream gets, as the relay puts it together."""
    decoder, encoder = API.decoder(), API.encoder(model=chat.model, id="made-up", created=1, chat=chat)
    events = decoder.feed(upstream)
    content = encoder.feed(events)
    failed = next((event for event in events if isinstance(event, Failed)), None)
    if failed is not None:
        error = ApiError.of("upstream_error", provider="p", reason=failed.message)
        return content + encoder.fail(error), decoder.usage
    assert events[-1] == Ended()
    return content + encoder.finish(decoder.usage), decoder.usage


def loaded(path: Path) -> Any:
    return json.loads(path.read_bytes())
