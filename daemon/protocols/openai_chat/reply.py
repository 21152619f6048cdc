"""A whole chat completion: a provider's as a canonical Reply, and a Reply for a client."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from daemon.domain.chat import (
    Chat,
    Choice,
    Finish,
    Losses,
    Media,
    MediaKind,
    Part,
    Refusal,
    Reply,
    Text,
    Thinking,
    ToolCall,
)
from daemon.domain.usage import InvalidUsage, Usage
from daemon.protocols.openai_chat.tables import FINISH, REASON
from daemon.protocols.openai_chat.thoughts import details_of, thinking_part, thoughts_of
from daemon.protocols.openai_chat.usage import usage_of
from daemon.protocols.openai_chat.values import annotation, arguments_text, call_id, citation_of, image_of, signature_of

__all__ = ["call_object", "decode_reply", "encode_reply", "finish_of", "image_object", "sources_of", "usage_object"]

# Usage of a reply for a client: field -> the meters that it sums. Details are given when they are not zero, but for those
# that OpenAI always gives.
CACHED: Final = ("cached_input",)
WRITTEN: Final = ("cache_write_5m", "cache_write_1h")


def decode_reply(body: dict[str, Any]) -> Reply:
    """ValueError when it is not a chat completion. Usage that cannot be true is left out."""
    items = body.get("choices")
    if type(items) is not list or not items:
        raise ValueError("a chat completion without choices")
    named = _string(body.get("id"))
    choices = [_choice(item, number, named) for number, item in enumerate(items)]
    if sources := sources_of(body):
        choices[0] = _with_sources(choices[0], sources)
    created, tier = body.get("created"), body.get("service_tier")
    try:
        usage = usage_of(body)
    except InvalidUsage:
        usage = None
    return Reply(
        named,
        _string(body.get("model")),
        created if type(created) is int else 0,
        tuple(choices),
        usage,
        tier if type(tier) is str else None,
    )


def _choice(item: object, number: int, reply_id: str) -> Choice:
    message = item.get("message") if type(item) is dict else None
    if type(item) is not dict or type(message) is not dict:
        raise ValueError("a choice without a message")
    parts = _parts(message, number, reply_id)
    refused = any(isinstance(part, Refusal) for part in parts)
    finish = finish_of(item.get("finish_reason"), any(isinstance(part, ToolCall) for part in parts), refused)
    stop = item.get("stop_reason")
    if type(stop) is str and finish is Finish.STOP:
        finish = Finish.STOP_SEQUENCE
    logprobs = item.get("logprobs")
    return Choice(
        tuple(parts),
        finish,
        stop if finish is Finish.STOP_SEQUENCE and type(stop) is str else None,
        logprobs if type(logprobs) is dict else None,
    )


def _parts(message: dict[str, Any], number: int, reply_id: str) -> list[Part]:
    content = _content(message.get("content"))
    parts: list[Part] = []
    if not any(isinstance(part, Thinking) for part in content):
        parts += thoughts_of(message)
    parts += content
    if text := _string(message.get("refusal")):
        parts.append(Refusal(text))
    audio = message.get("audio")
    if type(audio) is dict and type(audio.get("data")) is str:
        if transcript := _string(audio.get("transcript")):
            parts.append(Text(transcript))
        parts.append(Media(MediaKind.AUDIO, data=audio["data"]))
    images = message.get("images")
    if type(images) is list:
        parts += [image for value in images if (image := image_of(value)) is not None]
    notes = message.get("annotations")
    if type(notes) is list and (found := tuple(note for value in notes if (note := citation_of(value)) is not None)):
        _cite(parts, found)
    return parts + _calls(message, number, reply_id)


def _content(content: object) -> list[Part]:
    if type(content) is str:
        return [Text(content)] if content else []
    parts: list[Part] = []
    for item in content if type(content) is list else ():
        if type(item) is not dict:
            continue
        if type(text := item.get("text")) is str:
            if text:
                parts.append(Text(text))
        elif type(text := item.get("refusal")) is str:
            parts.append(Refusal(text))
        elif (image := image_of(item)) is not None:
            parts.append(image)
        elif (thought := thinking_part(item)) is not None:
            parts.append(thought)
    return parts


def _calls(message: dict[str, Any], number: int, reply_id: str) -> list[Part]:
    calls: list[Part] = []
    items = message.get("tool_calls")
    signature = signature_of(message)  # an older form: of the first call
    for item in items if type(items) is list else ():
        if type(item) is not dict:
            continue
        custom = type(item.get("custom")) is dict
        inner = item["custom"] if custom else item.get("function")
        if type(inner) is not dict:
            continue
        text = arguments_text(inner.get("input" if custom else "arguments"))
        named = _string(item.get("id")) or call_id(reply_id, number, len(calls))
        calls.append(ToolCall(named, _string(inner.get("name")), text, custom, signature_of(item) or signature))
        signature = None
    function = message.get("function_call")
    if type(function) is dict and not calls:
        text = arguments_text(function.get("arguments"))
        calls.append(ToolCall(call_id(reply_id, number, 0), _string(function.get("name")), text, False, signature))
    return calls


def finish_of(reason: object, called: bool, refused: bool) -> Finish | None:
    """Why it stopped. Some hosts say stop after tool calls, and OpenAI does after a refusal."""
    if type(reason) is not str:
        return None
    finish = FINISH.get(reason, Finish.STOP)
    if finish is Finish.STOP:
        return Finish.TOOL_CALLS if called else Finish.REFUSAL if refused else finish
    return finish


def sources_of(body: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Perplexity's sources of a reply as citations of its whole text."""
    urls, results = body.get("citations"), body.get("search_results")
    titles: dict[str, Any] = {}
    for item in results if type(results) is list else ():
        if type(item) is dict and type(item.get("url")) is str:
            titles[item["url"]] = item.get("title")
    found = [url for url in urls if type(url) is str] if type(urls) is list else []
    return tuple(
        {"url": url, "title": titles[url]} if type(titles.get(url)) is str else {"url": url} for url in found or titles
    )


