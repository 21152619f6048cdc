"""Whole exchanges in folders: what the client sends, what goes upstream, what comes back, what the client gets, the usage.

tests/golden/openai_chat/<case>/: request.json, upstream_request.json, upstream_reply.json or .sse, reply.json or .sse,
usage.json. A case whose name begins with `alias` is asked for as house-basic and served as up-small-2026.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.strict_json import decode_object
from daemon.domain.usage import Usage
from daemon.protocols.openai_chat import (
    StreamAdapter,
    StreamReader,
    parse_request,
    rewrite_request,
    usage_of,
)
from daemon.protocols.rename import rename_model

ROOT = Path(__file__).parents[2] / "golden" / "openai_chat"
CASES = sorted(path for path in ROOT.iterdir() if path.is_dir())


def the(usage: Usage | None) -> dict[str, Any] | None:
    return None if usage is None else {"meters": usage.meters, "reasoning": usage.reasoning}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_exchange_is_as_the_folder_says(case: Path) -> None:
    body = (case / "request.json").read_bytes()
    data = decode_object(body)
    request = parse_request(data)
    alias = case.name.startswith("alias")
    ask = request.stream and request.include_usage is None
    sent = rewrite_request(body, data, model="up-small-2026" if alias else None, include_usage=ask)
    assert sent == (case / "upstream_request.json").read_bytes()

    usage = json.loads((case / "usage.json").read_bytes())
    name = request.model if alias else None
    if not request.stream:
        reply = (case / "upstream_reply.json").read_bytes()
        assert the(usage_of(json.loads(reply))) == usage
        assert (rename_model(reply, name) if name else reply) == (case / "reply.json").read_bytes()
        return
    stream = (case / "upstream_reply.sse").read_bytes()
    for size in (1, 5, 64, len(stream)):
        reader, adapter = StreamReader(), StreamAdapter(strip_usage=ask, model_name=name)
        out = b""
        for at in range(0, len(stream), size):
            reader.feed(stream[at : at + size])
            out += adapter.feed(stream[at : at + size])
        reader.flush()
        assert out + adapter.flush() == (case / "reply.sse").read_bytes()
        assert the(reader.usage) == usage
        assert (reader.error is not None) == ("error" in case.name)
