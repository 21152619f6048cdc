"""S5-07: the official OpenAI SDK on every endpoint that is no conversation: another URL and key, and the same results."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.support.gateway import CHAT, EMBEDDING
from tests.support.upstream import Answer, Received, chunk, head, json_reply, sse, usage_of
from tests.support.world import World

VECTOR = [0.25, -1.5, 3.0]
PICTURE = base64.b64encode(bytes(range(256)) * 40).decode()
SOUND = bytes(range(256)) * 300
WORDS = "Hello there."
TOKENS = {
    "type": "tokens",
    "input_tokens": 14,
    "output_tokens": 4,
    "input_token_details": {"audio_tokens": 10, "text_tokens": 4},
}
IMAGE_TOKENS = {
    "input_tokens": 50, "output_tokens": 200, "total_tokens": 250,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}  # fmt: skip


def field(request: Received, name: str) -> str | None:
    """The value of a field of a JSON body or of a form."""
    if request.body.startswith(b"{"):
        value = request.json.get(name)
        return value if value is None or isinstance(value, str) else json.dumps(value)
    _, found, rest = request.body.partition(b'form-data; name="%b"\r\n\r\n' % name.encode())
    return rest.partition(b"\r\n")[0].decode() if found else None


def provider(request: Received) -> Answer:
    """A provider of every endpoint, as OpenAI's answers look."""
    kind = request.path.removeprefix("/v1/")
    streams = field(request, "stream") == "true"
    if kind == "embeddings":
        packed = base64.b64encode(struct.pack("<3f", *VECTOR)).decode() if "base64" in request.body.decode() else VECTOR
        count = len(request.json["input"]) if isinstance(request.json["input"], list) else 1
        data = [{"object": "embedding", "index": index, "embedding": packed} for index in range(count)]
        usage = {"prompt_tokens": 8, "total_tokens": 8}
        return json_reply({"object": "list", "data": data, "model": request.json["model"], "usage": usage})
    if kind == "completions":
        return completions(request, streams)
    if kind == "moderations":
        return json_reply({"id": "modr-1", "model": request.json["model"], "results": [{"flagged": True, "categories": {}}]})
    if kind.startswith("images/"):
        return images(kind, streams)
    if kind == "audio/speech":
        if field(request, "stream_format") == "sse":
            done = {"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 40, "total_tokens": 43}}
            return list(sse([{"type": "speech.audio.delta", "audio": PICTURE}, done], split=777))
        start = head(200, [("Content-Type", "audio/mpeg"), ("Transfer-Encoding", "chunked")])
        return [start, chunk(SOUND[:1000]), chunk(SOUND[1000:]), chunk(b"")]
    return transcription(request, streams)


def completions(request: Received, streams: bool) -> Answer:
    base = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": request.json["model"]}
    choice = {"index": 0, "text": WORDS, "finish_reason": "stop", "logprobs": None}
    if not streams:
        return json_reply(base | {"choices": [choice], "usage": usage_of(5, 3)})
    return list(sse([base | {"choices": [choice]}, base | {"choices": [], "usage": usage_of(5, 3)}, "[DONE]"], split=11))


def images(kind: str, streams: bool) -> Answer:
    if not streams:
        return json_reply({"created": 1, "data": [{"b64_json": PICTURE}] * 2, "usage": IMAGE_TOKENS})
    stem = "image_edit" if kind.endswith("edits") else "image_generation"
    common = {"created_at": 1, "size": "1024x1024", "quality": "low", "background": "auto", "output_format": "png"}
    partial = {"type": f"{stem}.partial_image", "partial_image_index": 0, "b64_json": PICTURE[:40], **common}
    done = {"type": f"{stem}.completed", "b64_json": PICTURE, "usage": IMAGE_TOKENS, **common}
    return list(sse([partial, done], split=5000))


def transcription(request: Received, streams: bool) -> Answer:
    form = field(request, "response_format") or "json"
    if streams:
        deltas: list[Any] = [{"type": "transcript.text.delta", "delta": part} for part in ("Hello", " there.")]
        return list(sse([*deltas, {"type": "transcript.text.done", "text": WORDS, "usage": TOKENS}], split=9))
    if form == "json":
        return json_reply({"text": WORDS, "usage": TOKENS})
    if form == "verbose_json":
        return json_reply({"task": "transcribe", "language": "english", "duration": 8.47, "text": WORDS, "segments": []})
    text = WORDS if form == "text" else f"1\n00:00:00,000 --> 00:00:08,470\n{WORDS}\n"
    return [head(200, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]) + text.encode()]


