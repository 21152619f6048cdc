"""The canonical conversation → a provider's request."""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.chat import Chat, Losses, OutputFormat, Reasoning, Tool, ToolMode
from daemon.protocols.anthropic_messages.content import Turns, plain
from daemon.protocols.anthropic_messages.models import BUDGETS, Generation, effort_of_budget, generation_of
from daemon.protocols.anthropic_messages.tables import DEFAULT_MAX_TOKENS, TIERS_ENCODED, VERSION, VERSIONS
from daemon.protocols.anthropic_messages.values import unsupported

__all__ = ["encode_request"]

Body = dict[str, Any]
MODES: Final = {ToolMode.AUTO: "auto", ToolMode.REQUIRED: "any", ToolMode.NAMED: "tool", ToolMode.NONE: "none"}
FORCED: Final = frozenset({ToolMode.REQUIRED, ToolMode.NAMED})
LEFT_OUT: Final = ("seed", "presence_penalty", "frequency_penalty", "logprobs", "metadata", "verbosity")
USER_LENGTH: Final = 256
BUDGET_MIN: Final = 1024  # the API's; max_tokens must be more than the budget
TOP_P_MIN: Final = 0.95  # beside thinking
JSON_WANTED: Final = "Reply with one JSON object and nothing else: no code fence, no words around it."
# In a schema: members that hold schemas by name, and members that hold values.
NAMED_SCHEMAS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})
VALUES: Final = frozenset({"enum", "const", "default", "examples", "required"})
FREE_TEXT: Final[Body] = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}


def encode_request(
    chat: Chat,
    model: str,
    losses: Losses,
    *,
    version: str = VERSION,
    default_max_tokens: int = DEFAULT_MAX_TOKENS,
    inline_system: bool = False,
) -> Body:
    """The request for `model` as `version` of the API has it (send it in the header VERSION_HEADER).

    `default_max_tokens`: the model's own limit, when it is known, for a chat without one. `inline_system`: the model takes
    system messages among the others. ApiError for what must not be left out silently; what is left out is in `losses`.
    """
    if chat.n > 1:
        raise unsupported("n", "more than one answer", "send the request several times")
    _name_left_out(chat, losses)
    generation = generation_of(model)
    turns = Turns(losses, inline_system)
    for message in chat.messages:
        turns.add(message)
    system, messages = turns.take()
    body: Body = {"model": model, "max_tokens": chat.max_output or default_max_tokens, "messages": messages}
    if chat.output_format is not None:
        _add_format(body, system, chat.output_format, losses)
    if system:
        body["system"] = plain(system)
    if chat.tools:
        _add_tools(body, chat, losses)
    if chat.reasoning is not None:
        _add_reasoning(body, chat, chat.reasoning, generation, losses)
    _add_sampling(body, chat, VERSIONS.get(version, frozenset()), generation, losses)
    if chat.stop:
        body["stop_sequences"] = _stop(chat.stop)
    if chat.user is not None and len(chat.user) > USER_LENGTH:
        losses.add("user.length")
    elif chat.user is not None:
        body["metadata"] = {"user_id": chat.user}
    if chat.service_tier in TIERS_ENCODED:
        body["service_tier"] = TIERS_ENCODED[chat.service_tier]
    elif chat.service_tier is not None:
        losses.add("service_tier.other")
    if chat.stream:
        body["stream"] = True
    return body


def _name_left_out(chat: Chat, losses: Losses) -> None:
    """Names what has no place here. A zero, an empty object, are nothing."""
    for name in LEFT_OUT:
        value = getattr(chat, name)
        if value or (name == "seed" and value is not None):
            losses.add(name)


def _stop(values: tuple[str, ...]) -> list[str]:
    if not all(value.strip() for value in values):
        raise unsupported("stop", "a stop sequence of white space", "the API accepts none")
    return list(values)


def _add_format(body: Body, system: list[Body], wanted: OutputFormat, losses: Losses) -> None:
    if wanted.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": closed(wanted.schema)}}
        return
    losses.add("output_format.json")
    system.append({"type": "text", "text": JSON_WANTED})


def closed(schema: Any) -> Any:
    """A copy whose objects say additionalProperties false where they said nothing, as the API demands."""
    if type(schema) is list:
        return [closed(item) for item in schema]
    if type(schema) is not dict:
        return schema
    found: Body = {}
    for name, value in schema.items():
        if name in NAMED_SCHEMAS and type(value) is dict:
            found[name] = {key: closed(inner) for key, inner in value.items()}
        else:
            found[name] = value if name in VALUES else closed(value)
    kind = found.get("type")
    if kind == "object" or (type(kind) is list and "object" in kind):
        found.setdefault("additionalProperties", False)
    return found


