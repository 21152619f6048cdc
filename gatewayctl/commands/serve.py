"""gatewayctl serve: run the gateway."""

from __future__ import annotations

import typer

from gatewayctl import context

HOST = typer.Option(None, metavar="H", help="Address to listen on; default 127.0.0.1.")
PORT = typer.Option(None, metavar="P", min=0, max=65_535, help="Port to listen on; default 8000.")
WORKERS = typer.Option(None, metavar="N", min=1, max=256, help="Worker processes; default 1.")
LOG_FORMAT = typer.Option(None, metavar="json|text", help="Format of the log on stderr; default text.")


def command(
    host: str | None = HOST,
    port: int | None = PORT,
    workers: int | None = WORKERS,
    log_format: str | None = LOG_FORMAT,
) -> None:
    """Run the gateway until it is told to stop (Ctrl-C or SIGTERM; running streams finish).

    Example: gatewayctl serve --host 0.0.0.0 --port 8000 --workers 2
    """
    flags = {"host": host, "port": port, "workers": workers, "log_format": log_format}
    context.open_database()  # a clear word now, before any worker starts
    context.master_keys()
    raise typer.Exit(run(**flags))


def run(**flags: object) -> int:
    """Start the daemon with these flags; returns its exit code. The database is not open across the start."""
    from daemon.run import serve
    from db.engine import close_connection

    url = context.database_url()
    close_connection()
    return int(serve(context.settings(**flags), database_url=url, home=context.home()))
