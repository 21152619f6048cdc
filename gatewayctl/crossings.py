"""What is lost when a client of one dialect meets a provider of another: computed by the protocols themselves.

Each case is written in the client's dialect, read, and written for the provider; the answer goes the same way back. What is
named on the way is what `X-Gateway-Dropped` says. docs/protocols.md shows it; tests/api/test_matrix.py drives the same cases
through a daemon and finds exactly this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from daemon.domain.chat import (
    Chat,
    Choice,
    Finish,
    Losses,
    Media,
    MediaKind,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Reply,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.anthropic_messages import AnthropicMessages
from daemon.protocols.base import ChatProtocol
from daemon.protocols.gemini import Gemini
from daemon.protocols.openai_chat import OpenAIChat
from daemon.protocols.openai_responses import OpenAIResponses

__all__ = ["CASES", "DIALECTS", "Case", "Crossing", "cross"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of the four: its title, its protocol, and a model of a provider that speaks it."""

    title: str
    protocol: ChatProtocol
    model: str


DIALECTS: Final[dict[str, Dialect]] = {
    dialect.protocol.name: dialect
    for dialect in (
        Dialect("Chat completions", OpenAIChat(), "gpt-x"),
        Dialect("Responses", OpenAIResponses(), "gpt-x"),
        Dialect("Messages", AnthropicMessages(), "claude-sonnet-4-6"),
        Dialect("Gemini", Gemini(), "gemini-3-pro"),
    )
}


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation and its answer. `chat`: as said by whoever can say all of it."""

    name: str
    chat: Chat
    reply: Reply


@dataclass(frozen=True, slots=True)
class Crossing:
    """What became of a case. `unasked`: the field that the client's dialect has no word for; `refused`: the field for which
    the request gets 400; `request` and `reply`: names of what was left out on the way there and back."""

    unasked: str = ""
    refused: str = ""
    request: tuple[str, ...] = ()
    reply: tuple[str, ...] = ()


def cross(client: str, provider: str, case: Case) -> Crossing:
    """One cell of the matrix. The same dialect on both sides: bytes pass, and nothing is lost."""
    ours, theirs = DIALECTS[client], DIALECTS[provider]
    try:
        asked = ours.protocol.encode_request(case.chat, ours.model, Losses())
    except ApiError as error:
        return Crossing(unasked=error.param or error.code)
    if client == provider:
        return Crossing()
    chat = ours.protocol.decode_request({**asked, "model": ours.model, "stream": False})
    losses = Losses(list(chat.dropped))
    try:
        theirs.protocol.encode_request(chat, theirs.model, losses)
    except ApiError as error:
        return Crossing(refused=error.param or error.code)
    told = theirs.protocol.decode_reply(theirs.protocol.encode_reply(case.reply, theirs.model, Losses()))
    returned = Losses()
    ours.protocol.encode_reply(told, ours.model, returned, chat)
    return Crossing(request=tuple(losses.names), reply=tuple(returned.names))


# -- the cases

_WEATHER: Final = Tool("weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"warm": {"type": "boolean"}},
    "required": ["warm"],
    "additionalProperties": False,
}
_QUESTION: Final = Message(Role.USER, (Text("How is the weather?"),))
_SYSTEM: Final = Message(Role.SYSTEM, (Text("Be brief."),))
_BERN: Final = ToolCall("call_1", "weather", '{"city":"Bern"}')
_OSLO: Final = ToolCall("call_2", "weather", '{"city":"Oslo"}')
_IMAGE: Final = Media(MediaKind.IMAGE, "image/png", data="iVBORw0KGgo=")


def _case(
    name: str, *messages: Message, answer: tuple[Part, ...] = (Text("Warm."),), finish: Finish = Finish.STOP,
    stop_sequence: str | None = None, **asked: Any,
) -> Case:  # fmt: skip
    usage = Usage({"input": 90, "cached_input": 20, "output": 30})
    choice = Choice(answer, finish, stop_sequence)
    return Case(name, Chat("m", messages, max_output=500, **asked), Reply("r", "m", 1_700_000_000, (choice,), usage))


def _result(call: ToolCall) -> ToolResult:
    return ToolResult(call.id, (Text("sunny"),))


CASES: Final = (
    _case("plain text", _SYSTEM, _QUESTION),
    _case("multi-turn", _SYSTEM, _QUESTION, Message(Role.ASSISTANT, (Text("Warm."),)), _QUESTION),
    _case("image input", Message(Role.USER, (Text("What is it?"), _IMAGE))),
    _case(
        "tool round trip",
        _QUESTION,
        Message(Role.ASSISTANT, (Text("Let me look."), _BERN)),
        Message(Role.TOOL, (_result(_BERN),)),
        tools=(_WEATHER,),
    ),
    _case(
        "parallel tool calls",
        _QUESTION,
        Message(Role.ASSISTANT, (_BERN, _OSLO)),
        Message(Role.TOOL, (_result(_BERN), _result(_OSLO))),
        _QUESTION,
        answer=(_BERN, _OSLO),
        finish=Finish.TOOL_CALLS,
        tools=(_WEATHER,),
    ),
    _case("JSON schema", _QUESTION, answer=(Text('{"warm":true}'),), output_format=OutputFormat(_SCHEMA, "report", None, True)),
    _case(
        "reasoning",
        _QUESTION,
        answer=(Thinking("It is July."), Text("Warm.")),
        reasoning=Reasoning(effort="high", summary="auto"),
    ),
    _case("stop sequence", _QUESTION, finish=Finish.STOP_SEQUENCE, stop_sequence="cold", stop=("cold",)),
    _case("maximum tokens", _QUESTION, finish=Finish.LENGTH),
    _case("refusal", _QUESTION, answer=(Refusal("I will not say."),), finish=Finish.REFUSAL),
)
