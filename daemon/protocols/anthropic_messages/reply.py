"""A whole message, both ways."""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.chat import (
    Choice,
    Finish,
    Losses,
    Part,
    Refusal,
    Reply,
    Text,
    Thinking,
    ToolCall,
)
from daemon.domain.usage import InvalidUsage
from daemon.protocols.anthropic_messages.blocks import arguments_of
from daemon.protocols.anthropic_messages.citations import decode_citations, encode_citations
from daemon.protocols.anthropic_messages.content import encode_input
from daemon.protocols.anthropic_messages.seals import CallSignature, call_signature_block, open_thinking, thinking_blocks
from daemon.protocols.anthropic_messages.tables import FINISH, NAME, REPLY_TIERS, REPLY_TIERS_ENCODED, STOP_REASON
from daemon.protocols.anthropic_messages.usage import usage_object, usage_of

__all__ = ["CallIds", "decode_reply", "encode_reply", "explanation_of", "finish_of", "string_of", "tier_of"]

Body = dict[str, Any]
CALL_ID: Final = "toolu_"


def decode_reply(body: Body) -> Reply:
    """ValueError when `body` is not a message. Its usage is None when it cannot be true: see usage_of."""
    content = body.get("content")
    if body.get("type") == "error" or type(content) is not list:
        raise ValueError("the reply is not a message: it has no content")
    parts: list[Part] = []
    signature: str | None = None
    for block in content:
        found = _part(block) if type(block) is dict else None
        if isinstance(found, CallSignature):
            signature = found.signature
        elif isinstance(found, ToolCall) and signature is not None:
            parts.append(ToolCall(found.id, found.name, found.arguments, signature=signature))
            signature = None
        elif found is not None:
            parts.append(found)
    finish = finish_of(body.get("stop_reason"))
    if finish is Finish.REFUSAL and (words := explanation_of(body)):
        parts.append(Refusal(words))
    try:
        usage = usage_of(body)
    except InvalidUsage:
        usage = None
    choice = Choice(tuple(parts), finish, string_of(body, "stop_sequence") or None)
    return Reply(string_of(body, "id"), string_of(body, "model"), 0, (choice,), usage, tier_of(body.get("usage")))


def _part(block: Body) -> Part | CallSignature | None:
    kind = block.get("type")
    if kind == "text":
        return Text(string_of(block, "text"), citations=decode_citations(block.get("citations")))
    if kind == "tool_use":
        return ToolCall(string_of(block, "id"), string_of(block, "name"), arguments_of(block.get("input") or {}))
    if kind == "thinking":
        return open_thinking(string_of(block, "thinking"), string_of(block, "signature"))
    if kind == "redacted_thinking":
        return Thinking(encrypted=string_of(block, "data"), origin=NAME)
    return None  # hosted tools at work, and what is not known


def finish_of(reason: object) -> Finish | None:
    """Why the model stopped; None when nothing is said."""
    return FINISH.get(reason, Finish.STOP) if type(reason) is str else None


def explanation_of(holder: Body) -> str:
    """The words for a refusal, in a message or the delta of one."""
    details = holder.get("stop_details")
    return string_of(details, "explanation") if type(details) is dict else ""


def tier_of(usage: object) -> str | None:
    """The service tier that the usage names."""
    tier = usage.get("service_tier") if type(usage) is dict else None
    return REPLY_TIERS.get(tier, tier) if type(tier) is str else None


def string_of(holder: Body, name: str) -> str:
    """A string, "" when it is none."""
    value = holder.get(name)
    return value if type(value) is str else ""


def encode_reply(reply: Reply, model: str, losses: Losses) -> Body:
    """The message for a client. What is left out is in `losses`."""
    if len(reply.choices) > 1:
        losses.add("choices")
    choice = reply.choices[0] if reply.choices else Choice((), None)
    if choice.logprobs is not None:
        losses.add("logprobs")
    content: list[Body] = []
    ids = CallIds()
    for part in choice.parts:
        content.extend(_blocks(part, ids, losses))
    usage = usage_object(reply.usage)
    if reply.service_tier in REPLY_TIERS_ENCODED:
        usage["service_tier"] = REPLY_TIERS_ENCODED[reply.service_tier]
    refused = any(isinstance(part, Refusal) for part in choice.parts)
    reason = stop_reason(choice.finish, refused, ids.count > 0)
    return {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": choice.stop_sequence if reason == "stop_sequence" else None,
        "usage": usage,
    }


def stop_reason(finish: Finish | None, refused: bool, called: bool) -> str:
    """The API's word. Hosts that say stop after a call or a refusal in words mean those."""
    if finish in (None, Finish.STOP):
        if refused:
            return "refusal"
        if called:
            return "tool_use"
    return STOP_REASON[finish]


def _blocks(part: Part, ids: CallIds, losses: Losses) -> list[Body]:
    if isinstance(part, Text):
        block: Body = {"type": "text", "text": part.text}
        if part.citations and (citations := encode_citations(part.citations, losses)):
            block["citations"] = citations
        return [block] if part.text or part.citations else []
    if isinstance(part, Refusal):
        return [{"type": "text", "text": part.text}] if part.text else []
    if isinstance(part, Thinking):
        return thinking_blocks(part)
    if isinstance(part, ToolCall):
        call = {"type": "tool_use", "id": ids.of(part.id), "name": part.name, "input": encode_input(part)}
        return [call] if part.signature is None else [call_signature_block(part.signature), call]
    losses.add("media")
    return []


class CallIds:
    """The ids of a reply's calls: clients match results by them, and some hosts give none, or one twice."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    @property
    def count(self) -> int:
        return len(self._taken)

    def of(self, given: str) -> str:
        """`given`, when it is an id that is not taken."""
        found = given or f"{CALL_ID}{len(self._taken)}"
        while found in self._taken:
            found += "_"
        self._taken.add(found)
        return found
