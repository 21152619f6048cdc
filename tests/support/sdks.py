"""The official SDKs at the daemon: each asks for a reply, whole or streamed, and reads it with its own types.

sdks = Sdks(crossing)
said = sdks.ask("anthropic_messages", model, "hi", stream=True, request_id="r-1")     # raises what the SDK raises
"""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
from google import genai

from tests.support.crossing import CHAT, GEMINI, MESSAGES, RESPONSES, Crossing
from tests.support.said import Said

FAILURES = (openai.APIError, anthropic.APIError, genai.errors.APIError)


class Sdks:
    """One client per dialect, none of which tries again."""

    def __init__(self, crossing: Crossing) -> None:
        url, key = crossing.gateway.url, crossing.user.key
        self._openai = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        self._anthropic = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)
        self._gemini = genai.Client(
            api_key=key, vertexai=False, http_options=genai.types.HttpOptions(base_url=url, api_version="v1beta")
        )

    def ask(self, dialect: str, model: str, text: str, *, stream: bool, request_id: str) -> Said:
        """What the SDK of a dialect reads as the answer of a model to a text."""
        headers = {"X-Request-Id": request_id}
        if dialect == CHAT:
            return self._chat(model, text, stream, headers)
        if dialect == RESPONSES:
            return self._responses(model, text, stream, headers)
        if dialect == MESSAGES:
            return self._messages(model, text, stream, headers)
        assert dialect == GEMINI
        return self._generate(model, text, stream, headers)

    def close(self) -> None:
        self._openai.close()
        self._anthropic.close()
        self._gemini.close()

    def _chat(self, model: str, text: str, stream: bool, headers: dict[str, str]) -> Said:
        asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "extra_headers": headers}
        if not stream:
            return _of_completion(self._openai.chat.completions.create(**asked))
        with self._openai.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
            pieces = [event.delta for event in events if event.type == "content.delta"]
            try:
                final = events.get_final_completion()
            except openai.LengthFinishReasonError as error:  # how the SDK tells that the limit was reached
                final = error.completion
        found = _of_completion(final)
        assert "".join(pieces) == found.text
        return found

    def _responses(self, model: str, text: str, stream: bool, headers: dict[str, str]) -> Said:
        asked: dict[str, Any] = {"model": model, "input": text, "extra_headers": headers}
        if not stream:
            return _of_response(self._openai.responses.create(**asked))
        with self._openai.responses.stream(**asked) as events:
            seen = list(events)
        last = seen[-1]
        assert last.type in ("response.completed", "response.incomplete"), last
        found = _of_response(last.response)
        assert "".join(event.delta for event in seen if event.type == "response.output_text.delta") == found.text
        return found

    def _messages(self, model: str, text: str, stream: bool, headers: dict[str, str]) -> Said:
        asked: dict[str, Any] = {
            "model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 1000, "extra_headers": headers,
        }  # fmt: skip
        if not stream:
            return _of_message(self._anthropic.messages.create(**asked))
        with self._anthropic.messages.stream(**asked) as events:
            seen = list(events)
            found = _of_message(events.get_final_message())
        assert "".join(event.text for event in seen if event.type == "text") == found.text
        # The accumulator completes arguments that break off; what was sent is in the events.
        sent: dict[int, str] = {}
        for event in seen:
            if event.type == "content_block_start" and event.content_block.type == "tool_use":
                sent[event.index] = ""
            elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                sent[event.index] += event.delta.partial_json
        found.calls = [(name, text) for (name, _), text in zip(found.calls, sent.values(), strict=True)]
        return found

    def _generate(self, model: str, text: str, stream: bool, headers: dict[str, str]) -> Said:
        config = genai.types.GenerateContentConfig(http_options=genai.types.HttpOptions(headers=headers))
        asked: dict[str, Any] = {"model": model, "contents": text, "config": config}
        if not stream:
            return _of_generated([self._gemini.models.generate_content(**asked)])
        return _of_generated(list(self._gemini.models.generate_content_stream(**asked)))


def _of_completion(completion: Any) -> Said:
    choice = completion.choices[0]
    message, usage = choice.message, completion.usage
    read, written = usage.prompt_tokens_details, usage.completion_tokens_details
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return Said(
        text=message.content or "",
        refusal=message.refusal or "",
        thoughts=(message.model_extra or {}).get("reasoning_content") or "",
        calls=[(call.function.name, call.function.arguments) for call in message.tool_calls or ()],
        usage={
            "input": usage.prompt_tokens,
            "cached": (read and read.cached_tokens) or 0,
            "output": usage.completion_tokens,
            "reasoning": (written and written.reasoning_tokens) or 0,
        },
        finish=choice.finish_reason,
    )


def _of_response(response: Any) -> Said:
    usage, items = response.usage, response.output
    parts = [part for item in items if item.type == "message" for part in item.content]
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    return Said(
        text=response.output_text,
        refusal="".join(part.refusal for part in parts if part.type == "refusal"),
        thoughts="".join(part.text for item in items if item.type == "reasoning" for part in item.summary),
        calls=[(item.name, item.arguments) for item in items if item.type == "function_call"],
        usage={
            "input": usage.input_tokens,
            "cached": usage.input_tokens_details.cached_tokens,
            "output": usage.output_tokens,
            "reasoning": usage.output_tokens_details.reasoning_tokens,
        },
        finish=response.status,
    )


def _of_message(message: Any) -> Said:
    usage = message.usage
    cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    details = usage.output_tokens_details
    return Said(
        text="".join(block.text for block in message.content if block.type == "text"),
        thoughts="".join(block.thinking for block in message.content if block.type == "thinking"),
        calls=[(block.name, json.dumps(block.input)) for block in message.content if block.type == "tool_use"],
        usage={
            "input": usage.input_tokens + cached + written,
            "cached": cached,
            "written": written,
            "written_1h": usage.cache_creation.ephemeral_1h_input_tokens if usage.cache_creation else 0,
            "output": usage.output_tokens,
            "reasoning": details.thinking_tokens if details else 0,
        },
        finish=message.stop_reason,
    )


def _of_generated(replies: list[Any]) -> Said:
    found = Said()
    for reply in replies:
        for candidate in reply.candidates or ():
            if candidate.index not in (None, 0):
                continue
            found.finish = candidate.finish_reason or found.finish
            for part in (candidate.content.parts if candidate.content else None) or ():
                if part.thought:
                    found.thoughts += part.text or ""
                elif part.text:
                    found.text += part.text
                if part.function_call:
                    found.calls.append((part.function_call.name, json.dumps(part.function_call.args or {})))
        if reply.usage_metadata is not None:
            usage = reply.usage_metadata
            thoughts = usage.thoughts_token_count or 0
            found.usage = {
                "input": (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
                "cached": usage.cached_content_token_count or 0,
                "output": (usage.candidates_token_count or 0) + thoughts,
                "reasoning": thoughts,
            }
    return found
