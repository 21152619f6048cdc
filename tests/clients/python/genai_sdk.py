"""Google's SDK: contents, chats with automatic function calls, counts of tokens, lists of models."""

from __future__ import annotations

from functools import cache
from typing import Any

from google import genai
from google.genai import types
from pydantic import BaseModel
from steps import BREAK_OFF, CASE, HELLO, OVERLOAD, SUM, SYSTEM, Step, attempt, conversation, failures, report
from steps import add as sum_of

NAMES = [name.replace("#", "/") for name in CASE.names]  # it puts a name into the URL as it stands


class Answer(BaseModel):
    answer: int


def add(a: int, b: int) -> str:
    """Adds.

    Args:
        a: the first number
        b: the second number
    """
    return sum_of(a, b)


@cache  # a client that nobody holds any more closes its connections
def sdk(key: str = CASE.key, version: str | None = None) -> genai.Client:
    options = types.HttpOptions(base_url=CASE.url, api_version=version, timeout=20_000)
    return genai.Client(api_key=key, http_options=options)


def raised(step: Step) -> list[Any]:
    """[class, status, Google's status] of what a call raises."""
    try:
        value = step()
    except genai.errors.APIError as error:
        return [type(error).__name__, error.code, error.status]
    return ["nothing", value, None]


def content_steps(model: str) -> dict[str, Step]:
    client = sdk()
    brief = types.GenerateContentConfig(system_instruction=SYSTEM)
    by_hand = types.GenerateContentConfig(
        tools=[add], automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
    )

    def counts(reply: Any) -> list[int]:
        return [reply.usage_metadata.prompt_token_count, reply.usage_metadata.candidates_token_count]

    def told(client: genai.Client) -> Any:
        reply = client.models.generate_content(model=model, contents=HELLO, config=brief)
        return [reply.text, reply.candidates[0].finish_reason.name, counts(reply)]

    def streamed() -> Any:
        pieces = list(client.models.generate_content_stream(model=model, contents=HELLO, config=brief))
        text = "".join(piece.text or "" for piece in pieces)
        return [text, pieces[-1].candidates[0].finish_reason.name, counts(pieces[-1])]

    def answered(content: Any) -> Any:
        [call] = [part.function_call for part in content.parts if part.function_call]
        response = types.FunctionResponse(id=call.id, name=call.name, response={"result": add(**call.args)})
        asked = types.Content(role="user", parts=[types.Part(text=SUM)])
        result = types.Content(role="user", parts=[types.Part(function_response=response)])
        reply = client.models.generate_content(model=model, contents=[asked, content, result], config=by_hand)
        return [call.name, call.args, reply.text]

    def tool() -> Any:
        return answered(client.models.generate_content(model=model, contents=SUM, config=by_hand).candidates[0].content)

    def streamed_tool() -> Any:
        pieces = client.models.generate_content_stream(model=model, contents=SUM, config=by_hand)
        parts = [part for piece in pieces for part in (piece.candidates[0].content.parts or []) if part.function_call]
        return answered(types.Content(role="model", parts=parts))

    def automatic_tool() -> Any:
        chat = client.chats.create(model=model, config=types.GenerateContentConfig(tools=[add]))
        return chat.send_message(SUM).text

    def structured() -> Any:
        config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Answer)
        return client.models.generate_content(model=model, contents=HELLO, config=config).parsed.answer

    def broken(text: str) -> list[Any]:
        def last() -> Any:
            return list(client.models.generate_content_stream(model=model, contents=text))[-1].text

        return raised(last)

    return {
        "plain": lambda: told(client),
        "beta": lambda: told(sdk(version="v1beta")),
        "stream": streamed,
        "tool": tool,
        "streamed tool": streamed_tool,
        "automatic tool": automatic_tool,
        "structured": structured,
        "count": lambda: client.models.count_tokens(model=model, contents=HELLO).total_tokens > 0,
        "broken off": lambda: broken(BREAK_OFF),
        "overloaded": lambda: broken(OVERLOAD),
    }


def content_failure(key: str, model: str) -> Any:
    return sdk(key).models.generate_content(model=model, contents=HELLO)


report(
    {
        "lists": {
            "models": attempt(lambda: [model.name for model in sdk().models.list(config={"page_size": 3})]),
            "one": attempt(lambda: [sdk().models.get(model=name).name for name in NAMES]),
            "unknown": raised(lambda: sdk().models.get(model="no-such-model")),
        },
        "contents": {"models": conversation(content_steps), "failures": failures(content_failure, raised)},
    }
)
