"""Whole exchanges through the codec in folders: what goes upstream, what the client gets, what is lost, the usage.

tests/golden/openai_chat_codec/<case>/: request.json, upstream_request.json (to OpenRouter's habits, as model `up`),
upstream_reply.json or .sse, reply.json or .sse (as model `house`), told.json (what was dropped or lost, and the meters).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.domain.chat import Losses
from daemon.protocols.openai_chat import HABITS, OpenAIChat
from tests.support.chat_codec import cuts, decoded

ROOT = Path(__file__).parents[2] / "golden" / "openai_chat_codec"
CASES = sorted(path for path in ROOT.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_exchange_is_as_the_folder_says(case: Path) -> None:
    client, provider, losses = OpenAIChat(), OpenAIChat(HABITS["openrouter"]), Losses()
    chat = client.decode_request(json.loads((case / "request.json").read_bytes()))
    assert provider.encode_request(chat, "up", losses) == json.loads((case / "upstream_request.json").read_bytes())
    told = json.loads((case / "told.json").read_bytes())
    assert [*chat.dropped, *losses.names] == told["lost"]
    if not chat.stream:
        reply = provider.decode_reply(json.loads((case / "upstream_reply.json").read_bytes()))
        assert client.encode_reply(reply, "house", losses, chat) == json.loads((case / "reply.json").read_bytes())
        assert reply.usage is not None
        assert reply.usage.meters == told["meters"]
        return
    for chunks in cuts((case / "upstream_reply.sse").read_bytes()):
        events, decoder = decoded(chunks)
        encoder = client.encoder(model="house", id="x", created=1, chat=chat)
        out = encoder.feed(events) + encoder.finish(decoder.usage)
        assert out == (case / "reply.sse").read_bytes()
        assert decoder.usage.meters == told["meters"]
