"""Whatever is generated: decode(encode(x)) is x, any chunking gives the same events, and nonsense never raises."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.chat import (
    Chat,
    Choice,
    CitationAdded,
    Ended,
    Event,
    Finish,
    Finished,
    LogprobsAdded,
    Losses,
    Media,
    MediaAdded,
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
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.openai_chat import Habits, OpenAIChat
from daemon.protocols.openai_chat.habits import ACCEPTS
from tests.support.chat_codec import cuts, decoded, encoded, summary

WIDE = OpenAIChat(Habits("max_completion_tokens", True, "reasoning_details", ACCEPTS))
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
names = st.text("abcdefgh_", min_size=1, max_size=8)
counts = st.integers(0, 10**6)
base64s = st.sampled_from(["AAAA", "iVBORw0KGgo=", "JVBERi0="])
cache = st.none() | st.just({"type": "ephemeral"})
images = st.builds(Media, st.just(MediaKind.IMAGE), st.just("image/png"), base64s, detail=st.sampled_from([None, "low"]))
files = st.builds(
    Media, st.just(MediaKind.FILE), st.just("application/pdf"), base64s, name=names.map(lambda name: name + ".pdf")
)
sounds = st.builds(Media, st.just(MediaKind.AUDIO), st.sampled_from(["audio/wav", "audio/mpeg"]), base64s)
linked = st.builds(Media, st.sampled_from([MediaKind.IMAGE, MediaKind.VIDEO]), url=names.map("https://x/".__add__))
texts = st.builds(Text, words, cache)
proofs = st.builds(Thinking, words, signature=words, origin=st.just("anthropic_messages"))
hidden = st.builds(Thinking, st.just(""), encrypted=words, id=names, origin=st.just("openai_responses"))
thoughts = st.lists(proofs | hidden, max_size=2, unique_by=lambda thought: thought.id or thought.text)
calls = st.lists(
    st.builds(ToolCall, names, names, words, st.booleans()) | st.builds(ToolCall, names, names, words, signature=words),
    max_size=3, unique_by=lambda call: call.id,
)  # fmt: skip


@st.composite
def turns(draw: st.DrawFn) -> list[Message]:
    """A user's words, an answer, and the results of its calls."""
    spoken = draw(st.lists(texts | images | files | sounds | linked, min_size=1, max_size=3))
    found = [Message(Role.USER, tuple(spoken), draw(st.none() | names))]
    called = draw(calls)
    refusal = draw(st.lists(st.builds(Refusal, words), max_size=1))
    parts: tuple[Part, ...] = (*draw(thoughts), *draw(st.lists(texts, max_size=2)), *refusal, *called)
    found.append(Message(Role.ASSISTANT, parts or (Text("x"),)))
    if called:
        results = (
            ToolResult(call.id, tuple(draw(st.lists(texts, min_size=1, max_size=2))), custom=call.custom) for call in called
        )
        found.append(Message(Role.TOOL, tuple(results)))
    return found


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    system = draw(
        st.lists(
            st.builds(Message, st.sampled_from([Role.SYSTEM, Role.DEVELOPER]), texts.map(lambda text: (text,))), max_size=1
        )
    )
    schema = st.just({"type": "object"})
    plain = st.builds(Tool, names, st.none() | words, st.none() | schema, st.none() | st.booleans(), cache_control=cache)
    custom = st.builds(Tool, names, words, custom=st.just(True), format=st.none() | st.just({"type": "text"}))
    tools = draw(st.lists(plain | custom, max_size=3, unique_by=lambda tool: tool.name))
    choice = st.none() | st.sampled_from([ToolChoice(mode) for mode in ToolMode if mode is not ToolMode.NAMED])
    if tools:
        choice |= st.just(ToolChoice(ToolMode.NAMED, tools[0].name))
    number = st.none() | st.integers(-2, 2) | st.floats(-2, 2, allow_nan=False)
    stream = draw(st.booleans())
    return Chat(
        draw(names),
        (*system, *(message for turn in draw(st.lists(turns(), min_size=1, max_size=2)) for message in turn)),
        stream=stream,
        max_output=draw(st.none() | st.integers(1, 99)),
        temperature=draw(st.none() | st.integers(0, 2) | st.floats(0, 2)),
        top_p=draw(st.none() | st.floats(0, 1)),
        top_k=draw(st.none() | counts),
        stop=tuple(draw(st.lists(words, max_size=3))),
        n=draw(st.integers(1, 3)),
        seed=draw(st.none() | counts),
        presence_penalty=draw(number),
        frequency_penalty=draw(number),
        logprobs=draw(st.none() | st.booleans()),
        top_logprobs=draw(st.none() | st.integers(0, 20)),
        tools=tuple(tools),
        tool_choice=draw(choice) if tools else None,
        parallel_tool_calls=draw(st.none() | st.booleans()) if tools else None,
        output_format=draw(
            st.none() | st.just(OutputFormat()) | st.builds(OutputFormat, schema, names, words, st.none() | st.booleans())
        ),
        reasoning=draw(st.none() | st.builds(Reasoning, st.sampled_from(["none", "low", "high", "xhigh"]))),
        service_tier=draw(st.none() | st.sampled_from(["auto", "flex", "priority"])),
        user=draw(st.none() | words),
        metadata=draw(st.none() | st.dictionaries(names, words, max_size=2)),
        verbosity=draw(st.sampled_from([None, "low"])),
        include_usage=True if stream else None,
    )


