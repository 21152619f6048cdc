"""gatewayctl providers: who serves models to this gateway."""

from __future__ import annotations

from typing import Any

import typer

from gatewayctl import context, output, parse, shapes
from gatewayctl.commands._shared import IF_NOT_EXISTS, YES, create_or_existing, note_unenforced

app = typer.Typer()
SLUG = typer.Argument(..., metavar="SLUG")
COLUMNS = ("slug", "name", "protocol", "status", "credentials", "models", "base_url")

# Options of add and update.
PROTOCOL = typer.Option(None, metavar="openai|anthropic|gemini|demo", help="Wire format; known for presets.")
BASE_URL = typer.Option(None, metavar="URL", help="What stands before /chat/completions; known for presets.")
DISPLAY = typer.Option(None, "--name", metavar="DISPLAY", help="Name in Provider#Model ids.")
NO_AUTH = typer.Option(None, "--no-auth/--auth", help="Needs no credential (a local server).")
AUTH_HEADER = typer.Option(None, metavar="H", help="Header of the credential; 'default' for the protocol's.")
AUTH_PREFIX = typer.Option(None, metavar="P", help="What stands before the credential, such as 'Bearer '.")
CONNECT = typer.Option(None, metavar="S", help="Seconds to connect.")
FIRST_BYTE = typer.Option(None, metavar="S", help="Seconds until the answer begins.")
READ = typer.Option(None, metavar="S", help="Seconds between two pieces of an answer.")
TOTAL = typer.Option(None, metavar="S", help="Seconds for the whole answer.")
CONNECTIONS = typer.Option(None, metavar="N", help="Connections at the same time.")
DISCONNECT = typer.Option(None, metavar="cancel|drain", help="When the client leaves: stop, or read on to bill exactly.")
INCLUDE_USAGE = typer.Option(None, "--include-usage/--no-include-usage", help="Ask for usage in streams.")
DAILY_ALERT = typer.Option(None, metavar="USD|none", help="Warn beyond this cost a day.")
DAILY_STOP = typer.Option(None, metavar="USD|none", help="Pause beyond this cost a day.")
CHAT_API = typer.Option(None, metavar="chat|responses|both", help="Which of OpenAI's APIs it speaks; known for presets.")
ROTATION = typer.Option(None, metavar="round_robin|least_busy", help="Whose turn it is among its credentials.")
NO_ANSWER = typer.Option(
    None,
    metavar="fail|next",
    help="When it was sent a request and did not answer: fail, or ask the next deployment (it may bill both).",
)
ALLOW = typer.Option([], metavar="'METHOD PATH'", help="An endpoint that may pass through; repeat.")


def _fields(**given: Any) -> dict[str, Any]:
    def default_or(text: str) -> str | None:
        return None if text == "default" else text

    return parse.changes(
        base_url=(given["base_url"], None),
        name=(given["name"], None),
        no_auth=(given["no_auth"], None),
        auth_header=(given["auth_header"], default_or),
        auth_prefix=(given["auth_prefix"], default_or),
        connect_timeout_ms=(given["connect"], parse.timeout_ms),
        first_byte_timeout_ms=(given["first_byte"], parse.timeout_ms),
        read_timeout_ms=(given["read"], parse.timeout_ms),
        total_timeout_ms=(given["total"], parse.timeout_ms),
        max_connections=(given["connections"], None),
        on_disconnect=(given["on_disconnect"], None),
        include_usage=(given["include_usage"], None),
        daily_alert_nanos=(given["daily_alert"], parse.optional_usd),
        daily_stop_nanos=(given["daily_stop"], parse.optional_usd),
        allow_endpoints=(given["allow"] or None, None),
        chat_api=(given["chat_api"], None),
        rotation=(given["rotation"], None),
        on_no_answer=(given["on_no_answer"], None),
    )


def _show(view: Any) -> None:
    output.record(shapes.provider(view), id="slug", hide=("id",))


def _note_plain_http(view: Any) -> None:
    from db.providers import is_plain_http

    if view.base_url and is_plain_http(view.base_url):
        output.warn(f"{view.base_url} is not encrypted: use https unless the network is your own")


