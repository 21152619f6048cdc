"""The generated pages: `python -m gatewayctl.docs` writes them, `--check` compares them.

docs/cli.md is made from the commands and the settings table, docs/errors.md from the error catalogue, docs/usage.md from the
meters and the tables of the protocols, docs/protocols.md from those tables, too (gatewayctl.protocol_docs). To add a page: 1. a
function that returns its text; 2. a line in PAGES.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from daemon.domain.errors import CATALOGUE, ErrorSpec
from daemon.domain.pricing import FALLBACK
from daemon.domain.usage import METERS
from daemon.protocols import asks, hosted, openai_audio, openai_images, rerank
from daemon.protocols.anthropic_messages import tables as anthropic_tables
from daemon.protocols.gemini import tables as gemini_tables
from daemon.protocols.openai_chat import tables as openai_chat_tables
from daemon.protocols.openai_responses import tables as openai_responses_tables
from db import settings
from gatewayctl import cli
from gatewayctl.protocol_docs import protocols_page

DOCS = Path(__file__).parent.parent / "docs"
TARGET = DOCS / "cli.md"
COMMON = frozenset({"db", "json", "quiet", "help"})
INTRO = """\
# Command line

Made from the commands by `python -m gatewayctl.docs`; do not edit.

Every command takes `--db URL`, `--json` and `--quiet` (`-q`), before or after its name, and `--help`.

- stdout is data, stderr is talk. `--json` prints exactly one document, a list as an array; `--quiet` only the id.
- Money is a decimal string in USD, time is ISO 8601 in UTC, ids are strings.
- What deletes, revokes or adjusts asks first; where no one can answer, it is refused without `--yes`.
- Secrets never stand in arguments: `--from-env VAR` or `--from-file PATH` (`-` is standard input).
- Times back from now are written `7d`, `24h`, `30m`, or as a date or ISO 8601 instant (UTC when it names no zone).

| Exit code | Meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | wrong usage |
| 3 | not found |
| 4 | conflict: it exists already, or is in the wrong state |
| 5 | refused: it would overdraw, or needs `--yes` |

An error is a sentence and the next step on stderr; with `--json` also `{"error":{"code","message","hint"}}` on stdout.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRO]
    panel = ""
    for noun, (_, its_panel, summary) in cli.NOUNS.items():
        if its_panel != panel:
            panel = its_panel
            parts.append(f"## {panel}\n")
        parts.extend(_noun(noun, summary))
    parts.extend(_settings())
    return "\n".join(parts).rstrip() + "\n"


def _noun(noun: str, summary: str) -> Iterator[str]:
    command = cli.load(noun)
    verbs: dict[str, Any] = getattr(command, "commands", {})
    yield f"### gatewayctl {noun}\n"
    if not verbs:
        yield from _command(f"gatewayctl {noun}", command)
        return
    yield f"{summary}\n"
    for verb, child in verbs.items():
        yield f"#### gatewayctl {noun} {verb}\n"
        yield from _command(f"gatewayctl {noun} {verb}", child)


def _command(path: str, command: Any) -> Iterator[str]:
    text, examples = _text(command.help or "")
    params = [param for param in command.params if param.name not in COMMON and not getattr(param, "hidden", False)]
    arguments = [param for param in params if param.param_type_name == "argument"]
    options = [param for param in params if param.param_type_name == "option"]
    yield f"{text}\n"
    pieces = [_argument(param) for param in arguments]
    pieces += [f"{param.opts[0]} {_metavar(param)}".strip() for param in options if param.required]
    if any(not param.required for param in options):
        pieces.append("[options]")
    yield "```console\n" + " ".join([path, *pieces]) + "\n```\n"
    rows = [(_argument(param), param.help or "") for param in arguments if param.help]
    rows += [(_option(param), _help(param)) for param in options]
    if rows:
        yield "| | |\n|---|---|"
        for name, help in rows:
            yield f"| `{_cell(name)}` | {_cell(help)} |"
        yield ""
    if examples:
        yield "Example:\n\n```console\n" + "\n".join(examples) + "\n```\n"


