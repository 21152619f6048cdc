"""What commands need: home, settings, database, master key. Each is found or opened when first used."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from db.secrets import MasterKeys
    from db.settings import Loaded, Settings

HOME_VARIABLE = "GATEWAYCTL_HOME"
LOCK_WAIT_S = 90.0  # a command waits its turn; the daemon gives up much sooner


@dataclass
class State:
    """What the flags of this call said. One per run; `gatewayctl.cli.run` starts a fresh one."""

    db: str | None = None
    json: bool = False
    quiet: bool = False
    opened: bool = False


state = State()


def reset() -> None:
    """Forget the previous call (tests run many in one process)."""
    state.db, state.json, state.quiet, state.opened = None, False, False, False


def home() -> Path:
    """GATEWAYCTL_HOME, or the platform's user data directory."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("gatewayctl"))


def loaded_settings(**flags: object) -> Loaded:
    """Settings and their sources; `flags` of this command are the strongest."""
    from db import settings

    return settings.load(home(), flags={"db": state.db, **flags})


def settings(**flags: object) -> Settings:
    """Settings in force."""
    return loaded_settings(**flags).values


def database_url() -> str:
    """--db, GATEWAYCTL_DB, config.toml, or the SQLite file in the home."""
    return settings().db or f"sqlite:///{home() / 'gateway.db'}"


def master_key_path() -> Path:
    """Where the master key lies (unless GATEWAYCTL_MASTER_KEY replaces it)."""
    return home() / "master.key"


def master_keys() -> MasterKeys:
    """The keys that encrypt credentials."""
    from db.secrets import load_master_keys

    return load_master_keys(master_key_path())


def actor() -> str:
    """Who the audit log names: 'cli:<user of the operating system>'."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        return f"cli:uid-{os.getuid()}"


def bind_database(*, create: bool = False) -> str:
    """Open the database without looking at its schema (init, doctor, db …); returns its URL."""
    from db import audit, engine

    url = database_url()
    engine.open_database(url, create=create)
    engine.wait_for_lock(LOCK_WAIT_S)
    audit.actor.set(actor())
    state.opened = True
    return url


def open_database() -> str:
    """Open the database and require this program's schema; returns its URL. Commands call it first."""
    from db import migrate

    url = bind_database()
    migrate.require_current()
    return url
