"""gatewayctl quickstart: from nothing to a gateway that answers."""

from __future__ import annotations

import typer

from gatewayctl import context, output
from gatewayctl.addresses import public_base_url
from gatewayctl.commands import serve


def command(
    host: str | None = serve.HOST,
    port: int | None = serve.PORT,
    workers: int | None = serve.WORKERS,
    log_format: str | None = serve.LOG_FORMAT,
    no_serve: bool = typer.Option(False, "--no-serve", help="Prepare and print; do not serve."),
) -> None:
    """Create a gateway with a demo model, a user, 5 USD and a key; print a working curl; then serve.

    Example: gatewayctl quickstart
    """
    from gatewayctl.setup import DEMO_MODEL, DEMO_USER, demo_account, initialise

    done = initialise(demo=True)
    issued = demo_account()
    flags = {"host": host, "port": port, "workers": workers, "log_format": log_format}
    base = public_base_url(context.settings(**flags))
    curl = (
        f"curl {base}/v1/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {issued.text}' -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model":"{DEMO_MODEL}","messages":[{{"role":"user","content":"hi"}}]}}\''
    )
    if output.state.json:
        output.document({"base_url": base, "user": DEMO_USER, "model": DEMO_MODEL, "key": issued.text, "curl": curl})
    elif output.state.quiet:
        output.text(issued.text)
    else:
        output.note(f"Home: {done.home}. A user '{DEMO_USER}' with 5 USD; its key, shown only now, is in this call:\n")
        output.text(curl)
        output.note("")
    output.flush()
    if no_serve:
        return
    raise typer.Exit(serve.run(**flags))
