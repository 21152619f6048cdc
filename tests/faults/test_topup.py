"""Row 28: a top-up that is retried, by a crowd, with another amount, around a restart. One payment is one credit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.faults.figures import figure
from tests.faults.oracle import Sampler, read_books, reading
from tests.faults.scene import Scene, amount
from tests.support.postgres import Server

TRIES = amount("GATEWAYCTL_TEST_TOPUPS", 1000)
PROCESSES, THREADS = 4, 5

CROWD = """
import sys, threading
from db import engine, ledger
from db.errors import StoreError
url, user, ref = sys.argv[1:4]
nanos, threads, tries = map(int, sys.argv[4:])
engine.open_database(url)
engine.database.obj.lock_wait_s = 60
credited, replayed, failed = [], [], []
def retry():
    for _ in range(tries):
        try:
            posted = ledger.top_up(user, nanos, ref=ref)
        except StoreError as error:
            failed.append(error.message)
            continue
        (replayed if posted.replayed else credited).append(posted.entry_id)
    engine.close_connection()
engine.close_connection()
print("ready", flush=True)
sys.stdin.readline()
workers = [threading.Thread(target=retry) for _ in range(threads)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
print(len(credited), len(replayed), len(failed), len(set(credited + replayed)), failed[:1])
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def either_scene(request: pytest.FixtureRequest, scene_with: Callable[..., Scene]) -> Scene:
    """A scene on each database."""
    if request.param == "sqlite":
        return scene_with(balances=("1",))
    server: Server = request.getfixturevalue("postgres")
    return scene_with(balances=("1",), url=server.new_database())


def test_a_thousand_retries_at_once_are_one_credit(either_scene: Scene) -> None:
    scene = either_scene
    tries = str(TRIES // PROCESSES // THREADS)
    with Sampler(scene.url) as sampler, scene.start():
        crowd = [
            subprocess.Popen(
                [sys.executable, "-c", CROWD, scene.url, "customer-0", "payment-1", "7000000000", str(THREADS), tries],
                env=scene.home.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for _ in range(PROCESSES)
        ]  # fmt: skip
        for process in crowd:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        for process in crowd:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        results = [process.communicate(timeout=120)[0].split(maxsplit=4) for process in crowd]
        spent = time.monotonic() - began
    credited, replayed, failed = (sum(int(result[place]) for result in results) for place in (0, 1, 2))
    figure(
        "28", database=scene.url.partition(":")[0], tries=TRIES, processes=PROCESSES, threads=THREADS,
        credits=credited, replays=replayed, failures=failed, seconds=spent,
    )  # fmt: skip
    assert (credited, replayed, failed) == (1, TRIES - 1, 0), results
    books = read_books(scene.url)
    assert books.balances["customer-0"] == (8_000_000_000, 0)
    with reading(scene.url) as query:
        assert query("SELECT COUNT(*) FROM ledger_entries WHERE ref = 'payment-1'") == [(1,)]
    assert not sampler.violations()


def test_commands_at_once_are_one_credit_and_all_say_so(either_scene: Scene) -> None:
    scene = either_scene
    commands = [
        subprocess.Popen(
            [sys.executable, "-m", "gatewayctl", "topup", "customer-0", "2.50", "--ref", "ci-42", "--json"],
            env=scene.home.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(8)
    ]  # fmt: skip
    done = [command.communicate(timeout=60) for command in commands]
    assert [command.returncode for command in commands] == [0] * 8, [err for _, err in done]
    assert sum('"replayed":false' in out.replace(" ", "") for out, _ in done) == 1
    assert scene.home.balance("customer-0") == "3.5"


def test_the_same_reference_for_something_else_is_a_conflict(either_scene: Scene) -> None:
    scene = either_scene
    scene.customer("other", "1")
    scene.home.ok("topup", "customer-0", "2", "--ref", "payment-2")
    for amount_usd in ("2.01", "1.99", "200"):
        refused = scene.home.run("topup", "customer-0", amount_usd, "--ref", "payment-2")
        assert refused.code == 4, refused.err
    assert scene.home.run("topup", "customer-0", "2", "--ref", "").code in (1, 2)
    assert scene.home.balance("customer-0") == "3"
    scene.home.ok("topup", "other", "2", "--ref", "payment-2")  # another user's payment
    assert scene.home.balance("other") == "3"
    assert scene.home.json("topup", "customer-0", "2", "--ref", "payment-2")["replayed"] is True
    assert scene.home.json("topup", "customer-0", "2.000", "--ref", "payment-2")["replayed"] is True  # the same amount


def test_a_retry_after_a_restart_is_no_second_credit(either_scene: Scene) -> None:
    scene = either_scene
    with scene.start() as gateway:
        first = scene.home.shell("topup", "customer-0", "4", "--ref", "payment-3", "--json")
        gateway.kill()
    with scene.start():
        again = scene.home.shell("topup", "customer-0", "4", "--ref", "payment-3", "--json")
    assert (first.code, again.code) == (0, 0)
    assert (first.json["replayed"], again.json["replayed"]) == (False, True)
    assert first.json["entry_id"] == again.json["entry_id"]
    assert Decimal(scene.home.balance("customer-0")) == 5
    assert scene.home.json("ledger", "verify")["ok"]


def test_a_command_that_is_killed_did_all_of_it_or_nothing(scene: Scene) -> None:
    """kill -9 at any instant of the command, then the retry: one credit."""
    for number in range(12):
        command = subprocess.Popen(
            [sys.executable, "-m", "gatewayctl", "topup", "customer-0", "1", "--ref", f"killed-{number}"],
            env=scene.home.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(0.15 + number * 0.02)
        command.kill()
        command.wait(10)
        scene.home.ok("topup", "customer-0", "1", "--ref", f"killed-{number}")
    assert scene.home.balance("customer-0") == "112"
    verified = scene.home.json("ledger", "verify")
    assert verified["ok"]
    assert verified["entries"] == 13
