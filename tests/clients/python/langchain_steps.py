"""The steps of LangChain's chat models, which all have one interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool as as_tool
from pydantic import BaseModel
from steps import BREAK_OFF, HELLO, OVERLOAD, SUM, SYSTEM, Step, failures, raised
from steps import add as sum_of

ASKED = [SystemMessage(SYSTEM), HumanMessage(HELLO)]


class Answer(BaseModel):
    """The answer."""

    answer: int


@as_tool
def add(a: int, b: int) -> str:
    """Adds."""
    return sum_of(a, b)


def chat_steps(make: Callable[..., Any]) -> Callable[[str], dict[str, Step]]:
    """`make(model)` gives the chat model."""

    def counts(message: Any) -> list[int]:
        return [message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]]

    def steps(model: str) -> dict[str, Step]:
        chat = make(model)

        def plain() -> Any:
            reply = chat.invoke(ASKED)
            return [reply.text, counts(reply)]

        def whole(messages: Any, chat: Any = chat) -> Any:
            pieces = list(chat.stream(messages))
            reply = pieces[0]
            for piece in pieces[1:]:
                reply += piece
            return reply

        def answered(reply: Any) -> Any:
            [call] = reply.tool_calls
            result = ToolMessage(add.invoke(call["args"]), tool_call_id=call["id"])
            return [call["name"], call["args"], chat.bind_tools([add]).invoke([HumanMessage(SUM), reply, result]).text]

        def broken(text: str) -> list[Any]:
            return raised(lambda: whole([HumanMessage(text)]).text)

        return {
            "plain": plain,
            "stream": lambda: whole(ASKED).text,
            "stream with usage": lambda: counts(whole(ASKED, make(model, stream_usage=True))),
            "tool": lambda: answered(chat.bind_tools([add]).invoke([HumanMessage(SUM)])),
            "streamed tool": lambda: answered(whole([HumanMessage(SUM)], chat.bind_tools([add]))),
            "structured": lambda: chat.with_structured_output(Answer, method="json_schema").invoke(HELLO).answer,
            "structured by a tool": lambda: chat.with_structured_output(Answer, method="function_calling").invoke(HELLO).answer,
            "broken off": lambda: broken(BREAK_OFF),
            "overloaded": lambda: broken(OVERLOAD),
        }

    return steps


def chat_failures(make: Callable[..., Any]) -> dict[str, Any]:
    return failures(lambda key, model: make(model, key=key).invoke(HELLO).text)
