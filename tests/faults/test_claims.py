"""Row 10: a provider's claims of usage are not trusted. What cannot be true is counted by us, flagged, within the hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.faults.figures import figure
from tests.faults.fleet import Client, Delivery
from tests.faults.oracle import NANOS, read_books, reading, shown, violations, wait_for_quiet
from tests.faults.scene import INPUT_USD, OUTPUT_USD, Order, Scene, make_scene
from tests.support import upstream as up
from tests.support.gateway import Gateway
from tests.support.upstream import Received, ScriptedUpstream

WORDS = 40
TEXT = [f"word{number} " for number in range(WORDS)]
MAX_TOKENS = 400
TRUE = {"prompt_tokens": 50, "completion_tokens": 80, "total_tokens": 130}
ABSENT = object()

# What the provider claims: (usage, what is charged: the claim's (input, output) tokens, or None for our own count).
CLAIMS: dict[str, tuple[Any, tuple[int, int] | None]] = {
    "the truth": (TRUE, (50, 80)),
    "zero": ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (0, 0)),
    "nothing": (ABSENT, None),
    "null": (None, None),
    "an empty object": ({}, None),
    "an array": ([], None),
    "a text": ("80", None),
    "negative output": ({"prompt_tokens": 50, "completion_tokens": -80, "total_tokens": -30}, None),
    "negative input": ({"prompt_tokens": -50, "completion_tokens": 80, "total_tokens": 30}, None),
    "a float": ({"prompt_tokens": 50.0, "completion_tokens": 80.5, "total_tokens": 130.5}, None),
    "numbers as texts": ({"prompt_tokens": "50", "completion_tokens": "80"}, None),
    "true": ({"prompt_tokens": True, "completion_tokens": True}, None),
    "null counts": ({"prompt_tokens": None, "completion_tokens": None}, None),
    "10^18": ({"prompt_tokens": 50, "completion_tokens": 10**18, "total_tokens": 10**18}, None),
    "10^18 in all": ({"prompt_tokens": 10**18, "completion_tokens": 10**18}, None),
    "2^63": ({"prompt_tokens": 2**63, "completion_tokens": 2**63}, None),
    "more cached than read": ({**TRUE, "prompt_tokens_details": {"cached_tokens": 51}}, None),
    "negative cached": ({**TRUE, "prompt_tokens_details": {"cached_tokens": -1}}, None),
    "only a total": ({"total_tokens": 130}, None),
    "a cost of its own": ({**TRUE, "cost": 99.5, "cost_details": {"upstream": -1}}, (50, 80)),
}


def _whole(claim: Any) -> up.Answer:
    reply = json.loads(up.chat_reply("".join(TEXT)).body)
    return up.json_reply(reply if claim is ABSENT else {**reply, "usage": claim})


def _stream(claim: Any) -> up.Answer:
    frames = up.chat_frames(TEXT)
    if claim is not ABSENT:
        frames.insert(-1, {"object": "chat.completion.chunk", "choices": [], "usage": claim})
    return list(up.sse(frames))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Gateway]]:
    """One daemon for the whole table."""
    with ScriptedUpstream(record=False) as server:
        scene = make_scene(tmp_path_factory.mktemp("claims") / "home", server)
        with scene.start() as gateway:
            yield scene, gateway
        scene.home.close()


def _ask(place: tuple[Scene, Gateway], name: str, answer: up.Answer, *, stream: bool) -> tuple[Delivery, dict[str, Any], int]:
    """The reply, its usage record, and the amount that was held for it (nano-USD)."""
    scene, gateway = place
    seen: list[Received] = []

    def reply(request: Received) -> up.Answer:
        seen.append(request)
        return answer

    scene.upstream.always(reply)
    scene.kitchen.seen[name] = 1
    client = Client(gateway.port, scene.customers[0].key)
    body = Order(name).body(stream=stream, max_tokens=MAX_TOKENS)
    got = asyncio.run(client.ask(body, name, stream=stream))
    record = scene.home.record_of(got.answered_id)
    wait_for_quiet(scene.url)
    with reading(scene.url) as query:
        [(held,)] = query(f"SELECT amount_nanos FROM holds WHERE request_id = '{got.answered_id}'")
    assert len(seen) == 1
    found = violations(read_books(scene.url), {}, [], scene.kitchen.seen)
    assert not found, shown(found)
    return got, record, held


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("claim", list(CLAIMS))
def test_a_claim_is_believed_or_counted_by_us(place: tuple[Scene, Gateway], claim: str, stream: bool) -> None:
    said, charged_for = CLAIMS[claim]
    name = f"c{list(CLAIMS).index(claim)}-{int(stream)}"
    got, record, held = _ask(place, name, _stream(said) if stream else _whole(said), stream=stream)
    assert got.status == 200, bytes(got.raw)[-500:]
    charged = Decimal(record["charged"])
    assert 0 <= charged * NANOS <= held
    if charged_for is not None:
        assert not record["estimated"]
        assert charged == (charged_for[0] * INPUT_USD + charged_for[1] * OUTPUT_USD) / 1_000_000
        return
    assert record["estimated"]
    assert WORDS <= record["usage"]["output"] <= 4 * WORDS
    assert 10 <= record["usage"]["input"] <= 200
    assert charged > 0


SEQUENCES: dict[str, list[Any]] = {
    "twice": [TRUE, TRUE],
    "rising in every chunk": [{"prompt_tokens": 50, "completion_tokens": n, "total_tokens": 50 + n} for n in (5, 12, 80)],
    "null after the truth": [TRUE, None],
    "in a chunk with text": [None, None, TRUE],
}


@pytest.mark.parametrize("kind", list(SEQUENCES))
def test_the_last_claim_of_a_stream_counts_and_never_a_sum(place: tuple[Scene, Gateway], kind: str) -> None:
    frames = up.chat_frames(TEXT)
    chunks = [frame for frame in frames if isinstance(frame, dict)]
    for frame, usage in zip(chunks[-len(SEQUENCES[kind]) :], SEQUENCES[kind], strict=True):
        frame["usage"] = usage
    got, record, _ = _ask(place, f"s{list(SEQUENCES).index(kind)}", list(up.sse(frames)), stream=True)
    assert got.done
    assert (record["usage"]["input"], record["usage"]["output"], record["estimated"]) == (50, 80, False)


def test_an_invalid_claim_after_a_valid_one_is_not_believed(place: tuple[Scene, Gateway]) -> None:
    frames = up.chat_frames(TEXT, TRUE)
    frames.insert(-1, {"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": 10**18}})
    _, record, held = _ask(place, "late", list(up.sse(frames)), stream=True)
    assert record["estimated"]
    assert 0 < Decimal(record["charged"]) * NANOS <= held


def test_a_claim_far_above_the_hold_never_takes_more_than_there_is(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A count that could be true is charged, at most the hold and what is available; the rest is absorbed and shown."""
    with ScriptedUpstream(record=False) as server:
        scene = make_scene(tmp_path_factory.mktemp("large") / "home", server, balances=["0.02"])
        with scene.start() as gateway:
            huge = {"prompt_tokens": 50, "completion_tokens": 11_000, "total_tokens": 11_050}
            got, record, held = _ask((scene, gateway), "huge", _whole(huge), stream=False)
            again = asyncio.run(
                Client(gateway.port, scene.customers[0].key).ask(Order("more").body(stream=False), "more", stream=False)
            )
        books = read_books(scene.url)
        scene.home.close()
    assert got.status == 200
    assert books.balances["customer-0"] == (0, 0)
    figure("10", claim="11,000 tokens for 400", held_usd=held / NANOS, charged=record["charged"], cost=record["cost"])
    assert again.status == 402


def test_a_claim_beyond_belief_is_counted_here(place: tuple[Scene, Gateway]) -> None:
    """So many tokens cannot be the answer to this request: what came is counted, and charged within the hold."""
    huge = {"prompt_tokens": 50, "completion_tokens": 500_000_000, "total_tokens": 500_000_050}
    got, record, held = _ask(place, "beyond", _whole(huge), stream=False)
    assert got.status == 200
    assert record["estimated"]
    assert 0 < Decimal(record["charged"]) * NANOS <= held
    figure("10", claim="500,000,000 tokens for 400", held_usd=held / NANOS, charged=record["charged"], cost=record["cost"])
