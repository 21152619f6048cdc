"""A request of the Responses API ↔ the canonical conversation."""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.chat import Chat, Losses, Message, OutputFormat, Reasoning, Role, Text
from daemon.domain.usage import MAX_COUNT
from daemon.protocols.openai_responses.items import decode_input, encode_input
from daemon.protocols.openai_responses.tables import (
    DROPPED,
    EFFORT_OF_BUDGET,
    EFFORTS,
    REFUSED,
    REQUEST,
    SUMMARIES,
    VERBOSITIES,
)
from daemon.protocols.openai_responses.tools import decode_tools, encode_choice, encode_tools
from daemon.protocols.openai_responses.values import (
    as_object,
    invalid,
    missing,
    model_of,
    one_of,
    optional_flag,
    optional_integer,
    optional_list,
    optional_number,
    optional_object,
    optional_text,
    required_text,
    unsupported,
)

TOP_LOGPROBS_MAX: Final = 20
ENCRYPTED: Final = "reasoning.encrypted_content"
LOGPROBS: Final = "message.output_text.logprobs"
SCHEMA_NAME: Final = "output"
# Values that say nothing.
NOTHING: Final[tuple[object, ...]] = (None, False, "", "disabled", [], {})


# -- decode


def decode_request(body: dict[str, Any]) -> Chat:
    """A client's request. ApiError (400) with `param` when it is malformed or asks for what no other protocol has."""
    dropped: list[str] = []
    for name, value in body.items():
        fate = REQUEST.get(name)
        if fate is None or value in NOTHING:
            continue
        if fate[0] == REFUSED:
            raise unsupported(name, f"'{name}'", fate[1])
        if fate[0] == DROPPED:
            dropped.append(name)
    model = model_of(body)
    messages = decode_input(body.get("input"), dropped)
    if instructions := optional_text(body, "instructions"):
        messages.insert(0, Message(Role.SYSTEM, (Text(instructions),)))
    if not messages:
        raise missing("input")
    tools, choice = decode_tools(body, dropped)
    include = optional_list(body, "include")
    logprobs = True if LOGPROBS in include else None
    top_logprobs = optional_integer(body, "top_logprobs", 0, TOP_LOGPROBS_MAX)
    output_format, verbosity = _decode_text(body)
    reasoning = _decode_reasoning(body, dropped)
    parallel = optional_flag(body, "parallel_tool_calls")
    user = optional_text(body, "user")
    return Chat(
        model,
        tuple(messages),
        stream=optional_flag(body, "stream") is True,
        max_output=optional_integer(body, "max_output_tokens", 1, MAX_COUNT),
        temperature=optional_number(body, "temperature", 2),
        top_p=optional_number(body, "top_p", 1),
        logprobs=logprobs,
        top_logprobs=top_logprobs if logprobs else None,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel if tools else None,
        output_format=output_format,
        reasoning=reasoning,
        service_tier=optional_text(body, "service_tier"),
        user=optional_text(body, "safety_identifier") or user,
        metadata=optional_object(body, "metadata") or None,
        verbosity=verbosity,
        include_encrypted=ENCRYPTED in include,
        dropped=tuple(dropped),
    )


def _decode_text(body: dict[str, Any]) -> tuple[OutputFormat | None, str | None]:
    text = optional_object(body, "text")
    if not text:
        return None, None
    verbosity = one_of(optional_text(text, "verbosity", "text."), VERBOSITIES, "text.verbosity")
    given = text.get("format")
    if given is None:
        return None, verbosity
    form, at = as_object(given, "text.format"), "text.format."
    kind = required_text(form, "type", at)
    if kind == "text":
        return None, verbosity
    if kind == "json_object":
        return OutputFormat(), verbosity
    if kind != "json_schema":
        raise invalid("text.format.type", "it must be one of text, json_object, json_schema")
    schema = optional_object(form, "schema", at)
    if schema is None:
        raise missing("text.format.schema")
    name, description = optional_text(form, "name", at), optional_text(form, "description", at)
    return OutputFormat(schema, name, description, optional_flag(form, "strict", at)), verbosity