@settings(max_examples=80, deadline=None)
@given(chats())
def test_a_request_comes_back(chat: Chat) -> None:
    losses = Losses()
    body = json.loads(json.dumps(WIDE.encode_request(chat, chat.model, losses)))
    assert WIDE.decode_request(body) == chat
    assert set(losses.names) <= {"prefill"}


usages = st.builds(
    lambda a, b, c: Usage({"input": a, "output": b} | ({"cached_input": c} if c else {})), counts, counts, counts
)
notes = st.builds(
    lambda url, title, start: {"url": url, "title": title, "start": start, "end": start + 1}, names, words, st.integers(0, 9)
)


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    choices = []
    for _ in range(draw(st.integers(1, 2))):
        said = draw(st.lists(st.builds(Text, words, citations=st.lists(notes, max_size=2).map(tuple)), max_size=1))
        refusal = draw(st.lists(st.builds(Refusal, words), max_size=1))
        shown = draw(st.lists(st.builds(Media, st.just(MediaKind.IMAGE), st.just("image/png"), base64s), max_size=2))
        called = draw(calls)
        finish = draw(st.sampled_from([Finish.LENGTH, Finish.CONTENT_FILTER, Finish.ERROR, None]))
        finish = Finish.TOOL_CALLS if called else Finish.REFUSAL if refusal else Finish.STOP if finish is None else finish
        choices.append(
            Choice(
                (*draw(thoughts), *said, *refusal, *shown, *called), finish, logprobs=draw(st.none() | st.just({"content": []}))
            )
        )
    return Reply(
        draw(names), "m", draw(counts), tuple(choices), draw(st.none() | usages), draw(st.sampled_from([None, "flex"]))
    )


@settings(max_examples=80, deadline=None)
@given(replies())
def test_a_reply_comes_back(reply: Reply) -> None:
    losses = Losses()
    body = json.loads(json.dumps(WIDE.encode_reply(reply, "m", losses)))
    assert WIDE.decode_reply(body) == reply
    assert losses.names == []


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """Up to two answers, each thoughts, words and calls, mixed with each other."""
    lines: list[list[Event]] = []
    for choice in range(draw(st.integers(1, 2))):
        line: list[Event] = []
        for thought in draw(thoughts):
            if thought.text:
                line += [ThinkingDelta(piece, choice) for piece in (thought.text[:3], thought.text[3:]) if piece]
            line.append(ThinkingEnded(thought.signature, thought.encrypted, thought.id, thought.origin, choice))
        line += [TextDelta(text, choice) for text in draw(st.lists(words, max_size=3))]
        line += [CitationAdded(note, choice) for note in draw(st.lists(notes, max_size=2))]
        line += [
            MediaAdded(media, choice)
            for media in draw(st.lists(images.map(lambda image: Media(image.kind, image.media_type, image.data)), max_size=1))
        ]
        line += [LogprobsAdded([{"token": token, "logprob": -1}], choice) for token in draw(st.lists(words, max_size=1))]
        called = draw(calls)
        line += [ToolCallStarted(i, call.id, call.name, call.custom, call.signature, choice) for i, call in enumerate(called)]
        line += draw(st.permutations([ToolCallDelta(i, call.arguments, choice) for i, call in enumerate(called)]))
        refusal = draw(st.lists(words, max_size=1)) if not called else []
        line += [RefusalDelta(text, choice) for text in refusal]
        finish = (
            Finish.TOOL_CALLS if called else Finish.REFUSAL if refusal else draw(st.sampled_from([Finish.STOP, Finish.LENGTH]))
        )
        lines.append([*line, Finished(finish, None, choice)])
    found: list[Event] = [Started(draw(names), "shown", draw(st.integers(1, 99)))]
    while any(lines):
        line = draw(st.sampled_from([line for line in lines if line]))
        found.append(line.pop(0))
    return found


