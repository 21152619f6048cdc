"""Citations, both ways: where the cited words stand, as far as both sides can say it."""

from __future__ import annotations

from typing import Any

from daemon.domain.chat import Losses

__all__ = ["decode_citation", "decode_citations", "encode_citation", "encode_citations"]

Citation = dict[str, Any]


def decode_citation(value: object) -> Citation | None:
    """{"url", "title", "text"} as far as told; None when nothing is. Places inside a document are not places in the answer."""
    if type(value) is not dict:
        return None
    found: Citation = {}
    source = value.get("source")
    url = value.get("url") or (source if type(source) is str and source.startswith(("http://", "https://")) else None)
    for name, given in (
        ("url", url),
        ("title", value.get("title") or value.get("document_title")),
        ("text", value.get("cited_text")),
    ):
        if type(given) is str and given:
            found[name] = given
    return found or None


def decode_citations(values: object) -> tuple[Citation, ...]:
    """Those of a text block; what is no citation is skipped."""
    if type(values) is not list or not values:
        return ()
    return tuple(found for value in values if (found := decode_citation(value)) is not None)


def encode_citation(citation: Citation) -> Citation | None:
    """As a reply has it, in the only form that names a URL; None without one."""
    url = citation.get("url")
    if type(url) is not str or not url:
        return None
    title, text = citation.get("title"), citation.get("text")
    return {
        "type": "web_search_result_location",
        "url": url,
        "title": title if type(title) is str else None,
        "cited_text": text if type(text) is str else "",
        "encrypted_index": "",
    }


def encode_citations(citations: tuple[Citation, ...], losses: Losses) -> list[Citation]:
    """Those of a text block."""
    found = [encoded for citation in citations if (encoded := encode_citation(citation)) is not None]
    if len(found) < len(citations):
        losses.add("citations.url")
    return found
