"""What bounds the cost of generateContent; the rest of the body is the provider's to judge, or the translation's.

Every field may stand in either spelling, but not in both, nor in another case: what is priced must be what is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from daemon.domain.admission import Ask
from daemon.domain.errors import ApiError
from daemon.domain.pricing import USUAL_TIERS
from daemon.domain.usage import MAX_COUNT
from daemon.protocols.asks import NO_AUDIO, model_of
from daemon.protocols.gemini import values
from daemon.protocols.gemini.media import kind_of
from daemon.protocols.gemini.runs import hosted_of
from daemon.protocols.gemini.values import as_object, invalid, missing, optional_integer, optional_list, optional_object, snake

__all__ = ["read"]

Body = dict[str, Any]
N_MAX: Final = 128
TIER_LENGTH: Final = 40
TOOL_PROMPT: Final = 512  # instructions that Google puts in front of a request with tools
# Generated images are tokens of output, but a limit does not cut them: at most 2,520 each, and a reply holds a few.
IMAGE_TOKENS: Final = 8_192
CONFIG: Final = "generationConfig"
NO_IMAGE_INPUT: Final = frozenset({"image_input"})  # they are counted with the text
NO_IMAGE_OUTPUT: Final = frozenset({"image_output"})
# Fields by which the provider reads or does what the body does not bound.
UNBOUNDED: Final = ("modelArmorConfig",)
STORED: Final = "cachedContent"
UNBOUNDED_CONFIG: Final = ("routingConfig", "modelSelectionConfig", "continuationToken")
MEDIA: Final = ("inlineData", "fileData")
FEATURE_OF_KIND: Final = {"image": "vision", "audio": "audio_input", "video": "video_input", "file": "file_input"}
# Feature -> the field of generationConfig that asks for it.
FEATURES: Final = (
    ("reasoning", "thinkingConfig"),
    ("seed", "seed"),
    ("logprobs", "responseLogprobs"),
    ("logprobs", "logprobs"),
)
SCHEMAS: Final = ("responseSchema", "responseJsonSchema", "_responseJsonSchema")
# Names that decide the price, where they stand.
PRICED: Final = ("model", "stream", "contents", "systemInstruction", "tools", CONFIG, "serviceTier", STORED, *UNBOUNDED)
PRICED_CONFIG: Final = ("maxOutputTokens", "candidateCount", "responseModalities", *UNBOUNDED_CONFIG)
PRICED_CONTENT: Final = ("parts",)
PRICED_PART: Final = ("text", "functionResponse", *MEDIA)


def _folded(names: tuple[str, ...]) -> dict[str, str]:
    return {name.replace("_", "").casefold(): name for name in names}


LOOKALIKES: Final[dict[tuple[str, ...], dict[str, str]]] = {
    names: _folded(names) for names in (PRICED, PRICED_CONFIG, PRICED_CONTENT, PRICED_PART)
}


@dataclass(slots=True)
class _Seen:
    """What the contents hold."""

    media: int = 0
    features: set[str] = field(default_factory=set)


def read(body: Body, size: int) -> Ask:
    """`body` with what the URL says in `model` and `stream`; `size`: the bytes of the body as it came. ApiError 400."""
    _look(body, PRICED, "")
    model = model_of(body)
    config = optional_object(body, CONFIG) or {}
    _look(config, PRICED_CONFIG, CONFIG + ".")
    seen = _Seen()
    contents = optional_list(body, "contents")
    if not contents:
        raise missing("contents")
    for index, content in enumerate(contents):
        _content(content, f"contents[{index}]", seen)
    if (system := values.field(body, "systemInstruction")) is not None and type(system) is not str:
        _content(system, "systemInstruction", seen)
    features = seen.features | {name for name, wanted in FEATURES if _is_given(values.field(config, wanted))}
    features |= _format(config)
    unbounded = [name for name in UNBOUNDED if values.field(body, name)]
    unbounded += [f"{CONFIG}.{name}" for name in UNBOUNDED_CONFIG if values.field(config, name)]
    tools = [as_object(tool, f"tools[{index}]") for index, tool in enumerate(optional_list(body, "tools"))]
    if tools:
        features.add("tools")
    outputs = _modalities(config, unbounded)
    features |= outputs
    tier = _tier(values.field(body, "serviceTier"))
    heard = features & {"audio_input", "video_input", "file_input", "audio_output"}
    return Ask(
        model=model,
        stream=body.get("stream") is True,
        body_bytes=size,
        input_bound=size + (TOOL_PROMPT if "tools" in features else 0),
        output_limit=optional_integer(config, "maxOutputTokens", 1, MAX_COUNT, CONFIG + "."),
        output_extra=IMAGE_TOKENS if "image_output" in outputs else 0,
        n=optional_integer(config, "candidateCount", 1, N_MAX, CONFIG + ".") or 1,
        media_parts=seen.media,
        features=frozenset(features),
        unbounded=tuple(unbounded),
        not_used=(frozenset() if heard else NO_AUDIO)
        | NO_IMAGE_INPUT
        | (frozenset() if "image_output" in outputs else NO_IMAGE_OUTPUT),
        tier=tier,
        prompt_field="contents",
        hosted=hosted_of(tools),
        stored=bool(values.field(body, STORED)),
    )


def _look(holder: Body, names: tuple[str, ...], at: str) -> None:
    """400 for a priced field that is spelled another way, or twice."""
    known = LOOKALIKES[names]
    for name in holder:
        plain = known.get(name.replace("_", "").casefold())
        if plain is None or name == plain:
            continue
        if name != snake(plain):
            raise invalid(at + name[:40], f"it must be written {plain!r}")
        if plain in holder:
            raise invalid(at + plain, f"it is given twice, also as {name!r}")


def _content(content: object, at: str, seen: _Seen) -> None:
    content = as_object(content, at)
    _look(content, PRICED_CONTENT, at + ".")
    for index, part in enumerate(optional_list(content, "parts", at + ".")):
        where = f"{at}.parts[{index}]"
        part = as_object(part, where)
        if len(part) == 1 and "text" in part:
            continue
        _look(part, PRICED_PART, where + ".")
        _media(part, where, seen)
        if (result := values.field(part, "functionResponse")) is not None:
            result = as_object(result, where + ".functionResponse")
            for number, inner in enumerate(optional_list(result, "parts", where + ".functionResponse.")):
                place = f"{where}.functionResponse.parts[{number}]"
                inner = as_object(inner, place)
                _look(inner, PRICED_PART, place + ".")
                _media(inner, place, seen)


def _media(part: Body, at: str, seen: _Seen) -> None:
    """Media: the length of the body does not bound their tokens."""
    for name in MEDIA:
        if (given := values.field(part, name)) is not None:
            given = as_object(given, f"{at}.{name}")
            kind, uri = values.field(given, "mimeType"), values.field(given, "fileUri")
            known = kind_of(kind if type(kind) is str else None, uri if type(uri) is str else None)
            seen.media += 1
            seen.features.add(FEATURE_OF_KIND[known.value])


def _is_given(value: object) -> bool:
    return value is not None and value is not False


def _format(config: Body) -> set[str]:
    if any(values.field(config, name) is not None for name in SCHEMAS):
        return {"structured_outputs"}
    kind = values.field(config, "responseMimeType")
    return {"json_mode"} if type(kind) is str and kind.lower() == "application/json" else set()


def _modalities(config: Body, unbounded: list[str]) -> set[str]:
    found: set[str] = set()
    for value in optional_list(config, "responseModalities", CONFIG + "."):
        if type(value) is not str:
            raise ApiError.of("invalid_value", param=CONFIG + ".responseModalities", reason="it must be an array of strings")
        name = value.lower()
        if name in ("image", "audio"):
            found.add(f"{name}_output")
        elif name not in ("text", "modality_unspecified"):
            unbounded.append(f"{CONFIG}.responseModalities:{value[:20]}")
    return found


def _tier(value: object) -> str | None:
    """The service tier that is asked for, None for the usual one."""
    if value is not None and type(value) is not str:
        raise invalid("serviceTier", "it must be a string")
    name = (value or "unspecified").lower()
    return None if name == "unspecified" or name in USUAL_TIERS else name[:TIER_LENGTH]
