"""Generated conversations, replies and streams: only what this API carries, so that nothing may get lost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from daemon.domain.chat import (
    Chat,
    Choice,
    CitationAdded,
    Event,
    Finish,
    Finished,
    LogprobsAdded,
    Media,
    MediaAdded,
    MediaKind,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Reply,
    Role,
    Started,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingEnded,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ToolChoice,
    ToolMode,
    ToolResult,
    UsageReported,
)
from daemon.domain.usage import Usage
from daemon.protocols.closed_schema import is_closed

NAME = "gemini"
BUDGETED = "gemini-2.5-flash"
LEVELLED = "gemini-3-flash-preview"

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,10}", fullmatch=True)
# Google's signatures are base64 of bytes that begin otherwise than a seal.
proofs = st.binary(min_size=1, max_size=12).map(lambda value: __import__("base64").b64encode(b"\x12" + value).decode())
urls = st.sampled_from(["https://example.com/a.png", "http://localhost/b?c=d"])
schemas = st.sampled_from(
    [
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
        {"type": "object", "properties": {"b": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}, "required": ["b"]},
    ]
)
objects = st.dictionaries(words, st.integers(-9, 9) | words | st.booleans() | st.none(), max_size=3)
arguments = objects.map(lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")))
broken = st.sampled_from(['{"a": ', "[1]", "no json", "12"])

texts = st.builds(Text, words)
images = st.builds(Media, st.just(MediaKind.IMAGE), st.just("image/png"), st.just("iVBORw0KGgo=")) | st.builds(
    lambda url: Media(MediaKind.IMAGE, "image/png", url=url), urls
)
others = st.sampled_from(
    [
        Media(MediaKind.AUDIO, "audio/wav", "UklGRg=="),
        Media(MediaKind.VIDEO, "video/mp4", url="https://example.com/a"),
        Media(MediaKind.VIDEO, url="https://youtu.be/abc"),
        Media(MediaKind.FILE, "application/pdf", "JVBERg=="),
        Media(MediaKind.FILE, "application/pdf", file_id="gs://bucket/a.pdf"),
        Media(MediaKind.FILE, file_id="https://generativelanguage.googleapis.com/v1beta/files/abc"),
    ]
)
own_thoughts = st.builds(lambda text, proof: Thinking(text, proof, origin=NAME), words | st.just(""), proofs)
foreign_thoughts = (
    st.builds(Thinking, words, words, origin=st.sampled_from(["anthropic_messages", "openai_chat"]))
    | st.builds(Thinking, words | st.just(""), encrypted=words, origin=st.just("openai_responses"))
    | st.builds(Thinking, words)
)


def enforced(schema: dict[str, Any] | None) -> OutputFormat:
    """As a client's request gives it."""
    return OutputFormat(schema, strict=True if is_closed(schema) else None)


def of_messages(draw: Any) -> tuple[Message, ...]:
    found: list[Message] = []
    if draw(st.booleans()):
        found.append(Message(Role.SYSTEM, tuple(draw(st.lists(texts, min_size=1, max_size=2)))))
    ids = iter(f"id_{number}" for number in range(1000))
    for _ in range(draw(st.integers(1, 3))):
        found.append(Message(Role.USER, tuple(draw(st.lists(texts | images | others, min_size=1, max_size=3)))))
        said: list[Part] = list(draw(st.lists(texts | own_thoughts | images, min_size=1, max_size=3)))
        calls = [
            ToolCall(next(ids), draw(names), draw(arguments | broken), signature=draw(proofs))
            for _ in range(draw(st.integers(0, 2)))
        ]
        found.append(Message(Role.ASSISTANT, (*said, *calls)))
        results = [
            ToolResult(call.id, tuple(draw(st.lists(texts, max_size=1))), False, call.name) for call in calls
        ]  # fmt: skip
        if results:
            found.append(
                Message(Role.TOOL, tuple(replace(one, is_error=bool(one.parts) and draw(st.booleans())) for one in results))
            )
    found.append(Message(Role.USER, (draw(texts),)))
    return tuple(found)


@st.composite
def chats(draw: Any) -> Chat:
    model = draw(st.sampled_from([BUDGETED, LEVELLED]))
    tools = tuple(draw(st.lists(st.builds(Tool, names, st.none() | words, st.none() | schemas), max_size=2)))
    choices = st.sampled_from(
        [*map(ToolChoice, (ToolMode.AUTO, ToolMode.NONE, ToolMode.REQUIRED)), ToolChoice(ToolMode.NAMED, "f")]
    )
    reasoning = draw(st.none() | st.sampled_from(thoughtful(model)))
    formats = st.none() | (st.none() | schemas).map(enforced)
    return Chat(
        model,
        of_messages(draw),
        stream=draw(st.booleans()),
        max_output=draw(st.none() | st.integers(1, 9000)),
        temperature=draw(st.none() | st.sampled_from([0, 0.5, 1, 2])),
        top_p=draw(st.none() | st.sampled_from([0.5, 1])),
        top_k=draw(st.none() | st.integers(0, 50)),
        stop=tuple(draw(st.lists(words, max_size=2))),
        n=draw(st.integers(1, 3)),
        seed=draw(st.none() | st.integers(-5, 5)),
        presence_penalty=draw(st.none() | st.sampled_from([-1.5, 0, 1])),
        frequency_penalty=draw(st.none() | st.sampled_from([0.5])),
        logprobs=draw(st.none() | st.booleans()),
        top_logprobs=draw(st.none() | st.integers(0, 5)),
        tools=tools,
        tool_choice=draw(st.none() | choices) if tools else None,
        output_format=draw(formats) if model == LEVELLED or not tools else None,
        reasoning=reasoning,
        service_tier=draw(st.sampled_from([None, "default", "flex", "priority"])),
        include_encrypted=reasoning is not None and reasoning.budget_tokens != 0,
    )


