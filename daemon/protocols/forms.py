"""Read the fields of a multipart form while it passes: what decides its price, without holding its files (RFC 7578, RFC 2046).

Strict, so that no two readers see different forms in the same bytes. Refused with 400 is what some parsers take and others do
not: line ends other than CRLF around parts, a boundary that only some would see, headers in unusual forms, a field that comes
twice. Files may come before fields, so the whole body is read.
"""

from __future__ import annotations

import re
from typing import Any, Final

from daemon.domain.errors import ApiError

__all__ = ["FIELDS", "FormReader", "is_form"]

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
    "url": str,
    "file_url": str,
    "file_id": str,
    "chunking_strategy": str,
    "svg": bool,
}
BOOLEANS: Final = {"true": True, "false": False, "1": True, "0": False}
IMAGES: Final = frozenset({"image", "mask"})  # also image[] and image[0]
KIND: Final = "multipart/form-data"
PARTS_MAX: Final = 1000
VALUE_MAX: Final = 64 * 1024  # bytes of one field; OpenAI's prompts end at 32,000 characters
HEAD_MAX: Final = 8 * 1024  # bytes of the headers of a part
SLICE: Final = 64 * 1024
LINE: Final = b"\r\n"

_PARAMETER: Final = re.compile(r"""\s*;\s*([a-z]+)\s*=\s*(?:"([^"\\]*)"|([^\s";\\]+))""", re.IGNORECASE)
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_PLAIN: Final = re.compile(r"[0-9A-Za-z'+_.-]+")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z\[\]-]+"
_DISPOSITION: Final = re.compile(
    rf'form-data *; *name *= *(?:"([^"\\\x00-\x1f\x7f]+)"|({_TOKEN}))'
    rf'( *; *filename *= *(?:"(?:[^"\\\x00-\x1f\x7f]|\\.)*"|{_TOKEN}))?( *; *filename\* *= *[!-~]+)?',
    re.IGNORECASE,
)
_ENCODINGS: Final = frozenset({"binary", "8bit", "7bit"})


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form."""
    return content_type.partition(";")[0].strip().lower() == KIND


def _boundary(content_type: str) -> str:
    """The boundary that a form's Content-Type names, and that every reader finds there."""
    _, semicolon, rest = content_type.partition(";")
    found = list(_PARAMETER.finditer(semicolon + rest.rstrip()))
    names = [parameter[1].lower() for parameter in found]
    given = {name: parameter[2] if parameter[3] is None else parameter[3] for name, parameter in zip(names, found, strict=True)}
    whole = sum(len(parameter[0]) for parameter in found) == len(semicolon + rest.rstrip())
    known = set(names) <= {"boundary", "charset"} and len(names) == len(given)
    boundary = given.get("boundary", "")
    if not (is_form(content_type) and whole and known and _BOUNDARY.fullmatch(boundary)):
        raise _malformed("the Content-Type must be multipart/form-data with a boundary")
    return boundary


