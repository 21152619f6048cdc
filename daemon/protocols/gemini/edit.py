"""Change the few bytes of a request or reply that the gateway must change while they pass, and no other."""

from __future__ import annotations

from typing import Any, Final

from daemon.protocols.gemini.frames import MAX_ELEMENT, ArrayFramer
from daemon.protocols.gemini.names import MODELS, TUNED
from daemon.protocols.gemini.values import field, snake
from daemon.protocols.json_spans import apply_edits, known_key_span, member_edit, top_level_spans
from daemon.protocols.rename import Path, StreamRenamer, rename_model

__all__ = ["MODEL_PATHS", "StreamAdapter", "rewrite_reply_model", "rewrite_request_model", "set_output_limit"]

MODEL_PATHS: Final[tuple[Path, ...]] = (("modelVersion",),)
CONFIG: Final = "generationConfig"
LIMIT: Final = "maxOutputTokens"


def rewrite_reply_model(body: bytes, name: str) -> bytes:
    """A reply's bytes with the top-level `modelVersion` replaced; unchanged when it has none or is not JSON."""
    return rename_model(body, name, MODEL_PATHS)


def rewrite_request_model(body: bytes, name: str) -> bytes:
    """A request's bytes in which a `model`, that the URL makes needless, says what the URL says; unchanged without one."""
    if b'"model"' not in body and b"\\u00" not in body:
        return body
    return rename_model(body, name if name.startswith((MODELS, TUNED)) else MODELS + name)


def set_output_limit(body: bytes, data: dict[str, Any], limit: int) -> bytes:
    """A request's bytes with generationConfig.maxOutputTokens at most `limit`.

    `data` is `body` decoded strictly (unique keys) and read as ask.read reads it, so each field stands in one spelling.
    """
    config_key = CONFIG if data.get(CONFIG) is not None else snake(CONFIG)
    config = data.get(config_key)
    if config is None:
        value = b'{"%b":%d}' % (LIMIT.encode(), limit)
        key = next((name for name in (CONFIG, snake(CONFIG)) if name in data), CONFIG)  # null is as good as absent
        return apply_edits(body, [member_edit(body, key, value, known_key_span(body, key) if key in data else None)])
    given = field(config, LIMIT)
    if given is not None and given <= limit:
        return body
    key = next((name for name in (LIMIT, snake(LIMIT)) if name in config), LIMIT)
    start = known_key_span(body, config_key)[0]
    span = top_level_spans(body, (key,), start).get(key)
    return apply_edits(body, [member_edit(body, key, b"%d" % limit, span, start)])


class StreamAdapter:
    """Passes a stream on with the model renamed in each event, or element of an array; every other byte stays."""

    def __init__(self, model_name: str, most: int = MAX_ELEMENT) -> None:
        self._name = model_name
        self._most = most
        self._events: StreamRenamer | None = None
        self._elements: ArrayFramer | None = None

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that go on to the client for this chunk. LineTooLong (sse) when an element exceeds the limit."""
        if self._elements is None and self._events is None:
            begin = chunk.lstrip(b" \t\r\n")[:1]
            if not begin:
                return chunk
            if begin in (b"[", b"{"):
                self._elements = ArrayFramer(self._most)
            else:
                self._events = StreamRenamer(self._name, MODEL_PATHS, self._most)
        if self._events is not None:
            return self._events.feed(chunk)
        assert self._elements is not None
        pieces = self._elements.pieces(chunk)
        return b"".join([rewrite_reply_model(piece, self._name) if is_object else piece for is_object, piece in pieces])

    def flush(self) -> bytes:
        """What is left when the stream is over."""
        if self._events is not None:
            return self._events.flush()
        return self._elements.rest() if self._elements is not None else b""