def thoughtful(model: str) -> list[Reasoning]:
    if model == LEVELLED:
        return [Reasoning(effort, summary=summary) for effort in ("minimal", "low", "high") for summary in (None, "auto")]
    return [Reasoning(budget_tokens=0), Reasoning(budget_tokens=2000, summary="auto"), Reasoning(adaptive=True)]


counts = st.integers(0, 5000)


@st.composite
def usages(draw: Any) -> Usage:
    meters = {"input": draw(counts), "output": draw(counts)}
    for name in ("cached_input", "audio_input", "audio_output", "image_output"):
        if count := draw(counts):
            meters[name] = count
    return Usage(meters, draw(st.integers(0, meters["output"])))


@st.composite
def calls(draw: Any) -> list[Part]:
    count = draw(st.integers(1, 3))
    return [
        ToolCall(f"t{number}", draw(names), draw(arguments | broken), signature=draw(st.none() | proofs))
        for number in range(count)
    ]


@st.composite
def cited(draw: Any) -> Text:
    """A text with citations: of the whole reply's, of places, of words."""
    text = draw(words)
    found: list[dict[str, Any]] = []
    for url in draw(st.lists(urls, max_size=2, unique=True)):
        title = draw(st.none() | words)
        citation = {"url": url} if title is None else {"url": url, "title": title}
        end = draw(st.integers(1, len(text)))
        start = draw(st.integers(0, end - 1))
        found.append(citation | {"text": text[start:end], "start": start, "end": end})
    return Text(text, citations=tuple(found))


tokens = st.builds(
    lambda token, number: {"token": token, "logprob": number, "bytes": list(token.encode()), "top_logprobs": []},
    words,
    st.sampled_from([-0.5, -2.0]),
)


@st.composite
def choices(draw: Any) -> Choice:
    parts: list[Part] = draw(st.lists(cited() | own_thoughts | foreign_thoughts | images, max_size=4))
    called = draw(st.booleans())
    if called:
        parts = parts + draw(calls())
    ends = [Finish.TOOL_CALLS] if called else [Finish.STOP, Finish.LENGTH, Finish.CONTENT_FILTER, Finish.ERROR]
    logprobs = draw(st.lists(tokens, max_size=2))
    return Choice(tuple(parts), draw(st.sampled_from(ends)), logprobs={"content": logprobs} if logprobs else None)


@st.composite
def replies(draw: Any) -> Reply:
    found = draw(st.lists(choices(), min_size=1, max_size=2))
    tier = draw(st.sampled_from([None, "default", "priority", "flex"]))
    return Reply(draw(names), draw(names), 0, tuple(found), draw(usages()), tier)


@st.composite
def streams(draw: Any) -> list[Event]:
    """The events of a whole stream, deltas of one kind not next to each other."""
    events: list[Event] = [Started(draw(names), "m", 0)]
    said = ""
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["text", "thought", "hidden", "image"]))
        if kind == "text":
            said += (text := draw(words))
            events.append(TextDelta(text))
        elif kind == "image":
            events.append(MediaAdded(draw(images)))
        elif kind == "hidden":
            events.append(ThinkingEnded(encrypted=draw(names), origin="openai_responses"))
        else:
            events.append(ThinkingDelta(draw(words)))
            thought = draw(own_thoughts | foreign_thoughts)
            events.append(ThinkingEnded(thought.signature, thought.encrypted, origin=thought.origin))
            if not thought.origin:  # only something else tells where it ends
                said += (text := draw(words))
                events.append(TextDelta(text))
    called = draw(st.booleans())
    for index, call in enumerate(draw(calls()) if called else []):
        assert isinstance(call, ToolCall)
        events.append(ToolCallStarted(index, call.id, call.name, signature=call.signature))
        events.append(ToolCallDelta(index, call.arguments))
    if found := draw(st.lists(tokens, max_size=2)):
        events.append(LogprobsAdded(found))
    if said and draw(st.booleans()):
        events.append(CitationAdded({"url": draw(urls), "title": "t", "text": said, "start": 0, "end": len(said)}))
    finish = Finish.TOOL_CALLS if called else draw(st.sampled_from([Finish.STOP, Finish.LENGTH, Finish.CONTENT_FILTER]))
    return [*events, Finished(finish), UsageReported(draw(usages()))]
