"""The canonical conversation: what the wire protocols meet in. Requests, replies and stream events as plain values.

A protocol decodes its own bytes into these and encodes these into its own bytes; protocols never know each other. Same
dialect on both sides: nothing of this is used for the bytes, which pass through. What one side cannot carry is dropped or
refused by the table in docs/protocols.md; `Losses` collects what was dropped, so that tests and docs can hold it to the table.

To add a field: 1 here, 2 in each protocol's decode and encode (or in the table of what is lost), 3 in the table-driven test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from daemon.domain.usage import Usage

# -- content


@dataclass(frozen=True, slots=True)
class Text:
    """Words. `citations`: each {"url", "title", "text", "start", "end"}, keys present as far as known."""

    text: str
    cache_control: dict[str, Any] | None = None
    citations: tuple[dict[str, Any], ...] = ()


class MediaKind(StrEnum):
    """What a Media part is."""

    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Media:
    """An image, sound, film or document: exactly one of `data` (base64), `url`, `file_id` is set."""

    kind: MediaKind
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    detail: str | None = None
    cache_control: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """What a model thought: shown `text`, and what proves or hides it.

    `signature`: Anthropic's signature or Gemini's thoughtSignature; `encrypted`: Anthropic's redacted data or the encrypted
    content of OpenAI's responses. `origin` names the protocol whose models can read `signature` and `encrypted`: they are
    sent back to that protocol only.
    """

    text: str = ""
    signature: str | None = None
    encrypted: str | None = None
    id: str | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks the client to run a tool. `arguments` is JSON text exactly as generated (free text for a custom tool)."""

    id: str
    name: str
    arguments: str
    custom: bool = False
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned. `name` where the protocol names the tool again."""

    call_id: str
    parts: tuple[Part, ...]
    is_error: bool = False
    name: str | None = None
    custom: bool = False
    cache_control: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The model declined, in words."""

    text: str


Part = Text | Media | Thinking | ToolCall | ToolResult | Refusal


class Role(StrEnum):
    """Who speaks. TOOL messages hold only ToolResult parts; DEVELOPER is SYSTEM where a protocol has but one."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None


# -- requests


@dataclass(frozen=True, slots=True)
class Tool:
    """A function (JSON schema) or, with `custom`, a tool that takes free text (`format` as OpenAI has it)."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    custom: bool = False
    format: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None


class ToolMode(StrEnum):
    """AUTO: the model decides; NONE: no call; REQUIRED: some call; NAMED: this one."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """How tools may be used; `name` with NAMED."""

    mode: ToolMode
    name: str | None = None


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """JSON instead of prose: with `schema`, of this shape; without, any object."""

    schema: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much to think. `effort`: none minimal low medium high xhigh; `budget_tokens`: 0 forbids; `adaptive`: model decides.

    `summary` says that thoughts are wanted in the reply (auto, concise, detailed); None leaves it to the provider.
    """

    effort: str | None = None
    budget_tokens: int | None = None
    adaptive: bool = False
    summary: str | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """A request in any dialect. None and empty mean that the client said nothing."""

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    max_output: int | None = None
    temperature: float | int | None = None
    top_p: float | int | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int | None = None
    presence_penalty: float | int | None = None
    frequency_penalty: float | int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output_format: OutputFormat | None = None
    reasoning: Reasoning | None = None
    service_tier: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    verbosity: str | None = None
    include_usage: bool | None = None
    legacy_functions: bool = False  # tools came as `functions`: the reply calls with `function_call` (openai_chat only)
    include_encrypted: bool = False  # encrypted reasoning is wanted in the reply (responses: include)
    dropped: tuple[str, ...] = ()  # what decoding left out, named as in its protocol's table; the caller adds them to Losses


@dataclass(slots=True)
class Losses:
    """Names of what a translation left out, each as it stands in the table of docs/protocols.md."""

    names: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        if name not in self.names:
            self.names.append(name)


# -- replies


class Finish(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    REFUSAL = "refusal"
    CONTENT_FILTER = "content_filter"
    PAUSE = "pause"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer. `logprobs` in OpenAI's chat shape (only OpenAI dialects carry them)."""

    parts: tuple[Part, ...]
    finish: Finish | None
    stop_sequence: str | None = None
    logprobs: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. `created` in seconds since the epoch, 0 when the provider did not say."""

    id: str
    model: str
    created: int
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    service_tier: str | None = None


# -- stream events, in the order in which a provider sends them; `choice` is the index of the answer


@dataclass(frozen=True, slots=True)
class Started:
    """The first event: exactly once. `usage` when the protocol already tells the prompt's (Anthropic)."""

    id: str
    model: str
    created: int
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ThinkingEnded:
    """A thought is complete; carries what proves or hides it. Also sent for a hidden thought without any text."""

    signature: str | None = None
    encrypted: str | None = None
    id: str | None = None
    origin: str = ""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """`index` counts the calls of one answer from 0."""

    index: int
    id: str
    name: str
    custom: bool = False
    signature: str | None = None
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    index: int
    arguments: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class CitationAdded:
    """Belongs to the text that is being written."""

    citation: dict[str, Any]
    choice: int = 0


@dataclass(frozen=True, slots=True)
class MediaAdded:
    """A generated image or sound, whole."""

    media: Media
    choice: int = 0


@dataclass(frozen=True, slots=True)
class LogprobsAdded:
    """In OpenAI's chat shape: a list of token objects."""

    content: list[dict[str, Any]]
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    reason: Finish
    stop_sequence: str | None = None
    choice: int = 0


@dataclass(frozen=True, slots=True)
class UsageReported:
    """The usage so far, cumulative: the last one counts."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider reported an error inside the stream. `message` may hold foreign words: the caller redacts it."""

    message: str
    type: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The protocol said that the stream is complete ([DONE], message_stop, response.completed, the last Gemini chunk)."""


@dataclass(frozen=True, slots=True)
class Pinged:
    """Keep-alive."""


Event = (
    Started
    | TextDelta
    | RefusalDelta
    | ThinkingDelta
    | ThinkingEnded
    | ToolCallStarted
    | ToolCallDelta
    | CitationAdded
    | MediaAdded
    | LogprobsAdded
    | Finished
    | UsageReported
    | Failed
    | Ended
    | Pinged
)
