"""The oracle notices each violation; without this, its silence would say nothing."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.faults.fleet import Delivery
from tests.faults.oracle import Books, Charge, canaries_in, violations

CHARGE = Charge("r1", "alice", 450_000, 450_000, False, "ok")
RIGHT = Books(
    balances={"alice": (5_000_000_000 - 450_000, 0)},
    topups={"alice": 5_000_000_000},
    charges=[CHARGE],
    open_holds=[],
    states={"r1": "settled"},
    key_holds=0,
)
TOPUPS = {"alice": Decimal(5)}
HEAD = b"HTTP/1.1 200 \r\nx-request-id: r1\r\ncontent-length: 4\r\n\r\n"


def delivered(raw: bytes = HEAD + b"text", *, complete: bool = True) -> Delivery:
    return Delivery("r1", False, bytearray(raw), complete=complete)


def test_right_books_have_no_violation() -> None:
    assert violations(RIGHT, TOPUPS, [delivered()], {"r1"}, {"r1": Decimal("0.00045")}) == []


WRONG: dict[str, tuple[str, Books]] = {
    "a lost charge": ("O3", replace(RIGHT, charges=[], balances={"alice": (5_000_000_000, 0)})),
    "a charge of nothing": (
        "O3",
        replace(RIGHT, charges=[replace(CHARGE, nanos=0, recorded_nanos=0)], balances={"alice": (5_000_000_000, 0)}),
    ),
    "two charges": ("O3", replace(RIGHT, charges=[CHARGE, CHARGE], balances={"alice": (5_000_000_000 - 900_000, 0)})),
    "the wrong price": (
        "O3",
        replace(RIGHT, charges=[replace(CHARGE, nanos=9, recorded_nanos=9)], balances={"alice": (5_000_000_000 - 9, 0)}),
    ),
    "a balance that does not add up": ("O1", replace(RIGHT, balances={"alice": (5_000_000_000, 0)})),
    "a lost top-up": ("O1", replace(RIGHT, topups={"alice": 0}, balances={"alice": (-450_000, 0)})),
    "a record of another amount": ("O1", replace(RIGHT, charges=[replace(CHARGE, recorded_nanos=1)])),
    "a charge without a record": ("O1", replace(RIGHT, charges=[replace(CHARGE, recorded_nanos=None)])),
    "a balance below zero": ("O5", replace(RIGHT, balances={"alice": (-1, 0)})),
    "money still held": ("O2", replace(RIGHT, balances={"alice": (5_000_000_000 - 450_000, 7)})),
    "an open hold": ("O2", replace(RIGHT, open_holds=["r2"])),
    "a key's budget held": ("O2", replace(RIGHT, key_holds=7)),
}


@pytest.mark.parametrize("kind", list(WRONG))
def test_the_oracle_notices(kind: str) -> None:
    rule, books = WRONG[kind]
    found = violations(books, TOPUPS, [delivered()], {"r1"}, {"r1": Decimal("0.00045")})
    assert any(sentence.startswith(rule) for sentence in found), found


def test_the_oracle_notices_a_charge_for_what_the_upstream_never_saw() -> None:
    assert any(sentence.startswith("O4") for sentence in violations(RIGHT, TOPUPS, [], set()))


def test_a_part_of_a_reply_counts_as_delivered() -> None:
    free = replace(RIGHT, charges=[], balances={"alice": (5_000_000_000, 0)}, states={"r1": "expired"})
    assert violations(free, TOPUPS, [delivered(HEAD + b"t", complete=False)], {"r1"})
    assert violations(free, TOPUPS, [delivered(HEAD, complete=False)], {"r1"}) == []
    assert violations(free, TOPUPS, [delivered(HEAD.replace(b"200", b"502") + b"oops")], {"r1"}) == []


def test_a_request_that_the_gateway_renamed_is_found() -> None:
    renamed = replace(RIGHT, charges=[replace(CHARGE, request_id="r1.abc")], states={"r1.abc": "settled"})
    assert violations(renamed, TOPUPS, [delivered(HEAD.replace(b": r1", b": r1.abc") + b"text")], {"r1"}) == []


def test_canaries_are_found_where_they_stand() -> None:
    assert canaries_in({"log": b"... secret ...", "ps": b""}, {"key": b"secret"}) == ["O6 key stands in log"]
