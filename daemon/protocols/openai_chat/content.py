"""Content parts of chat completions, both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from daemon.domain.chat import Losses, Media, MediaKind, Part, Refusal, Text
from daemon.protocols.openai_chat.habits import Habits
from daemon.protocols.openai_chat.thoughts import thinking_part
from daemon.protocols.openai_chat.values import (
    AUDIO_FORMATS,
    audio_format,
    data_url,
    invalid,
    linked,
    missing,
    plain_text,
    unsupported,
)

__all__ = ["decode_content", "encode_part"]

DETAILS: Final = frozenset({"auto", "low", "high", "original"})
TYPE_OF_SUFFIX: Final = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "json": "application/json",
    "html": "text/html",
}


def decode_content(content: object, where: str) -> list[Part]:
    """The parts of a message's content: a string, an array of parts (also of strings), or null. ApiError 400."""
    if content is None:
        return []
    if type(content) is str:
        return [Text(content)]
    if type(content) is not list:
        raise invalid(where, "it must be a string or an array of content parts")
    parts: list[Part] = []
    for number, item in enumerate(content):
        if type(item) is str:
            parts.append(Text(item))
        elif type(item) is dict:
            parts += _decode_part(item, f"{where}[{number}]")
        else:
            raise invalid(f"{where}[{number}]", "it must be an object")
    return parts


def _decode_part(item: dict[str, Any], where: str) -> list[Part]:
    kind = item.get("type")
    if kind is None:
        raise missing(f"{where}.type")
    if kind in ("text", "input_text", "output_text"):
        return [Text(_text(item, "text", where), _cache_control(item))]
    if kind == "refusal":
        return [Refusal(_text(item, "refusal", where))]
    if kind in ("thinking", "redacted_thinking"):
        thought = thinking_part(item)
        return [] if thought is None else [thought]
    read = MEDIA_PARTS.get(kind) if type(kind) is str else None
    if read is None:
        raise unsupported(f"{where}.type", f"of '{str(kind)[:40]}' cannot be translated")
    return [read(item, where)]


