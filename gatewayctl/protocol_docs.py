"""docs/protocols.md: what each dialect has, what becomes of it in a translation, and what is lost between any two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from daemon.domain.chat import Finish
from daemon.protocols.anthropic_messages import models as anthropic_models
from daemon.protocols.anthropic_messages import tables as anthropic_tables
from daemon.protocols.gemini import models as gemini_models
from daemon.protocols.gemini import tables as gemini_tables
from daemon.protocols.openai_chat import habits
from daemon.protocols.openai_chat import tables as chat_tables
from daemon.protocols.openai_responses import tables as responses_tables
from gatewayctl.crossings import CASES, DIALECTS, Crossing, cross

__all__ = ["cell", "protocols_page"]

Table = Mapping[str, tuple[str, str]]

INTRO: Final = """\
# Protocols

Made from the tables of the protocols by `python -m gatewayctl.docs`; do not edit.

A client of one of four APIs (chat completions, Responses, Messages, Gemini) reaches a model at a provider of any. Where both
speak alike, the bytes pass, unknown fields and betas included; only the model's name and what [billing](usage.md) needs are
changed. Where they do not, request, reply and stream go through one canonical conversation (`daemon/domain/chat.py`), and every
field, content part and tool has one of three fates:

- **carried**: the other side gets it, in its own form;
- **dropped**: it is left out, and `X-Gateway-Dropped` names it (of a streamed reply only what the request lost, for that header
  goes first);
- **refused**: 400 `unsupported_parameter`, because leaving it out would change what the reply means.

A field that has no row is not sent to a provider of another dialect. Which field of a reply's usage is which meter:
[usage](usage.md). Errors: [errors](errors.md).
"""
MATRIX: Final = """\
## From each dialect to each

Streamed and not. *carried*: nothing is lost; *passes*: the bytes are the provider's own; *without*: what is named there is left
out (*in the reply*: on the way back); *refused*: 400 for that field; *no word*: this API cannot ask for it; *told*: as below.

- **An error before the first byte** is a status: the provider's own 400, 404, 409, 413, 415 and 422 with its words, in the form
  of the client's API; 429 when the provider is full; 502 or 504 for everything else. Nothing is billed.
- **An error in mid-stream**, and a stream that ends before its last word, end with an error event of the client's API after
  what came, never as if complete. What came is billed; nothing when nothing came.
- **A client that leaves** takes the provider's connection along, unless the provider is to be drained
  (`providers update --on-disconnect drain`). What came is billed.
