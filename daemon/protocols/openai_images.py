"""Images (POST /v1/images/generations and /edits): what bounds their cost, their usage, their stream.

Bytes pass through; errors are in OpenAI's envelope. A model is priced by tokens or by the piece: the usage holds both the
tokens that the host reports and the number of images by size and quality, and the model's prices say which of them costs.
Generations are JSON; edits are JSON or multipart, see daemon.protocols.forms.
"""

from __future__ import annotations

import re
from typing import Any, Final

from daemon.domain.admission import Ask
from daemon.domain.usage import InvalidUsage, Usage, checked_count, meter_of
from daemon.protocols.asks import NO_AUDIO, about_tokens, count_of, invalid, missing, model_of
from daemon.protocols.event_reader import EventReader

__all__ = ["LINE_MAX", "estimate", "piece", "read", "read_edit", "size_and_quality", "stream_reader", "usage_of"]

N_MAX: Final = 10
IMAGES_MAX: Final = 16  # images that an edit may begin from
PARTIAL_MAX: Final = 3
# The most tokens of one generated image, by quality; a larger size is what `auto` may choose.
TOKENS_OF_QUALITY: Final = {"low": 2_048, "medium": 8_192, "standard": 8_192, "high": 16_384, "hd": 16_384}
TOKENS_MOST: Final = 32_768
# The usual tokens of one, square and not, where a host reports none; `auto` mostly means high.
USUAL_TOKENS: Final = {"low": (272, 408), "medium": (1_056, 1_584), "standard": (1_056, 1_584)}
USUAL_HIGH: Final = (4_160, 6_240)
USUAL_INPUT: Final = 1_024
TOKENS_OF_PARTIAL: Final = 256
TOKENS_OF_INPUT: Final = 8_192  # of one image that an edit begins from, at high fidelity
LINE_MAX: Final = 64 * 1024 * 1024  # an event holds a whole image in base64
ENDS: Final = ("image_generation.completed", "image_edit.completed")

# Field of the reply -> (meter, what it includes). docs/usage.md is made from it.
USAGE: Final = {
    "usage.input_tokens": ("input", "without images and cached tokens, which it includes"),
    "usage.input_tokens_details.image_tokens": ("image_input", ""),
    "usage.input_tokens_details.cached_tokens": ("cached_input", "taken from the text first"),
    "usage.output_tokens": ("output", "without the tokens of images, where they are told apart"),
    "usage.output_tokens_details.image_tokens": ("image_output", ""),
    "data, size, quality": ("image", "one for each image, by size and quality as far as they are known"),
}
# Where a usage divides: the meter of what is left over, then count -> meter of what is told apart.
INPUT: Final = ("input", "image_tokens", "image_input")
OUTPUT: Final = ("image_output", "text_tokens", "output")
# A size or quality as a price may name it; another one has no price of its own.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,27}")


def read(body: dict[str, Any], size: int) -> Ask:
    """What bounds the cost of a generation. ApiError 400 with `param`."""
    return _read(body, size, 0)


def read_edit(body: dict[str, Any], size: int, files: int | None = None) -> Ask:
    """What bounds the cost of an edit: a JSON body, or the fields of a form, `size` without the bytes of its files.

    `files` is the number of a form's images; None when it is not known yet.
    """
    images = body.get("images", body.get("image"))
    given = len(images) if type(images) is list else 1
    return _read(body, size, files if files is not None else given if images is not None else IMAGES_MAX)


def _read(body: dict[str, Any], size: int, images: int) -> Ask:
    model = model_of(body)
    prompt = body.get("prompt")
    if prompt is None or prompt == "":
        raise missing("prompt")
    if type(prompt) is not str:
        raise invalid("prompt", "it must be a string")
    n = count_of(body, "n", N_MAX) or 1
    size_asked, quality = size_and_quality(body)
    partial = count_of(body, "partial_images", PARTIAL_MAX, 0) or 0
    text = len(prompt.encode("utf-8", "replace"))
    return Ask(
        model=model,
        stream=body.get("stream") is True,
        body_bytes=text,
        input_bound=text + 64 + images * TOKENS_OF_INPUT,
        output_limit=0,
        output_extra=TOKENS_OF_QUALITY.get(quality, TOKENS_MOST) + partial * TOKENS_OF_PARTIAL,
        n=n,
        media_parts=0,
        features=frozenset(),
        unbounded=("svg",) if body.get("svg") else (),
        extra={piece(size_asked, quality): n},
        not_used=NO_AUDIO,
        inputs=1 + images,
        prompt_field="prompt",
    )