def _text(item: dict[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if type(value) is not str:
        raise invalid(f"{where}.{name}", "it must be a string")
    return value


def _cache_control(item: dict[str, Any]) -> dict[str, Any] | None:
    control = item.get("cache_control")
    if type(control) is dict:
        return control
    return {"type": "ephemeral"} if type(item.get("prompt_cache_breakpoint")) is dict else None


def _linked(kind: MediaKind, name: str) -> Callable[[dict[str, Any], str], Media]:
    def read(item: dict[str, Any], where: str) -> Media:
        value = item.get(name)
        url = linked(value)
        if url is None:
            raise missing(f"{where}.{name}")
        detail = value.get("detail") if type(value) is dict else item.get("detail")
        detail = detail if type(detail) is str else None
        return _located(kind, url, f"{where}.{name}", None, detail, _cache_control(item))

    return read


def _located(
    kind: MediaKind, url: str, where: str, name: str | None, detail: str | None, cache: dict[str, Any] | None
) -> Media:
    try:
        found = data_url(url)
    except ValueError as error:
        raise invalid(where, str(error)) from error
    if found is None:
        return Media(kind, url=url, name=name, detail=detail, cache_control=cache)
    return Media(kind, found[0] or _type_of(name), found[1], name=name, detail=detail, cache_control=cache)


def _input_audio(item: dict[str, Any], where: str) -> Media:
    value = item.get("input_audio")
    data = value.get("data") if type(value) is dict else None
    if type(value) is not dict or type(data) is not str or not data:
        raise missing(f"{where}.input_audio.data")
    if data.startswith(("data:", "http://", "https://")):
        return _located(MediaKind.AUDIO, data, f"{where}.input_audio.data", None, None, _cache_control(item))
    form = value.get("format")
    if type(form) is not str or not form:
        raise missing(f"{where}.input_audio.format")
    return Media(MediaKind.AUDIO, AUDIO_FORMATS.get(form, f"audio/{form}"), data, cache_control=_cache_control(item))


def _file(item: dict[str, Any], where: str) -> Media:
    value = item.get("file")
    if type(value) is not dict:
        raise missing(f"{where}.file")
    name = value.get("filename")
    name = name if type(name) is str and name else None
    cache = _cache_control(item)
    if type(value.get("file_id")) is str and value["file_id"]:
        return Media(MediaKind.FILE, file_id=value["file_id"], name=name, cache_control=cache)
    data = value.get("file_data")
    if type(data) is not str or not data:
        raise missing(f"{where}.file.file_data")
    if data.startswith(("data:", "http://", "https://")):
        return _located(MediaKind.FILE, data, f"{where}.file.file_data", name, None, cache)
    return Media(MediaKind.FILE, _type_of(name), data, name=name, cache_control=cache)


def _type_of(name: str | None) -> str | None:
    return TYPE_OF_SUFFIX.get(name.rpartition(".")[2].lower()) if name else None


MEDIA_PARTS: Final[dict[str, Callable[[dict[str, Any], str], Media]]] = {
    "image_url": _linked(MediaKind.IMAGE, "image_url"),
    "input_image": _linked(MediaKind.IMAGE, "image_url"),
    "audio_url": _linked(MediaKind.AUDIO, "audio_url"),
    "video_url": _linked(MediaKind.VIDEO, "video_url"),
    "document_url": _linked(MediaKind.FILE, "document_url"),
    "input_audio": _input_audio,
    "file": _file,
}

# -- for a provider


def encode_part(part: Text | Media, model: str, habits: Habits, losses: Losses) -> dict[str, Any]:
    """A text or media part of a request. ApiError 400 for media that chat completions have no form for."""
    if isinstance(part, Text):
        if part.citations:
            losses.add("citations")
        item: dict[str, Any] = {"type": "text", "text": part.text}
    else:
        item = ENCODERS[part.kind](part, model, habits)
    if part.cache_control is not None:
        if habits.takes("cache_control", model):
            item["cache_control"] = part.cache_control
        else:
            losses.add("cache_control")
    return item


def _address(media: Media, kind: str) -> str | None:
    if media.data is not None:
        return f"data:{media.media_type or kind};base64,{media.data}"
    return media.url


def _encode_image(media: Media, model: str, habits: Habits) -> dict[str, Any]:
    url = _address(media, "image/png")
    if url is None:
        raise unsupported("messages", "has an image by the id of a file, which cannot be translated; send its data or URL")
    target = {"url": url}
    if media.detail in DETAILS:
        target["detail"] = str(media.detail)
    return {"type": "image_url", "image_url": target}


def _encode_audio(media: Media, model: str, habits: Habits) -> dict[str, Any]:
    if media.data is None:
        raise unsupported("messages", "has audio by URL or file id, which cannot be translated; send its data")
    return {"type": "input_audio", "input_audio": {"data": media.data, "format": audio_format(media.media_type)}}


def _encode_video(media: Media, model: str, habits: Habits) -> dict[str, Any]:
    url = _address(media, "video/mp4")
    if url is None or not habits.takes("video_url", model):
        raise unsupported("messages", f"has video, which cannot be translated for the model '{model}'")
    return {"type": "video_url", "video_url": {"url": url}}


def _encode_file(media: Media, model: str, habits: Habits) -> dict[str, Any]:
    if media.file_id is not None:
        return {"type": "file", "file": {"file_id": media.file_id}}
    if media.data is not None and (media.media_type or "").startswith("text/"):
        text = plain_text(media.data)
        if text is not None:
            return {"type": "text", "text": f"{media.name}:\n\n{text}" if media.name else text}
    if media.data is None and not habits.takes("file_url", model):
        raise unsupported("messages", "has a file by URL, which cannot be translated; send its data")
    return {
        "type": "file",
        "file": {"filename": media.name or "file.pdf", "file_data": _address(media, "application/pdf")},
    }


ENCODERS: Final[dict[MediaKind, Callable[[Media, str, Habits], dict[str, Any]]]] = {
    MediaKind.IMAGE: _encode_image,
    MediaKind.AUDIO: _encode_audio,
    MediaKind.VIDEO: _encode_video,
    MediaKind.FILE: _encode_file,
}
