"""The canonical conversation → a provider's request."""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.chat import Chat, Losses, OutputFormat, Reasoning, Tool, ToolMode
from daemon.protocols.gemini.content import Turns
from daemon.protocols.gemini.models import BUDGETS, Generation, generation_of
from daemon.protocols.gemini.tables import TIERS_ENCODED
from daemon.protocols.gemini.values import compact

__all__ = ["encode_request"]

Body = dict[str, Any]
MODES: Final = {ToolMode.AUTO: "AUTO", ToolMode.REQUIRED: "ANY", ToolMode.NAMED: "ANY", ToolMode.NONE: "NONE"}
LEFT_OUT: Final = ("metadata", "user", "verbosity")
INT32: Final = 2**31
JSON_WANTED: Final = "Reply with one JSON object and nothing else: no code fence, no words around it."
FREE_TEXT: Final[Body] = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
# A field of the conversation, and of generationConfig.
NUMBERS: Final = (
    ("max_output", "maxOutputTokens"),
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
    ("logprobs", "responseLogprobs"),
    ("top_logprobs", "logprobs"),
)


def encode_request(chat: Chat, model: str, losses: Losses) -> Body:
    """The request for `model`, which stands in the URL: see names.path_of. ApiError for what must not be left out silently."""
    for name in LEFT_OUT:
        if getattr(chat, name):
            losses.add(name)
    generation = generation_of(model)
    turns = Turns(losses, generation)
    for message in chat.messages:
        turns.add(message)
    system, contents = turns.take()
    config: Body = {given: getattr(chat, name) for name, given in NUMBERS if getattr(chat, name) is not None}
    if chat.stop:
        config["stopSequences"] = list(chat.stop)
    if chat.n > 1:
        config["candidateCount"] = chat.n
    if chat.seed is not None:
        if -INT32 <= chat.seed < INT32:
            config["seed"] = chat.seed
        else:
            losses.add("seed.range")
    if chat.output_format is not None:
        _add_format(config, system, chat.output_format, bool(chat.tools) and not generation.json_beside_tools, losses)
    if chat.reasoning is not None:
        _add_reasoning(config, chat.reasoning, generation, losses)
    body: Body = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    if chat.tools:
        _add_tools(body, chat, losses)
    if config:
        body["generationConfig"] = config
    if chat.service_tier in TIERS_ENCODED:
        body["serviceTier"] = TIERS_ENCODED[chat.service_tier]
    elif chat.service_tier not in (None, "auto"):
        losses.add("service_tier.other")
    return body


def _add_format(config: Body, system: list[Body], wanted: OutputFormat, in_words: bool, losses: Losses) -> None:
    if not in_words:
        config["responseMimeType"] = "application/json"
        if wanted.schema is not None:
            config["responseJsonSchema"] = wanted.schema
        return
    losses.add("output_format.tools")
    shape = f" It must match this JSON schema: {compact(wanted.schema)}" if wanted.schema is not None else ""
    system.append({"text": JSON_WANTED + shape})


# -- tools


def _add_tools(body: Body, chat: Chat, losses: Losses) -> None:
    body["tools"] = [{"functionDeclarations": [_function(tool, losses) for tool in chat.tools]}]
    if chat.parallel_tool_calls is False:
        losses.add("parallel_tool_calls")
    if chat.tool_choice is not None:
        calling: Body = {"mode": MODES[chat.tool_choice.mode]}
        if chat.tool_choice.mode is ToolMode.NAMED:
            calling["allowedFunctionNames"] = [chat.tool_choice.name]
        body["toolConfig"] = {"functionCallingConfig": calling}


def _function(tool: Tool, losses: Losses) -> Body:
    if tool.cache_control is not None:
        losses.add("cache_control")
    if tool.strict:
        losses.add("tool.strict")
    found: Body = {"name": tool.name}
    if tool.description is not None:
        found["description"] = tool.description
    if tool.custom:
        if tool.format is not None and tool.format.get("type") != "text":
            losses.add("tool.format")
        found["parametersJsonSchema"] = FREE_TEXT
    elif tool.parameters:
        schema = tool.parameters
        found["parametersJsonSchema"] = schema if schema.get("type") == "object" else {**schema, "type": "object"}
    return found


# -- thinking


def _add_reasoning(config: Body, wanted: Reasoning, generation: Generation, losses: Losses) -> None:
    effort, budget = wanted.effort, wanted.budget_tokens
    if not generation.thinks:
        if effort not in (None, "none") or budget or wanted.adaptive or wanted.summary is not None:
            losses.add("reasoning.model")
        return
    found: Body = {}
    if effort == "none" or budget == 0:
        if generation.levels:
            losses.add("reasoning.effort")
            found["thinkingLevel"] = generation.levels["minimal"]
        else:
            if generation.least_budget:
                losses.add("reasoning.effort")
            found["thinkingBudget"] = generation.least_budget
    elif budget is not None:
        found["thinkingBudget"] = max(budget, generation.least_budget)
    elif effort is not None and generation.levels:
        found["thinkingLevel"] = generation.levels[effort]
    elif effort is not None:
        found["thinkingBudget"] = BUDGETS[effort]
    elif wanted.adaptive and not generation.levels:
        found["thinkingBudget"] = -1
    if wanted.summary is not None:
        found["includeThoughts"] = True
    if found:
        config["thinkingConfig"] = found