def _text(help: str) -> tuple[str, list[str]]:
    """The prose of a help text, and its examples (the lines that begin with 'Example:')."""
    prose: list[str] = []
    examples: list[str] = []
    for line in help.splitlines():
        stripped = line.strip()
        if stripped.startswith("Example:"):
            examples.append(stripped.removeprefix("Example:").strip())
        elif examples and stripped:
            examples.append(stripped)
        else:
            prose.append(stripped)
    return "\n".join(prose).strip(), [line for line in examples if line]


def _metavar(param: Any) -> str:
    if param.is_flag:
        return ""
    if param.metavar:
        return str(param.metavar)
    if isinstance(param.default, Enum):
        return "|".join(str(choice.value) for choice in type(param.default))
    return str(param.name).upper().replace("_", "-").strip("-")


def _argument(param: Any) -> str:
    name = str(param.metavar or param.name.upper())
    if param.nargs == -1 and not name.endswith("…"):
        name += "…"
    return name if param.required or name.startswith("[") else f"[{name}]"


def _option(param: Any) -> str:
    names = ", ".join([*param.opts, *param.secondary_opts])
    repeated = "…" if param.multiple else ""
    return f"{names} {_metavar(param)}{repeated}".strip()


def _help(param: Any) -> str:
    default = param.default
    if isinstance(default, Enum):
        default = default.value
    shown = default not in (None, False, True, "", [], ()) and not callable(default)
    parts = [param.help or "", f"Default: {default}." if shown else "", "Required." if param.required else ""]
    return " ".join(part for part in parts if part)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _settings() -> Iterator[str]:
    yield "## Settings\n"
    yield "The strongest first: a flag, the environment variable, `config.toml` in the home, the default.\n"
    yield "| Setting | Default | Variable | |\n|---|---|---|---|"
    for row in settings.TABLE.values():
        default = ", ".join(row.default) if isinstance(row.default, tuple) else row.default
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        yield f"| `{row.name}` | {f'`{_cell(shown)}`' if shown else ''} | `{row.variable}` | {_cell(row.help)} |"
    yield ""
    yield "`GATEWAYCTL_HOME` chooses the home, `GATEWAYCTL_MASTER_KEY` replaces `master.key`.\n"


ERRORS_INTRO = """\
# Errors

Made from `daemon/domain/errors.py` by `python -m gatewayctl.docs`; do not edit.

Every error is JSON, never a page. OpenAI's form on all routes but one:

```json
{"error":{"message":"…","type":"invalid_request_error","param":"messages","code":"missing_required_parameter"}}
```

Paths that end in `/messages` or `/messages/count_tokens` get the form that Anthropic's clients read:

```json
{"type":"error","error":{"type":"…","message":"…","code":"…"},"request_id":"req_…"}
```

- Programs should look at `code` (below) or the status, not at the message. `param` names the field at fault, if one is.
- `X-Request-Id` is on every reply; `gatewayctl usage show REQUEST_ID` finds the request by it.
- `Retry-After` (seconds) is sent where waiting helps; `x-should-retry: false` where it cannot. OpenAI's clients obey both.
- An error after the first byte of a stream is its last event, in the same form, and no `[DONE]` follows. The status was sent
  before, so it stays 200.
- When a provider answers 400, 404, 409, 413, 415 or 422, the mistake is the caller's: status and body pass through, with
  secrets and the provider's host masked. So a `code` that is not on this page comes from a provider.
- A provider's 401, 402 and 403 concern the gateway's own credential and become 502 `upstream_error`.
"""