# -- tools


def _add_tools(body: Body, chat: Chat, losses: Losses) -> None:
    body["tools"] = [_tool(tool, losses) for tool in chat.tools]
    choice: Body = {}
    if chat.tool_choice is not None:
        choice["type"] = MODES[chat.tool_choice.mode]
        if chat.tool_choice.mode is ToolMode.NAMED:
            choice["name"] = chat.tool_choice.name
    if chat.parallel_tool_calls is False and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    if choice:
        body["tool_choice"] = choice


def _tool(tool: Tool, losses: Losses) -> Body:
    found: Body = {"name": tool.name}
    if tool.description is not None:
        found["description"] = tool.description
    if tool.custom:
        if tool.format is not None and tool.format.get("type") != "text":
            losses.add("tool.format")
        found["input_schema"] = FREE_TEXT
    else:
        schema = tool.parameters or {}
        found["input_schema"] = schema if schema.get("type") == "object" else {**schema, "type": "object"}
    if tool.strict:
        found["strict"] = True
    if tool.cache_control is not None:
        found["cache_control"] = tool.cache_control
    return found


# -- thinking


def _add_reasoning(body: Body, chat: Chat, wanted: Reasoning, generation: Generation, losses: Losses) -> None:
    effort, budget = wanted.effort, wanted.budget_tokens
    if effort == "none" or budget == 0:
        if generation.can_disable:
            body["thinking"] = {"type": "disabled"}
        else:
            losses.add("reasoning.effort")
            _set_effort(body, generation, "low")
        return
    if generation.adaptive:
        if budget is not None:
            losses.add("reasoning.budget_tokens")
            effort = effort or effort_of_budget(budget)
        _set_effort(body, generation, effort)
    if effort is None and budget is None and not wanted.adaptive:
        return
    if chat.tools and chat.tool_choice is not None and chat.tool_choice.mode in FORCED:
        losses.add("reasoning.forced_tool")
    elif generation.adaptive:
        body["thinking"] = {"type": "adaptive"}
        if wanted.summary is not None:
            body["thinking"]["display"] = "summarized"
    elif _answers_bare_call(body["messages"]):
        losses.add("reasoning.tool_loop")
    else:
        _set_budget(body, chat.max_output, budget or BUDGETS.get(effort or "", BUDGETS["medium"]), losses)


def _set_effort(body: Body, generation: Generation, effort: str | None) -> None:
    if effort is not None and (name := generation.efforts.get(effort)) is not None:
        body["output_config"] = {**body.get("output_config", {}), "effort": name}


def _set_budget(body: Body, limit: int | None, budget: int, losses: Losses) -> None:
    """A budget that leaves room for the answer."""
    fitting = max(budget, BUDGET_MIN)
    if limit is None:
        body["max_tokens"] += fitting
    elif limit <= BUDGET_MIN:
        losses.add("reasoning.room")
        return
    elif fitting >= limit:
        losses.add("reasoning.budget_tokens")
        fitting = max(BUDGET_MIN, limit * 3 // 4)
    body["thinking"] = {"type": "enabled", "budget_tokens": fitting}


def _answers_bare_call(messages: list[Body]) -> bool:
    """Whether the last turn answers a call without a thought before it, which the API refuses beside a budget."""
    if len(messages) < 2 or messages[-1]["role"] != "user" or messages[-2]["role"] != "assistant":
        return False
    answer, call = messages[-1]["content"], messages[-2]["content"]
    if type(answer) is str or type(call) is str or answer[0]["type"] != "tool_result":
        return False
    return call[0]["type"] not in ("thinking", "redacted_thinking")


# -- sampling


def _add_sampling(body: Body, chat: Chat, refused: frozenset[str], generation: Generation, losses: Losses) -> None:
    # 1 is the default of both, and saying it can be an error.
    temperature = chat.temperature if chat.temperature != 1 else None
    top_p = chat.top_p if chat.top_p != 1 else None
    if temperature is not None and temperature > 1:
        losses.add("temperature.range")
        temperature = None
    given = {"temperature": temperature, "top_p": top_p, "top_k": chat.top_k}
    allowed = {name: value for name, value in given.items() if value is not None}
    before = len(allowed)
    if generation.samplers == 0:
        allowed.clear()
    if generation.samplers == 1 and "temperature" in allowed:
        allowed.pop("top_p", None)
    if body.get("thinking", {}).get("type") in ("enabled", "adaptive"):
        allowed = {"top_p": top_p} if "top_p" in allowed and top_p is not None and top_p >= TOP_P_MIN else {}
    for name in refused:
        allowed.pop(name, None)
    if len(allowed) < before:
        losses.add("sampling")
    body.update(allowed)
