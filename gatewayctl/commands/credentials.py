"""gatewayctl credentials: secrets at providers."""

from __future__ import annotations

import typer

from gatewayctl import context, output, parse, shapes
from gatewayctl.commands._shared import IF_NOT_EXISTS, YES, create_or_existing
from gatewayctl.errors import Usage

app = typer.Typer()
COLUMNS = (
    "id", "provider", "name", "status", "weight", "max_parallel", "secret", "benched_at", "next_try_at", "last_error",
    "last_error_at", "created_at",
)  # fmt: skip
REFERENCE = typer.Argument(..., metavar="ID", help="Number, provider/name, or name.")


@app.command()
def add(
    provider: str = typer.Argument(..., metavar="PROVIDER"),
    from_env: str | None = typer.Option(None, metavar="VAR", help="The variable that holds the secret."),
    from_file: str | None = typer.Option(None, metavar="PATH", help="The file that holds it; - for standard input."),
    name: str = typer.Option("default", help="To tell several apart."),
    weight: int = typer.Option(1, min=1, help="Share of the requests among several."),
    max_parallel: int | None = typer.Option(None, metavar="N", min=1, help="Most requests at the same time."),
    if_not_exists: bool = IF_NOT_EXISTS,
) -> None:
    """Store a secret at a provider, encrypted. It never stands in an argument.

    Example: gatewayctl credentials add openai --from-env OPENAI_API_KEY --name ci

    Example: pass show openai | gatewayctl credentials add openai --from-file -
    """
    from db import credentials
    from db.errors import NotFound

    context.open_database()
    if if_not_exists:  # before the secret is read: a second run may no longer have it
        try:
            view = credentials.show(f"{provider}/{name}")
        except NotFound:
            pass
        else:
            output.note("It exists already; nothing was changed.")
            return output.record(shapes.credential(view))
    secret = parse.secret(from_env, from_file)
    keys = context.master_keys()
    view, _ = create_or_existing(
        lambda: credentials.add(provider, secret, keys, name=name, weight=weight, max_parallel=max_parallel),
        lambda: credentials.show(f"{provider}/{name}"),
        if_not_exists=if_not_exists,
    )
    return output.record(shapes.credential(view))


@app.command("list")
def list_credentials(
    provider: str | None = typer.Argument(None, metavar="[PROVIDER]"),
) -> None:
    """List credentials, masked, with status, weight, last error; when one was benched and is tried again.

    Example: gatewayctl credentials list openai
    """
    from db import credentials

    context.open_database()
    rows = [shapes.credential(view) for view in credentials.list_all(provider)]
    output.rows(
        rows,
        COLUMNS,
        right=("id", "weight", "max_parallel"),
        empty="No credentials yet. Try: gatewayctl credentials add openai --from-env OPENAI_API_KEY",
    )


@app.command()
def update(
    reference: str = REFERENCE,
    weight: int | None = typer.Option(None, min=1, help="Share of the requests among several."),
    max_parallel: str | None = typer.Option(None, metavar="N|none", help="Most requests at the same time."),
) -> None:
    """Change a credential's share of the requests, or how many it may have at the same time.

    Example: gatewayctl credentials update openai/ci --weight 3 --max-parallel 20
    """
    from db import credentials

    context.open_database()
    fields = parse.changes(weight=(weight, None), max_parallel=(max_parallel, parse.optional_number))
    if not fields:
        raise Usage("Nothing to change", "See: gatewayctl credentials update --help")
    output.record(shapes.credential(credentials.update(reference, **fields)))


@app.command()
def disable(reference: str = REFERENCE) -> None:
    """Stop using a credential, from the next request on.

    Example: gatewayctl credentials disable openai/ci
    """
    from db import credentials

    context.open_database()
    output.record(shapes.credential(credentials.set_status(reference, "disabled")))


@app.command()
def enable(reference: str = REFERENCE) -> None:
    """Use a disabled or benched credential again, at once, and forget its last error.

    Example: gatewayctl credentials enable openai/ci
    """
    from db import credentials

    context.open_database()
    output.record(shapes.credential(credentials.set_status(reference, "active")))


@app.command()
def delete(reference: str = REFERENCE, yes: bool = YES) -> None:
    """Delete a credential for good.

    Example: gatewayctl credentials delete openai/ci --yes
    """
    from db import credentials

    context.open_database()
    view = credentials.show(reference)
    output.confirm(f"Delete credential {view.provider}/{view.name} ({view.hint})?", yes=yes)
    output.record(shapes.credential(credentials.delete(str(view.id))))


@app.command()
def reencrypt() -> None:
    """Encrypt every credential with the first key of master.key, after that key was replaced.

    Example: gatewayctl credentials reencrypt
    """
    from db import credentials

    context.open_database()
    changed = credentials.reencrypt(context.master_keys())
    if not changed:
        output.note("Every credential is encrypted with the current key already.")
    output.record({"changed": changed}, id="changed")
