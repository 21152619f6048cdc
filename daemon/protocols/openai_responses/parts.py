"""Content parts, both ways: text, pictures, files, sound, refusals, and the citations in a text."""

from __future__ import annotations

import re
from typing import Any, Final

from daemon.domain.chat import Losses, Media, MediaKind, Part, Refusal, Text
from daemon.protocols.openai_responses.tables import AUDIO_FORMATS, AUDIO_TYPES, PARTS, REFUSED
from daemon.protocols.openai_responses.values import (
    as_object,
    invalid,
    missing,
    optional_text,
    required_text,
    unsupported,
)

TEXTS: Final = frozenset({"input_text", "output_text", "text"})
DATA_URL: Final = re.compile(r"data:([^;,]*)((?:;[^;,]*)*);base64,", re.IGNORECASE)
# Where a file needs a name and has none.
FILE_NAMES: Final = {"application/pdf": "document.pdf", "text/plain": "document.txt"}
FILE_NAME: Final = "document"


# -- decode


def decode_parts(value: object, param: str) -> list[Part]:
    """The content of a message or of a tool's output: a string, or an array of parts. An empty string is no part."""
    if type(value) is str:
        return [Text(value)] if value else []
    if type(value) is not list:
        raise missing(param) if value is None else invalid(param, "it must be a string or an array of parts")
    return [_decode_part(part, f"{param}[{index}]") for index, part in enumerate(value)]


def _decode_part(value: object, param: str) -> Part:
    part = as_object(value, param)
    kind = part.get("type")
    if type(kind) is not str:
        raise missing(f"{param}.type")
    at = param + "."
    if kind in TEXTS:
        text = optional_text(part, "text", at)
        if text is None:
            raise missing(at + "text")
        return Text(text, citations=citations_of(part.get("annotations")))
    if kind == "input_image":
        return _decode_image(part, at)
    if kind == "input_file":
        return _decode_file(part, at)
    if kind == "input_audio":
        return _decode_audio(part, at)
    if kind == "refusal":
        return Refusal(required_text(part, "refusal", at))
    if PARTS.get(kind, ("", ""))[0] == REFUSED:
        raise unsupported(param, f"content of type '{kind[:80]}'")
    raise invalid(f"{param}.type", f"'{kind[:80]}' is not a type of content")


def _decode_image(part: dict[str, Any], at: str) -> Media:
    url = part.get("image_url")
    if type(url) is dict:  # as chat completions has it; some clients send it here too
        part = {**url, **part, "image_url": url.get("url")}
    url, detail = optional_text(part, "image_url", at), optional_text(part, "detail", at)
    if url:
        media_type, data = split_data_url(url)
        return Media(MediaKind.IMAGE, media_type, data, None if data is not None else url, detail=detail)
    file_id = optional_text(part, "file_id", at)
    if not file_id:
        raise missing(at + "image_url")
    return Media(MediaKind.IMAGE, file_id=file_id, detail=detail)


def _decode_file(part: dict[str, Any], at: str) -> Media:
    name, detail = optional_text(part, "filename", at), optional_text(part, "detail", at)
    if given := optional_text(part, "file_data", at):
        media_type, data = split_data_url(given)
        return Media(MediaKind.FILE, media_type, given if data is None else data, name=name, detail=detail)
    if url := optional_text(part, "file_url", at):
        return Media(MediaKind.FILE, url=url, name=name, detail=detail)
    if file_id := optional_text(part, "file_id", at):
        return Media(MediaKind.FILE, file_id=file_id, name=name, detail=detail)
    raise missing(at + "file_data")


def _decode_audio(part: dict[str, Any], at: str) -> Media:
    audio = as_object(part.get("input_audio", part), at + "input_audio")
    kind = required_text(audio, "format", at + "input_audio.")
    return Media(MediaKind.AUDIO, AUDIO_TYPES.get(kind, f"audio/{kind}"), required_text(audio, "data", at + "input_audio."))


