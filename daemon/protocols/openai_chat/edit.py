"""Change the few bytes of a request or reply that the gateway must change, and no other."""

from __future__ import annotations

import json
from typing import Any

from daemon.protocols.json_spans import Edit, apply_edits, known_key_span, member_edit, top_level_span, top_level_spans
from daemon.protocols.rename import json_string

__all__ = ["rewrite_reply_usage", "rewrite_request"]


def rewrite_request(
    body: bytes,
    data: dict[str, Any],
    *,
    model: str | None = None,
    include_usage: bool = False,
    max_tokens: int | None = None,
    max_tokens_field: str = "max_tokens",
) -> bytes:
    """The request's bytes with another model, with usage asked for, or with an output limit; unchanged if with none.

    `data` is `body` decoded strictly (unique keys). `max_tokens` goes into each limit field that is given and is not
    lower already, into `max_tokens_field` when none is. `include_usage=False` leaves stream_options alone.
    """
    wanted: dict[str, bytes] = {}
    if model is not None and data.get("model") != model:
        wanted["model"] = json_string(model)
    if max_tokens is not None:
        number = str(max_tokens).encode()
        given = [name for name in ("max_completion_tokens", "max_tokens") if data.get(name) is not None]
        for name in given or [max_tokens_field]:
            if not given or data[name] > max_tokens:
                wanted[name] = number
    options: dict[str, Any] | None = data.get("stream_options")
    ask = include_usage and not (options is not None and options.get("include_usage") is True)
    if ask and options is None:
        wanted["stream_options"] = b'{"include_usage":true}'
    if not wanted and not ask:
        return body

    spans = {name: known_key_span(body, name) for name in wanted if name in data}
    if ask and options is not None:
        spans["stream_options"] = known_key_span(body, "stream_options")
    edits: list[Edit] = [member_edit(body, name, value, spans.get(name)) for name, value in wanted.items()]
    if ask and options is not None:
        start = spans["stream_options"][0]
        inner = top_level_spans(body, ("include_usage",), start).get("include_usage")
        edits.append(member_edit(body, "include_usage", b"true", inner, start))
    return apply_edits(body, edits)


def rewrite_reply_usage(body: bytes, input_tokens: int, output_tokens: int) -> bytes:
    """A reply's bytes (a JSON object) with a `usage` of these counts, in place of one that was null or absent."""
    counts = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens, "total_tokens": input_tokens + output_tokens}
    value = json.dumps(counts, separators=(",", ":")).encode()
    return apply_edits(body, [member_edit(body, "usage", value, top_level_span(body, "usage"))])
