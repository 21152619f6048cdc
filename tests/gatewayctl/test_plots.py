"""Plots fit 80 columns, carry no colour, and lie about nothing."""

from __future__ import annotations

import pytest

from gatewayctl import plots
from gatewayctl.plots import Bar


def test_bars_are_aligned_and_fit() -> None:
    lines = plots.bars([Bar("a", 0, ("0", "$0")), Bar("a long label that needs to be cut somewhere", 1, ("1,000", "$12.5"))])
    assert lines == [
        "a                                                                       0     $0",
        "a long label that needs to …  ████████████████████████████████████  1,000  $12.5",
    ]
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(("value", "bar"), [(0, ""), (1, "▏"), (500, "████"), (999, "███████▉"), (1000, "████████")])
def test_a_bar_is_in_proportion_and_never_hides_a_value(value: int, bar: str) -> None:
    lines = plots.bars([Bar("x", value, ()), Bar("y", 1000, ())], width=11)
    assert lines[0] == f"x  {bar}".rstrip()


def test_no_bars_of_nothing() -> None:
    assert plots.bars([]) == []
    assert plots.columns([], []) == []
    assert plots.spark([]) == ""


def test_spark_is_one_character_a_value() -> None:
    assert plots.spark([0, 1, 50, 100]) == " ▁▄█"
    assert plots.spark([0, 0]) == "  "


def test_columns_have_an_axis_and_ends() -> None:
    assert plots.columns([0, 1, 2, 4], ["mon", "tue", "wed", "thu"], height=2) == [
        "4 ┤                  ██████",
        "  ┤      ▄▄▄▄▄▄████████████",
        "0 └────────────────────────",
        "   mon                  thu",
    ]


def test_many_values_are_gathered_without_losing_any() -> None:
    values = list(range(1000))
    sums, each = plots.gathered(values, 70)
    assert (sum(sums), each) == (sum(values), 15)
    assert len(sums) <= 70
    lines = plots.columns(values, [str(value) for value in values])
    assert all(len(line) <= 80 for line in lines)
    assert "sum of" in lines[-1]


def test_plots_are_plain_text() -> None:
    assert not any("\x1b" in line for line in plots.columns([1, 2], ["a", "b"]) + plots.bars([Bar("a", 1, ())]))