Call = Callable[[openai.OpenAI, str], Any]
FILE = ("voice.mp3", bytes(30_000), "audio/mpeg")
PICTURES = [("a.png", b"1" * 2_000_000, "image/png"), ("b.png", b"2" * 100, "image/png")]


def spoken(sdk: openai.OpenAI, model: str) -> bytes:
    with sdk.audio.speech.with_streaming_response.create(model=model, voice="alloy", input=WORDS) as reply:
        return b"".join(reply.iter_bytes())


# name: the call, the kind of model, what is billed
CALLS: dict[str, tuple[Call, str, dict[str, int]]] = {
    "embedding": (lambda sdk, m: sdk.embeddings.create(model=m, input="x"), "embedding", {"input": 8}),
    "embeddings as floats": (
        lambda sdk, m: sdk.embeddings.create(model=m, input=["x", "y"], encoding_format="float", dimensions=3),
        "embedding", {"input": 8},
    ),
    "embeddings of tokens": (lambda sdk, m: sdk.embeddings.create(model=m, input=[[1, 2], [3]]), "embedding", {"input": 8}),
    "completion": (lambda sdk, m: sdk.completions.create(model=m, prompt="x"), "chat", {"input": 5, "output": 3}),
    "completion, streamed": (
        lambda sdk, m: list(sdk.completions.create(model=m, prompt="x", stream=True)), "chat", {"input": 5, "output": 3}
    ),
    "moderation": (lambda sdk, m: sdk.moderations.create(model=m, input=["x", "yz"]), "moderation", {"input": 2}),
    "image": (
        lambda sdk, m: sdk.images.generate(model=m, prompt="x", n=2, size="1024x1024", quality="low", background="auto"),
        "image", {"image/1024x1024/low": 2, "input": 10, "image_input": 40, "image_output": 200},
    ),
    "image, streamed": (
        lambda sdk, m: list(sdk.images.generate(model=m, prompt="x", stream=True, partial_images=1)),
        "image", {"image/1024x1024/low": 1, "input": 10, "image_input": 40, "image_output": 200},
    ),
    "edit": (
        lambda sdk, m: sdk.images.edit(model=m, prompt="x", image=PICTURES, mask=PICTURES[1], n=2, input_fidelity="high"),
        "image", {"image": 2, "input": 10, "image_input": 40, "image_output": 200},
    ),
    "edit, streamed": (
        lambda sdk, m: list(sdk.images.edit(model=m, prompt="x", image=PICTURES[1], stream=True)),
        "image", {"image/1024x1024/low": 1, "input": 10, "image_input": 40, "image_output": 200},
    ),
    "speech": (
        lambda sdk, m: sdk.audio.speech.create(model=m, voice="alloy", input=WORDS, speed=1.25).content,
        "speech", {"input": 3, "audio_output": 18, "character": 12},
    ),
    "speech, as it comes": (spoken, "speech", {"input": 3, "audio_output": 18, "character": 12}),
    "speech in events": (
        lambda sdk, m: sdk.audio.speech.create(model=m, voice="alloy", input=WORDS, stream_format="sse").content,
        "speech", {"input": 3, "audio_output": 40, "character": 12},
    ),
    "transcription": (
        lambda sdk, m: sdk.audio.transcriptions.create(model=m, file=FILE, language="en", temperature=0.2),
        "transcription", {"input": 4, "audio_input": 10, "output": 4},
    ),
    "transcription with times": (
        lambda sdk, m: sdk.audio.transcriptions.create(
            model=m, file=FILE, response_format="verbose_json", timestamp_granularities=["word"]
        ),
        "whisper", {"second": 9},
    ),
    "transcription, plain": (
        lambda sdk, m: sdk.audio.transcriptions.create(model=m, file=FILE, response_format="text"),
        "whisper", {"second": 1},
    ),
    "transcription as subtitles": (
        lambda sdk, m: sdk.audio.transcriptions.create(model=m, file=FILE, response_format="srt"),
        "whisper", {"second": 9},
    ),
    "transcription, streamed": (
        lambda sdk, m: list(sdk.audio.transcriptions.create(model=m, file=FILE, stream=True)),
        "transcription", {"input": 4, "audio_input": 10, "output": 4},
    ),
}  # fmt: skip
PRICES = {
    "chat": ("input=1", "output=2"),
    "embedding": ("input=1",),
    "moderation": ("input=1",),
    "image": ("image=0.01", "input=1", "output=1"),
    "speech": ("character=0.001", "input=1", "output=1"),
    "transcription": ("input=1", "output=1"),
    "whisper": ("second=0.001",),
}


