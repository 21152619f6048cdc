"""X: a live database, a free event loop, clock, first run, migrations, stop (X-01 … X-03, X-08, X-09, X-11, X-12)."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import ROOT, Gateway, Home, ask, free_port, make_home
from tests.support.upstream import Until, chat_stream, usage_of
from tests.support.world import World, build, data_lines, error_of, only_sqlite

CHAT_PATH = "/v1/chat/completions"
DAY_S = 86_400


# ------------------------------------------------------------------------------------------------


class Load(threading.Thread):
    """One connection that asks again and again, at most `rate` times a second."""

    def __init__(self, gateway: Gateway, key: str, rate: float) -> None:
        super().__init__(daemon=True)
        self.gateway, self.key, self.rate = gateway, key, rate
        self.statuses: list[int] = []
        self.enough = threading.Event()

    def run(self) -> None:
        body = json.dumps(ask(max_tokens=20))
        connection = HTTPConnection("127.0.0.1", self.gateway.port, timeout=20)
        began = time.monotonic()
        while not self.enough.is_set():
            connection.request("POST", CHAT_PATH, body, {"Authorization": f"Bearer {self.key}"})
            reply = connection.getresponse()
            reply.read()
            self.statuses.append(reply.status)
            ahead = began + len(self.statuses) / self.rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)


def test_x_01_fifty_commands_under_load_disturb_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = build(stack, tmp_path / "home", workers=2, balance="1000")
        users = [world.person(balance="100") for _ in range(8)]
        loads = [Load(world.gateway, user.key, 25) for user in users]
        for load in loads:
            load.start()
        began = time.monotonic()
        for number in range(25):
            world.home.ok("topup", users[number % 8].name, "0.01")
            name = world.name("under-load")
            world.home.ok("users", "create", name, "--group", "g1")
            if number % 5 == 0:  # and what was written is there for the next request, whichever worker gets it
                world.home.ok("topup", name, "1")
                assert world.gateway.chat(world.home.key(name)).status_code == 200
        took = time.monotonic() - began
        time.sleep(max(0.0, 2 - took))
        for load in loads:
            load.enough.set()
        for load in loads:
            load.join(20)
        statuses = [status for load in loads for status in load.statuses]
        assert set(statuses) == {200}
        assert len(statuses) / max(took, 2) > 50, "the load was too small to mean anything"
        assert "locked" not in world.gateway.log
        assert world.home.json("ledger", "verify")["ok"] is True


def test_x_01_every_change_is_seen_by_the_next_request_of_every_worker(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = build(stack, tmp_path / "home", workers=2)

        def statuses() -> set[int]:
            seen = set()
            for _ in range(6):  # connections of their own, so that both workers are asked
                connection = HTTPConnection("127.0.0.1", world.gateway.port, timeout=20)
                with closing(connection):
                    headers = {"Authorization": f"Bearer {world.alice.key}", "Connection": "close"}
                    connection.request("POST", CHAT_PATH, json.dumps(ask(max_tokens=5)), headers)
                    seen.add(connection.getresponse().status)
            return seen

        assert statuses() == {200}
        changes = [
            (("users", "suspend", "alice"), 403, ("users", "activate", "alice")),
            (("keys", "disable", world.alice.key_id), 401, ("keys", "enable", world.alice.key_id)),
            (("models", "disable", "gpt-4o-mini"), 404, ("models", "enable", "gpt-4o-mini")),
            (("groups", "deny", "g1", "gpt-4o-mini"), 404, ("groups", "allow", "g1", "gpt-4o-mini")),
            (("groups", "remove-user", "g1", "alice"), 404, ("groups", "add-user", "g1", "alice")),
            (("providers", "pause", "openai"), 429, ("providers", "resume", "openai")),
            (("credentials", "disable", "openai/default"), 503, ("credentials", "enable", "openai/default")),
            (("models", "update", "gpt-4o-mini", "--output-price", "2000000"), 402,
             ("models", "update", "gpt-4o-mini", "--output-price", "2.4")),
            (("balances", "adjust", "alice", "-4.999", "--reason", "test", "--yes"), 200, ("topup", "alice", "5")),
        ]  # fmt: skip
        for change, status, back in changes:
            world.home.ok(*change)
            assert statuses() == {status}, change
            world.home.ok(*back)
            assert statuses() == {200}, back


# ------------------------------------------------------------------------------------------------


def test_x_02_a_locked_database_delays_no_chunk_of_a_running_stream(own: World) -> None:
    only_sqlite(own.home)
    own.openai.script(chat_stream([f" {n}" for n in range(60)], usage_of(1, 60), delay_s=0.05))
    arrived: list[float] = []
    locked: list[float] = []

    def lock() -> None:
        with closing(sqlite3.connect(own.home.home / "gateway.db", isolation_level=None, timeout=5)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            locked.append(time.monotonic())
            time.sleep(2)
            connection.execute("ROLLBACK")
            locked.append(time.monotonic())

    headers = own.gateway.headers(own.alice.key)
    with own.gateway.client.stream("POST", CHAT_PATH, json=ask(stream=True), headers=headers, timeout=30) as reply:
        text = ""
        thread = threading.Thread(target=lock)
        for piece in reply.iter_text():
            arrived.append(time.monotonic())
            text += piece
            if len(arrived) == 5:
                thread.start()
                threading.Thread(target=own.gateway.chat, args=(own.bob.key,), daemon=True).start()  # somebody who must wait
    thread.join()
    assert data_lines(text)[-1] == "[DONE]"
    begin, end = locked
    inside = [at for at in arrived if begin < at < end]
    gaps = [later - earlier for earlier, later in pairwise(inside)]
    assert len(gaps) > 25
    assert max(gaps) < 0.05 + 0.2
    assert statistics.median(gaps) < 0.1


# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "Asia/Ho_Chi_Minh", "America/Los_Angeles"])
def test_x_03_x_12_the_day_ends_at_midnight_utc_whatever_the_zone(tmp_path: Path, zone: str) -> None:
    midnight = 1_764_547_200  # 2025-12-01T00:00:00Z
    with ExitStack() as stack:
        world = build(stack, tmp_path / "home", env={"TZ": zone}, clock_at=midnight - 1)

        def today() -> dict[str, Any]:
            body: dict[str, Any] = world.gateway.get("/v1/usage", world.alice.key).json()
            return body

        for _ in range(2):
            assert world.gateway.chat(world.alice.key).status_code == 200
        before = today()
        assert (before["day"], before["today"]["requests"], before["key_today"]["requests"]) == ("2025-11-30", 2, 2)
        assert before["today"]["cost"] == "0.00003"
        world.home.clock.stand_at(midnight)
        after = today()
        assert (after["day"], after["today"]) == ("2025-12-01", {"requests": 0, "tokens": 0, "cost": "0"})
        assert world.gateway.chat(world.alice.key).status_code == 200
        assert today()["today"]["requests"] == 1
        days = world.home.json("usage", "timeline", "--since", "2025-11-30", "--until", "2025-12-02", "--by", "day")
        assert [(day["at"][:10], day["requests"]) for day in days if day["requests"]] == [("2025-11-30", 2), ("2025-12-01", 1)]


def test_x_12_expiry_and_budget_periods_are_utc_too(tmp_path: Path) -> None:
    midnight = 1_764_547_200
    with ExitStack() as stack:
        world = build(stack, tmp_path / "home", env={"TZ": "Asia/Ho_Chi_Minh"}, clock_at=midnight - 3600)
        model = world.model(price=("0", "10"))
        key = world.home.key("alice", "--budget", "0.0001", "--budget-period", "day")
        assert world.gateway.chat(key, model=model, max_tokens=10).status_code == 200
        error_of(world.gateway.chat(key, model=model, max_tokens=10), 402, "key_budget_exceeded")
        world.home.clock.stand_at(midnight - 1)
        error_of(world.gateway.chat(key, model=model, max_tokens=10), 402, "key_budget_exceeded")
        world.home.clock.stand_at(midnight)
        assert world.gateway.chat(key, model=model, max_tokens=10).status_code == 200
        until = world.home.key("alice", "--expires", "2025-12-02")
        world.home.clock.stand_at(midnight + DAY_S - 1)
        assert world.gateway.chat(until).status_code == 200
        world.home.clock.stand_at(midnight + DAY_S)
        error_of(world.gateway.chat(until), 401, "invalid_api_key")


# ------------------------------------------------------------------------------------------------

OFFLINE = """
set -eu
ip link set lo up
if {python} -m gatewayctl serve --port {port} 2>refused; then echo "served without init"; exit 9; fi
{python} -m gatewayctl init
{python} -m gatewayctl init --json > second
{python} -m gatewayctl quickstart --no-serve --quiet > key
{python} -m gatewayctl serve --port {port} 2>log &
daemon=$!
tries=0
until curl -sf http://127.0.0.1:{port}/health > health; do
  tries=$((tries + 1)); [ $tries -lt 100 ] || exit 8; sleep 0.1
