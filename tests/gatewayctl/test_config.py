"""Settings: each value with its source, written without losing comments, secrets never shown or in arguments."""

from __future__ import annotations

import pytest

from tests.support.cli import Gateway


@pytest.fixture
def home(local: Gateway) -> Gateway:
    """An initialised home."""
    local.ok("init")
    return local


def _setting(gateway: Gateway, name: str, env: dict[str, str] | None = None) -> tuple[object, str]:
    row = gateway.json("config", "show", name, env=env)
    return row["value"], row["source"]


def test_the_strongest_source_wins(home: Gateway) -> None:
    assert _setting(home, "port") == (8000, "default")
    home.ok("config", "set", "port", "9000")
    assert _setting(home, "port") == (9000, "config.toml")
    assert _setting(home, "port", {"GATEWAYCTL_PORT": "9001"}) == (9001, "environment")
    home.ok("config", "unset", "port")
    assert _setting(home, "port") == (8000, "default")


def test_the_database_flag_is_a_source(home: Gateway) -> None:
    row = home.json("--db", "sqlite:////tmp/x.db", "config", "show", "db")
    assert (row["value"], row["source"]) == ("sqlite:////tmp/x.db", "flag")


def test_show_lists_every_setting(home: Gateway) -> None:
    from db import settings

    found = home.json("config", "show")
    assert [row["name"] for row in found] == list(settings.TABLE)
    assert all(row["help"] and row["variable"].startswith("GATEWAYCTL_") for row in found)


def test_the_rest_of_the_file_stays(home: Gateway) -> None:
    file = home.home / "config.toml"
    file.write_text("# ours\nworkers = 2  # two cores\n")
    home.ok("config", "set", "port", "9000")
    assert file.read_text() == "# ours\nworkers = 2  # two cores\nport = 9000\n"
    assert file.stat().st_mode & 0o777 == 0o600
    home.ok("config", "unset", "port")
    assert file.read_text() == "# ours\nworkers = 2  # two cores\n"


@pytest.mark.parametrize(
    ("name", "value"), [("port", "x"), ("port", "-1"), ("log_format", "xml"), ("nope", "1"), ("port", "70000")]
)
def test_what_does_not_fit_is_refused_and_not_written(home: Gateway, name: str, value: str) -> None:
    assert home.run("config", "set", name, value).code == 2
    assert not (home.home / "config.toml").exists()


def test_lists_and_flags_have_their_types(home: Gateway) -> None:
    assert home.json("config", "set", "trusted_proxies", "10.0.0.1,10.0.0.2")["value"] == ["10.0.0.1", "10.0.0.2"]
    assert home.json("config", "set", "list_hash_ids", "no")["value"] is False


def test_a_secret_never_stands_in_arguments_nor_in_output(home: Gateway) -> None:
    refused = home.run("config", "set", "metrics_token", "hunter2hunter2")
    assert refused.code == 2
    assert "--from-env" in refused.err
    assert home.run("config", "set", "db", "postgresql://me:hunter2@127.0.0.1/x").code == 2
    home.ok("config", "set", "metrics_token", "--from-env", "TOKEN", env={"TOKEN": "hunter2hunter2"})
    home.ok("config", "set", "db", "--from-file", "-", stdin="postgresql://me:hunter2@127.0.0.1/x\n")
    for words in (("config", "show"), ("config", "show", "--json"), ("config", "show", "db", "--quiet")):
        assert "hunter2" not in home.ok(*words).out
    assert "hunter2" in (home.home / "config.toml").read_text()


def test_a_stronger_variable_is_said(home: Gateway) -> None:
    result = home.ok("config", "set", "port", "9000", env={"GATEWAYCTL_PORT": "1"})
    assert "GATEWAYCTL_PORT" in result.err


def test_a_broken_file_is_named(home: Gateway) -> None:
    (home.home / "config.toml").write_text("port = \n")
    result = home.run("config", "show")
    assert result.code == 2
    assert "config.toml" in result.err
