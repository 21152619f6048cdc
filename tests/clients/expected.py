"""What each SDK makes of each of its calls, through the gateway: the same whoever serves the model, but where it is said.

A `Surface` is one API as one SDK offers it. To add one: 1 a script in python/ or node/ that reports it, 2 a row of SURFACES.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.clients.persona import GREETING, INPUT_TOKENS, OUTPUT_TOKENS
from tests.clients.stage import CHAT, GEMINI, MESSAGES, RESPONSES

TEXT: Final = "".join(GREETING)
COUNTS: Final = [INPUT_TOKENS, OUTPUT_TOKENS]
ROUND_TRIP: Final = ["add", {"a": 1, "b": 2}, "The tool said 3."]
MODEL: Final = "<model>"  # stands for the name that was asked for
TOOLS: Final = {"tool": ROUND_TRIP, "streamed tool": ROUND_TRIP, "structured": 42}


@dataclass(frozen=True)
class Surface:
    """`own` is the model whose host speaks this very API: errors inside its streams are the host's, in `own_steps`."""

    sdk: str
    name: str
    own: str
    steps: Mapping[str, Any]
    failures: Mapping[str, Any]
    own_steps: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.sdk}, {self.name}"

    def expected(self, model: str) -> dict[str, Any]:
        """step → what it reports for a model."""
        steps = {**self.steps, **(self.own_steps if model == self.own else {})}
        return {name: _named(value, model) for name, value in steps.items()}


def _named(value: Any, model: str) -> Any:
    return [model if item == MODEL else item for item in value] if isinstance(value, list) else value


def broken(*error: Any) -> dict[str, Any]:
    """Both ways in which a stream breaks end in the same exception."""
    return {"broken off": list(error), "overloaded": list(error)}


def refusals(**classes: str) -> dict[str, Any]:
    """status → [class, status, code]; the classes by status: s401=…"""
    codes = {"401": "invalid_api_key", "402": "insufficient_balance", "404": "model_not_found", "429": "provider_paused"}
    return {status: [classes[f"s{status}"], int(status), code] for status, code in codes.items()}


# ------------------------------------------------------------------------------------- OpenAI's own SDKs

OPENAI_CHAT = {
    "plain": [MODEL, TEXT, "stop", COUNTS],
    "request id": True,
    "stream": [TEXT, "stop", COUNTS],
    "stream without usage": TEXT,
    **TOOLS,
    **broken("APIError", None, "upstream_error"),
}
OPENAI_RESPONSES = {
    "plain": [MODEL, TEXT, "completed", COUNTS],
    "request id": True,
    "stream": [TEXT, "completed", COUNTS],
    **TOOLS,
    **broken("APIError", None, "upstream_error"),
}
OPENAI_CLASSES = {"s401": "AuthenticationError", "s404": "NotFoundError", "s429": "RateLimitError"}
PYTHON_REFUSALS = refusals(**OPENAI_CLASSES, s402="APIStatusError")
NODE_REFUSALS = refusals(**OPENAI_CLASSES, s402="APIError")

# ---------------------------------------------------------------------------------- Anthropic's own SDKs

MESSAGES_STEPS = {
    "plain": [MODEL, TEXT, "end_turn", COUNTS],
    "request id": True,
    "stream": [TEXT, "end_turn", COUNTS],
    "version of 2023": TEXT,
    "count": True,
    **TOOLS,
}
MESSAGES_REFUSALS = refusals(**OPENAI_CLASSES, s402="PaymentRequiredError")

# ----------------------------------------------------------------------------------------- Google's SDK

CONTENTS = {
    "plain": [TEXT, "STOP", COUNTS],
    "beta": [TEXT, "STOP", COUNTS],
    "stream": [TEXT, "STOP", COUNTS],
    "automatic tool": "The tool said 3.",
    "count": True,
    **TOOLS,
    **broken("ServerError", 502, "UNAVAILABLE"),
}
CONTENTS_REFUSALS = {
    "401": ["ClientError", 401, "UNAUTHENTICATED"],
    "402": ["ClientError", 402, "FAILED_PRECONDITION"],
    "404": ["ClientError", 404, "NOT_FOUND"],
    "429": ["ClientError", 429, "RESOURCE_EXHAUSTED"],
}

# --------------------------------------------------------------------------------------------- LangChain

