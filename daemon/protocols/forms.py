"""Read the fields of a multipart form while it passes: what decides its price, without holding its files.

The parser is werkzeug's MultipartDecoder (it does no I/O). Files may come before fields, and a field may come twice, so the
whole body is fed: a field that was read already must not come again, or two readers could each believe another one.
"""

from __future__ import annotations

from typing import Any, Final

from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import NEED_DATA, Data, Epilogue, Field, File, MultipartDecoder, Preamble

from daemon.domain.errors import ApiError

__all__ = ["FIELDS", "FormReader", "form_fields"]

# Fields that are kept, and what they are in a JSON body.
FIELDS: Final[dict[str, type]] = {
    "model": str,
    "prompt": str,
    "n": int,
    "size": str,
    "quality": str,
    "partial_images": int,
    "response_format": str,
    "stream": bool,
}
BOOLEANS: Final = {"true": True, "false": False, "1": True, "0": False}
IMAGES: Final = frozenset({"image", "image[]"})
PARTS_MAX: Final = 1000
VALUE_MAX: Final = 64 * 1024  # bytes of one field; OpenAI's prompts end at 32,000 characters
SLICE: Final = 64 * 1024
MEMORY_MAX: Final = SLICE + VALUE_MAX  # bytes that the parser may hold: a slice, and the headers of a part


class FormReader:
    """Feed it a form's bytes, in any pieces. ApiError 400 from `feed` and `finish` when it is none, or not to be trusted.

    - `fields`: those of FIELDS that have come whole
    - `files`, `images`: parts with a file name so far, and those of them that are the images of an edit
    - `file_bytes`: bytes of them so far
    - `complete`: the form has ended (after `finish`)
    """

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not 1 <= len(boundary) <= 70 or not boundary.isascii():
            raise _malformed("the Content-Type must be multipart/form-data with a boundary")
        self._decoder = MultipartDecoder(boundary.encode("ascii"), MEMORY_MAX, max_parts=PARTS_MAX)
        self._name: str | None = None  # of the field whose value is coming; None: a file, or a field that is not kept
        self._is_file = False
        self._value = bytearray()
        self.fields: dict[str, Any] = {}
        self.files = self.images = self.file_bytes = 0
        self.complete = False

    def feed(self, chunk: bytes) -> None:
        for at in range(0, len(chunk), SLICE):
            self._receive(chunk[at : at + SLICE])

    def finish(self) -> None:
        """The body has ended."""
        self._receive(None)
        if not self.complete:
            raise _malformed("the form does not end")

    def _receive(self, data: bytes | None) -> None:
        try:
            self._decoder.receive_data(data)
            while (event := self._decoder.next_event()) is not NEED_DATA:
                if isinstance(event, Field | File):
                    self._begin(event)
                elif isinstance(event, Data):
                    self._take(event)
                elif isinstance(event, Preamble | Epilogue) and event.data.strip():
                    raise _malformed("there are bytes before its first part or after its last one")
                if isinstance(event, Epilogue):
                    self.complete = True
                    return
        except (ValueError, HTTPException) as error:
            raise _malformed("its parts cannot be read") from error

    def _begin(self, part: Field | File) -> None:
        self._value.clear()
        self._is_file = isinstance(part, File)
        self._name = part.name if part.name in FIELDS else None
        if self._is_file and self._name is not None:
            raise ApiError.of("invalid_value", param=part.name, reason="it must not be a file")
        if self._is_file:
            self.files += 1
            self.images += part.name in IMAGES
        elif part.name in self.fields:
            raise ApiError.of("invalid_value", param=part.name, reason="it is given twice")

    def _take(self, data: Data) -> None:
        if self._is_file:
            self.file_bytes += len(data.data)
        if self._name is None:
            return
        self._value += data.data
        if len(self._value) > VALUE_MAX:
            raise ApiError.of("invalid_value", param=self._name, reason=f"it is longer than {VALUE_MAX} bytes")
        if not data.more_data:
            self.fields[self._name] = _value(self._name, self._value.decode("utf-8", "replace"))
            self._name = None


def _value(name: str, text: str) -> Any:
    """The value as a JSON body would have it; text that is none stays text, for the endpoint to refuse."""
    kind = FIELDS[name]
    if kind is int and text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    if kind is bool:
        return BOOLEANS.get(text.strip().lower(), text)
    return text


def form_fields(content_type: str, first_bytes: bytes) -> FormReader:
    """The fields at the beginning of a form; feed the reader what comes after."""
    reader = FormReader(content_type)
    reader.feed(first_bytes)
    return reader


def _malformed(why: str) -> ApiError:
    return ApiError.of("invalid_value", param="body", reason=f"the form is malformed: {why}")
