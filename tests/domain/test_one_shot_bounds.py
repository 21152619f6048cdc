"""What hosts may count for a request that is no conversation never costs more than what is held for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from daemon.api.billable import UNIFIED
from daemon.api.one_shot import EDIT_FORM, TRANSCRIPTION_FORM
from daemon.domain.admission import Ask, bounds
from daemon.domain.errors import ApiError
from daemon.domain.pricing import Rate, Terms, ceiling, price
from daemon.domain.usage import Usage
from daemon.protocols.forms import FormReader
from daemon.relay.settlement import billable
from db.snapshot import StoredModel

DEFAULT_OUTPUT = 16_384
SPECIAL = 8  # tokens that a host puts around a prompt


@dataclass
class Host:
    """Counts as hosts do; `share` of the most that is possible, in thousandths."""

    share: int
    model: StoredModel

    def part(self, most: int) -> int:
        return most * self.share // 1000

    def prompt(self, text: str | list[int]) -> int:
        """The tokens of one prompt: at most one a byte, within the window."""
        most = len(text) if isinstance(text, list) else self.part(len(text.encode("utf-8", "replace")))
        return min(most + self.part(SPECIAL), self.model.context_length or 10**9)

    def prompts(self, value: Any) -> int:
        if isinstance(value, str) or (value and isinstance(value[0], int)):
            return self.prompt(value)
        return sum(self.prompt(one) for one in value)

    def answer(self, asked: int | None) -> int:
        most = asked if asked is not None else min(self.model.max_output or DEFAULT_OUTPUT, DEFAULT_OUTPUT)
        return self.part(min(most, self.model.context_length or most))


texts = st.text(max_size=60)
prompts = st.one_of(
    texts.filter(bool), st.lists(texts, min_size=1, max_size=5), st.lists(st.integers(0, 99), min_size=1, max_size=9),
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=4),
)  # fmt: skip
optional = st.one_of(st.none(), st.integers(1, 9))


def _given(**fields: Any) -> dict[str, Any]:
    return {"model": "m"} | {name: value for name, value in fields.items() if value is not None}


def _embedding(host: Host, body: dict[str, Any]) -> Usage:
    return Usage({"input": host.prompts(body["input"])})


def _completion(host: Host, body: dict[str, Any]) -> Usage:
    value = body["prompt"]
    single = isinstance(value, str) or isinstance(value[0], int)
    answers = (1 if single else len(value)) * max(body.get("n", 1), body.get("best_of", 1))
    return Usage({"input": host.prompts(value), "output": answers * host.answer(body.get("max_tokens"))})


def _rerank(host: Host, body: dict[str, Any]) -> Usage:
    query = host.part(len(body["query"].encode()))
    pieces = tokens = 0
    for document in body["documents"]:
        size = host.part(len((document if isinstance(document, str) else document["text"]).encode()))
        own = -(-max(1, size) // (512 - min(query, 256)))  # Cohere cuts a document so that query and piece are within 512
        pieces += own
        tokens += size + query + host.part(SPECIAL)
    return Usage({"input": tokens, "request": -(-pieces // 100)})


# The most tokens of an image of OpenAI's models by quality, at the largest size; `auto` may be any of them.
IMAGE_TOKENS = {"low": 408, "medium": 1584, "high": 6240, "auto": 6240, None: 6240}


def _images(host: Host, body: dict[str, Any], begun: int = 0) -> Usage:
    n, quality = body.get("n", 1), body.get("quality")
    each = host.part(IMAGE_TOKENS[quality]) + 100 * body.get("partial_images", 0)
    size = "1536x1024" if body.get("size") in (None, "auto") else body["size"]
    piece = f"image/{size}/{'high' if quality in (None, 'auto') else quality}"
    text = host.part(len(body["prompt"].encode("utf-8", "replace")) + SPECIAL)
    return Usage({"input": text, "image_input": host.part(6500) * begun, "image_output": n * each, piece: n})


def _speech(host: Host, body: dict[str, Any]) -> Usage:
    text = host.part(len((body["input"] + body.get("instructions", "")).encode("utf-8", "replace")) + SPECIAL)
    return Usage({"input": text, "audio_output": host.part(12 * len(body["input"]) + 40)})


def _transcription(host: Host, sound: int, chunked: bool) -> Usage:
    """Sound in Opus at 6 kbit/s; 32 tokens a second, as much as is known."""
    seconds = host.part(sound // 750) + 1
    heard = seconds * 32 if chunked else min(seconds * 32, host.model.context_length or 10**9)
    said = seconds * 8 if chunked else min(seconds * 8, host.answer(None))
    return Usage({"second": seconds, "audio_input": heard, "output": said})


CASES: dict[str, tuple[st.SearchStrategy[dict[str, Any]], Callable[[Host, dict[str, Any]], Usage]]] = {
    "/v1/embeddings": (st.builds(_given, input=prompts), _embedding),
    "/v1/moderations": (st.builds(_given, input=prompts), _embedding),
    "/v1/completions": (
        st.builds(_given, prompt=prompts, n=optional, best_of=optional, max_tokens=st.one_of(st.none(), st.integers(0, 50))),
        _completion,
    ),
    "/v1/rerank": (
        st.builds(
            _given, query=texts.filter(bool),
            documents=st.lists(
                st.one_of(texts.filter(bool), st.builds(lambda text: {"text": text}, texts), st.just("d" * 5000)),
                min_size=1, max_size=250,
            ),
        ),
        _rerank,
    ),
    "/v1/images/generations": (
        st.builds(
            _given, prompt=texts.filter(bool), n=optional, quality=st.sampled_from([None, "low", "medium", "high", "auto"]),
            size=st.sampled_from([None, "auto", "1024x1024", "1536x1024"]), partial_images=st.sampled_from([None, 0, 3]),
        ),
        _images,
    ),
    "/v1/audio/speech": (st.builds(_given, input=texts.filter(bool), instructions=st.one_of(st.none(), texts)), _speech),
}  # fmt: skip
METERS = ["input", "output", "cached_input", "audio_input", "audio_output", "image_input", "image_output", "request"]
VARIANTS = ["image", "image/1024x1024", "image/1024x1024/low", "image/1536x1024/high", "character", "second"]
prices = st.dictionaries(st.sampled_from(METERS + VARIANTS), st.integers(0, 10**9), min_size=1)


def stored(rates: dict[str, int], window: int | None, most: int | None) -> StoredModel:
    return StoredModel(
        id=1, public_id="m", type="chat", enabled=True, private=False, display_name="m", description="", created_at=0,
        context_length=window, max_output=most, media_tokens=None, features=frozenset(), input_modalities=(),
        output_modalities=(), aliases=(), groups=frozenset(), deployments=(), prices=rates, multipliers={}, service_tiers={},
        hosted_tools={},
    )  # fmt: skip


def assert_covered(ask: Ask, model: StoredModel, used: Usage) -> None:
    terms = Terms({key: Rate(value) for key, value in model.prices.items()})
    input_bound, output_bound = bounds(model, ask, DEFAULT_OUTPUT)
    held = ceiling(terms, input_bound, output_bound, ask.n, ask.counted, ask.not_used)
    plan, call = cast(Any, SimpleNamespace(terms=terms)), cast(Any, SimpleNamespace(ask=ask))
    charged = price(billable(plan, call, used), terms).cost_nanos
    assert charged <= held, (ask, used, charged, held)


shares = st.integers(0, 1000)
windows = st.sampled_from([None, 64, 512, 8192])


@settings(max_examples=600, deadline=None)
@given(st.data(), st.sampled_from(sorted(CASES)), prices, windows, st.sampled_from([None, 50, 4096]), shares)
def test_a_charge_is_within_its_hold(
    data: st.DataObject, path: str, rates: dict[str, int], window: int | None, most: int | None, share: int
) -> None:
    bodies, count = CASES[path]
    body, model = data.draw(bodies), stored(rates, window, most)
    try:
        ask = UNIFIED[path].read(body, len(str(body)))
        bounds(model, ask, DEFAULT_OUTPUT)
    except ApiError:
        assume(False)
    assert_covered(ask, model, count(Host(share, model), body))


def form_of(fields: dict[str, str], files: list[int]) -> tuple[FormReader, int]:
    head = "--x\r\nContent-Disposition: form-data; name="
    body = "".join(f'{head}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()).encode()
    for size in files:
        body += f'{head}"image[]"; filename="a"\r\n\r\n'.encode() + bytes(size) + b"\r\n"
    reader = FormReader("multipart/form-data; boundary=x")
    reader.feed(body + b"--x--\r\n")
    reader.finish()
    return reader, len(body) + 7


@settings(max_examples=200, deadline=None)
@given(
    prices,
    st.sampled_from([None, 8192]),
    shares,
    st.lists(st.integers(1, 3000), min_size=1, max_size=6),
    optional,
    st.booleans(),
)
def test_a_form_is_within_its_hold(
    rates: dict[str, int], window: int | None, share: int, files: list[int], n: int | None, chunked: bool
) -> None:
    model = stored(rates, window, None)
    host = Host(share, model)
    fields = {"model": "m", "prompt": "a hat"} | ({"n": str(n)} if n else {})
    form, size = form_of(fields, files)
    assert_covered(EDIT_FORM(form, size), model, _images(host, _given(prompt="a hat", n=n), len(files)))
    form, size = form_of({"model": "m"} | ({"chunking_strategy": "auto"} if chunked else {}), [files[0] * 100])
    assert_covered(TRANSCRIPTION_FORM(form, size), model, _transcription(host, files[0] * 100, chunked))


def test_many_prompts_fill_many_windows() -> None:
    """Without the number of inputs in the bound this one would cost ten times its hold."""
    model = stored({"input": 10**9}, 512, None)
    body = {"model": "m", "input": ["x" * 600] * 10}
    used = Usage({"input": 5120})
    assert_covered(UNIFIED["/v1/embeddings"].read(body, 6000), model, used)