def errors_page() -> str:
    """Every error of the catalogue by status."""
    parts = [ERRORS_INTRO]
    parts.append("| Status | Code | Type |\n|---|---|---|")
    parts += [f"| {spec.status} | [`{code}`](#{code}) | `{spec.type}` |" for code, spec in CATALOGUE.items()]
    parts.append("")
    status = 0
    for code, spec in CATALOGUE.items():
        if spec.status != status:
            status = spec.status
            parts.append(f"## Status {status}\n")
        parts.extend(_error(code, spec))
    return "\n".join(parts).rstrip() + "\n"


def _error(code: str, spec: ErrorSpec) -> Iterator[str]:
    yield f"### {code}\n"
    yield f"```text\n{spec.message}\n```\n"
    yield f"- Cause: {spec.cause}"
    yield f"- Remedy: {spec.remedy}"
    headers = [f"`{name}: {value}`" for name, value in spec.headers.items()]
    if spec.retry_after_s is not None:
        headers.append(f"`Retry-After: {spec.retry_after_s}`, unless the right wait is known")
    if headers:
        yield f"- Headers: {'; '.join(headers)}"
    yield ""


USAGE_INTRO = """\
# Usage

Made from the tables of the protocols by `python -m gatewayctl.docs`; do not edit.

What a provider reports is divided into disjoint meters: a token is counted by exactly one, so that the cost is the sum of
count × price ([ledger](ledger.md)). The last report of a stream counts, never a sum. Counts must be integers within bounds and
must not contradict each other nor what the request can have used, else what was delivered is counted instead and flagged
`estimated`.

## Meters

| Meter | Unit | Counts | Without a price of its own |
|---|---|---|---|
"""
USAGE_OF = (
    (
        "Chat completions",
        openai_chat_tables.USAGE,
        "`usage` of a reply or chunk, in `x_groq` (Groq), or in a choice (Moonshot).",
    ),
    ("Responses", openai_responses_tables.USAGE, "`usage` of a response."),
    ("Messages", anthropic_tables.USAGE, "`usage` of a message; those of `message_delta` replace those of `message_start`."),
    ("Gemini", gemini_tables.USAGE, "`usageMetadata`; the last one of a stream."),
    ("Completions, embeddings, moderations", asks.USAGE, "`usage` of a reply or of the last chunk."),
    ("Images", openai_images.USAGE, "A model is sold by tokens or by the piece: its prices say which of them costs."),
    ("Speech and transcriptions", openai_audio.USAGE, ""),
    ("Rerank", rerank.USAGE, ""),
)
HOSTED = """\
## Tools that the provider runs

Each call is a unit of `hosted_call/NAME`, whatever the API calls the tool; any other tool stands for itself, without its date
(`web_search_20250305`). Items of a reply that failed, and pages that a web search opens, are no calls.

| Name | Also called |
|---|---|
"""


def usage_page() -> str:
    """docs/usage.md: which meters there are, and which field of which API is which."""
    parts = [USAGE_INTRO.rstrip()]
    for meter in METERS.values():
        other = FALLBACK.get(meter.name)
        parts.append(f"| `{meter.name}` | {meter.unit} | {meter.counts} | {f'as `{other}`' if other else 'costs nothing'} |")
    for title, table, where in USAGE_OF:
        parts += ["", f"## {title}", "", *([where, ""] if where else []), "| Field | Meter | |", "|---|---|---|"]
        parts += [f"| `{field}` | `{meter}` | {note} |" for field, (meter, note) in table.items()]
    parts += ["", HOSTED.rstrip()]
    parts += [f"| `{name}` | {', '.join(f'`{word}`' for word in words)} |" for name, words in hosted.WORDS.items()]
    return "\n".join(parts).rstrip() + "\n"


PAGES: dict[Path, Callable[[], str]] = {
    TARGET: page,
    DOCS / "errors.md": errors_page,
    DOCS / "usage.md": usage_page,
    DOCS / "protocols.md": protocols_page,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check compare: 1 when one is not current."""
    code = 0
    for path, make in PAGES.items():
        text = make()
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"docs/{path.name} is not current. Run: python -m gatewayctl.docs\n")
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