LANGCHAIN = {
    "plain": [TEXT, COUNTS],
    "stream": TEXT,
    "stream with usage": COUNTS,
    "structured by a tool": 42,
    **TOOLS,
}
LANGCHAIN_OPENAI = {**LANGCHAIN, **broken("APIError", None, "upstream_error")}
LANGCHAIN_OPENAI_REFUSALS = refusals(
    s401="OpenAIAuthenticationError", s402="APIStatusError", s404="OpenAIModelNotFoundError", s429="OpenAIRateLimitError"
)
LANGCHAIN_ANTHROPIC_REFUSALS = refusals(
    s401="AnthropicAuthenticationError",
    s402="PaymentRequiredError",
    s404="AnthropicModelNotFoundError",
    s429="AnthropicRateLimitError",
)

# ---------------------------------------------------------------------------------------- Vercel's AI SDK

AI = {"plain": [TEXT, "stop", COUNTS], "stream": [TEXT, "stop", COUNTS], **TOOLS}
AI_REFUSALS = {status: ["AI_APICallError", int(status)] for status in ("401", "402", "404", "429")}


def ai(name: str, own: str, status: int | None, own_status: int | None) -> Surface:
    """A surface of the AI SDK; the statuses are what it makes of an error inside a stream, the gateway's and the host's."""
    steps = {**AI, **broken("AI_StreamProviderError", status)}
    return Surface("ai", name, own, steps, AI_REFUSALS, {"overloaded": ["AI_StreamProviderError", own_status]})


SURFACES: Final = (
    Surface(
        "openai-python", "chat", CHAT, OPENAI_CHAT, PYTHON_REFUSALS,
        {"overloaded": ["APIError", None, "overloaded"]},
    ),
    Surface(
        "openai-python", "responses", RESPONSES, OPENAI_RESPONSES, PYTHON_REFUSALS,
        {"overloaded": ["nothing", "error", None]},  # an event of this API, which the SDK hands on as it is
    ),
    Surface(
        "anthropic-python", "messages", MESSAGES,
        MESSAGES_STEPS | broken("APIStatusError", 200, "upstream_error"), MESSAGES_REFUSALS,
        {"overloaded": ["APIStatusError", 200, None]},
    ),
    Surface(
        "openai-node", "chat", CHAT, OPENAI_CHAT, NODE_REFUSALS,
        {"overloaded": ["APIError", None, "overloaded"]},
    ),
    Surface(
        "openai-node", "responses", RESPONSES, OPENAI_RESPONSES, NODE_REFUSALS,
        {"overloaded": ["APIError", None, "server_error"]},
    ),
    Surface(
        "anthropic-node", "messages", MESSAGES,
        MESSAGES_STEPS | broken("APIError", None, "upstream_error"), MESSAGES_REFUSALS,
        {"overloaded": ["APIError", None, None]},
    ),
    Surface(
        "genai-python", "contents", GEMINI, CONTENTS, CONTENTS_REFUSALS,
        {"overloaded": ["ServerError", 503, "UNAVAILABLE"]},
    ),
    Surface(
        "langchain-openai", "chat", CHAT, LANGCHAIN_OPENAI, LANGCHAIN_OPENAI_REFUSALS,
        {"overloaded": ["APIError", None, "overloaded"]},
    ),
    Surface(
        "langchain-openai", "responses", RESPONSES, LANGCHAIN_OPENAI, LANGCHAIN_OPENAI_REFUSALS,
        {"overloaded": ["ValueError", None, None]},
    ),
    Surface(
        "langchain-anthropic", "messages", MESSAGES,
        LANGCHAIN | broken("APIStatusError", 200, "upstream_error"), LANGCHAIN_ANTHROPIC_REFUSALS,
        {"overloaded": ["APIStatusError", 200, None]},
    ),
    ai("openai responses", RESPONSES, 500, 500),
    ai("openai chat", CHAT, 500, 503),
    ai("openai compatible", CHAT, None, None),
    ai("anthropic", MESSAGES, None, 529),
    ai("google", GEMINI, 502, 503),
)  # fmt: skip

# ------------------------------------------------------------------------------------- lists and one shot

UNKNOWN_MODEL: Final = {
    "openai-python": ["NotFoundError", 404, "model_not_found"],
    "openai-node": ["NotFoundError", 404, "model_not_found"],
    "anthropic-python": ["NotFoundError", 404, "model_not_found"],
    "anthropic-node": ["NotFoundError", 404, "model_not_found"],
    "genai-python": ["ClientError", 404, "NOT_FOUND"],
}