@settings(max_examples=80, deadline=None)
@given(streams(), usages)
def test_a_stream_comes_back(events: list[Event], usage: Usage) -> None:
    found, decoder = decoded([encoded(events, usage=usage)])
    assert found == [*events, UsageReported(usage), Ended()]
    assert (decoder.usage, decoder.garbage) == (usage, 0)


@settings(max_examples=25, deadline=None)
@given(streams())
def test_any_chunking_gives_the_same_events(events: list[Event]) -> None:
    stream = encoded(events)
    whole, _ = decoded([stream])
    for chunks in cuts(stream):
        assert decoded(chunks)[0] == whole
    assert summary(whole) == summary(events)


KEYS = [
    *("index", "id", "type", "text", "content", "delta", "message", "role", "name", "function", "custom", "arguments", "input"),
    *("tool_calls", "function_call", "audio", "data", "images", "image_url", "url", "annotations", "url_citation", "reasoning"),
    *("reasoning_details", "thinking_blocks", "thinking", "signature", "refusal", "finish_reason", "stop_reason", "logprobs"),
    *("usage", "prompt_tokens", "completion_tokens", "total_tokens", "extra_content", "google", "thought_signature", "error"),
    *("code", "citations", "search_results"),
]
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 300)
    | st.sampled_from(["", "x", "stop", "function", "data:,", "tool_calls", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
odd = st.fixed_dictionaries({}, optional={"choices": st.lists(json_values, max_size=3) | json_values, "error": json_values,
                                          "usage": json_values, "id": json_values, "citations": json_values})  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(odd, max_size=5), st.binary(max_size=20))
def test_odd_chunks_never_raise(chunks: list[dict[str, Any]], junk: bytes) -> None:
    stream = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + junk + b"\n\ndata: [DONE]\n\n"
    events, _ = decoded([stream])
    assert sum(isinstance(event, Started) for event in events) <= 1
    assert sum(isinstance(event, Ended) for event in events) <= 1
    encoded(events)


@settings(max_examples=200, deadline=None)
@given(odd)
def test_odd_replies_are_value_errors_at_most(body: dict[str, Any]) -> None:
    try:
        reply = WIDE.decode_reply(body)
    except ValueError:
        return
    json.dumps(WIDE.encode_reply(reply, "m", Losses()))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["content", "tool_calls", "name", "tool_call_id", "audio", "refusal", "images"]), json_values
        ),
        min_size=1,
        max_size=3,
    ),
    st.dictionaries(
        st.sampled_from(["tools", "tool_choice", "functions", "response_format", "reasoning", "stop"]), json_values
    ),
    st.lists(st.sampled_from(["user", "assistant", "tool", "function", "system"]), min_size=3, max_size=3),
)
def test_odd_requests_are_400_at_most(messages: list[dict[str, Any]], fields: dict[str, Any], roles: list[str]) -> None:
    body = {"model": "m", "messages": [{"role": role, **item} for role, item in zip(roles, messages, strict=False)], **fields}
    try:
        chat = WIDE.decode_request(body)
        json.dumps(WIDE.encode_request(chat, "m", Losses()))
    except ApiError:
        return
