"""`doctor`: checks of the home, the keys, the database and what is in it. Changes nothing."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from db import checks, clock, engine, migrate, processes
from db.backup import without_password
from db.checks import Finding, Status
from db.errors import StoreError
from gatewayctl import context
from gatewayctl.findings import report

LITTLE_SPACE = 1 << 30
NO_SPACE = 100 << 20
CONNECT_TIMEOUT_S = 1.0
FURTHER = {"settings": "config set --help", "master key": "init --help"}


def command() -> None:
    """Check everything and change nothing; each finding comes with its fix. Exit code 1 when one fails.

    Example: gatewayctl doctor --json
    """
    found = _outside()
    if not any(finding.name == "settings" and finding.status is Status.FAIL for finding in found):
        found += _database()  # they say where it is
    report(found)


def _outside() -> list[Finding]:
    """What can be seen without the database."""
    found = [_home(), _clock()]
    found += _caught("settings", lambda: [_settings()])
    found += _caught("master key", lambda: [_master_key()])
    return found


def _caught(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """A check that cannot even be made is a failure with its own fix."""
    try:
        return check()
    except StoreError as error:
        return [Finding(name, Status.FAIL, error.message, error.hint or f"See: gatewayctl {FURTHER[name]}")]


def _mode(path: Path) -> str | None:
    """What is wrong with the rights of a file, if anything."""
    mode = path.stat().st_mode & 0o777
    return f"{path} has mode {mode:o}" if mode & 0o077 else None


def _home() -> Finding:
    home = context.home()
    if not home.is_dir():
        return Finding("home", Status.FAIL, f"There is no directory {home}", "Run: gatewayctl init")
    wrong = _mode(home)
    if wrong:
        return Finding("home", Status.WARN, f"{wrong}: others can look into it", f"Run: chmod 700 {home}")
    return Finding("home", Status.OK, str(home))


def _clock() -> Finding:
    if clock.is_fake():
        return Finding("clock", Status.WARN, f"{clock.FAKE_CLOCK_VARIABLE} is set: a test clock runs", "Unset it outside tests")
    return Finding("clock", Status.OK, str(clock.iso(clock.now_ms())))


def _settings() -> Finding:
    loaded = context.loaded_settings()
    chosen = sorted(name for name, source in loaded.sources.items() if source != "default")
    path = context.home() / "config.toml"
    if path.exists() and (wrong := _mode(path)):
        return Finding("settings", Status.WARN, f"{wrong}: others can read it", f"Run: chmod 600 {path}")
    return Finding("settings", Status.OK, f"changed: {', '.join(chosen)}" if chosen else "all at their defaults")


def _master_key() -> Finding:
    context.master_keys()
    return Finding("master key", Status.OK, "readable by its owner only")


def _database() -> list[Finding]:
    """The file, the connection, the schema, then its content; the first failure of these ends it."""
    try:
        url = context.bind_database()
    except StoreError as error:
        return [Finding("database", Status.FAIL, error.message, error.hint)]
    found = _place(url)
    try:
        with engine.translated_errors():
            engine.read_only_connection()
        found.append(Finding("database", Status.OK, without_password(url)))
        migrate.require_current()
        found.append(Finding("schema", Status.OK, f"{len(migrate.status().applied)} migrations"))
        found += checks.engine()
        found += checks.content()
        found += checks.keys(context.settings().max_key_age_days, clock.now_ms())
    except (StoreError, checks.UNREADABLE) as error:
        return [*found, _unusable(error)]
    try:
        keys = context.master_keys()
    except StoreError:
        return [*found, *_gateway()]  # named above
    return [*found, *checks.credentials(keys), *_gateway()]


def _unusable(error: Exception) -> Finding:
    """Why the database cannot be used: what the driver said, because here it is not enough to be sent to doctor."""
    if not isinstance(error, StoreError):  # the file is damaged, or is no database
        return Finding("database", Status.FAIL, f"The database cannot be read: {error}", "Run: gatewayctl db restore FILE")
    cause = str(error.__cause__ or "").strip().splitlines()
    if error.hint != "Run: gatewayctl doctor" or not cause:
        return Finding("database", Status.FAIL, error.message, error.hint)
    detail = f"{error.message}: {cause[0][:200]}"
    return Finding("database", Status.FAIL, detail, "Check the server, the file and the URL: gatewayctl config show db")


def _place(url: str) -> list[Finding]:
    path = engine.sqlite_path(url)
    if path is None:
        return []
    found = []
    if wrong := _mode(path):
        found.append(Finding("database file", Status.WARN, f"{wrong}: others can read it", f"Run: chmod 600 {path}"))
    free = shutil.disk_usage(path.parent).free
    status = Status.OK if free >= LITTLE_SPACE else Status.WARN if free >= NO_SPACE else Status.FAIL
    fix = "" if status is Status.OK else "Free some space: without any, the gateway refuses paid requests"
    found.append(Finding("disk space", status, f"{free >> 20:,} MiB free at {path.parent}", fix))
    return found


def _gateway() -> list[Finding]:
    """Whether a gateway runs on this database, and whether its port answers."""
    live = [process for process in processes.running() if process.alive is not False]
    settings = context.settings()
    host, port = settings.host, settings.port
    answers = _answers(host, port)
    place = f"{host}:{port}"
    if live and answers:
        return [Finding("gateway", Status.OK, f"{len(live)} process(es), {place} answers")]
    if live:
        return [
            Finding(
                "gateway",
                Status.WARN,
                f"{len(live)} process(es) run, but nothing answers at {place}",
                "When it listens elsewhere: gatewayctl config set port N (and host)",
            )
        ]
    if answers:
        return [
            Finding(
                "gateway",
                Status.WARN,
                f"Something answers at {place}, but no gateway runs on this database",
                "Stop the other program, or choose another port: gatewayctl config set port N",
            )
        ]
    return [Finding("gateway", Status.OK, "not running")]


def _answers(host: str, port: int) -> bool:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        with socket.create_connection((reachable, port), timeout=CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False