def _with_sources(choice: Choice, sources: tuple[dict[str, Any], ...]) -> Choice:
    parts = list(choice.parts)
    if not any(isinstance(part, Text) and part.citations for part in parts):
        _cite(parts, sources)
    return replace(choice, parts=tuple(parts))


def _cite(parts: list[Part], citations: tuple[dict[str, Any], ...]) -> None:
    """Give the last text these citations."""
    for place in range(len(parts) - 1, -1, -1):
        part = parts[place]
        if isinstance(part, Text):
            parts[place] = replace(part, citations=citations)
            return


def _string(value: object) -> str:
    return value if type(value) is str else ""


# -- for a client


def encode_reply(reply: Reply, model: str, losses: Losses, chat: Chat | None = None) -> dict[str, Any]:
    """The reply under the name of the model that the client used. `chat` tells of legacy functions."""
    legacy = chat is not None and chat.legacy_functions
    body: dict[str, Any] = {
        "id": reply.id,
        "object": "chat.completion",
        "created": reply.created,
        "model": model,
        "choices": [_encode_choice(choice, number, legacy, losses) for number, choice in enumerate(reply.choices)],
    }
    if reply.usage is not None:
        body["usage"] = usage_object(reply.usage)
    if reply.service_tier is not None:
        body["service_tier"] = reply.service_tier
    return body


def _encode_choice(choice: Choice, number: int, legacy: bool, losses: Losses) -> dict[str, Any]:
    message = _message(choice.parts, losses)
    reason = REASON[choice.finish] if choice.finish is not None else None
    if choice.finish is Finish.REFUSAL and message["refusal"] is not None:
        reason = "stop"
    if legacy and message.get("tool_calls"):
        message["function_call"] = message.pop("tool_calls")[0].get("function")
        reason = "function_call" if reason == "tool_calls" else reason
    if choice.stop_sequence is not None:
        losses.add("stop_sequence")
    if choice.finish is Finish.PAUSE:
        losses.add("pause")
    return {"index": number, "message": message, "logprobs": choice.logprobs, "finish_reason": reason}


def _message(parts: tuple[Part, ...], losses: Losses) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    texts: list[str] = []
    refused: list[str] = []
    thoughts: list[Thinking] = []
    calls: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    offset = 0
    for part in parts:
        if isinstance(part, Text):
            notes += _notes(part, offset, losses)
            texts.append(part.text)
            offset += len(part.text)
        elif isinstance(part, Thinking):
            thoughts.append(part)
        elif isinstance(part, Refusal):
            refused.append(part.text)
        elif isinstance(part, ToolCall):
            calls.append(call_object(part))
        elif isinstance(part, Media):
            _encode_media(part, message, losses)
    message["content"] = "".join(texts) if texts else None
    message["refusal"] = "".join(refused) if refused else None
    if thoughts:
        _think(message, thoughts)
    if notes:
        message["annotations"] = notes
    if calls:
        message["tool_calls"] = calls
    return message


def _notes(part: Text, offset: int, losses: Losses) -> list[dict[str, Any]]:
    notes = [note for item in part.citations if (note := annotation(item, offset, len(part.text))) is not None]
    if len(notes) < len(part.citations):
        losses.add("citation.url")
    return notes


def _think(message: dict[str, Any], thoughts: list[Thinking]) -> None:
    if text := "".join(thought.text for thought in thoughts):
        message["reasoning_content"] = text
    if any(thought.signature or thought.encrypted or thought.id for thought in thoughts):
        details: list[dict[str, Any]] = []
        for thought in thoughts:
            details += details_of(thought, len(details))
        message["reasoning_details"] = details


def _encode_media(media: Media, message: dict[str, Any], losses: Losses) -> None:
    if media.kind is MediaKind.IMAGE and (media.data or media.url):
        images = message.setdefault("images", [])
        images.append(image_object(media, len(images)))
    elif media.kind is MediaKind.AUDIO and media.data is not None and "audio" not in message:
        message["audio"] = {"id": "audio_0", "data": media.data, "expires_at": 0, "transcript": ""}
    else:
        losses.add("media")


def image_object(media: Media, index: int) -> dict[str, Any]:
    """A generated image as OpenRouter shows it."""
    url = media.url if media.data is None else f"data:{media.media_type or 'image/png'};base64,{media.data}"
    return {"type": "image_url", "image_url": {"url": url}, "index": index}


def call_object(call: ToolCall) -> dict[str, Any]:
    """A tool call of a reply."""
    item: dict[str, Any]
    if call.custom:
        item = {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    else:
        item = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    if call.signature is not None:
        item["extra_content"] = {"google": {"thought_signature": call.signature}}
    return item


def usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage: prompt_tokens includes cached, written and audio tokens, completion_tokens reasoning and audio."""
    meters, read, generated = usage.meters, usage.input_tokens, usage.output_tokens
    prompt: dict[str, int] = {
        "cached_tokens": sum(meters.get(name, 0) for name in CACHED),
        "audio_tokens": meters.get("audio_input", 0),
    }
    if written := sum(meters.get(name, 0) for name in WRITTEN):
        prompt["cache_write_tokens"] = written
    return {
        "prompt_tokens": read,
        "completion_tokens": generated,
        "total_tokens": read + generated,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": meters.get("audio_output", 0),
        },
    }
