"""First run: the home, the database and its schema, the master key, the default group, and the demo model.

Every step looks before it acts, so that doing it again changes nothing.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from db import catalog, groups, keys, ledger, meters, migrate, providers, users
from db.errors import Conflict, Invalid, NotFound
from db.prices import NewPrice
from db.secrets import MASTER_KEY_VARIABLE, create_master_key, load_master_keys
from gatewayctl import context

if TYPE_CHECKING:
    from db.keys import IssuedKey

DEMO_PROVIDER, DEMO_MODEL, DEMO_USER, DEMO_KEY = "demo", "demo-chat", "demo", "quickstart"
DEMO_PRICES = {"input": "0.10", "output": "0.40"}  # USD per million tokens
DEMO_BALANCE_NANOS = 5_000_000_000
DEMO_REF = "quickstart"
DEMO_GRACE_MS = 24 * 3600 * 1000


@dataclass
class Setup:
    """Where everything is, and what this run made."""

    home: Path
    database_url: str
    made: list[str] = field(default_factory=list)


def _make_home(setup: Setup) -> None:
    if not setup.home.is_dir():
        try:
            setup.home.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise Invalid(f"{setup.home} cannot be made: {error.strerror}", "Choose another GATEWAYCTL_HOME") from error
        setup.made.append("home")


def initialise(*, demo: bool = False) -> Setup:
    """Make what is missing. Leaves the database open."""
    setup = Setup(home=context.home(), database_url="")
    _make_home(setup)
    setup.database_url = context.bind_database(create=True)
    applied = migrate.migrate()
    if applied:
        setup.made.append("database" if "0001_initial" in applied else "migrations")
    if os.environ.get(MASTER_KEY_VARIABLE) is None and create_master_key(context.master_key_path()):
        setup.made.append("master key")
    load_master_keys(context.master_key_path())  # refuses one that is damaged or readable by others
    if not groups.list_all():
        with contextlib.suppress(Conflict):  # another init was faster
            groups.create(groups.DEFAULT_GROUP, is_default=True)
            setup.made.append(f"group {groups.DEFAULT_GROUP}")
    if demo:
        _add_demo(setup)
    return setup


def _add_demo(setup: Setup) -> None:
    try:
        provider = providers.show(DEMO_PROVIDER)
    except NotFound:
        provider = providers.create(DEMO_PROVIDER, protocol="demo")
        setup.made.append(f"provider {DEMO_PROVIDER}")
    try:
        catalog.show(DEMO_MODEL)
    except NotFound:
        prices = {meter: NewPrice(meters.parse_price(meter, text)) for meter, text in DEMO_PRICES.items()}
        catalog.add(
            catalog.NewModel(
                public_id=DEMO_MODEL,
                provider=provider.slug,
                upstream=DEMO_MODEL,
                prices=prices,
                display_name="Demo chat",
                description="A small deterministic model inside the gateway: no account needed.",
                context_length=32_768,
                max_output=4_096,
                features=("streaming", "tools", "json_mode"),
            )
        )
        setup.made.append(f"model {DEMO_MODEL}")


def demo_account() -> IssuedKey:
    """The demo user with a balance and a fresh secret. The balance is given once; an earlier key keeps working a day."""
    try:
        users.show(DEMO_USER)
    except NotFound:
        users.create(DEMO_USER)
    ledger.top_up(DEMO_USER, DEMO_BALANCE_NANOS, ref=DEMO_REF, note="quickstart")
    mine = [view for view in keys.list_all(DEMO_USER) if view.name == DEMO_KEY and view.status == "active"]
    if mine:
        return keys.rotate(str(mine[0].id), grace_ms=DEMO_GRACE_MS)
    return keys.create(DEMO_USER, name=DEMO_KEY)