def split_data_url(url: str) -> tuple[str | None, str | None]:
    """(media type or None, base64); (None, None) when it is another URL."""
    if url[:5].lower() != "data:" or (found := DATA_URL.match(url)) is None:
        return None, None
    return found[1] or None, url[found.end() :]


def citations_of(annotations: object) -> tuple[dict[str, Any], ...]:
    """The url_citations among the annotations, in the canonical form; of nonsense, none."""
    if not annotations or type(annotations) is not list:
        return ()
    found = (citation_of(annotation) for annotation in annotations)
    return tuple(citation for citation in found if citation is not None)


def citation_of(annotation: object) -> dict[str, Any] | None:
    if type(annotation) is not dict or annotation.get("type") != "url_citation" or type(annotation.get("url")) is not str:
        return None
    citation: dict[str, Any] = {"url": annotation["url"]}
    if type(title := annotation.get("title")) is str:
        citation["title"] = title
    for name, key in (("start", "start_index"), ("end", "end_index")):
        if type(annotation.get(key)) is int:
            citation[name] = annotation[key]
    return citation


# -- encode


def encode_parts(parts: tuple[Part, ...], losses: Losses) -> str | list[dict[str, Any]]:
    """The content of a user's or system's message, or of a tool's output: a string when one text is all there is."""
    if not parts:
        return ""
    if len(parts) == 1 and type(part := parts[0]) is Text:
        _note_cache(part, losses)
        return part.text
    return [_encode_part(part, losses) for part in parts]


def _encode_part(part: Part, losses: Losses) -> dict[str, Any]:
    if isinstance(part, Text):
        _note_cache(part, losses)
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Refusal):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Media):
        _note_cache(part, losses)
        return _encode_media(part)
    raise invalid("messages", "a message of this role cannot hold such a part")


def _encode_media(media: Media) -> dict[str, Any]:
    out: dict[str, Any]
    if media.kind is MediaKind.IMAGE:
        out = {"type": "input_image", "detail": media.detail or "auto"}
        if media.file_id is not None:
            out["file_id"] = media.file_id
        else:
            out["image_url"] = _data_url(media, "image/png") if media.data is not None else media.url
        return out
    if media.kind is MediaKind.FILE:
        out = {"type": "input_file"}
        if media.data is not None:
            out["filename"] = media.name or FILE_NAMES.get(media.media_type or "", FILE_NAME)
            out["file_data"] = _data_url(media, None)
        else:
            out["file_url" if media.url is not None else "file_id"] = media.url if media.url is not None else media.file_id
            if media.name is not None:
                out["filename"] = media.name
        if media.detail is not None:
            out["detail"] = media.detail
        return out
    if media.kind is MediaKind.AUDIO:
        form = AUDIO_FORMATS.get(media.media_type or "")
        if media.data is None or form is None:
            raise unsupported("messages", "audio other than WAV or MP3 data")
        return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}
    raise unsupported("messages", "video")


def _data_url(media: Media, default: str | None) -> str:
    media_type = media.media_type or default
    return f"data:{media_type};base64,{media.data}" if media_type else media.data or ""


def _note_cache(part: Text | Media, losses: Losses) -> None:
    if part.cache_control is not None:
        losses.add("cache_control")


def annotations_of(citations: tuple[dict[str, Any], ...], length: int, losses: Losses) -> list[dict[str, Any]]:
    """url_citations. One that does not say where it belongs belongs to the whole text of `length` characters."""
    found: list[dict[str, Any]] = []
    for citation in citations:
        if "text" in citation or type(citation.get("url")) is not str:
            losses.add("citations")
        if (annotation := annotation_of(citation, length)) is not None:
            found.append(annotation)
    return found


def annotation_of(citation: dict[str, Any], length: int) -> dict[str, Any] | None:
    if type(url := citation.get("url")) is not str:
        return None
    start, end, title = citation.get("start"), citation.get("end"), citation.get("title")
    return {
        "type": "url_citation",
        "start_index": start if type(start) is int else 0,
        "end_index": end if type(end) is int else length,
        "url": url,
        "title": title if type(title) is str else "",
    }
