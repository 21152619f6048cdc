"""OpenAI's SDK: chat completions, responses, and the one-shot endpoints."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import openai
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


class Answer(BaseModel):
    answer: int


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
ADD = {"name": "add", "description": "Adds.", "parameters": SCHEMA, "strict": True}


def sdk(key: str = CASE.key) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{CASE.url}/v1", api_key=key, max_retries=0, timeout=20)


def called(name: str, arguments: str) -> tuple[list[Any], str]:
    """[name, arguments] and what the tool gives."""
    given = json.loads(arguments)
    return [name, given], add(**given)


# ---------------------------------------------------------------------------------- chat completions


def chat_steps(model: str) -> dict[str, Step]:
    create = sdk().chat.completions.create
    tools: Any = [{"type": "function", "function": ADD}]

    def ask(text: str = HELLO) -> Any:
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]

    def plain() -> Any:
        reply = create(model=model, messages=ask())
        counts = reply.usage
        return [
            reply.model, reply.choices[0].message.content, reply.choices[0].finish_reason,
            [counts.prompt_tokens, counts.completion_tokens],
        ]  # fmt: skip

    def streamed() -> Any:
        text, finish, counts = "", None, None
        options: Any = {"include_usage": True}
        for chunk in create(model=model, messages=ask(), stream=True, stream_options=options):
            for choice in chunk.choices:
                text, finish = text + (choice.delta.content or ""), choice.finish_reason or finish
            counts = chunk.usage or counts
        return [text, finish, [counts.prompt_tokens, counts.completion_tokens]]

    def streamed_without_usage() -> str:
        chunks = create(model=model, messages=ask(), stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    def answered(message: Any) -> Any:
        [call] = message.tool_calls
        said, result = called(call.function.name, call.function.arguments)
        turn = [message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": result}]
        reply = create(model=model, messages=[*ask(SUM), *turn], tools=tools)
        return [*said, reply.choices[0].message.content]

    def tool() -> Any:
        return answered(create(model=model, messages=ask(SUM), tools=tools).choices[0].message)

    def streamed_tool() -> Any:
        with sdk().chat.completions.stream(model=model, messages=ask(SUM), tools=tools) as stream:
            stream.until_done()
            message = stream.get_final_completion().choices[0].message
        for call in message.tool_calls:
            call.function.parsed_arguments = None
        message.parsed = None
        return answered(message)

    def structured() -> Any:
        reply = sdk().chat.completions.parse(model=model, messages=ask(), response_format=Answer)
        return reply.choices[0].message.parsed.answer

    def broken(text: str) -> list[Any]:
        return raised(lambda: list(create(model=model, messages=ask(text), stream=True)))

    return {
        "plain": plain,
        "request id": lambda: identified(create(model=model, messages=ask())),
        "stream": streamed,
        "stream without usage": streamed_without_usage,
        "tool": tool,
        "streamed tool": streamed_tool,
        "structured": structured,
        "broken off": lambda: broken(BREAK_OFF),
        "overloaded": lambda: broken(OVERLOAD),
    }


def chat_failure(key: str, model: str) -> Any:
    return sdk(key).chat.completions.create(model=model, messages=[{"role": "user", "content": HELLO}])


# ----------------------------------------------------------------------------------------- responses


def responses_steps(model: str) -> dict[str, Step]:
    create = sdk().responses.create
    tools: Any = [{"type": "function", **ADD}]

    def plain() -> Any:
        reply = create(model=model, instructions=SYSTEM, input=HELLO)
        return [reply.model, reply.output_text, reply.status, [reply.usage.input_tokens, reply.usage.output_tokens]]

    def streamed() -> Any:
        with sdk().responses.stream(model=model, instructions=SYSTEM, input=HELLO) as stream:
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            reply = stream.get_final_response()
        assert reply.output_text == text
        return [text, reply.status, [reply.usage.input_tokens, reply.usage.output_tokens]]

    def answered(reply: Any) -> Any:
        [call] = [item for item in reply.output if item.type == "function_call"]
        said, result = called(call.name, call.arguments)
        items = [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in reply.output]
        given = [{"role": "user", "content": SUM}, *items]
        given.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
        return [*said, create(model=model, input=given, tools=tools, store=False).output_text]

    def tool() -> Any:
        return answered(create(model=model, input=SUM, tools=tools, store=False))

    def streamed_tool() -> Any:
        with sdk().responses.stream(model=model, input=SUM, tools=tools, store=False) as stream:
            stream.until_done()
            return answered(stream.get_final_response())

    def structured() -> Any:
        return sdk().responses.parse(model=model, input=HELLO, text_format=Answer).output_parsed.answer

    def broken(text: str) -> list[Any]:
        def events() -> Any:
            seen = [event.type for event in create(model=model, input=text, stream=True)]
            return seen[-1]

        return raised(events)

    return {
        "plain": plain,
        "request id": lambda: identified(create(model=model, input=HELLO)),
        "stream": streamed,
        "tool": tool,
        "streamed tool": streamed_tool,
        "structured": structured,
        "broken off": lambda: broken(BREAK_OFF),
        "overloaded": lambda: broken(OVERLOAD),
    }


def responses_failure(key: str, model: str) -> Any:
    return sdk(key).responses.create(model=model, input=HELLO)


# ------------------------------------------------------------------------------------ everything else


def embedding() -> Any:
    reply = sdk().embeddings.create(model=CASE.embedding_model, input=["one", "two"])  # asks for base64 by itself
    return [[one.embedding for one in reply.data], reply.usage.prompt_tokens]


def plain_embedding() -> Any:
    reply = sdk().embeddings.create(model=CASE.embedding_model, input="one", encoding_format="float")
    return reply.data[0].embedding


def transcription(client: openai.OpenAI) -> str:
    file = ("a.mp3", io.BytesIO(b"ID3" * 100_000))
    return client.audio.transcriptions.create(model=CASE.transcription_model, file=file).text


def edited_image() -> Any:
    picture = ("a.png", io.BytesIO(b"PNG"), "image/png")
    return sdk().images.edit(model=CASE.image_model, image=picture, prompt="a hat", n=1).data[0].b64_json


report(
    {
        "lists": {
            "models": attempt(lambda: [model.id for model in sdk().models.list()]),
            "one": attempt(lambda: [sdk().models.retrieve(name).id for name in CASE.names]),
            "unknown": raised(lambda: sdk().models.retrieve("no-such-model")),
        },
        "chat": {"models": conversation(chat_steps), "failures": failures(chat_failure)},
        "responses": {"models": conversation(responses_steps), "failures": failures(responses_failure)},
        "one shot": {
            "embedding": attempt(embedding),
            "plain embedding": attempt(plain_embedding),
            "image": attempt(lambda: sdk().images.generate(model=CASE.image_model, prompt="a cat", n=1).data[0].b64_json),
            "speech": attempt(
                lambda: base64.b64encode(
                    sdk().audio.speech.create(model=CASE.speech_model, voice="alloy", input="Hello.").content
                ).decode()
            ),
            "edited image": attempt(edited_image),
            "transcription": attempt(lambda: transcription(sdk())),
            "refused upload": raised(lambda: transcription(sdk("sk-gw-wrong"))),
        },
    }
)
