"""Anthropic's SDK: messages, counts of tokens, lists of models."""

from __future__ import annotations

from typing import Any

import anthropic
from pydantic import BaseModel
from steps import (
    BREAK_OFF,
    CASE,
    HELLO,
    OVERLOAD,
    SUM,
    SYSTEM,
    Step,
    add,
    attempt,
    conversation,
    failures,
    identified,
    raised,
    report,
)

OLD_VERSION = {"anthropic-version": "2023-06-01"}


class Answer(BaseModel):
    answer: int


ADD: Any = {
    "name": "add",
    "description": "Adds.",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}


def sdk(key: str = CASE.key) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=CASE.url, api_key=key, max_retries=0, timeout=20)


def message_steps(model: str) -> dict[str, Step]:
    create = sdk().messages.create

    def ask(text: str = HELLO, **more: Any) -> dict[str, Any]:
        return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}

    def told(reply: Any) -> list[Any]:
        return [reply.content[0].text, reply.stop_reason, [reply.usage.input_tokens, reply.usage.output_tokens]]

    def plain() -> Any:
        reply = create(**ask(system=SYSTEM))
        return [reply.model, *told(reply)]

    def streamed() -> Any:
        with sdk().messages.stream(**ask(system=SYSTEM)) as stream:
            text = "".join(stream.text_stream)
            reply = stream.get_final_message()
        assert reply.content[0].text == text
        return told(reply)

    def old_version() -> Any:
        return create(**ask(), extra_body={"temperature": 0.5}, extra_headers=OLD_VERSION).content[0].text

    def answered(reply: Any) -> Any:
        [call] = [block for block in reply.content if block.type == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": add(**call.input)}
        blocks = [block.model_dump(exclude_none=True) for block in reply.content]
        turn = [{"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]
        body = ask(SUM, tools=[ADD])
        final = create(**{**body, "messages": [*body["messages"], *turn]})
        return [call.name, call.input, final.content[0].text]

    def tool() -> Any:
        return answered(create(**ask(SUM, tools=[ADD])))

    def streamed_tool() -> Any:
        with sdk().messages.stream(**ask(SUM, tools=[ADD])) as stream:
            return answered(stream.get_final_message())

    def structured() -> Any:
        return sdk().messages.parse(**ask(), output_format=Answer).parsed_output.answer

    def broken(text: str) -> list[Any]:
        return raised(lambda: [event.type for event in create(**ask(text), stream=True)])

    return {
        "plain": plain,
        "request id": lambda: identified(create(**ask())),
        "stream": streamed,
        "version of 2023": old_version,
        "tool": tool,
        "streamed tool": streamed_tool,
        "structured": structured,
        "count": lambda: sdk().messages.count_tokens(model=model, messages=ask()["messages"]).input_tokens > 0,
        "broken off": lambda: broken(BREAK_OFF),
        "overloaded": lambda: broken(OVERLOAD),
    }


def message_failure(key: str, model: str) -> Any:
    return sdk(key).messages.create(model=model, max_tokens=100, messages=[{"role": "user", "content": HELLO}])


report(
    {
        "lists": {
            "models": attempt(lambda: [model.id for model in sdk().models.list(limit=3)]),  # several pages
            "one": attempt(lambda: [sdk().models.retrieve(name).id for name in CASE.names]),
            "unknown": raised(lambda: sdk().models.retrieve("no-such-model")),
        },
        "messages": {"models": conversation(message_steps), "failures": failures(message_failure)},
    }
)
