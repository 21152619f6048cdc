"""serve(): the entry of `gatewayctl serve`. Opens the socket, checks the database, then runs one worker or a supervisor."""

from __future__ import annotations

import socket
from pathlib import Path

from daemon import log
from daemon.server import work
from daemon.supervisor import supervise
from db import migrate, secrets
from db.engine import close_connection, open_database
from db.errors import Invalid
from db.settings import Settings

MASTER_KEY_FILE = "master.key"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; Invalid when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise Invalid(f"Cannot listen on {host}:{port}: {error.strerror}", "Choose another --port or --host") from error
    sock.setblocking(False)
    return sock


def serve(settings: Settings, *, database_url: str, home: Path) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. Raises StoreError when it cannot start."""
    open_database(database_url)
    migrate.require_current()
    master = secrets.load_master_keys(home / MASTER_KEY_FILE)
    close_connection()
    sock = listen(settings.host, settings.port)
    host, port = sock.getsockname()[:2]
    log.configure(level=settings.log_level, as_json=settings.log_format == "json")
    log.info("listening", url=f"http://{host}:{port}", workers=settings.workers)
    if settings.workers == 1:
        return work(settings, master, sock)
    return supervise(settings, database_url=database_url, home=home, sock=sock)
