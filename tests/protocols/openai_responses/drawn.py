"""Generated conversations, replies and streams: only what this API carries, so that nothing may get lost."""

from __future__ import annotations

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
    MediaKind,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    RefusalDelta,
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

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,10}", fullmatch=True)
tool_names = names | st.builds(lambda space, name: f"{space}_-_{name}", st.from_regex(r"[a-z]{1,6}__", fullmatch=True), names)
maybe = st.none() | words
base64 = st.sampled_from(["aGVsbG8=", "AAAA", "iVBORw0KGgo="])
urls = st.sampled_from(["https://example.com/a.png", "http://localhost/b?c=d"])
schemas = st.just({"type": "object", "properties": {"a": {"type": "string"}}}) | st.just({"type": "object"})
citations = st.fixed_dictionaries(
    {"url": urls, "title": words, "start": st.integers(0, 9), "end": st.integers(10, 99)},
)

images = st.builds(
    lambda data, url, detail: Media(
        MediaKind.IMAGE, "image/png" if url is None else None, data if url is None else None, url, detail=detail
    ),
    base64,
    st.none() | urls,
    st.sampled_from(["auto", "low", "high"]),
)
files = st.builds(lambda data, name: Media(MediaKind.FILE, "application/pdf", data, name=name), base64, words) | st.builds(
    lambda file_id, name: Media(MediaKind.FILE, file_id=file_id, name=name), names, maybe
)
sounds = st.builds(lambda data, kind: Media(MediaKind.AUDIO, kind, data), base64, st.sampled_from(["audio/wav", "audio/mpeg"]))
pictures = st.builds(lambda data: Media(MediaKind.IMAGE, "image/png", data), base64)
texts = st.builds(Text, words)
cited = st.builds(Text, words, citations=st.lists(citations, max_size=2).map(tuple))
refusals = st.builds(Refusal, words)
own_thoughts = st.builds(
    Thinking,
    words | st.just(""),
    encrypted=st.from_regex(r"gAAAA[a-zA-Z0-9_-]{1,20}", fullmatch=True),
    id=names,
    origin=st.just("openai_responses"),
)
foreign_thoughts = st.builds(Thinking, words, signature=words, origin=st.sampled_from(["anthropic", "gemini"])) | st.builds(
    Thinking, encrypted=words, origin=st.just("anthropic")
)
bare_thoughts = st.builds(Thinking, words)
calls = st.builds(ToolCall, names, tool_names, words, st.booleans())
signed_calls = st.builds(ToolCall, names, tool_names, words, st.booleans(), st.none() | words)
results = st.builds(ToolResult, names, st.lists(texts | images | files, max_size=3).map(tuple), custom=st.booleans())

heard = st.lists(texts | images | files | sounds, min_size=1, max_size=4).map(tuple)
said = st.lists(cited | refusals | own_thoughts | calls | pictures, min_size=1, max_size=5).map(tuple)
returned = st.lists(results, min_size=1, max_size=3).map(tuple)