@app.command()
def add(
    slug: str = SLUG,
    protocol: str | None = PROTOCOL,
    base_url: str | None = BASE_URL,
    name: str | None = DISPLAY,
    no_auth: bool | None = NO_AUTH,
    auth_header: str | None = AUTH_HEADER,
    auth_prefix: str | None = AUTH_PREFIX,
    connect_timeout: str | None = CONNECT,
    first_byte_timeout: str | None = FIRST_BYTE,
    read_timeout: str | None = READ,
    total_timeout: str | None = TOTAL,
    max_connections: int | None = CONNECTIONS,
    on_disconnect: str | None = DISCONNECT,
    include_usage: bool | None = INCLUDE_USAGE,
    daily_alert: str | None = DAILY_ALERT,
    daily_stop: str | None = DAILY_STOP,
    allow_endpoint: list[str] = ALLOW,
    chat_api: str | None = CHAT_API,
    rotation: str | None = ROTATION,
    on_no_answer: str | None = NO_ANSWER,
    if_not_exists: bool = IF_NOT_EXISTS,
) -> None:
    """Add a provider. Well-known ones (openai, anthropic, groq, mistral, ollama …) need nothing but their name.

    Example: gatewayctl providers add groq

    Example: gatewayctl providers add local --protocol openai --base-url http://127.0.0.1:8080/v1 --no-auth
    """
    from db import providers

    context.open_database()
    fields = _fields(
        base_url=base_url, name=name, no_auth=no_auth, auth_header=auth_header, auth_prefix=auth_prefix,
        connect=connect_timeout, first_byte=first_byte_timeout, read=read_timeout, total=total_timeout,
        connections=max_connections, on_disconnect=on_disconnect, include_usage=include_usage,
        daily_alert=daily_alert, daily_stop=daily_stop, allow=allow_endpoint, chat_api=chat_api,
        rotation=rotation, on_no_answer=on_no_answer,
    )  # fmt: skip
    note_unenforced(daily_alert=daily_alert, daily_stop=daily_stop)
    view, created = create_or_existing(
        lambda: providers.create(slug, protocol=protocol, **fields),
        lambda: providers.show(slug),
        if_not_exists=if_not_exists,
    )
    _show(view)
    if created:
        _note_plain_http(view)
        if not view.no_auth:
            output.note(f"Next: gatewayctl credentials add {slug} --from-env VAR")


@app.command("list")
def list_providers() -> None:
    """List providers.

    Example: gatewayctl providers list
    """
    from db import providers

    context.open_database()
    rows = [{**shapes.provider(view), "models": list(view.models)} for view in providers.list_all()]
    if not output.state.json:
        rows = [{**row, "models": len(row["models"])} for row in rows]
    output.rows(
        rows,
        COLUMNS,
        id="slug",
        right=("credentials", "models"),
        empty="No providers yet. Try: gatewayctl providers add openai",
    )


@app.command()
def presets() -> None:
    """List the well-known providers that need no base URL.

    Example: gatewayctl providers presets
    """
    from db.presets import PRESETS

    rows = [
        {
            "slug": item.slug,
            "name": item.name,
            "protocol": item.protocol,
            "base_url": item.base_url or None,
            "chat_api": item.chat_api,
        }
        for item in PRESETS.values()
    ]
    output.rows(rows, ("slug", "name", "protocol", "base_url", "chat_api"), id="slug")


@app.command()
def show(slug: str = SLUG) -> None:
    """Show a provider with its deadlines, models and number of usable credentials.

    Example: gatewayctl providers show openai
    """
    from db import providers

    context.open_database()
    _show(providers.show(slug))


