"""Images (POST /v1/images/generations and /edits): what bounds their cost, their usage, their stream.

Bytes pass through; errors are in OpenAI's envelope. A model is priced by tokens or by the piece: the usage holds both the
tokens that the host reports and the number of images, and the model's prices say which of them costs. Generations are JSON;
edits are JSON or multipart, see daemon.protocols.forms.
"""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.admission import Ask
from daemon.domain.usage import METERS, InvalidUsage, Usage, checked_count
from daemon.protocols.asks import NO_AUDIO, count_of, invalid, missing, model_of
from daemon.protocols.event_reader import EventReader

__all__ = ["LINE_MAX", "read", "read_edit", "size_and_quality", "stream_reader", "usage_of"]

N_MAX: Final = 10
IMAGES_MAX: Final = 16  # images that an edit may begin from
PARTIAL_MAX: Final = 3
# The most tokens of one generated image, by quality; a larger size is what `auto` may choose.
TOKENS_OF_QUALITY: Final = {"low": 2_048, "medium": 8_192, "standard": 8_192, "high": 16_384, "hd": 16_384}
TOKENS_MOST: Final = 32_768
TOKENS_OF_PARTIAL: Final = 256
TOKENS_OF_INPUT: Final = 8_192  # of one image that an edit begins from, at high fidelity
LINE_MAX: Final = 64 * 1024 * 1024  # an event holds a whole image in base64
ENDS: Final = ("image_generation.completed", "image_edit.completed")

# Where a usage divides into text and images: count -> (meter of its own, meter until there is such a one).
INPUT: Final = (("text_tokens", "input", "input"), ("image_tokens", "image_input", "input"))
OUTPUT: Final = (("text_tokens", "output", "output"), ("image_tokens", "image_output", "output"))


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
    _, quality = size_and_quality(body)
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
        extra={"image": n},
        not_used=NO_AUDIO,
    )


def size_and_quality(body: dict[str, Any]) -> tuple[str, str]:
    """What the price of a piece may depend on; "auto" where the body names none. ApiError 400 when it is no string."""
    found = []
    for name in ("size", "quality"):
        value = body.get(name)
        if value is not None and type(value) is not str:
            raise invalid(name, "it must be a string")
        found.append(value or "auto")
    return found[0], found[1]


def usage_of(body: dict[str, Any]) -> Usage | None:
    """Tokens of a reply or of a stream's last event, and its images; None when it has neither, InvalidUsage when untrue."""
    meters = _tokens(body.get("usage"))
    data = body.get("data")
    images = len(data) if type(data) is list else 1 if body.get("type") in ENDS else 0
    if images:
        meters["image"] = images
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
        count = checked_count(cached, "cached_tokens")
        if count > meters["input"]:
            raise InvalidUsage("more cached tokens than prompt tokens")
        meters["input"] -= count
        meters["cached_input"] = count
    return meters


def _split(usage: dict[str, Any], name: str, table: tuple[tuple[str, str, str], ...]) -> dict[str, int]:
    total = checked_count(usage.get(name) or 0, name)
    details = _side(usage.get(f"{name}_details"))
    meters = {table[0][2]: total}
    for field, own, other in table[1:]:
        part = checked_count(details.get(field) or 0, field)
        if part > total:
            raise InvalidUsage(f"more {field} than {name}")
        if own in METERS and part:
            meters[other] -= part
            meters[own] = part
    return meters


def _side(details: object) -> dict[str, Any]:
    return details if type(details) is dict else {}


def stream_reader() -> EventReader:
    """Watches a stream: partial images, then one completed event for each image, of which the last tells the usage."""
    images = 0

    def usage(event: dict[str, Any]) -> Usage | None:
        nonlocal images
        found = usage_of(event)
        if found is None or event.get("type") not in ENDS:
            return found
        images += 1
        return Usage({**found.meters, "image": images})

    return EventReader(usage, lambda event: "", ENDS, LINE_MAX)
