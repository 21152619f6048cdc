"""A whole reply, both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from daemon.domain.chat import (
    Choice,
    Finish,
    Losses,
    Media,
    Part,
    Refusal,
    Reply,
    Text,
    Thinking,
    ToolCall,
)
from daemon.domain.usage import InvalidUsage
from daemon.protocols.gemini.citations import Grounding, cite, found_in
from daemon.protocols.gemini.content import add_proof, encode_call
from daemon.protocols.gemini.logprobs import decode_logprobs, encode_logprobs
from daemon.protocols.gemini.media import encode_media, reply_media
from daemon.protocols.gemini.parts import CallIds, arguments_of, executed, fenced
from daemon.protocols.gemini.seals import open_signature, seal
from daemon.protocols.gemini.tables import FINISH, FINISH_NUMBERS, NAME, REASON
from daemon.protocols.gemini.usage import tier_of, usage_object, usage_of
from daemon.protocols.gemini.values import objects_of, string_of

__all__ = ["UniqueIds", "blocked", "decode_reply", "encode_reply", "finish_of", "parts_of", "words_of_filter"]

Body = dict[str, Any]


def decode_reply(body: Body) -> Reply:
    """ValueError when `body` is not a reply. Its usage is None when it cannot be true: see usage_of."""
    candidates = objects_of(body, "candidates")
    reason = blocked(body)
    if "error" in body or (type(body.get("candidates")) is not list and reason is None and "usageMetadata" not in body):
        raise ValueError("the reply has no candidates")
    reply_id = string_of(body, "responseId")
    ids = CallIds(f"call_{reply_id}_" if reply_id else "call_")
    choices = tuple(_choice(candidate, ids) for candidate in candidates)
    if not choices:
        choices = (Choice((Refusal(reason),) if reason else (), None if reason is None else Finish.CONTENT_FILTER),)
    try:
        usage = usage_of(body)
    except InvalidUsage:
        usage = None
    return Reply(reply_id, string_of(body, "modelVersion"), 0, choices, usage, tier_of(body))


def _choice(candidate: Body, ids: CallIds) -> Choice:
    content = candidate.get("content")
    found: list[Part] = []
    places: list[int] = []
    for index, part in enumerate(objects_of(content, "parts") if type(content) is dict else ()):
        new = parts_of(part, ids)
        found += new
        places += [index] * len(new)
    if citations := found_in(candidate):
        found = cite(found, places, citations)
    finish = finish_of(candidate.get("finishReason"), any(isinstance(part, ToolCall) for part in found))
    if words := words_of_filter(candidate, finish):
        found.append(Refusal(words))
    logprobs = decode_logprobs(candidate)
    return Choice(tuple(found), finish, logprobs={"content": logprobs} if logprobs else None)


def parts_of(part: Body, ids: CallIds) -> list[Part]:
    """What one part of a candidate is: none when it is empty or not known, two when a proof stands on a text or medium."""
    signature = string_of(part, "thoughtSignature")
    text = part.get("text")
    if type(text) is str and part.get("thought") is True:
        thought = open_signature(text, signature) if signature else Thinking(text)
        return [thought] if text or signature else []
    found: Part | None = None
    if type(text) is str:
        found = Text(text) if text else None
    elif type(call := part.get("functionCall")) is dict:
        name, args = string_of(call, "name"), call.get("args")
        call_id = ids.of_call(string_of(call, "id") or None, name)
        found = ToolCall(call_id, name, arguments_of(args if type(args) is dict else {}))
    elif type(code := part.get("executableCode")) is dict:
        found = Text(fenced(code.get("code"), code.get("language")))
    elif type(result := part.get("codeExecutionResult")) is dict:
        found = Text(executed(result))
    else:
        found = reply_media(part)
    if not signature:
        return [] if found is None else [found]
    proof = open_signature("", signature)
    if isinstance(found, ToolCall):
        return [replace(found, signature=signature)] if proof.origin == NAME else [proof, found]
    return [proof] if found is None else [found, proof]


def finish_of(reason: object, called: bool) -> Finish | None:
    """Why the model stopped; None when nothing is said. A word that is not known is a fault: all but two of them are."""
    if type(reason) is int and 0 < reason < len(FINISH_NUMBERS):
        reason = FINISH_NUMBERS[reason]
    if type(reason) is not str or not reason:
        return None
    found = FINISH.get(reason, Finish.ERROR)
    return Finish.TOOL_CALLS if called and found is Finish.STOP else found


def words_of_filter(candidate: Body, finish: Finish | None) -> str:
    """What a filter says; other messages explain what the reason says already."""
    return string_of(candidate, "finishMessage") if finish is Finish.CONTENT_FILTER else ""


def blocked(body: Body) -> str | None:
    """The words, maybe none, with which a prompt was blocked; None when it was not."""
    feedback = body.get("promptFeedback")
    if type(feedback) is not dict or not feedback.get("blockReason"):
        return None
    return string_of(feedback, "blockReasonMessage")


# -- for a client


def encode_reply(reply: Reply, model: str, losses: Losses) -> Body:
    """The reply for a client. What is left out is in `losses`."""
    choices = reply.choices or (Choice((), None),)
    body: Body = {"candidates": [_candidate(choice, index, losses) for index, choice in enumerate(choices)]}
    if reply.usage is not None:
        body["usageMetadata"] = usage_object(reply.usage, reply.service_tier)
    return {**body, "modelVersion": model, "responseId": reply.id}


def _candidate(choice: Choice, index: int, losses: Losses) -> Body:
    if choice.stop_sequence is not None:
        losses.add("stop_sequence")
    parts: list[Body] = []
    grounding = Grounding()
    ids = UniqueIds()
    for part in choice.parts:
        _add(parts, part, ids, losses)
        if isinstance(part, Text):
            for citation in part.citations:
                grounding.add(citation, part.text, max(0, len(parts) - 1), losses)
    found: Body = {"content": {"parts": parts, "role": "model"}, "finishReason": _reason(choice), "index": index}
    if metadata := grounding.metadata():
        found["groundingMetadata"] = metadata
    if choice.logprobs is not None and (result := encode_logprobs(choice.logprobs.get("content"))) is not None:
        found["logprobsResult"] = result
    return found


def _reason(choice: Choice) -> str:
    """Hosts that say stop after a refusal in words mean that."""
    if choice.finish in (None, Finish.STOP) and any(isinstance(part, Refusal) for part in choice.parts):
        return REASON[Finish.REFUSAL]
    return REASON[choice.finish]


def _add(parts: list[Body], part: Part, ids: UniqueIds, losses: Losses) -> None:
    if isinstance(part, Text | Refusal):
        if part.text or (isinstance(part, Text) and part.citations):
            parts.append({"text": part.text})
    elif isinstance(part, ToolCall):
        parts.append(encode_call(part, ids.of(part.id), part.signature))
    elif isinstance(part, Media):
        parts.append(encode_media(part, None))
    elif isinstance(part, Thinking):
        if part.encrypted and part.signature:
            losses.add("thinking.encrypted")
        if (signature := seal(part)) is not None:
            add_proof(parts, part.text, signature)
        elif part.text:
            parts.append({"text": part.text, "thought": True})


class UniqueIds:
    """The ids of a reply's calls: clients match results by them, and some hosts give none, or one twice."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, given: str) -> str:
        """`given`, when it is an id that is not taken."""
        found = given or f"call_{len(self._taken)}"
        while found in self._taken:
            found += "_"
        self._taken.add(found)
        return found
