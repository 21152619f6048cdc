"""Pictures, sound, films and files, both ways: Google tells them by media type, and files by their URI."""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.chat import Losses, Media, MediaKind
from daemon.protocols.gemini.values import optional_text, required_text, string_of, unsupported

__all__ = ["decode_file", "decode_inline", "encode_media", "kind_of", "reply_media"]

Part = dict[str, Any]
KINDS: Final = {"image": MediaKind.IMAGE, "audio": MediaKind.AUDIO, "video": MediaKind.VIDEO}
TYPE_OF_SUFFIX: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "aac": "audio/aac",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mov": "video/quicktime",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
}
TYPE_OF_KIND: Final = {
    MediaKind.IMAGE: "image/jpeg",
    MediaKind.AUDIO: "audio/mpeg",
    MediaKind.VIDEO: "video/mp4",
    MediaKind.FILE: "application/pdf",
}
# How base64 data of each type begins, for images whose type nobody told.
IMAGE_STARTS: Final = (("iVBOR", "image/png"), ("/9j/", "image/jpeg"), ("R0lG", "image/gif"), ("UklG", "image/webp"))
UNTOLD: Final = frozenset({"", "image/*", "application/octet-stream"})
_FROM_URL_SAFE: Final = str.maketrans("-_", "+/")
YOUTUBE: Final = ("https://www.youtube.com/", "https://youtube.com/", "https://youtu.be/")
# What only Google can read.
STORED: Final = ("gs://", "files/", "https://generativelanguage.googleapis.com/")


def decode_inline(value: Part, at: str, detail: str | None) -> Media:
    """inlineData; ApiError 400 without data or type."""
    media_type = required_text(value, "mimeType", at)
    data = _plain_base64(required_text(value, "data", at))
    return _media(media_type, data, None, optional_text(value, "displayName", at), detail)


def _plain_base64(data: str) -> str:
    """The official SDK writes the alphabet for URLs, which other providers do not read."""
    if "-" in data or "_" in data:
        data = data.translate(_FROM_URL_SAFE)
    return data + "=" * (-len(data) % 4) if not data.endswith("=") else data


def decode_file(value: Part, at: str, detail: str | None) -> Media:
    """fileData; ApiError 400 without a URI."""
    uri = required_text(value, "fileUri", at)
    return _media(optional_text(value, "mimeType", at), None, uri, optional_text(value, "displayName", at), detail)


def reply_media(part: Part) -> Media | None:
    """The generated medium in a part of a reply; None when there is none."""
    if type(inline := part.get("inlineData")) is dict and (data := string_of(inline, "data")):
        return _media(string_of(inline, "mimeType") or None, data, None, None, None)
    if type(file := part.get("fileData")) is dict and (uri := string_of(file, "fileUri")):
        return _media(string_of(file, "mimeType") or None, None, uri, None, None)
    return None


def kind_of(media_type: str | None, uri: str | None = None) -> MediaKind:
    """By the type, else by the URI; a file when neither tells."""
    known = media_type or _type_of_uri(uri or "")
    if known is None:
        return MediaKind.VIDEO if (uri or "").startswith(YOUTUBE) else MediaKind.FILE
    return KINDS.get(known.lower().partition("/")[0], MediaKind.FILE)


def _media(media_type: str | None, data: str | None, uri: str | None, name: str | None, detail: str | None) -> Media:
    kind = kind_of(media_type, uri)
    stored = uri is not None and uri.startswith(STORED)
    return Media(
        kind,
        media_type,
        data,
        None if stored else uri,
        uri if stored else None,
        name,
        detail if kind is MediaKind.IMAGE else None,
    )


def _type_of_uri(uri: str) -> str | None:
    end = uri.partition("?")[0].partition("#")[0].rpartition("/")[2]
    return TYPE_OF_SUFFIX.get(end.rpartition(".")[2].lower()) if "." in end else None


def encode_media(media: Media, losses: Losses | None) -> Part:
    """inlineData or fileData. ApiError 400 for a file that another provider stores; `losses` None: nothing is named."""
    if losses is not None:
        if media.detail not in (None, "auto"):
            losses.add("media.detail")
        if media.name is not None:
            losses.add("media.name")
        if media.cache_control is not None:
            losses.add("cache_control")
    if media.data is not None:
        return {"inlineData": {"mimeType": _data_type(media, media.data), "data": media.data}}
    uri = media.url if media.url is not None else media.file_id or ""
    if media.file_id is not None and not uri.startswith((*STORED, "https://", "http://")):
        raise unsupported("messages", f"the file {uri[:80]!r}", "another provider stores it; send its data or a URL")
    file: Part = {"fileUri": uri}
    if media.media_type or not uri.startswith((*YOUTUBE, *STORED)):
        file["mimeType"] = media.media_type or _type_of_uri(uri) or TYPE_OF_KIND[media.kind]
    return {"fileData": file}


def _data_type(media: Media, data: str) -> str:
    given = (media.media_type or "").lower()
    if given in UNTOLD:
        if media.kind is MediaKind.IMAGE:
            return next((kind for start, kind in IMAGE_STARTS if data.startswith(start)), TYPE_OF_KIND[media.kind])
        return TYPE_OF_KIND[media.kind]
    return "image/jpeg" if given == "image/jpg" else media.media_type or given
