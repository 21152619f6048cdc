"""Messages → the contents and the system instruction of a provider's request."""

from __future__ import annotations

from typing import Any, Final

import jiter

from daemon.domain.chat import Losses, Media, Message, Part, Refusal, Role, Text, Thinking, ToolCall, ToolResult
from daemon.protocols.gemini.media import encode_media
from daemon.protocols.gemini.models import Generation
from daemon.protocols.gemini.parts import RAW
from daemon.protocols.gemini.seals import SKIPPED
from daemon.protocols.gemini.tables import NAME

__all__ = ["Turns", "add_proof", "encode_call", "encode_input"]

Raw = dict[str, Any]
SYSTEM: Final = frozenset({Role.SYSTEM, Role.DEVELOPER})
SIGNED_AFTER: Final = ("text", "inlineData", "fileData")  # parts that a proof without words may stand on


class Turns:
    """Collects contents as the API wants them: the system apart, all results of one turn's calls in one content."""

    def __init__(self, losses: Losses, generation: Generation) -> None:
        self.system: list[Raw] = []
        self.contents: list[Raw] = []
        self._losses = losses
        self._generation = generation
        self._joins = False  # the last content is results, which the next ones join
        self._names: dict[str, str] = {}  # a call's id -> the function's name

    def add(self, message: Message) -> None:
        if message.name is not None:
            self._losses.add("message.name")
        if message.role in SYSTEM:
            self._add_system(message)
            return
        parts = self._model(message.parts) if message.role is Role.ASSISTANT else self._user(message.parts)
        if not parts:
            return
        if message.role is Role.TOOL and self._joins:
            self.contents[-1]["parts"] += parts
        else:
            self.contents.append({"role": "model" if message.role is Role.ASSISTANT else "user", "parts": parts})
        self._joins = message.role is Role.TOOL

    def take(self) -> tuple[list[Raw], list[Raw]]:
        """System parts and contents. The API needs a content: a conversation of system messages only becomes the user's."""
        if not self.contents and self.system:
            self._losses.add("system.position")
            return [], [{"role": "user", "parts": self.system}]
        return self.system, self.contents

    def _add_system(self, message: Message) -> None:
        parts = [part for item in message.parts if isinstance(item, Text) for part in self._words(item)]
        if not all(isinstance(part, Text) for part in message.parts):
            self._losses.add("system.media")
        if parts and self.contents:
            self._losses.add("system.position")
        self.system += parts

    def _words(self, part: Text | Refusal) -> list[Raw]:
        if isinstance(part, Text):
            if part.citations:
                self._losses.add("citations")
            if part.cache_control is not None:
                self._losses.add("cache_control")
        return [{"text": part.text}] if part.text else []

    # -- the model's turn

    def _model(self, parts: tuple[Part, ...]) -> list[Raw]:
        found: list[Raw] = []
        called = False
        for part in parts:
            if isinstance(part, Text | Refusal):
                found += self._words(part)
            elif isinstance(part, Media):
                found.append(encode_media(part, self._losses))
            elif isinstance(part, ToolCall):
                self._names[part.id] = part.name
                signature = part.signature
                if signature is None and not called and self._generation.signed_calls:
                    signature = SKIPPED
                called = True
                found.append(encode_call(part, part.id, signature))
            elif isinstance(part, Thinking):
                if part.origin != NAME or not part.signature:
                    self._losses.add("thinking")
                else:
                    add_proof(found, part.text, part.signature)
        return found

    # -- the user's turn, and results

    def _user(self, parts: tuple[Part, ...]) -> list[Raw]:
        found: list[Raw] = []
        beside: list[Raw] = []
        for part in parts:
            if isinstance(part, Text | Refusal):
                found += self._words(part)
            elif isinstance(part, Media):
                found.append(encode_media(part, self._losses))
            elif isinstance(part, ToolResult):
                found.append(self._result(part, beside))
        return found + beside

    def _result(self, result: ToolResult, beside: list[Raw]) -> Raw:
        """`beside` gets the media of results where they cannot stand inside."""
        if result.cache_control is not None:
            self._losses.add("cache_control")
        words = [part.text for part in result.parts if isinstance(part, Text | Refusal)]
        media = [encode_media(part, self._losses) for part in result.parts if isinstance(part, Media)]
        # Models were trained on this name of the member.
        response: Raw = {"error" if result.is_error else "output": "\n".join(words)} if words or result.is_error else {}
        name = result.name or self._names.get(result.call_id) or result.call_id
        found: Raw = {"id": result.call_id, "name": name, "response": response}
        if media and self._generation.media_in_results:
            found["parts"] = media
        else:
            beside += media
        return {"functionResponse": found}


def add_proof(parts: list[Raw], text: str, signature: str) -> None:
    """A thought with what proves it; one without words goes on the part before it, where that can bear it."""
    if text:
        parts.append({"text": text, "thought": True, "thoughtSignature": signature})
        return
    last = parts[-1] if parts else {}
    if any(name in last for name in SIGNED_AFTER) and "thought" not in last and "thoughtSignature" not in last:
        last["thoughtSignature"] = signature
    else:
        parts.append({"text": "", "thoughtSignature": signature})


def encode_call(call: ToolCall, call_id: str, signature: str | None) -> Raw:
    """A functionCall part."""
    part: Raw = {"functionCall": {"id": call_id, "name": call.name, "args": encode_input(call.arguments, call.custom)}}
    if signature is not None:
        part["thoughtSignature"] = signature
    return part


def encode_input(arguments: str, custom: bool) -> Raw:
    """Arguments as the object that `args` has to be; {_raw: text} when they are none, {input: text} for a custom tool."""
    if custom:
        return {"input": arguments}
    if not arguments.strip():
        return {}
    try:
        found = jiter.from_json(arguments.encode(), allow_inf_nan=False)
    except (ValueError, UnicodeEncodeError):
        found = None
    return found if type(found) is dict else {RAW: arguments}
