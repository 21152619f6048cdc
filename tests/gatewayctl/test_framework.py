"""The framework: options before and after, exit codes, errors as sentences and documents, speed, what is imported."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gatewayctl import cli
from tests.support.cli import Gateway

ROOT = Path(__file__).parents[2]
HEAVY = ("daemon", "quart", "hypercorn", "httpx", "aiohttp", "cryptography", "genai_prices", "peewee", "psycopg")


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    # The processor's time since the process began: the same as on the clock, but for what else the machine does.
    code = (
        "import sys, time\n"
        "from gatewayctl.cli import run\n"
        "code = run(['--help'])\n"
        "print(code, time.process_time(), *sys.modules, file=sys.stderr)"
    )
    took = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        exit_code, seconds, *modules = done.stderr.split()
        assert exit_code == "0"
        assert not [name for name in HEAVY if name in modules]
        took.append(float(seconds))
    assert min(took) < 0.4


NOUNS = [noun for noun in cli.NOUNS if importlib.util.find_spec(f"gatewayctl.commands.{cli.NOUNS[noun][0]}")]


@pytest.mark.parametrize("noun", NOUNS)
def test_every_command_has_help_with_an_example_and_the_options_everywhere(noun: str, local: Gateway) -> None:
    command = cli.load(noun)
    verbs = getattr(command, "commands", {})
    for words in [[noun, verb] for verb in verbs] or [[noun]]:
        result = local.ok(*words, "--help")
        assert re.search(r"Example: .*gatewayctl", " ".join(result.out.split())), words
        for option in ("--db", "--json", "--quiet"):
            assert option in result.out, words
    if verbs:
        assert local.run(noun).code == 2


def test_options_work_before_between_and_after(gateway: Gateway) -> None:
    gateway.ok("users", "create", "alice")
    for words in (
        ("--json", "users", "show", "alice"),
        ("users", "--json", "show", "alice"),
        ("users", "show", "alice", "--json"),
        ("users", "show", "--json", "alice"),
    ):
        assert gateway.ok(*words).json["name"] == "alice"
    assert gateway.ok("users", "list", "-q").lines == ["alice"]


def test_db_option_after_the_command(database_url: str, tmp_path: Path) -> None:
    bare = Gateway(tmp_path / "home")
    bare.ok("init", "--db", database_url)
    assert bare.ok("groups", "list", "--db", database_url, "--quiet").lines == ["everyone"]
    assert bare.run("groups", "list").code == 1  # nothing at the default place


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (("users", "show", "nobody"), 3, "not_found"),
        (("groups", "create", "everyone"), 4, "conflict"),
        (("users", "delete", "alice"), 5, "refused"),
        (("users", "create", "a b"), 2, "invalid"),
        (("users", "create"), 2, "usage"),
        (("users", "create", "bob", "--multiplier", "x"), 2, "invalid"),
        (("users", "nonsense"), 2, "usage"),
        (("nonsense",), 2, "usage"),
        (("users", "list", "--nonsense"), 2, "usage"),
    ],
)
def test_errors_are_a_sentence_on_stderr_and_with_json_a_document(
    gateway: Gateway, words: tuple[str, ...], exit_code: int, code: str
) -> None:
    gateway.ok("users", "create", "alice")
    plain = gateway.run(*words)
    assert (plain.code, plain.out) == (exit_code, "")
    assert plain.err.startswith("Error: ")
    assert "Traceback" not in plain.err
    as_json = gateway.run(*words, "--json")
    assert as_json.code == exit_code
    assert set(as_json.json) == {"error"}
    assert set(as_json.json["error"]) == {"code", "message", "hint"}
    assert as_json.json["error"]["code"] == code


def test_without_init_every_command_says_so(local: Gateway) -> None:
    for words in (("users", "list"), ("serve",), ("models", "list")):
        result = local.run(*words)
        assert (result.code, result.out) == (1, "")
        assert "gatewayctl init" in result.err


def test_a_defect_is_reported_without_a_traceback(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    from db import users

    def broken(**_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(users, "list_all", broken)
    result = gateway.run("users", "list", "--json")
    assert result.code == 1
    assert result.json["error"]["code"] == "internal_error"
    assert "Traceback" not in result.err
    assert "GATEWAYCTL_DEBUG" in result.err


def test_a_wrong_schema_is_refused_with_the_next_step(local: Gateway) -> None:
    local.ok("init")
    import sqlite3

    with sqlite3.connect(local.home / "gateway.db") as connection:
        connection.execute("DELETE FROM schema_migrations WHERE name LIKE '0002%'")
    result = local.run("users", "list")
    assert result.code == 1
    assert "gatewayctl db migrate" in result.err


def test_a_closed_pipe_is_no_error(local: Gateway) -> None:
    local.ok("init")
    script = f"{sys.executable} -m gatewayctl models list --help | head -1; echo ${{PIPESTATUS[0]}}"
    env = {**os.environ, "GATEWAYCTL_HOME": str(local.home)}
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert "Traceback" not in done.stderr


def test_the_audit_log_names_the_os_user(gateway: Gateway) -> None:
    import getpass

    from db import audit, engine

    gateway.ok("users", "create", "alice")
    assert gateway.url is not None
    engine.open_database(gateway.url)
    assert audit.entries(1)[0].actor == f"cli:{getpass.getuser()}"
    engine.close_connection()


def test_every_list_is_an_array(gateway: Gateway) -> None:
    lists = [words for noun in NOUNS for words in ((noun, "list"),) if "list" in getattr(cli.load(noun), "commands", {})]
    assert len(lists) >= 6
    for words in lists:
        assert isinstance(json.loads(gateway.ok(*words, "--json").out), list), words