def estimate(body: dict[str, Any], text: str, files: int) -> Usage:
    """The tokens of images whose host reports none, by their number, size and quality."""
    size, quality = size_and_quality(body)
    width, _, height = size.partition("x")
    each = USUAL_TOKENS.get(quality.lower(), USUAL_HIGH)[0 if width == height or size == "auto" else 1]
    given = body.get("images", body.get("image"))
    begun = USUAL_INPUT * (len(given) if type(given) is list else 1) if given is not None or files else 0
    asked = body.get("n")
    meters = {"input": max(1, about_tokens(body.get("prompt"))), "image_output": each * (asked if type(asked) is int else 1)}
    return Usage(meters | ({"image_input": begun} if begun else {}), estimated=True)


def size_and_quality(body: dict[str, Any]) -> tuple[str, str]:
    """What the price of a piece may depend on; "auto" where the body names none. ApiError 400 when it is no string."""
    found = []
    for name in ("size", "quality"):
        value = body.get(name)
        if value is not None and type(value) is not str:
            raise invalid(name, "it must be a string")
        found.append(value or "auto")
    return found[0], found[1]


def piece(size: object, quality: object) -> str:
    """What an image is counted as: image/SIZE/QUALITY, as far as they are known, for models that are priced by them."""
    found = "image"
    for value in (size, quality):
        if type(value) is not str or value == "auto" or not _NAME.fullmatch(value.lower()):
            break
        found += f"/{value.lower()}"
    return found


def usage_of(body: dict[str, Any]) -> Usage | None:
    """Tokens of a reply or of a stream's last event, and its images; None when it has neither, InvalidUsage when untrue."""
    meters = _tokens(body.get("usage"))
    data = body.get("data")
    images = len(data) if type(data) is list else 1 if body.get("type") in ENDS else 0
    if images:
        meters[piece(body.get("size"), body.get("quality"))] = images
    return Usage(meters) if meters else None


def _tokens(usage: object) -> dict[str, int]:
    if usage is None:
        return {}
    if type(usage) is not dict:
        raise InvalidUsage("usage is not an object")
    if usage.get("input_tokens") is None and usage.get("output_tokens") is None:
        return {}  # some hosts send an empty one
    cached = _side(usage.get("input_tokens_details")).get("cached_tokens")
    meters = _split(usage, "input_tokens", INPUT)
    for meter, count in _split(usage, "output_tokens", OUTPUT).items():
        meters[meter] = count
    if cached:
        meters["cached_input"] = left = checked_count(cached, "cached_tokens")
        for meter in ("input", "image_input"):  # text stands first, so it is what a cache holds first
            taken = min(left, meters.get(meter, 0))
            if taken:
                meters[meter] -= taken
                left -= taken
        if left:
            raise InvalidUsage("more cached tokens than prompt tokens")
    return meters


def _split(usage: dict[str, Any], name: str, table: tuple[str, str, str]) -> dict[str, int]:
    total = checked_count(usage.get(name) or 0, name)
    rest, field, meter = table
    part = checked_count(_side(usage.get(f"{name}_details")).get(field) or 0, field)
    if part > total:
        raise InvalidUsage(f"more {field} than {name}")
    return {rest: total - part, meter: part} if part else {rest: total}


def _side(details: object) -> dict[str, Any]:
    return details if type(details) is dict else {}


def stream_reader() -> EventReader:
    """Watches a stream: partial images, then one completed event for each image, of which the last tells the usage.

    How many images come, the stream does not say: it is complete when it is over and at least one was.
    """
    images = 0

    def usage(event: dict[str, Any]) -> Usage | None:
        nonlocal images
        found = usage_of(event)
        if found is None or event.get("type") not in ENDS:
            return found
        images += 1
        return Usage({key: images if meter_of(key) == "image" else count for key, count in found.meters.items()})

    return EventReader(usage, lambda event: "", ENDS, more=True, skims=True)