- `reasoning` is dropped for every model that does not list this feature.
"""
# Rows that no table decides: what breaks does so alike for every pair. (Row, where both speak alike, where they do not.)
FAILURES: Final = (
    ("error before the first byte", "passes", "told"),
    ("error in mid-stream", "passes", "told"),
    ("client leaving", "told", "told"),
)
SECTIONS: Final[dict[str, tuple[tuple[str, Table], ...]]] = {
    "openai_chat": (
        ("a client's request", chat_tables.REQUEST),
        ("messages of a client's request", chat_tables.MESSAGE),
        ("content parts of a client's request", chat_tables.PARTS),
        ("a request to a provider", chat_tables.ENCODED),
        ("a provider's reply", chat_tables.OUTPUT),
        ("a reply to a client", chat_tables.REPLY),
    ),
    "openai_responses": (
        ("a client's request", responses_tables.REQUEST),
        ("input items of a client's request", responses_tables.ITEMS),
        ("content parts of a client's request", responses_tables.PARTS),
        ("tools of a client's request", responses_tables.TOOLS),
        ("a request to a provider", responses_tables.ENCODED),
        ("a provider's reply", responses_tables.OUTPUT),
        ("a reply to a client", responses_tables.ENCODED_REPLY),
    ),
    "anthropic_messages": (
        ("a client's request", anthropic_tables.REQUEST),
        ("content blocks of a client's request", anthropic_tables.BLOCKS),
        ("tools of a client's request", anthropic_tables.TOOLS),
        ("a request to a provider", anthropic_tables.ENCODED),
        ("a provider's reply", anthropic_tables.OUTPUT),
        ("a reply to a client", anthropic_tables.ENCODED_REPLY),
    ),
    "gemini": (
        ("a client's request", gemini_tables.REQUEST),
        ("generationConfig of a client's request", gemini_tables.CONFIG),
        ("content parts of a client's request", gemini_tables.PARTS),
        ("tools of a client's request", gemini_tables.TOOLS),
        ("a request to a provider", gemini_tables.ENCODED),
        ("a provider's reply", gemini_tables.OUTPUT),
        ("a reply to a client", gemini_tables.ENCODED_REPLY),
    ),
}
TITLES: Final = {name: dialect.title for name, dialect in DIALECTS.items()}


def protocols_page() -> str:
    """The whole page."""
    parts = [INTRO, MATRIX]
    for client in DIALECTS:
        parts.extend(_matrix_of(client))
    parts.extend(_ends())
    parts.extend(_efforts())
    for dialect, tables in SECTIONS.items():
        parts.append(f"## {TITLES[dialect]}\n")
        for title, table in tables:
            parts.extend(_table(f"{TITLES[dialect]}: {title}", table))
    parts.extend(_habits())
    return "\n".join(parts).rstrip() + "\n"


# -- the matrix


def _matrix_of(client: str) -> Iterator[str]:
    yield f"### Clients of {TITLES[client]}\n"
    yield _row("", *(f"{title} provider" for title in TITLES.values()))
    yield _row(*["---"] * (len(TITLES) + 1))
    for case in CASES:
        yield _row(case.name, *(cell(client, provider, cross(client, provider, case)) for provider in DIALECTS))
    for name, alike, translated in FAILURES:
        yield _row(name, *(alike if provider == client else translated for provider in DIALECTS))
    yield ""


def cell(client: str, provider: str, found: Crossing) -> str:
    """One cell in words."""
    if found.unasked:
        return f"no word for `{found.unasked}`"
    if found.refused:
        return f"refused: `{found.refused}`"
    if client == provider:
        return "passes"
    lost = [_names(found.request)] if found.request else []
    lost += [f"{_names(found.reply)} in the reply"] if found.reply else []
    return f"without {'; '.join(lost)}" if lost else "carried"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# -- words


def _ends() -> Iterator[str]:
    yield "## Why a reply ended\n"
    yield "What a provider says is read as one of these reasons, and each client reads it in the word of its own API.\n"
    yield _row("Reason", *TITLES.values())
    yield _row(*["---"] * (len(TITLES) + 1))
    for finish in Finish:
        status, reason = responses_tables.STATUS[finish]
        yield _row(
            f"`{finish.value}`",
            f"`{chat_tables.REASON[finish]}`",
            f"`{status}`" + (f", `{reason}`" if reason else ""),
            f"`{anthropic_tables.STOP_REASON[finish]}`",
            f"`{gemini_tables.REASON[finish]}`",
        )
    yield ""


def _efforts() -> Iterator[str]:
    yield "## How much to think\n"
    yield (
        "An effort goes where efforts are known, and as a budget of tokens where only budgets are; a budget goes as the\n"
        "effort that stands for it. What a model knows is told by its name: `daemon/protocols/anthropic_messages/models.py`,\n"
        "`daemon/protocols/gemini/models.py`.\n"
    )
    yield _row("Effort", "budget at Anthropic's older models", "budget at Gemini 2.5")
    yield _row("---", "---", "---")
    for effort, budget in anthropic_models.BUDGETS.items():
        yield _row(f"`{effort}`", f"{budget:,}", f"{gemini_models.BUDGETS[effort]:,}")
    yield ""
    yield _row("A budget of tokens", "is the effort")
    yield _row("---", "---")
    for most, effort in chat_tables.EFFORT_OF_BUDGET:
        yield _row(f"chat completions: up to {most:,}", f"`{effort}`")
    for below, effort in responses_tables.EFFORT_OF_BUDGET:
        yield _row(f"Responses: below {below:,}", f"`{effort}`")
    yield _row("above the last", "`high`")
    yield ""


# -- the tables


def _table(title: str, table: Table) -> Iterator[str]:
    yield f"### {title[0].upper()}{title[1:]}\n"
    yield _row("Field", "Fate", "")
    yield _row("---", "---", "---")
    for name, (fate, note) in table.items():
        yield _row(f"`{name}`", fate, note)
    yield ""


def _habits() -> Iterator[str]:
    yield "## Habits of hosts\n"
    yield (
        "Hosts of chat completions differ in what they accept. By the slug of the provider; a host that has no row is sent\n"
        "what every host accepts: `max_tokens` (`max_completion_tokens` to OpenAI's reasoning models), no earlier thoughts.\n"
    )
    yield _row("Host", "limit", "role `developer`", "earlier thoughts", "also")
    yield _row(*["---"] * 5)
    for slug, host in habits.HABITS.items():
        knows = {None: "by the model", True: "yes", False: "no"}[host.developer]
        limit = f"`{host.limit_field}`" if host.limit_field else "by the model"
        yield _row(
            f"`{slug}`", limit, knows, f"`{host.thinking}`" if host.thinking else "", _names(tuple(sorted(host.accepts)))
        )
    yield ""


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(text.split()).replace("|", "\\|") for text in cells) + " |"