@st.composite
def messages(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns in which neither two of the assistant nor two of tools are neighbours: those would be one."""
    found: list[Message] = []
    if draw(st.booleans()):
        found.append(Message(Role.SYSTEM, (Text(draw(words)),)))
    for role in draw(st.lists(st.sampled_from(list(Role)), min_size=1, max_size=5)):
        if found and found[-1].role is role and role in (Role.ASSISTANT, Role.TOOL):
            continue
        parts: tuple[Part, ...] = draw(said if role is Role.ASSISTANT else returned if role is Role.TOOL else heard)
        found.append(Message(role, parts))
    return tuple(found)


tools = st.builds(Tool, tool_names, maybe, schemas, st.booleans()) | st.builds(
    Tool, tool_names, maybe, custom=st.just(True), format=st.none() | st.just({"type": "text"})
)


@st.composite
def tool_lists(draw: st.DrawFn) -> tuple[Tool, ...]:
    """Tools of one namespace stand together, as they come back."""
    found = draw(st.lists(tools, max_size=4, unique_by=lambda tool: tool.name))
    order: list[str] = []
    for tool in found:
        key = tool.name.partition("_-_")[0] if "_-_" in tool.name else tool.name
        if key not in order:
            order.append(key)
    return tuple(
        sorted(found, key=lambda tool: order.index(tool.name.partition("_-_")[0] if "_-_" in tool.name else tool.name))
    )


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    found = draw(tool_lists())
    choices = st.sampled_from([ToolMode.AUTO, ToolMode.NONE, ToolMode.REQUIRED]).map(ToolChoice)
    if found:
        choices |= st.sampled_from(found).map(lambda tool: ToolChoice(ToolMode.NAMED, tool.name))
    logprobs = draw(st.sampled_from([None, True]))
    return Chat(
        draw(names),
        draw(messages()),
        stream=draw(st.booleans()),
        max_output=draw(st.none() | st.integers(1, 10**6)),
        temperature=draw(st.none() | st.floats(0, 2)),
        top_p=draw(st.none() | st.floats(0, 1)),
        logprobs=logprobs,
        top_logprobs=draw(st.none() | st.integers(0, 20)) if logprobs else None,
        tools=found,
        tool_choice=draw(st.none() | choices) if found else None,
        parallel_tool_calls=draw(st.none() | st.booleans()) if found else None,
        output_format=draw(
            st.none() | st.just(OutputFormat()) | st.builds(OutputFormat, schemas, names, maybe, st.none() | st.booleans())
        ),
        reasoning=draw(
            st.none()
            | st.builds(
                Reasoning, st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]), summary=st.just("auto")
            )
        ),
        service_tier=draw(st.none() | st.just("flex")),
        user=draw(maybe),
        metadata=draw(st.none() | st.just({"a": "b"})),
        verbosity=draw(st.none() | st.sampled_from(["low", "medium", "high"])),
        include_encrypted=draw(st.booleans()),
    )


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    count = st.integers(0, 10**6)
    meters = {"input": draw(count), "output": draw(count)}
    for meter in ("cached_input", "cache_write_5m", "cache_write_1h", "audio_input", "audio_output"):
        if number := draw(st.just(0) | count):
            meters[meter] = number
    return Usage(meters, draw(st.integers(0, meters["output"])))


tokens = st.just([{"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}])


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    parts = draw(
        st.lists(
            cited | refusals | own_thoughts | foreign_thoughts | bare_thoughts | signed_calls | pictures, min_size=1, max_size=6
        ).map(tuple)
    )
    seen: set[str] = set()
    parts = tuple(part for part in parts if not isinstance(part, ToolCall) or not (part.id in seen or seen.add(part.id)))
    called = any(isinstance(part, ToolCall) for part in parts)
    refused = any(isinstance(part, Refusal) for part in parts)
    natural = Finish.TOOL_CALLS if called else Finish.REFUSAL if refused else Finish.STOP
    finish = draw(st.sampled_from([natural, Finish.LENGTH, Finish.CONTENT_FILTER, Finish.ERROR]))
    logprobs = {"content": draw(tokens)} if any(isinstance(part, Text) for part in parts) and draw(st.booleans()) else None
    choice = Choice(parts, finish, logprobs=logprobs)
    tier = draw(st.none() | st.just("default"))
    return Reply(f"resp_{draw(names)}", draw(names), draw(st.integers(0, 2**40)), (choice,), draw(st.none() | usages()), tier)


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """Events as a provider gives them: each thought is ended, calls in turn."""
    events: list[Event] = [Started(f"resp_{draw(names)}", draw(names), draw(st.integers(1, 2**40)))]
    called, refused = 0, False
    for kind in draw(st.lists(st.sampled_from(["text", "refusal", "thought", "hidden", "call", "logprobs"]), max_size=6)):
        pieces = draw(st.lists(words, min_size=1, max_size=4))
        if kind == "text":
            events += map(TextDelta, pieces)
            events += map(CitationAdded, draw(st.lists(citations, max_size=2)))
        elif kind == "logprobs":
            events += [TextDelta(pieces[0]), LogprobsAdded(draw(tokens))]
        elif kind == "refusal":
            refused = True
            events += map(RefusalDelta, pieces)
        elif kind == "thought":
            events += map(ThinkingDelta, pieces)
            signature = draw(maybe)
            events.append(ThinkingEnded(signature, origin="anthropic" if signature else ""))
        elif kind == "hidden":
            events.append(ThinkingEnded(encrypted=draw(words), origin="anthropic"))
        else:
            custom = draw(st.booleans())
            events.append(ToolCallStarted(called, f"call_{called}", draw(tool_names), custom, draw(maybe)))
            events += [ToolCallDelta(called, piece) for piece in pieces]
            called += 1
    natural = Finish.TOOL_CALLS if called else Finish.REFUSAL if refused else Finish.STOP
    events.append(Finished(draw(st.sampled_from([natural, Finish.LENGTH, Finish.CONTENT_FILTER]))))
    events.append(UsageReported(draw(usages())))
    return events


def chunked(data: st.DataObject, whole: bytes) -> list[bytes]:
    """The bytes cut anywhere."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