@pytest.fixture
def models(world: World) -> dict[str, str]:
    """A model of each kind, whose name is the provider's own."""
    made = {}
    for kind, prices in PRICES.items():
        made[kind] = world.name(kind)
        options = [option for price in prices for option in ("--price", price)]
        model_type = "audio" if kind in ("speech", "transcription", "whisper") else kind
        world.home.ok("models", "add", made[kind], "--provider", "openai", "--type", model_type, *options, "--group", "g1")
    world.openai.always(provider)
    return made


def plain(found: Any) -> Any:
    """A result as plain values."""
    if isinstance(found, list):
        return [plain(one) for one in found]
    return found.model_dump() if hasattr(found, "model_dump") else found


def sdk_at(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0)


@pytest.mark.parametrize("name", CALLS)
def test_s5_07_one_shot_calls_give_what_the_provider_gives(world: World, models: dict[str, str], name: str) -> None:
    call, kind, meters = CALLS[name]
    direct = plain(call(sdk_at(f"{world.openai.url}/v1", "sk-of-the-provider"), models[kind]))
    user = world.person()
    through = plain(call(sdk_at(f"{world.gateway.url}/ai/v1", user.key), models[kind]))
    assert through == direct
    assert direct
    sent, passed = world.openai.requests
    assert len(sent.body) == len(passed.body)
    if sent.body.startswith(b"{"):
        assert sent.body == passed.body
    [record] = world.home.usage("--user", user.name)
    assert (record["usage"], record["status"]) == (meters, "ok")
    assert record["charged"] != "0"


def test_s5_07_embeddings_come_in_base64_unless_asked_otherwise(world: World, models: dict[str, str]) -> None:
    reply = sdk_at(f"{world.gateway.url}/v1", world.alice.key).embeddings.create(model=EMBEDDING, input="x")
    assert world.openai.requests[0].json["encoding_format"] == "base64"
    assert reply.data[0].embedding == VECTOR


ERRORS: list[tuple[str, Call, type[openai.APIStatusError], str]] = [
    ("embedding", lambda sdk, m: sdk.embeddings.create(model=CHAT, input="x"), openai.BadRequestError, "unsupported_endpoint"),
    ("embedding", lambda sdk, m: sdk.embeddings.create(model="nope", input="x"), openai.NotFoundError, "model_not_found"),
    ("embedding", lambda sdk, m: sdk.embeddings.create(model=m, input=[]), openai.BadRequestError,
     "missing_required_parameter"),
    ("chat", lambda sdk, m: sdk.completions.create(model=m, prompt="x", n=0), openai.BadRequestError, "invalid_value"),
    ("image", lambda sdk, m: sdk.images.generate(model=m, prompt="x", n=11), openai.BadRequestError, "invalid_value"),
    ("image", lambda sdk, m: sdk.images.edit(model="nope", prompt="x", image=FILE), openai.NotFoundError, "model_not_found"),
    ("image", lambda sdk, m: sdk.images.edit(model=m, prompt="", image=FILE), openai.BadRequestError,
     "missing_required_parameter"),
    ("speech", lambda sdk, m: sdk.audio.speech.create(model=m, voice="x", input=""), openai.BadRequestError,
     "missing_required_parameter"),
    ("whisper", lambda sdk, m: sdk.audio.transcriptions.create(model="nope", file=FILE), openai.NotFoundError,
     "model_not_found"),
    ("whisper", lambda sdk, m: sdk.audio.transcriptions.create(model=CHAT, file=FILE), openai.BadRequestError,
     "unsupported_endpoint"),
    ("moderation", lambda sdk, m: sdk.moderations.create(model=m, input=""), openai.BadRequestError,
     "missing_required_parameter"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "call", "error", "code"), ERRORS)
def test_s5_07_one_shot_errors_are_the_sdks_own(
    world: World, models: dict[str, str], kind: str, call: Call, error: type[openai.APIStatusError], code: str
) -> None:
    user = world.person()
    with pytest.raises(error) as caught:
        call(sdk_at(f"{world.gateway.url}/v1", user.key), models[kind])
    assert (type(caught.value), caught.value.code) == (error, code)
    assert caught.value.request_id
    assert (world.home.balance(user.name), world.openai.requests) == ("5", [])
    assert [record["status"] for record in world.home.usage("--user", user.name)] == ["refused"]