class FormReader:
    """Feed it a form's bytes, in any pieces. ApiError 400 from it, `feed` and `finish` when it is none, or not to be trusted.

    - `fields`: those of FIELDS that have come whole; `names`: of every part that has begun
    - `model_span`: where the value of the field `model` stands in the body, [start, end) in bytes
    - `files`, `images`: parts with a file name so far, and parts that are images of an edit
    - `file_bytes`: bytes of files so far
    - `complete`: the form has ended (after `finish`)
    - `content_type`: as it is to be sent on
    """

    def __init__(self, content_type: str) -> None:
        boundary = _boundary(content_type)
        self.content_type = f"{KIND}; boundary={boundary}" if _PLAIN.fullmatch(boundary) else f'{KIND}; boundary="{boundary}"'
        self._marker = b"--" + boundary.encode("ascii")
        self._buffer = bytearray()
        self._offset = 0  # of the buffer in the body
        self._step = self._begin
        self._before = b""  # the two bytes before the buffer, while a part's data comes
        self._name: str | None = None  # of the field whose value is coming; None: a file, or a field that is not kept
        self._is_file = False
        self._value = bytearray()
        self.fields: dict[str, Any] = {}
        self.names: list[str] = []
        self.model_span: tuple[int, int] | None = None
        self.files = self.images = self.file_bytes = 0
        self.complete = False

    def feed(self, chunk: bytes) -> None:
        for at in range(0, len(chunk), SLICE):
            self._buffer += chunk[at : at + SLICE]
            while self._step():
                pass

    def finish(self) -> None:
        """The body has ended."""
        if self._step != self._end or self._buffer:
            raise _malformed("it does not end")
        self.complete = True

    # -- steps: each returns whether another one can be made with what there is

    def _begin(self) -> bool:
        if len(self._buffer) < len(self._marker) + 4:
            return False
        if self._buffer.startswith(LINE):  # some clients begin with an empty line
            self._drop(len(LINE))
        if not self._buffer.startswith(self._marker + LINE):
            raise _malformed("it does not begin with its boundary")
        self._drop(len(self._marker) + len(LINE))
        self._step = self._head
        return True

    def _head(self) -> bool:
        end = self._buffer.find(LINE + LINE, 0, HEAD_MAX)
        if end < 0:
            if len(self._buffer) >= HEAD_MAX:
                raise _malformed("the headers of a part are too long")
            return False
        lines = bytes(self._buffer[:end]).split(LINE)
        self._drop(end + 2 * len(LINE))
        self._part(lines)
        self._before = b"?\n"  # a boundary right behind the headers, without a line of its own, is none
        self._step = self._data
        return True

    def _data(self) -> bool:
        buffer, marker = self._buffer, self._marker
        at = buffer.find(marker)
        if at < 0:
            self._take(max(0, len(buffer) - len(marker) - 1))  # a marker that is cut off, and the line end before it
            return False
        if len(buffer) < at + len(marker) + 2:
            return False
        before, after = (self._before + buffer[:at])[-2:], bytes(buffer[at + len(marker) : at + len(marker) + 2])
        if before == LINE and after in (LINE, b"--"):
            self._take(at - 2)
            self._drop(2 + len(marker) + 2)
            self._whole()
            self._step = self._head if after == LINE else self._end
        elif before.endswith((b"\n", b"\r")):
            raise _malformed("a boundary is not on a line of its own")
        else:
            self._take(at + 1)
        return True

    def _end(self) -> bool:
        if self._buffer.strip(LINE):
            raise _malformed("there are bytes after its last part")
        self._drop(len(self._buffer))
        return False

    # -- parts

    def _part(self, lines: list[bytes]) -> None:
        disposition = None
        for line in lines:
            name, colon, value = line.partition(b":")
            lowered = name.lower().decode("latin-1")
            if not colon or not _NAME.fullmatch(name) or b"\r" in line or b"\n" in line or b"\0" in line:
                raise _malformed("the headers of a part cannot be read")
            text = value.decode("utf-8", "replace").strip(" \t")
            if lowered == "content-disposition":
                if disposition is not None:
                    raise _malformed("a part has two names")
                disposition = _DISPOSITION.fullmatch(text)
            elif lowered == "content-transfer-encoding" and text.lower() not in _ENCODINGS:
                raise _malformed("a part is encoded")
        if disposition is None:
            raise _malformed("a part has no name that can be read")
        self._named(disposition[1] or disposition[2], bool(disposition[3] or disposition[4]))

    def _named(self, name: str, is_file: bool) -> None:
        if name != name.strip() or len(self.names) >= PARTS_MAX:
            raise _malformed("it has too many parts, or one with an unusual name")
        self._value.clear()
        self._is_file = is_file
        self._name = name if name in FIELDS else None
        if self._name is not None and is_file:
            raise ApiError.of("invalid_value", param=name, reason="it must not be a file")
        if self._name is not None and name in self.names:
            raise ApiError.of("invalid_value", param=name, reason="it is given twice")
        self.names.append(name)
        self.files += is_file
        self.images += name.partition("[")[0] in IMAGES
        if name == "model":
            self.model_span = (self._offset, self._offset)

    def _take(self, size: int) -> None:
        """So many bytes of the buffer are data of the part."""
        if size <= 0:
            return
        if self._is_file:
            self.file_bytes += size
        elif self._name is not None:
            self._value += self._buffer[:size]
            if len(self._value) > VALUE_MAX:
                raise ApiError.of("invalid_value", param=self._name, reason=f"it is longer than {VALUE_MAX} bytes")
        self._before = bytes((self._before + self._buffer[max(0, size - 2) : size])[-2:])
        self._drop(size)

    def _whole(self) -> None:
        """The part has ended."""
        if self._name is None:
            return
        self.fields[self._name] = _value(self._name, self._value.decode("utf-8", "replace"))
        if self._name == "model" and self.model_span is not None:
            start = self.model_span[0]
            self.model_span = (start, start + len(self._value))

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._offset += size


def _value(name: str, text: str) -> Any:
    """The value as a JSON body would have it; text that is none stays text, for the endpoint to refuse."""
    kind = FIELDS[name]
    if kind is int and text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    if kind is bool:
        return BOOLEANS.get(text.strip().lower(), text)
    return text


def _malformed(why: str) -> ApiError:
    return ApiError.of("invalid_value", param="body", reason=f"the form is malformed: {why}")
