"""Settings: which source wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import settings
from db.errors import Invalid


def test_order_is_flag_environment_file_default(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("port = 1\nworkers = 2\nhost = '::1'\n")
    loaded = settings.load(
        tmp_path,
        flags={"port": 3, "workers": None},
        environ={"GATEWAYCTL_PORT": "2", "GATEWAYCTL_HOST": "127.0.0.9"},
    )
    assert (loaded.values.port, loaded.values.workers, loaded.values.host) == (3, 2, "127.0.0.9")
    assert loaded.values.log_format == "text"
    names = ("port", "workers", "host", "log_format")
    assert [loaded.sources[name] for name in names] == ["flag", "config.toml", "environment", "default"]


def test_every_type_parses(tmp_path: Path) -> None:
    environ = {"GATEWAYCTL_LIST_HASH_IDS": "no", "GATEWAYCTL_TRUSTED_PROXIES": "10.0.0.1, ::1"}
    values = settings.load(tmp_path, environ=environ).values
    assert values.list_hash_ids is False
    assert values.trusted_proxies == ("10.0.0.1", "::1")


@pytest.mark.parametrize(
    ("name", "text"),
    [("port", "x"), ("port", "65536"), ("workers", "0"), ("log_format", "xml"), ("nope", "1")],
)
def test_what_does_not_fit_is_refused(name: str, text: str) -> None:
    with pytest.raises(Invalid):
        settings.parse(name, text)


def test_unknown_name_and_broken_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("prot = 1\n")
    with pytest.raises(Invalid, match="prot"):
        settings.load(tmp_path, environ={})
    (tmp_path / "config.toml").write_text("port = ")
    with pytest.raises(Invalid, match="TOML"):
        settings.load(tmp_path, environ={})


def test_every_setting_has_its_own_variable_and_a_help() -> None:
    rows = settings.TABLE.values()
    assert len({row.variable for row in rows}) == len(settings.TABLE)
    assert all(row.help and row.variable.startswith("GATEWAYCTL_") for row in rows)