@app.command()
def update(
    slug: str = SLUG,
    base_url: str | None = BASE_URL,
    name: str | None = DISPLAY,
    no_auth: bool | None = NO_AUTH,
    auth_header: str | None = AUTH_HEADER,
    auth_prefix: str | None = AUTH_PREFIX,
    connect_timeout: str | None = CONNECT,
    first_byte_timeout: str | None = FIRST_BYTE,
    read_timeout: str | None = READ,
    total_timeout: str | None = TOTAL,
    max_connections: int | None = CONNECTIONS,
    on_disconnect: str | None = DISCONNECT,
    include_usage: bool | None = INCLUDE_USAGE,
    daily_alert: str | None = DAILY_ALERT,
    daily_stop: str | None = DAILY_STOP,
    allow_endpoint: list[str] = ALLOW,
    chat_api: str | None = CHAT_API,
    rotation: str | None = ROTATION,
    on_no_answer: str | None = NO_ANSWER,
) -> None:
    """Change a provider; running requests keep what they started with.

    Example: gatewayctl providers update openai --read-timeout 120 --on-disconnect drain
    """
    from db import providers

    context.open_database()
    fields = _fields(
        base_url=base_url, name=name, no_auth=no_auth, auth_header=auth_header, auth_prefix=auth_prefix,
        connect=connect_timeout, first_byte=first_byte_timeout, read=read_timeout, total=total_timeout,
        connections=max_connections, on_disconnect=on_disconnect, include_usage=include_usage,
        daily_alert=daily_alert, daily_stop=daily_stop, allow=allow_endpoint, chat_api=chat_api,
        rotation=rotation, on_no_answer=on_no_answer,
    )  # fmt: skip
    note_unenforced(daily_alert=daily_alert, daily_stop=daily_stop)
    view = providers.update(slug, **fields)
    _show(view)
    _note_plain_http(view)


@app.command()
def pause(
    slug: str = SLUG,
    reason: str | None = typer.Option(None, metavar="T", help="Why; shown to admins."),
) -> None:
    """Send no new requests there (429 provider_paused); running ones finish.

    Example: gatewayctl providers pause openai --reason "invoice open"
    """
    from db import providers

    context.open_database()
    _show(providers.pause(slug, reason))


@app.command()
def resume(slug: str = SLUG) -> None:
    """Send requests there again, from the next one on.

    Example: gatewayctl providers resume openai
    """
    from db import providers

    context.open_database()
    _show(providers.resume(slug))


@app.command()
def delete(slug: str = SLUG, yes: bool = YES) -> None:
    """Delete a provider and its credentials; refused while it serves models.

    Example: gatewayctl providers delete groq --yes
    """
    from db import providers

    context.open_database()
    view = providers.show(slug)
    if not view.models:
        output.confirm(f"Delete provider {slug} and its credentials?", yes=yes)
    providers.delete(slug)
    _show(view)


@app.command("test")
def ask(slug: str = SLUG) -> None:
    """Ask a provider for its list of models: free, and shows that address and credential work.

    Example: gatewayctl providers test openai
    """
    from gatewayctl.upstream_list import listed

    context.open_database()
    found, elapsed_ms = listed(slug)
    shape = {"provider": slug, "ok": True, "models": len(found), "latency_ms": elapsed_ms}
    output.record(shape, id="provider")


@app.command("sync-models")
def sync_models(
    slug: str = SLUG,
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would be added; change nothing."),
    match: str | None = typer.Option(None, metavar="PATTERN", help="Only the provider's ids like this, such as 'gpt-4o*'."),
    everything: bool = typer.Option(False, "--all", help="Add also those without a known price, disabled."),
    prefix: str = typer.Option("", metavar="TEXT", help="Put it before each public id, such as 'groq/'."),
    group: list[str] = typer.Option([], metavar="G", help="Only these groups may call them; default: the default groups."),
) -> None:
    """Add every model that a provider lists and whose price is known; name those that it does not list any more.

    Existing models stay as they are, and so do their prices. Doing it again changes nothing.

    Example: gatewayctl providers sync-models openai --dry-run

    Example: gatewayctl providers sync-models groq --prefix groq/ --match 'llama*'
    """
    from gatewayctl.upstream_models import Wanted, sync

    context.open_database()
    report = sync(slug, Wanted(dry_run, match, everything, prefix, group))
    if output.state.json:
        return output.document(report.as_json())
    if report.unpriced and not everything:
        output.note(f"{len(report.unpriced)} without a known price: add them with prices of your own, or disabled with --all.")
    if report.existing:
        output.note(f"{len(report.existing)} offered already.")
    rows = [row for row in report.rows if row["id"] in report.added] if output.state.quiet else report.rows
    return output.rows(rows, ("id", "upstream", "action", "prices"), empty="Nothing to add.")
