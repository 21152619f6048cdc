"""Parts of a request → parts of the canonical conversation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from daemon.domain.chat import Media, MediaKind, Part, Text, Thinking, ToolCall, ToolResult
from daemon.protocols.gemini.media import decode_file, decode_inline
from daemon.protocols.gemini.seals import SKIPPED, open_signature
from daemon.protocols.gemini.tables import DETAILS, NAME, PARTS, REFUSED
from daemon.protocols.gemini.values import (
    as_object,
    compact,
    field,
    missing,
    optional_flag,
    optional_list,
    optional_object,
    optional_text,
    required_text,
    unsupported,
)

__all__ = ["RAW", "CallIds", "arguments_of", "decode_parts", "executed", "fenced"]

Raw = dict[str, Any]
# What a model generated as arguments, when it is not the JSON object that `args` has to be.
RAW: Final = "_raw"
OUTPUTS: Final = ("output", "result")
REFUSED_PARTS: Final = tuple((name, note) for name, (fate, note) in PARTS.items() if fate == REFUSED)


class CallIds:
    """Ids for calls that have none: counted through the conversation, so that the same history gets the same ids."""

    def __init__(self, prefix: str = "call_") -> None:
        self._prefix = prefix
        self._count = 0
        self._open: dict[str, deque[str]] = {}  # a function's name -> calls of it that are not answered
        self._taken: set[str] = set()

    def of_call(self, given: str | None, name: str) -> str:
        found = given or self._next()
        self._count += 1
        self._taken.add(found)
        self._open.setdefault(name, deque()).append(found)
        return found

    def of_result(self, given: str | None, name: str) -> str:
        """`given`, or the oldest open call of the function; an id of its own when there is none."""
        waiting = self._open.get(name)
        if given:
            if waiting and given in waiting:
                waiting.remove(given)
            return given
        if waiting:
            return waiting.popleft()
        found = self._next()
        self._count += 1
        return found

    def _next(self) -> str:
        found = f"{self._prefix}{self._count}"
        while found in self._taken:
            found += "_"
        return found


def decode_parts(content: Raw, at: str, ids: CallIds, detail: str | None, dropped: list[str]) -> list[Part]:
    """The parts of one content. `detail`: that of images which have none of their own. ApiError 400, also for hosted tools."""
    found: list[Part] = []
    for index, part in enumerate(optional_list(content, "parts", at)):
        found += _decode(as_object(part, f"{at}parts[{index}]"), f"{at}parts[{index}].", ids, detail, dropped)
    return found


def _decode(part: Raw, at: str, ids: CallIds, detail: str | None, dropped: list[str]) -> list[Part]:
    for name, note in REFUSED_PARTS:
        if field(part, name) is not None:
            raise unsupported(at + name, f"{name!r}", note)
    if field(part, "partMetadata"):
        dropped.append("partMetadata")
    signature = optional_text(part, "thoughtSignature", at) or None
    if signature == SKIPPED:
        signature = None
    found: Part | None = None
    if (text := optional_text(part, "text", at)) is not None:
        if optional_flag(part, "thought", at):
            return [open_signature(text, signature) if signature else Thinking(text)]
        found = Text(text) if text else None
    else:
        for name, read in READERS.items():
            if (value := field(part, name)) is not None:
                found = read(as_object(value, at + name), f"{at}{name}.", ids, dropped)
                break
    if isinstance(found, Media):
        found = replace(found, detail=_detail(part, at) or detail) if found.kind is MediaKind.IMAGE else found
    if signature is None:
        return [] if found is None else [found]
    proof = open_signature("", signature)
    if isinstance(found, ToolCall):
        return [replace(found, signature=signature)] if proof.origin == NAME else [proof, found]
    return [proof] if found is None else [found, proof]


def _detail(part: Raw, at: str) -> str | None:
    resolution = optional_object(part, "mediaResolution", at)
    return DETAILS.get(optional_text(resolution, "level", at) or "") if resolution else None


def _inline(value: Raw, at: str, ids: CallIds, dropped: list[str]) -> Part:
    return decode_inline(value, at, None)


def _file(value: Raw, at: str, ids: CallIds, dropped: list[str]) -> Part:
    return decode_file(value, at, None)


def _call(value: Raw, at: str, ids: CallIds, dropped: list[str]) -> Part:
    name = required_text(value, "name", at)
    arguments = arguments_of(optional_object(value, "args", at) or {})
    return ToolCall(ids.of_call(optional_text(value, "id", at), name), name, arguments)


def arguments_of(value: Raw) -> str:
    """`args` as JSON text; the text itself when it was wrapped because it is no object."""
    if len(value) == 1 and type(raw := value.get(RAW)) is str:
        return raw
    return compact(value)


def _result(value: Raw, at: str, ids: CallIds, dropped: list[str]) -> Part:
    dropped += [f"functionResponse.{name}" for name in ("scheduling", "willContinue") if field(value, name)]
    name = required_text(value, "name", at)
    response = optional_object(value, "response", at)
    parts: list[Part] = []
    failed = False
    if response:
        text, failed = _words(response)
        parts = [Text(text)] if text else []
    for index, item in enumerate(optional_list(value, "parts", at)):
        item = as_object(item, f"{at}parts[{index}]")
        for kind, read in IN_RESULT.items():
            if (inner := field(item, kind)) is not None:
                parts.append(read(as_object(inner, f"{at}parts[{index}].{kind}"), f"{at}parts[{index}].{kind}.", None))
                break
        else:
            raise missing(f"{at}parts[{index}].inlineData")
    call_id = ids.of_result(optional_text(value, "id", at), name)
    return ToolResult(call_id, tuple(parts), failed, name)


def _words(response: Raw) -> tuple[str, bool]:
    """The text of a response, and whether it tells of a failure."""
    if len(response) == 1:
        if type(text := response.get("error")) is str:
            return text, True
        for name in OUTPUTS:
            if type(text := response.get(name)) is str:
                return text, False
    return compact(response), False


def _code(value: Raw, at: str, ids: CallIds, dropped: list[str]) -> Part:
    return Text(fenced(value.get("code"), value.get("language")))


def _executed(value: Raw, at: str, ids: CallIds, dropped: list[str]) -> Part:
    return Text(executed(value))


def fenced(code: object, language: object) -> str:
    """Code as text."""
    named = language.lower() if type(language) is str and language.isalpha() else ""
    return f"\n```{named}\n{code if type(code) is str else ''}\n```\n"


def executed(value: Raw) -> str:
    """What came of code, as text."""
    return fenced(value.get("output"), None)


READERS: Final[dict[str, Callable[[Raw, str, CallIds, list[str]], Part]]] = {
    "inlineData": _inline,
    "fileData": _file,
    "functionCall": _call,
    "functionResponse": _result,
    "executableCode": _code,
    "codeExecutionResult": _executed,
}
IN_RESULT: Final[dict[str, Callable[[Raw, str, str | None], Part]]] = {"inlineData": decode_inline, "fileData": decode_file}
