"""Generated conversations, replies and streams: only what this API carries, so that nothing may get lost."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from daemon.domain.chat import (
    Chat,
    Choice,
    CitationAdded,
    Event,
    Finish,
    Finished,
    Media,
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

NAME = "anthropic_messages"
BUDGETED = "claude-haiku-4-5"  # takes a budget
ADAPTIVE = "claude-sonnet-4-6"

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda text: text.strip() != "")
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,10}", fullmatch=True)
urls = st.sampled_from(["https://example.com/a.png", "http://localhost/b?c=d"])
caches = st.sampled_from([None, None, {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])
schemas = st.sampled_from(
    [
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
        {"type": "object", "additionalProperties": False},
    ]
)
citations: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({"url": urls}, optional={"title": words, "text": words})
objects = st.dictionaries(words, st.integers(-9, 9) | words | st.booleans() | st.none(), max_size=3)
arguments = objects.map(lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")))
broken = st.sampled_from(['{"a": ', "[1]", "no json", "12"])

texts = st.builds(Text, words, caches)
images = st.builds(
    lambda data, url, cache: Media(
        MediaKind.IMAGE, "image/png" if url is None else None, data if url is None else None, url, cache_control=cache
    ),
    st.just("iVBORw0KGgo="),
    st.none() | urls,
    caches,
)
files = st.builds(lambda name: Media(MediaKind.FILE, "application/pdf", "JVBERg==", name=name), st.none() | words) | st.builds(
    lambda named: Media(MediaKind.FILE, file_id=named), names
)
own_thoughts = st.builds(lambda text, proof: Thinking(text, proof, origin=NAME), words | st.just(""), names) | st.builds(
    lambda data: Thinking(encrypted=data, origin=NAME), names
)
foreign_thoughts = (
    st.builds(Thinking, words | st.just(""), words, origin=st.sampled_from(["gemini", "openai_chat"]))
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
    ids = iter(f"call_{number}" for number in range(1000))
    for _ in range(draw(st.integers(1, 3))):
        found.append(Message(Role.USER, tuple(draw(st.lists(texts | images | files, min_size=1, max_size=3)))))
        said: list[Part] = list(draw(st.lists(texts | own_thoughts, min_size=1, max_size=3)))
        calls = [ToolCall(next(ids), draw(names), draw(arguments | broken)) for _ in range(draw(st.integers(0, 2)))]
        found.append(Message(Role.ASSISTANT, (*said, *calls)))
        results = [
            ToolResult(
                call.id, tuple(draw(st.lists(texts | images, max_size=2))), draw(st.booleans()), cache_control=draw(caches)
            )
            for call in calls
        ]
        if results:
            found.append(Message(Role.TOOL, tuple(results)))
    found.append(Message(Role.USER, (draw(texts),)))
    return tuple(found)


@st.composite
def chats(draw: Any) -> Chat:
    model = draw(st.sampled_from([BUDGETED, ADAPTIVE, "kimi"]))
    tools = tuple(
        draw(
            st.lists(
                st.builds(Tool, names, st.none() | words, schemas, st.sampled_from([None, True]), cache_control=caches),
                max_size=2,
            )
        )
    )
    choices = st.sampled_from([ToolChoice(ToolMode.AUTO), ToolChoice(ToolMode.NONE)])
    reasoning = temperature = top_k = None
    if draw(st.booleans()):
        reasoning = draw(st.sampled_from([Reasoning(budget_tokens=0), *thoughtful(model)]))
    else:
        choices |= st.sampled_from([ToolChoice(ToolMode.REQUIRED), ToolChoice(ToolMode.NAMED, "f")])
        temperature, top_k = draw(st.none() | st.sampled_from([0, 0.5])), draw(st.none() | st.integers(0, 50))
    choice = draw(st.none() | choices) if tools else None
    parallel = False if tools and choice is not None and choice.mode is not ToolMode.NONE and draw(st.booleans()) else None
    return Chat(
        model,
        of_messages(draw),
        stream=draw(st.booleans()),
        max_output=draw(st.integers(3000, 9000)),
        temperature=temperature,
        top_k=top_k,
        stop=tuple(draw(st.lists(words, max_size=2))),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        output_format=draw(st.none() | schemas.map(enforced)),
        reasoning=reasoning,
        service_tier=draw(st.sampled_from([None, "auto", "default"])),
        user=draw(st.none() | names),
        include_encrypted=reasoning is not None and bool(reasoning.adaptive or reasoning.budget_tokens),
    )


def thoughtful(model: str) -> list[Reasoning]:
    if model == ADAPTIVE:
        return [Reasoning(effort, adaptive=True, summary="auto") for effort in (None, "low", "xhigh")]
    return [Reasoning(budget_tokens=2000, summary="auto")]


counts = st.integers(0, 5000)


@st.composite
def usages(draw: Any) -> Usage:
    meters = {"input": draw(counts), "output": draw(counts)}
    for name in ("cached_input", "cache_write_5m", "cache_write_1h"):
        if count := draw(counts):
            meters[name] = count
    return Usage(meters, draw(st.integers(0, meters["output"])))


@st.composite
def calls(draw: Any) -> list[Part]:
    found: list[Part] = []
    for number in range(draw(st.integers(1, 3))):
        found.append(ToolCall(f"t{number}", draw(names), draw(arguments | broken), signature=draw(st.none() | names)))
    return found


@st.composite
def replies(draw: Any) -> Reply:
    cited = st.builds(Text, words, citations=st.lists(citations, max_size=2).map(tuple))
    parts: list[Part] = draw(st.lists(cited | own_thoughts | foreign_thoughts, max_size=4))
    called = draw(st.booleans())
    if called:
        parts = parts + draw(calls())
    ends = [Finish.TOOL_CALLS] if called else [Finish.STOP, Finish.LENGTH, Finish.REFUSAL, Finish.PAUSE, Finish.STOP_SEQUENCE]
    finish = draw(st.sampled_from(ends))
    choice = Choice(tuple(parts), finish, draw(st.none() | words) if finish is Finish.STOP_SEQUENCE else None)
    tier = draw(st.sampled_from([None, "default", "priority"]))
    return Reply(draw(names), draw(names), 0, (choice,), draw(usages()), tier)


@st.composite
def streams(draw: Any) -> list[Event]:
    """The events of a whole stream, deltas of one kind not next to each other."""
    events: list[Event] = [Started(draw(names), "m", 0, draw(usages()))]
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["text", "thought", "hidden"]))
        if kind == "text":
            events += [CitationAdded(draw(citations))] if draw(st.booleans()) else []
            events.append(TextDelta(draw(words)))
        elif kind == "hidden":
            events.append(ThinkingEnded(encrypted=draw(names), origin=NAME))
        else:
            events.append(ThinkingDelta(draw(words)))
            thought = draw(own_thoughts | foreign_thoughts)
            redacted = thought.origin == NAME and thought.encrypted
            events.append(
                ThinkingEnded() if redacted else ThinkingEnded(thought.signature, thought.encrypted, origin=thought.origin)
            )
    called = draw(st.booleans())
    for index, call in enumerate(draw(calls()) if called else []):
        assert isinstance(call, ToolCall)
        events.append(ToolCallStarted(index, call.id, call.name, signature=call.signature))
        events.append(ToolCallDelta(index, call.arguments))
    finish = Finish.TOOL_CALLS if called else draw(st.sampled_from([Finish.STOP, Finish.LENGTH, Finish.REFUSAL]))
    return [*events, Finished(finish), UsageReported(draw(usages()))]
