"""A whole reply as the events of a stream: for a client that asked for one, of a provider that answered at once."""

from __future__ import annotations

from daemon.domain.chat import (
    Choice,
    CitationAdded,
    Ended,
    Event,
    Finish,
    Finished,
    LogprobsAdded,
    Media,
    MediaAdded,
    Refusal,
    RefusalDelta,
    Reply,
    Started,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingEnded,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)

__all__ = ["events_of"]


def events_of(reply: Reply) -> list[Event]:
    """In the order in which a provider would have sent them."""
    events: list[Event] = [Started(reply.id, reply.model, reply.created)]
    for number, choice in enumerate(reply.choices):
        events += _of_choice(choice, number)
    if reply.usage is not None:
        events.append(UsageReported(reply.usage))
    return [*events, Ended()]


def _of_choice(choice: Choice, number: int) -> list[Event]:
    events: list[Event] = []
    calls = 0
    for part in choice.parts:
        if isinstance(part, Text):
            events.append(TextDelta(part.text, number))
            events += [CitationAdded(citation, number) for citation in part.citations]
        elif isinstance(part, Thinking):
            if part.text:
                events.append(ThinkingDelta(part.text, number))
            events.append(ThinkingEnded(part.signature, part.encrypted, part.id, part.origin, number))
        elif isinstance(part, ToolCall):
            events.append(ToolCallStarted(calls, part.id, part.name, part.custom, part.signature, number))
            events.append(ToolCallDelta(calls, part.arguments, number))
            calls += 1
        elif isinstance(part, Refusal):
            events.append(RefusalDelta(part.text, number))
        elif isinstance(part, Media):
            events.append(MediaAdded(part, number))
    content = (choice.logprobs or {}).get("content")
    if isinstance(content, list):
        events.append(LogprobsAdded(content, number))
    usual = Finish.TOOL_CALLS if calls else Finish.STOP
    return [*events, Finished(choice.finish or usual, choice.stop_sequence, number)]
