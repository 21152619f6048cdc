"""The settings table: each setting's name, default, environment variable and help, and where a value came from.

Order: flag > environment > config.toml in the home > default. Shared by the command line and the daemon; it imports
no database.

To add a setting: 1. a field of `Settings` with `_setting(default, "VARIABLE", "help")`; 2. nothing else: `config
show`, the documentation and the checks read the same table.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from db.errors import Invalid

CONFIG_FILE = "config.toml"
MIB = 1024 * 1024


def _setting(default: Any, variable: str, help: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"variable": variable, "help": help, "secret": secret})


@dataclass(frozen=True, slots=True)
class Settings:
    """Values in force. Names end in their unit."""

    db: str = _setting("", "GATEWAYCTL_DB", "database URL; empty: sqlite in the home")
    host: str = _setting("127.0.0.1", "GATEWAYCTL_HOST", "address that serve listens on")
    port: int = _setting(8000, "GATEWAYCTL_PORT", "port that serve listens on")
    workers: int = _setting(1, "GATEWAYCTL_WORKERS", "worker processes on one socket")
    log_format: str = _setting("text", "GATEWAYCTL_LOG_FORMAT", "json or text")
    log_level: str = _setting("info", "GATEWAYCTL_LOG_LEVEL", "debug, info, warning or error")
    public_base_url: str = _setting(
        "",
        "GATEWAYCTL_PUBLIC_BASE_URL",
        "the URL by which clients reach this gateway; empty: http://host:port",
    )
    service_name: str = _setting("gatewayctl", "GATEWAYCTL_SERVICE_NAME", "name shown in /api/status")
    max_body_bytes: int = _setting(64 * MIB, "GATEWAYCTL_MAX_BODY_BYTES", "largest request body")
    default_max_output: int = _setting(
        16_384,
        "GATEWAYCTL_DEFAULT_MAX_OUTPUT",
        "output tokens held for when neither request nor model bounds them",
    )
    drain_timeout_s: int = _setting(30, "GATEWAYCTL_DRAIN_TIMEOUT_S", "how long a stop waits for running streams")
    list_models_anonymously: bool = _setting(True, "GATEWAYCTL_LIST_MODELS_ANONYMOUSLY", "answer /v1/models without a key")
    list_hash_ids: bool = _setting(True, "GATEWAYCTL_LIST_HASH_IDS", "list Provider#Model ids beside plain ones")
    metrics_token: str = _setting(
        "", "GATEWAYCTL_METRICS_TOKEN", "bearer token for /metrics; empty: loopback only", secret=True
    )
    max_key_age_days: int = _setting(
        180, "GATEWAYCTL_MAX_KEY_AGE_DAYS", "doctor names active keys older than this; 0: no limit"
    )
    free_auth_failures: int = _setting(
        10, "GATEWAYCTL_FREE_AUTH_FAILURES", "failed authentications of an address per minute before they are slowed; 0: never"
    )
    redis_url: str = _setting(
        "",
        "GATEWAYCTL_REDIS_URL",
        "Redis for the counters of limits, such as redis://127.0.0.1:6379/0; empty: the database counts",
        secret=True,
    )
    default_fair_use: str = _setting("", "GATEWAYCTL_DEFAULT_FAIR_USE", "allowance of new users, such as 200/day; empty: none")
    trusted_proxies: tuple[str, ...] = _setting(
        (), "GATEWAYCTL_TRUSTED_PROXIES", "addresses of proxies whose X-Forwarded-Proto, -Host and -For are believed"
    )
    drain_seconds: int = _setting(60, "GATEWAYCTL_DRAIN_SECONDS", "on_disconnect=drain: longest reading on after a client left")
    drain_bytes: int = _setting(8 * MIB, "GATEWAYCTL_DRAIN_BYTES", "on_disconnect=drain: most bytes read after a client left")
    drain_tasks: int = _setting(
        64, "GATEWAYCTL_DRAIN_TASKS", "on_disconnect=drain: most streams read on at once; more are cancelled"
    )


CHOICES: dict[str, tuple[str, ...]] = {
    "log_format": ("text", "json"),
    "log_level": ("debug", "info", "warning", "error"),
}
BOUNDS: dict[str, tuple[int, int]] = {  # inclusive; other integers: 0 … 2^53
    "port": (0, 65_535),
    "workers": (1, 256),
    "max_body_bytes": (1024, 2**31),
    "default_max_output": (1, 10_000_000),
}
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. `kind` is the Python type's name."""

    name: str
    kind: str
    default: Any
    variable: str
    help: str
    secret: bool


TABLE: dict[str, Row] = {item.name: Row(item.name, str(item.type), item.default, **item.metadata) for item in fields(Settings)}


@dataclass(frozen=True, slots=True)
class Loaded:
    """`values`, and for each name its source: 'flag', 'environment', 'config.toml' or 'default'."""

    values: Settings
    sources: dict[str, str]


def row(name: str) -> Row:
    """The row of a setting, or Invalid."""
    if name not in TABLE:
        raise Invalid(f"There is no setting {name!r}", "See: gatewayctl config show")
    return TABLE[name]


def parse(name: str, value: object) -> Any:
    """A text (or a TOML value) as the setting's own type; Invalid when it does not fit."""
    kind = row(name).kind
    text = str(value).strip()
    result: Any = text
    if kind == "bool":
        if isinstance(value, bool):
            return value
        if text.lower() not in _TRUE | _FALSE:
            raise Invalid(f"{name} must be true or false, not {text!r}")
        return text.lower() in _TRUE
    if kind == "int":
        low, high = BOUNDS.get(name, (0, 2**53))
        if isinstance(value, bool) or not text.lstrip("-").isdecimal() or not low <= int(text) <= high:
            raise Invalid(f"{name} must be a whole number from {low} to {high}, not {text!r}")
        return int(text)
    if kind.startswith("tuple"):
        items = value if isinstance(value, list | tuple) else text.split(",")
        return tuple(str(item).strip() for item in items if str(item).strip())
    if name in CHOICES and text not in CHOICES[name]:
        raise Invalid(f"{name} must be one of {', '.join(CHOICES[name])}, not {text!r}")
    return result


def read_file(home: Path) -> dict[str, Any]:
    """What config.toml says; an unknown name is an error: a typing mistake must not pass for a setting."""
    path = home / CONFIG_FILE
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{path} is not valid TOML: {error}", "Correct the file, then try again") from error
    for name in found:
        if name not in TABLE:
            raise Invalid(f"{path} has an unknown setting {name!r}", "See: gatewayctl config show")
    return found


def load(home: Path, *, flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Every setting from its strongest source. Flags that are None count as not given."""
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    written = read_file(home)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, item in TABLE.items():
        if name in given:
            raw, source = given[name], "flag"
        elif environ.get(item.variable, "") != "":
            raw, source = environ[item.variable], "environment"
        elif name in written:
            raw, source = written[name], "config.toml"
        else:
            values[name], sources[name] = item.default, "default"
            continue
        values[name], sources[name] = parse(name, raw), source
    return Loaded(values=Settings(**values), sources=sources)
