"""Small readings that decoding requests, replies and streams share: ids, data URLs, media, citations, errors."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from daemon.domain.chat import Media, MediaKind
from daemon.domain.errors import ApiError

__all__ = [
    "AUDIO_FORMATS",
    "annotation",
    "arguments_text",
    "audio_format",
    "call_id",
    "citation_of",
    "compact",
    "data_url",
    "image_of",
    "invalid",
    "linked",
    "missing",
    "plain_text",
    "signature_of",
    "unsupported",
]

# format of input_audio -> media type
AUDIO_FORMATS: Final[dict[str, str]] = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "opus": "audio/opus",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "webm": "audio/webm",
    "aiff": "audio/aiff",
    "pcm16": "audio/pcm",
}
FORMAT_OF_TYPE: Final = {kind: name for name, kind in AUDIO_FORMATS.items()} | {
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mp3": "mp3",
    "audio/m4a": "m4a",
    "audio/x-m4a": "m4a",
}
ID_TAIL: Final = 20  # characters of a reply's id in an id that we make; OpenAI takes 40 in all

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
compact = _ENCODER.encode


def invalid(param: str, reason: str) -> ApiError:
    return ApiError.of("invalid_value", param=param, reason=reason)


def missing(param: str) -> ApiError:
    return ApiError.of("missing_required_parameter", param=param)


def unsupported(param: str, why: str) -> ApiError:
    """400 for what cannot be said in the other dialect."""
    return ApiError.of("unsupported_parameter", param=param, message=f"Unsupported parameter: '{param}' {why}.")


def call_id(reply_id: str, choice: int, index: int) -> str:
    """An id for a call that came without: the same for the same reply, and another in the next one."""
    tail = "".join(c for c in reply_id if (c.isascii() and c.isalnum()) or c in "-_")[-ID_TAIL:]
    return f"call_{tail}_{choice}_{index}" if choice else f"call_{tail}_{index}"


def arguments_text(value: object) -> str:
    """Arguments as JSON text; some hosts send the object itself."""
    if type(value) is str:
        return value
    return compact(value) if type(value) in (dict, list) else ""


def linked(value: object) -> str | None:
    """The address in image_url and its like, which are a string or an object with `url`."""
    url = value.get("url") if type(value) is dict else value
    return url if type(url) is str and url else None


def data_url(url: str) -> tuple[str | None, str] | None:
    """(media type, base64) of a data URL; None when it is another URL. ValueError when it is not base64."""
    if url[:5].lower() != "data:":
        return None
    comma = url.find(",")
    kind, *options = url[5 : max(comma, 5)].split(";")
    if comma < 0 or "base64" not in [option.strip().lower() for option in options]:
        raise ValueError("it must be a data URL with base64, or an http(s) URL")
    return kind.strip().lower() or None, url[comma + 1 :]


def image_of(value: object) -> Media | None:
    """An image of a reply: {"image_url": {"url"}}; None when it is none."""
    url = linked(value.get("image_url")) if type(value) is dict else None
    if url is None:
        return None
    try:
        found = data_url(url)
    except ValueError:
        return None
    return Media(MediaKind.IMAGE, found[0], found[1]) if found else Media(MediaKind.IMAGE, url=url)


def audio_format(media_type: str | None) -> str:
    """The format of input_audio for a media type."""
    kind = (media_type or "audio/wav").partition(";")[0].strip().lower()
    return FORMAT_OF_TYPE.get(kind) or kind.rpartition("/")[2].removeprefix("x-")


def plain_text(data: str) -> str | None:
    """The text that base64 holds in UTF-8; None when it holds none."""
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def signature_of(holder: dict[str, Any]) -> str | None:
    """Google's thought_signature of a tool call or message of its OpenAI endpoint."""
    extra = holder.get("extra_content")
    google = extra.get("google") if type(extra) is dict else None
    for found in (google, holder):
        if type(found) is dict and type(value := found.get("thought_signature")) is str and value:
            return value
    return None


def citation_of(value: object) -> dict[str, Any] | None:
    """A url_citation as the canonical {"url", "title", "text", "start", "end"}; None for other annotations."""
    inner = value.get("url_citation") if type(value) is dict else None
    if type(inner) is not dict or type(inner.get("url")) is not str:
        return None
    names = (("url", "url"), ("title", "title"), ("content", "text"))
    found: dict[str, Any] = {ours: inner[theirs] for theirs, ours in names if type(inner.get(theirs)) is str}
    for theirs, ours in (("start_index", "start"), ("end_index", "end")):
        if type(inner.get(theirs)) is int:
            found[ours] = inner[theirs]
    return found


def annotation(citation: dict[str, Any], offset: int, length: int) -> dict[str, Any] | None:
    """The url_citation for a citation of a text of `length` that begins at `offset`; None without a URL."""
    if not citation.get("url"):
        return None
    inner = {
        "url": citation["url"],
        "title": citation.get("title") or "",
        "start_index": offset + citation.get("start", 0),
        "end_index": offset + citation.get("end", length),
    }
    if citation.get("text"):
        inner["content"] = citation["text"]
    return {"type": "url_citation", "url_citation": inner}
