"""Texts of the command line as values, and what is printed where."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from db.errors import Refused
from gatewayctl import context, output, parse
from gatewayctl.errors import Usage

NOW = 1_800_000_000_000


def test_durations_and_instants() -> None:
    assert [parse.duration_s(text) for text in ("30s", "10m", "24h", "30d", "2w")] == [30, 600, 86400, 2592000, 1209600]
    assert parse.instant_ms("24h", NOW, past=True) == NOW - 86_400_000
    assert parse.instant_ms("1970-01-02", NOW, past=True) == 86_400_000
    assert parse.instant_ms("1970-01-01T01:00:00+01:00", NOW, past=True) == 0
    assert parse.instant_ms("1970-01-01T00:00:01Z", NOW, past=True) == 1000
    assert parse.expiry_ms("30d", NOW) == NOW + 30 * 86_400_000
    assert parse.expiry_ms("never", NOW) is None
    for bad in ("", "1", "1.5h", "-1d", "1y", "tomorrow", "2020-13-01"):
        with pytest.raises(Usage):
            parse.expiry_ms(bad, NOW)
    with pytest.raises(Usage):
        parse.expiry_ms("2001-01-01", NOW)


def test_numbers_pairs_and_changes() -> None:
    assert (parse.per_day("200/day"), parse.per_day("7")) == (200, 7)
    assert parse.pairs(["a=1", "b=x=y"], "--metadata") == {"a": "1", "b": "x=y"}
    assert (parse.optional_number("none"), parse.optional_number("5")) == (None, 5)
    assert (parse.timeout_ms("2.5"), parse.timeout_ms("10m")) == (2500, 600_000)
    assert parse.changes(a=(None, int), b=("1", int), c=("none", parse.optional_number)) == {"b": 1, "c": None}
    for wrong in (
        lambda: parse.per_day("200/hour"),
        lambda: parse.pairs(["a"], "--metadata"),
        lambda: parse.pairs(["=a"], "--metadata"),
        lambda: parse.optional_number("-1"),
        lambda: parse.timeout_ms("NaN"),
        lambda: parse.timeout_ms("soon"),
    ):
        with pytest.raises(Usage):
            wrong()


def test_a_secret_of_several_lines_or_without_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text("  sk-1\n")
    assert parse.secret(None, str(file)) == "sk-1"
    for content in ("", "\n", "a\nb", "x" * 70_000, "a\x00b"):
        file.write_text(content)
        with pytest.raises(Usage) as caught:
            parse.secret(None, str(file))
        assert content[:60] == "" or content not in str(caught.value)
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(Usage):
        parse.secret("EMPTY", None)


ROWS = [{"id": "1", "name": "a", "n": 5, "list": ["x", "y"]}, {"id": "2", "name": "bbb", "n": None, "list": []}]


@pytest.fixture(autouse=True)
def _fresh_state() -> None:
    context.reset()


def test_a_piped_table_is_plain_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    output.rows(ROWS, ("name", "n", "list"), right=("n",))
    assert capsys.readouterr().out.splitlines() == ["name  n  list", "a     5  x, y", "bbb   -  -"]


def test_json_is_one_document_with_everything(capsys: pytest.CaptureFixture[str]) -> None:
    context.state.json = True
    output.rows(ROWS, ("name",))
    assert json.loads(capsys.readouterr().out) == ROWS
    output.rows([], ("name",))
    assert json.loads(capsys.readouterr().out) == []


def test_quiet_is_only_ids_and_an_empty_list_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.rows([], ("name",), empty="None yet.")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "None yet.\n")
    context.state.quiet = True
    output.rows(ROWS, ("name",))
    output.note("talk")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("1\n2\n", "")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_rich_table_and_markup_is_not_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    output.rows([{"id": "1", "name": "[red]x[/red]"}], ("id", "name"))
    assert "[red]x[/red]" in screen.getvalue()
    assert "─" in screen.getvalue()


@pytest.mark.parametrize(("answer", "accepted"), [("y\n", True), ("YES\n", True), ("n\n", False), ("", False)])
def test_a_question_is_asked_on_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str, accepted: bool) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal(answer))
    monkeypatch.setattr(sys, "stderr", _Terminal())
    if accepted:
        output.confirm("Sure?", yes=False)
        return
    with pytest.raises(Refused):
        output.confirm("Sure?", yes=False)


def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(Refused):
        output.confirm("Sure?", yes=False)
    output.confirm("Sure?", yes=True)
