"""Citations, both ways: grounding metadata counts places in bytes of UTF-8, the canonical conversation in characters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from daemon.domain.chat import Losses, Part, Text
from daemon.protocols.gemini.values import objects_of, string_of

__all__ = ["Grounding", "cite", "found_in"]

Citation = dict[str, Any]
SOURCES: Final = ("web", "retrievedContext", "maps", "image")


def found_in(candidate: dict[str, Any]) -> list[tuple[Citation, int]]:
    """The citations of a candidate, `start` and `end` still in bytes, each with the index of the part that they count in."""
    found: list[tuple[Citation, int]] = []
    grounding, cited = candidate.get("groundingMetadata"), candidate.get("citationMetadata")
    if type(grounding) is dict:
        found += _grounded(grounding)
    if type(cited) is dict:
        for source in objects_of(cited, "citations") or objects_of(cited, "citationSources"):
            if citation := _named(source) | _place(source):
                found.append((citation, _index(source)))
    return found


def _grounded(metadata: dict[str, Any]) -> Iterator[tuple[Citation, int]]:
    chunks = [_source(chunk) for chunk in objects_of(metadata, "groundingChunks")]
    used: set[int] = set()
    for support in objects_of(metadata, "groundingSupports"):
        segment = support.get("segment")
        segment = segment if type(segment) is dict else {}
        numbers = support.get("groundingChunkIndices")
        for number in numbers if type(numbers) is list else ():
            if type(number) is int and 0 <= number < len(chunks) and chunks[number]:
                used.add(number)
                yield chunks[number] | _place(segment), _index(segment)
    for number, chunk in enumerate(chunks):
        if chunk and number not in used:
            yield chunk, 0


def _source(chunk: dict[str, Any]) -> Citation:
    for name in SOURCES:
        if type(source := chunk.get(name)) is dict:
            return _named(source)
    return {}


def _named(source: dict[str, Any]) -> Citation:
    url, title = string_of(source, "uri") or string_of(source, "sourceUri"), string_of(source, "title")
    return ({"url": url} if url else {}) | ({"title": title} if title else {})


def _place(segment: dict[str, Any]) -> Citation:
    found: Citation = {}
    if text := string_of(segment, "text"):
        found["text"] = text
    start, end = segment.get("startIndex"), segment.get("endIndex")
    start = 0 if start is None else start  # zeros are left out
    if type(start) is int and type(end) is int and 0 <= start <= end:
        found |= {"start": start, "end": end}
    return found


def _index(segment: dict[str, Any]) -> int:
    index = segment.get("partIndex")
    return index if type(index) is int and index > 0 else 0


def cite(parts: list[Part], places: list[int], citations: list[tuple[Citation, int]]) -> list[Part]:
    """The parts with their citations. `places`: for each part its index in the content.

    The text meant is the part at the citation's index, or, when the cited words are not there, that in which they stand
    when all texts are counted through.
    """
    texts = [index for index, part in enumerate(parts) if isinstance(part, Text)]
    if not texts:
        return parts
    held: dict[int, list[Citation]] = {}
    encoded = {index: parts[index].text.encode("utf-8", "replace") for index in texts}  # type: ignore[union-attr]
    for citation, place in citations:
        index, moved = _home(citation, [i for i in texts if places[i] == place], texts, encoded)
        held.setdefault(index, []).append(moved)
    return [
        replace(part, citations=tuple(held[index])) if index in held and isinstance(part, Text) else part
        for index, part in enumerate(parts)
    ]


def _home(citation: Citation, named: list[int], texts: list[int], encoded: dict[int, bytes]) -> tuple[int, Citation]:
    """The index of the text that a citation belongs to, and the citation with places in its characters."""
    if "end" not in citation:
        return (named or texts)[-1], citation
    start, end = citation["start"], citation["end"]
    for index in named:
        if end <= len(encoded[index]) and _says(citation, encoded[index][start:end]):
            return index, _moved(citation, encoded[index], start, end)
    before = 0
    for index in texts:
        if start < before + len(encoded[index]):
            return index, _moved(citation, encoded[index], max(0, start - before), end - before)
        before += len(encoded[index])
    return texts[-1], {name: value for name, value in citation.items() if name not in ("start", "end")}


def _says(citation: Citation, words: bytes) -> bool:
    return "text" not in citation or citation["text"].encode("utf-8", "replace") == words


def _moved(citation: Citation, text: bytes, start: int, end: int) -> Citation:
    first = len(text[:start].decode("utf-8", "replace"))
    return citation | {"start": first, "end": first + len(text[start:end].decode("utf-8", "replace"))}


class Grounding:
    """Collects citations for a reply: each source once, and what supports it."""

    def __init__(self) -> None:
        self._chunks: dict[tuple[str, str], int] = {}
        self._supports: list[dict[str, Any]] = []

    def add(self, citation: Citation, text: str, part_index: int, losses: Losses | None) -> None:
        """A citation in `text`, the part at `part_index`. One without a URL is left out."""
        url, title = citation.get("url"), citation.get("title")
        if type(url) is not str or not url:
            if losses is not None:
                losses.add("citations.url")
            return
        number = self._chunks.setdefault((url, title if type(title) is str else ""), len(self._chunks))
        segment: dict[str, Any] = {"partIndex": part_index} if part_index else {}
        start, end, words = citation.get("start"), citation.get("end"), citation.get("text")
        if type(start) is int and type(end) is int and 0 <= start <= end:
            first = len(text[:start].encode("utf-8", "replace"))
            segment |= {"startIndex": first, "endIndex": first + len(text[start:end].encode("utf-8", "replace"))}
        if type(words) is str and words:
            segment["text"] = words
        if "endIndex" in segment or "text" in segment:
            self._supports.append({"segment": segment, "groundingChunkIndices": [number]})

    def metadata(self) -> dict[str, Any]:
        """groundingMetadata; empty when nothing was cited."""
        if not self._chunks:
            return {}
        chunks = [{"web": {"uri": url, **({"title": title} if title else {})}} for url, title in self._chunks]
        found: dict[str, Any] = {"groundingChunks": chunks}
        if self._supports:
            found["groundingSupports"] = self._supports
        return found