def _decode_reasoning(body: dict[str, Any], dropped: list[str]) -> Reasoning | None:
    reasoning = optional_object(body, "reasoning")
    if not reasoning:
        return None
    given = optional_text(reasoning, "effort", "reasoning.")
    effort = None if given is None else EFFORTS.get(given)
    if effort is None and given is not None:
        raise invalid("reasoning.effort", f"it must be one of {', '.join(EFFORTS)}")
    if effort != given:
        dropped.append(f"reasoning.effort.{given}")
    for name in ("context", "mode"):
        if reasoning.get(name) not in (None, "auto", "standard"):
            dropped.append(f"reasoning.{name}")
    name = "summary" if reasoning.get("summary") is not None else "generate_summary"
    summary = one_of(optional_text(reasoning, name, "reasoning."), SUMMARIES, f"reasoning.{name}")
    return Reasoning(effort, summary=summary) if effort is not None or summary is not None else None


# -- encode


def encode_request(chat: Chat, model: str, losses: Losses) -> dict[str, Any]:
    """A provider's request for `chat`. ApiError 400 unsupported_parameter for what must not be left out silently."""
    if chat.stop:
        raise unsupported("stop", "'stop'", "the Responses API has no stop sequences")
    if chat.n > 1:
        raise unsupported("n", "'n' above 1", "the Responses API gives one answer")
    for name in ("top_k", "seed"):
        if getattr(chat, name) is not None:
            losses.add(name)
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(chat, name):
            losses.add(name)
    body: dict[str, Any] = {"model": model}
    messages = chat.messages
    if messages and (instructions := _instructions(messages[0], losses)) is not None:
        body["instructions"] = instructions
        messages = messages[1:]
    body["input"] = encode_input(messages, losses)
    # Nothing of a conversation that came another way is to be kept by the provider.
    body["store"] = False
    if chat.stream:
        body["stream"] = True
    for name, value in (
        ("max_output_tokens", chat.max_output),
        ("temperature", chat.temperature),
        ("top_p", chat.top_p),
        ("service_tier", chat.service_tier),
        ("user", chat.user),
        ("metadata", chat.metadata),
    ):
        if value is not None:
            body[name] = value
    if chat.tools:
        body["tools"] = encode_tools(chat.tools, losses)
        if chat.tool_choice is not None:
            body["tool_choice"] = encode_choice(chat.tool_choice, chat.tools)
        if chat.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = chat.parallel_tool_calls
    if text := _encode_text(chat):
        body["text"] = text
    if chat.reasoning is not None and (reasoning := _encode_reasoning(chat.reasoning, losses)):
        body["reasoning"] = reasoning
    include = [ENCRYPTED] if chat.include_encrypted else []
    if chat.logprobs:
        include.append(LOGPROBS)
        if chat.top_logprobs is not None:
            body["top_logprobs"] = chat.top_logprobs
    if include:
        body["include"] = include
    return body


def _instructions(first: Message, losses: Losses) -> str | None:
    """The text of a first system message that is nothing else."""
    if first.role is not Role.SYSTEM or first.name is not None or len(first.parts) != 1:
        return None
    part = first.parts[0]
    if not isinstance(part, Text) or not part.text:
        return None
    if part.cache_control is not None:
        losses.add("cache_control")
    return part.text


def _encode_text(chat: Chat) -> dict[str, Any]:
    text: dict[str, Any] = {}
    if (form := chat.output_format) is not None:
        if form.schema is None:
            text["format"] = {"type": "json_object"}
        else:
            encoded: dict[str, Any] = {"type": "json_schema", "name": form.name or SCHEMA_NAME, "schema": form.schema}
            for name, value in (("description", form.description), ("strict", form.strict)):
                if value is not None:
                    encoded[name] = value
            text["format"] = encoded
    if chat.verbosity is not None:
        text["verbosity"] = chat.verbosity
    return text


def _encode_reasoning(reasoning: Reasoning, losses: Losses) -> dict[str, Any]:
    out: dict[str, Any] = {}
    effort = reasoning.effort
    if reasoning.budget_tokens is not None:
        losses.add("reasoning.budget_tokens")
        if effort is None:
            budget = reasoning.budget_tokens
            effort = next((name for below, name in EFFORT_OF_BUDGET if budget < below), "high")
    if effort is not None:
        out["effort"] = effort
    if reasoning.summary is not None:
        out["summary"] = reasoning.summary
    return out
