"""What bounds the cost of a conversation in the Messages or Responses API; the rest of the body is the provider's to judge,
or the translation's."""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.admission import Ask
from daemon.domain.errors import ApiError
from daemon.domain.usage import MAX_COUNT
from daemon.protocols import openai_chat
from daemon.protocols.asks import NO_AUDIO, count_of, invalid, missing, model_of
from daemon.protocols.bounds import hosted, media_parts, stored, unbounded
from daemon.protocols.tiers import asked_tier

__all__ = ["read_messages", "read_responses"]

TOOL_PROMPT: Final = 512  # instructions that hosts put in front of a request with tools


def read_messages(body: dict[str, Any], size: int) -> Ask:
    """POST /v1/messages. ApiError 400 with `param`."""
    model = model_of(body)
    _list_of_objects(body.get("messages"), "messages")
    if body.get("max_tokens") is None:
        raise missing("max_tokens")
    limit = count_of(body, "max_tokens", MAX_COUNT)
    assert limit is not None
    wanted = body.get("output_format") or (_object(body.get("output_config")).get("format"))
    return _ask(body, size, model, limit, schema=bool(wanted))


def read_responses(body: dict[str, Any], size: int) -> Ask:
    """POST /v1/responses. ApiError 400 with `param`."""
    model = model_of(body)
    given = body.get("input")
    if given is None and body.get("prompt") is None:
        raise missing("input")
    if given is not None and type(given) is not str:
        _list_of_objects(given, "input")
    limit = count_of(body, "max_output_tokens", MAX_COUNT)
    kind = _object(_object(body.get("text")).get("format")).get("type")
    return _ask(body, size, model, limit, schema=kind == "json_schema", json=kind == "json_object")


def _ask(body: dict[str, Any], size: int, model: str, limit: int | None, *, schema: bool = False, json: bool = False) -> Ask:
    openai_chat.refuse_lookalikes(body)
    stream = body.get("stream")
    if stream is not None and type(stream) is not bool:
        raise invalid("stream", "it must be true or false")
    features = {name for name, used in (("structured_outputs", schema), ("json_mode", json)) if used}
    if body.get("tools"):
        features.add("tools")
    rounds = 2 if _compacts(body) else 1  # the conversation is read once more, to be summed up
    return Ask(
        model=model,
        stream=stream is True,
        body_bytes=size,
        input_bound=rounds * (size + (TOOL_PROMPT if "tools" in features else 0)),
        output_limit=limit,
        output_extra=(rounds - 1) * (limit or 0),
        n=1,
        media_parts=media_parts(body.get("messages", body.get("input"))) + media_parts(body.get("system")),
        features=frozenset(features),
        unbounded=tuple(unbounded(body)),
        not_used=NO_AUDIO,
        tier=asked_tier(body)[0],
        hosted=hosted(body),
        stored=stored(body),
    )


def _compacts(body: dict[str, Any]) -> bool:
    management = body.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else management
    return isinstance(edits, list) and any(str(_object(edit).get("type", "")).startswith("compact") for edit in edits)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list_of_objects(value: object, name: str) -> None:
    if value is None or value == [] or value == "":
        raise missing(name)
    if type(value) is not list:
        raise invalid(name, "it must be an array")
    for index, item in enumerate(value):
        if type(item) is not dict:
            raise ApiError.of("invalid_value", param=f"{name}[{index}]", reason="it must be an object")
