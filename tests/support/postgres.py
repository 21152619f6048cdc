"""One PostgreSQL of Debian's package for the test session: in a temporary directory, an empty database for each test.

Nothing is durable (fsync off) and nothing is installed: without the package the tests that need it are skipped and
say so. To make a database costs a hundred times as much as to empty one, so that a test gets that of an earlier one again
unless something of its schema was changed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from db.migrate import HISTORY_TABLE
from db.models import TABLES

START_LIMIT_S = 30.0
USER = "gateway"
TEMPLATE = "gateway_template"
FAST = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=60",
    "autovacuum=off",
)


_TABLES = [str(table._meta.table_name) for table in TABLES]
EMPTY = (
    "DO $$ DECLARE number regclass; BEGIN "
    "SET LOCAL session_replication_role = replica; "  # no triggers: the ledger may be emptied
    + "".join(f"DELETE FROM {table}; " for table in reversed(_TABLES))
    + "INSERT INTO catalog_state (id, version) VALUES (1, 1); "
    "FOR number IN SELECT seqrelid::regclass FROM pg_sequence LOOP "
    f"IF NOT starts_with(number::text, '{HISTORY_TABLE}') THEN PERFORM setval(number, 1, false); END IF; "
    "END LOOP; END $$"
)


def _shape_of(connection: psycopg.Connection) -> str:
    """A digest of every column, constraint, index and trigger, and of the migrations that were applied."""
    row = connection.execute(
        "SELECT md5(string_agg(line, '|' ORDER BY line)) FROM ("
        "SELECT attrelid::regclass || '.' || attname || format_type(atttypid, atttypmod) || attnotnull::text AS line "
        "FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'public'::regnamespace AND attnum > 0 "
        "UNION ALL SELECT conrelid::regclass || conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid > 0 "
        "UNION ALL SELECT indexname || indexdef FROM pg_indexes WHERE schemaname = 'public' "
        "UNION ALL SELECT tgrelid::regclass || tgname || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal "
        f"UNION ALL SELECT name FROM {HISTORY_TABLE}) AS lines"
    ).fetchone()
    assert row is not None
    return str(row[0])


def binaries() -> Path | None:
    """The directory that holds `initdb` and `postgres`, the newest version first; None when not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    for directory in found:
        if (directory / "postgres").exists() and (directory / "initdb").exists():
            return directory
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A running PostgreSQL. Use `Server.start()`, `new_database()`, `stop()`."""

    def __init__(self, directory: Path, bin_directory: Path) -> None:
        self.directory = directory
        self.bin_directory = bin_directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._returned: list[str] = []  # URLs of databases that a test is done with
        self._shape: str | None = None

    @classmethod
    def start(cls) -> Server | None:
        """A server, or None when PostgreSQL is not installed (or root cannot become another user)."""
        bin_directory = binaries()
        if bin_directory is None:
            return None
        directory = Path(tempfile.mkdtemp(prefix="gateway-pg-"))
        server = cls(directory, bin_directory)
        try:
            server._initialise()
            server._run()
        except BaseException:
            server.stop()
            raise
        return server

    def _launch(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program of the package; root becomes the package's own user, because PostgreSQL refuses root."""
        user: str | None = None
        if os.getuid() == 0:
            user = "postgres"
            shutil.chown(self.directory, user, user)
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self.bin_directory / program), "-D", str(self.directory / "data"), *arguments],
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                cwd="/",
                stdout=log,
                stderr=log,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    def _log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-2000:]

    def _initialise(self) -> None:
        program = self._launch("initdb", "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        if program.wait(timeout=START_LIMIT_S) != 0:
            raise RuntimeError(f"initdb failed: {self._log()}")

    def _run(self) -> None:
        options = [part for setting in FAST for part in ("-c", setting)]
        place = ("-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.directory))
        self.process = self._launch("postgres", *place, *options)
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            try:
                self.admin("SELECT 1")
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {self._log()}") from None
                time.sleep(0.05)

    def admin(self, statement: str) -> None:
        """Run one statement outside any transaction, in the server's own database."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def url(self, name: str) -> str:
        """The URL of a database on this server."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def new_database(self, *, template: str | None = None) -> str:
        """The URL of a fresh database, empty or a copy of `template`."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        clause = f" TEMPLATE {template}" if template else ""
        self.admin(f"CREATE DATABASE {name}{clause}")
        return self.url(name)

    def lend(self, template: str) -> str:
        """The URL of a database like `template`: one that was taken back and is emptied now, else a new one."""
        while self._returned:
            url = self._returned.pop()
            if self._emptied(url):
                return url
            self.drop(url)
        url = self.new_database(template=template)
        if self._shape is None:
            with psycopg.connect(url) as connection:
                self._shape = _shape_of(connection)
        return url

    def take_back(self, url: str) -> None:
        """The test is done with it."""
        self._returned.append(url)

    def _emptied(self, url: str) -> bool:
        """Whether the database holds what a new one holds, after its rows were deleted and its numbers begin at 1."""
        try:
            with psycopg.connect(url, autocommit=True, options="-c lock_timeout=2000") as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                if _shape_of(connection) != self._shape:
                    return False
                connection.execute(EMPTY)
                return True
        except psycopg.Error:
            return False

    def drop(self, url: str) -> None:
        """Drop a database, whoever is still connected."""
        self.admin(f"DROP DATABASE IF EXISTS {url.rsplit('/', 1)[1]} WITH (FORCE)")

    def stop(self) -> None:
        """End the server by its own pid and remove its directory."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # fast shutdown
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
