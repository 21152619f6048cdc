"""Whole exchanges in folders: what a client sends, what it means, what a provider gets, what comes back, what a client gets.

tests/golden/gemini/<case>/: request.json (with what its URL says in `model` and `stream`) -> chat.json -> upstream_request.json
(for the model in model.txt); upstream_reply.json, .sse or .array -> events.json (or the reply as it is meant) -> reply in the
same form; usage.json. With GOLDEN=write in the environment the files right of the arrows are written instead of compared.
"""

from __future__ import annotations

import dataclasses
import json
import os
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.chat import Losses
from daemon.domain.strict_json import decode_object
from daemon.protocols.gemini import Gemini

ROOT = Path(__file__).parents[2] / "golden" / "gemini"
CASES = sorted(path for path in ROOT.iterdir() if path.is_dir())
API = Gemini()
WRITE = os.environ.get("GOLDEN") == "write"


def meant(value: Any) -> Any:
    """A canonical value as JSON: its class under "is", its fields that are not their defaults."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        given = {
            field.name: meant(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.default is dataclasses.MISSING or getattr(value, field.name) != field.default
        }
        return {"is": type(value).__name__, **given}
    if isinstance(value, dict):
        return {name: meant(inner) for name, inner in value.items()}
    return [meant(inner) for inner in value] if isinstance(value, list | tuple) else value


def check(path: Path, found: Any) -> None:
    data = found if isinstance(found, bytes) else (json.dumps(found, ensure_ascii=False, indent=1) + "\n").encode()
    if WRITE:
        path.write_bytes(data)
    assert data == path.read_bytes()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_exchange_is_as_the_folder_says(case: Path) -> None:
    chat = API.decode_request(decode_object((case / "request.json").read_bytes()))
    check(case / "chat.json", meant(chat))
    losses = Losses()
    sent = API.encode_request(chat, (case / "model.txt").read_text().strip(), losses)
    check(case / "upstream_request.json", {"body": sent, "losses": losses.names})

    if (case / "upstream_reply.json").exists():
        body = json.loads((case / "upstream_reply.json").read_bytes())
        reply = API.decode_reply(body)
        check(case / "events.json", meant(reply))
        check(case / "reply.json", API.encode_reply(reply, chat.model, Losses()))
        check(case / "usage.json", meant(API.usage_of(body)))
    for form in ("sse", "array"):
        if (case / f"upstream_reply.{form}").exists():
            decoder = API.decoder()
            events = decoder.feed((case / f"upstream_reply.{form}").read_bytes()) + decoder.flush()
            check(case / "events.json", meant(events))
            encoder = Gemini(sse=form == "sse").encoder(model=chat.model, id="own", created=1, chat=chat)
            check(case / f"reply.{form}", encoder.feed(events) + encoder.finish(decoder.usage))
            check(case / "usage.json", meant(decoder.usage))