done
curl -sf http://127.0.0.1:{port}/v1/chat/completions -H "Authorization: Bearer $(cat key)" \\
  -d '{{"model":"demo-chat","messages":[{{"role":"user","content":"hi"}}]}}' > chat
kill -TERM $daemon
wait $daemon
"""


def test_x_08_first_run_without_any_network(tmp_path: Path) -> None:
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("this kernel gives no network namespace of its own")
    home = Home(tmp_path / "home")
    work = tmp_path / "work"
    work.mkdir()
    script = OFFLINE.format(python=sys.executable, port=free_port())
    done = subprocess.run(
        ["unshare", "-rn", "bash", "-c", script], cwd=work, env=home.environment({"PYTHONPATH": str(ROOT)}),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + (work / "log").read_text()
    assert "gatewayctl init" in (work / "refused").read_text()
    assert json.loads((work / "second").read_text())["created"] == []
    assert json.loads((work / "health").read_text())["status"] == "healthy"
    assert json.loads((work / "chat").read_text())["choices"][0]["message"]["content"]
    assert (home.home / "master.key").stat().st_mode & 0o777 == 0o600
    assert (home.home / "gateway.db").stat().st_mode & 0o777 == 0o600
    assert [group["name"] for group in home.json("groups", "list")] == ["everyone"]


def test_x_08_a_second_init_changes_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.ok("users", "create", "alice")

    def state() -> tuple[str, str]:
        return (home.home / "master.key").read_text(), json.dumps([home.json("users", "list"), home.json("audit", "list")])

    before = state()
    assert home.json("init")["created"] == []
    assert state() == before


# ------------------------------------------------------------------------------------------------


def downgrade(home: Home) -> None:
    """Make the database what the first release made: without its second migration."""
    with closing(sqlite3.connect(home.home / "gateway.db")) as connection, connection:
        for trigger in ("ledger_no_update", "ledger_no_delete"):
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("DELETE FROM schema_migrations WHERE name LIKE '0002%'")


def test_x_09_an_older_database_is_upgraded_with_its_data(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    user = home.user("alice")
    downgrade(home)
    for command in (("serve", "--port", "0"), ("users", "list")):
        refused = home.shell(*command)
        assert refused.code != 0
        assert "gatewayctl db migrate" in refused.err
    home.ok("db", "migrate")
    assert home.balance("alice") == "5"
    with home.start() as gateway:
        assert gateway.get("/v1/key", user.key).status_code == 200
    with closing(sqlite3.connect(home.home / "gateway.db")) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE ledger_entries SET amount_nanos = 0")


def test_x_09_a_newer_database_is_refused(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    with closing(sqlite3.connect(home.home / "gateway.db")) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(schema_migrations)")]
        row = dict(zip(columns, connection.execute("SELECT * FROM schema_migrations").fetchone(), strict=True))
        row["name"] = "9999_from_the_future"
        if "id" in row:
            row["id"] = 9999
        marks = ", ".join("?" for _ in row)
        connection.execute(f"INSERT INTO schema_migrations ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    for command in (("serve", "--port", "0"), ("users", "list"), ("db", "migrate"), ("init",)):
        refused = home.shell(*command)
        assert refused.code != 0, command
        assert "newer" in refused.err, refused.err


# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_x_11_a_stop_lets_streams_finish_and_settles_them(tmp_path: Path, workers: int) -> None:
    with ExitStack() as stack:
        world = build(stack, tmp_path / "home", workers=workers)
        rest = threading.Event()
        first, *others = chat_stream(["be", "fore", " and", " after"], usage_of(3, 4), delay_s=0.05)
        world.openai.script([first, Until(rest), *others])
        headers = world.gateway.headers(world.alice.key)
        with world.gateway.client.stream("POST", CHAT_PATH, json=ask(stream=True), headers=headers) as reply:
            pieces = reply.iter_text()
            text = next(pieces)
            world.gateway.terminate()
            time.sleep(0.5)
            assert world.gateway.process.poll() is None, "it did not wait"
            rest.set()
            text += "".join(pieces)
        assert data_lines(text)[-1] == "[DONE]"
        began = time.monotonic()
        assert world.gateway.process.wait(20) == 0
        assert time.monotonic() - began < 5
        record = world.home.record_of(reply.headers["x-request-id"])
        assert (record["status"], record["usage"]) == ("ok", {"input": 3, "output": 4})
        assert world.home.json("balances", "show", "alice")["held"] == "0"
        assert world.home.json("ledger", "verify")["ok"] is True


def test_x_11_a_stop_does_not_wait_for_a_provider_that_was_replaced(own: World) -> None:
    assert own.gateway.chat(own.alice.key).status_code == 200
    own.home.ok("providers", "update", "openai", "--base-url", f"{own.claude.url}/v1")
    assert own.gateway.chat(own.alice.key).status_code == 200
    began = time.monotonic()
    assert own.gateway.stop() == 0
    assert time.monotonic() - began < 5


class Unwaited(Gateway):
    """A daemon that is not waited for."""

    def _wait(self) -> None:
        pass


def test_x_11_a_stop_while_workers_start_is_a_stop_too(tmp_path: Path) -> None:
    gateway = Unwaited(make_home(tmp_path), workers=2, env={}, port=free_port())
    deadline = time.monotonic() + 15
    while "worker started" not in gateway.log and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gateway.stop() == 0


def test_x_11_sigint_stops_it_as_well(own: World) -> None:
    os.kill(own.gateway.process.pid, 2)
    assert own.gateway.process.wait(20) == 0
