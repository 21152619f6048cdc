"""`usage`: what was used, by whom, at what cost; plots on a terminal, rows elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from db import clock, engine, reports, request_log
from db.errors import NotFound
from db.money import format_usd
from db.reports import Bucket, Filters, Share
from gatewayctl import context, export, output, parse, plots
from gatewayctl.commands._shared import YES
from gatewayctl.context import state
from gatewayctl.errors import FAILED, Usage
from gatewayctl.export import Format
from gatewayctl.usage_rows import detail_row, log_row, totals_row

app = typer.Typer()

MOST_BARS = 31
FOLLOW_EVERY_S = 1.0
FOLLOW_LOOK_BACK_MS = 60_000
FOLLOW_MOST = 1000
TERMINAL_COLUMNS = ("at", "request_id", "model", "status", "tokens", "charged")
RECOMPUTE_COLUMNS = ("at", "request_id", "user", "model", "cost", "charged", "new_cost", "difference", "booked", "note")
LOG_COLUMNS = ("at", "request_id", "user", "model", "status", "input", "output", "charged", "latency_ms", "estimated")

SINCE = typer.Option("30d", "--since", metavar="T", help="7d, 24h, 2026-11-01, an ISO 8601 instant, or all.")
UNTIL = typer.Option(None, "--until", metavar="T", help="The same; default: now.")
USER = typer.Option(None, "--user", help="Of one user.")
KEY = typer.Option(None, "--key", metavar="ID", help="Of one key, by id or prefix.")
MODEL = typer.Option(None, "--model", help="Of one model.")
PROVIDER = typer.Option(None, "--provider", metavar="SLUG", help="Of one provider.")


class Step(StrEnum):
    """Length of a bucket."""

    day = "day"
    hour = "hour"


Outcome = StrEnum("Outcome", {status: status for status in reports.STATUSES})  # type: ignore[misc]


class Dimension(StrEnum):
    """What usage can be divided by."""

    model = "model"
    user = "user"
    key = "key"
    provider = "provider"
    group = "group"


def _window(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    now = clock.now_ms()
    start = None if since is None or since == "all" else parse.instant_ms(since, now, past=True)
    end = None if until is None else parse.instant_ms(until, now, past=True)
    if start is not None and start >= (now if end is None else end):
        raise Usage("The window is empty: --since is not before --until", "Example: --since 7d --until 1d")
    return start, end


def _filters(since: str | None, until: str | None, **names: str | None) -> Filters:
    start, end = _window(since, until)
    context.open_database()
    engine.long_statements()  # a year of requests takes longer than a request may
    return reports.filters(since=start, until=end, **names)


def _on_terminal() -> bool:
    return sys.stdout.isatty() and not state.json and not state.quiet


def _width() -> int:
    return max(40, min(100, shutil.get_terminal_size((plots.WIDTH, 24)).columns))


def _label(at: int, step: str) -> str:
    moment = datetime.fromtimestamp(at // 1000, UTC)
    return f"{moment:%Y-%m-%d}" if step == Step.day else f"{moment:%m-%d %H:00}"


def _span(chosen: Filters) -> dict[str, Any]:
    return {"since": clock.iso(chosen.since), "until": clock.iso(chosen.until or clock.now_ms())}


@app.command("summary")
def summary(
    since: str = SINCE, until: str | None = UNTIL, user: str | None = USER, key: str | None = KEY,
    model: str | None = MODEL, provider: str | None = PROVIDER,
) -> None:  # fmt: skip
    """Totals of a window: requests, tokens, cost, latency; on a terminal with a bar per day.

    Example: gatewayctl usage summary --since 7d
    """
    chosen = _filters(since, until, user=user, key=key, model=model, provider=provider)
    totals, latency = reports.summary(chosen), reports.latency(chosen)
    document = (
        _span(chosen)
        | totals_row(totals)
        | {"latency_p50_ms": latency.p50_ms, "latency_p95_ms": latency.p95_ms, "currency": "USD"}
    )
    if state.json:
        days = reports.timeline(chosen, Step.day, until=chosen.until or clock.now_ms())
        return output.document(document | {"days": [_bucket_row(bucket) for bucket in days]})
    output.record(document, id="cost")
    if _on_terminal():
        _plot(reports.timeline(chosen, Step.day, until=chosen.until or clock.now_ms()), Step.day)
    return None


def _bucket_row(bucket: Bucket) -> dict[str, Any]:
    return {"at": clock.iso(bucket.at), **totals_row(bucket.totals)}


def _plot(buckets: list[Bucket], step: str) -> None:
    """Bars with their figures while they fit on a screen, a column chart beyond."""
    if not any(bucket.totals.requests for bucket in buckets):
        return output.note("No requests in this window.")
    by_cost = any(bucket.totals.charged_nanos for bucket in buckets)
    values = [bucket.totals.charged_nanos if by_cost else bucket.totals.requests for bucket in buckets]
    labels = [_label(bucket.at, step) for bucket in buckets]
    output.text(f"{'Charged, USD' if by_cost else 'Requests'} per {step}")
    if len(buckets) > MOST_BARS:
        shown = (lambda nanos: format_usd(_rounded(nanos))) if by_cost else str
        lines = plots.columns(values, labels, shown=shown, width=_width())
    else:
        lines = plots.bars(
            [
                plots.Bar(
                    label=label,
                    value=value,
                    shown=(f"{bucket.totals.requests:,} req", f"${format_usd(bucket.totals.charged_nanos)}"),
                )
                for label, value, bucket in zip(labels, values, buckets, strict=True)
            ],
            width=_width(),
        )
    for line in lines:
        output.text(line)
    return None


def _rounded(nanos: int) -> int:
    """To three digits, for an axis: 123_456_789 → 123_000_000."""
    unit = 10 ** max(0, len(str(nanos)) - 3)
    return nanos // unit * unit


@app.command("timeline")
def timeline(
    since: str | None = typer.Option(None, "--since", metavar="T", help="As for summary; default 30d, by hour 48h."),
    until: str | None = UNTIL, by: Step = typer.Option(Step.day, "--by", help="UTC days or hours."),
    user: str | None = USER, key: str | None = KEY, model: str | None = MODEL, provider: str | None = PROVIDER,
) -> None:  # fmt: skip
    """Usage per day or hour, empty ones included; a plot on a terminal, rows elsewhere.

    Example: gatewayctl usage timeline --since 48h --by hour
    """
    chosen = _filters(since or ("30d" if by is Step.day else "48h"), until, user=user, key=key, model=model, provider=provider)
    buckets = reports.timeline(chosen, by, until=chosen.until or clock.now_ms())
    if _on_terminal():
        return _plot(buckets, by)
    columns = ("at", "requests", "errors", "input_tokens", "output_tokens", "charged")
    rows = [_bucket_row(bucket) for bucket in buckets]
    return output.rows(rows, columns, id="at", right=columns[1:], empty="No requests in this window.")


@app.command("by")
def by(
    dimension: Dimension = typer.Argument(metavar="model|user|key|provider|group"),
    since: str = SINCE, until: str | None = UNTIL, user: str | None = USER, key: str | None = KEY,
    model: str | None = MODEL, provider: str | None = PROVIDER,
) -> None:  # fmt: skip
    """Usage of each model, user, key, provider or group, the dearest first.

    A user in several groups counts in each of them.

    Example: gatewayctl usage by key --user alice --since 7d
    """
    chosen = _filters(since, until, user=user, key=key, model=model, provider=provider)
    shares = reports.by(dimension, chosen)
    if _on_terminal() and shares:
        return _plot_shares(shares)
    columns = (dimension.value, "requests", "errors", "input_tokens", "output_tokens", "charged", "last_used_at")
    rows = [_share_row(dimension, share) for share in shares]
    return output.rows(rows, columns, id=dimension.value, right=columns[1:-1], empty="No requests in this window.")


def _share_row(dimension: str, share: Share) -> dict[str, Any]:
    return {
        dimension: share.name,
        f"{dimension}_id": None if share.id is None else str(share.id),
        **totals_row(share.totals),
        "last_used_at": clock.iso(share.last_at),
    }


def _plot_shares(shares: list[Share]) -> None:
    by_cost = any(share.totals.charged_nanos for share in shares)
    bars = [
        plots.Bar(
            label=share.name,
            value=share.totals.charged_nanos if by_cost else share.totals.requests,
            shown=(f"{share.totals.requests:,} req", f"${format_usd(share.totals.charged_nanos)}"),
        )
        for share in shares
    ]
    for line in plots.bars(bars, width=_width(), label_width=32):
        output.text(line)


@app.command("log")
def log(
    user: str | None = USER, key: str | None = KEY, model: str | None = MODEL, provider: str | None = PROVIDER,
    status: Outcome | None = typer.Option(None, "--status", metavar="S", help=f"One of {', '.join(reports.STATUSES)}."),
    request_id: str | None = typer.Option(None, "--request-id", metavar="R", help="One request."),
    since: str | None = typer.Option(None, "--since", metavar="T", help="7d, 24h, a date or an instant."),
    until: str | None = UNTIL,
    limit: int = typer.Option(50, "--limit", min=1, max=1_000_000, help="How many."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on with new ones (with --json: one document a line)."),
    for_: str | None = typer.Option(None, "--for", metavar="T", help="With --follow: stop after, for example, 10m."),
) -> None:  # fmt: skip
    """Single requests, the newest first; with --follow the newest last, and new ones as they end.

    Example: gatewayctl usage log --user alice --limit 20
    """
    duration_s = None if for_ is None else parse.duration_s(for_)
    chosen = _filters(since, until, user=user, key=key, model=model, provider=provider, status=status)
    rows = [_log_line(log_row(view)) for view in request_log.log(chosen, request_id=request_id, limit=limit)]
    if follow:
        return _follow(chosen, rows[::-1], duration_s)
    if _on_terminal():
        return output.rows([_short(row) for row in rows], TERMINAL_COLUMNS, right=TERMINAL_COLUMNS[4:], empty="No requests.")
    for row in rows if state.json else ():
        del row["input"], row["output"]
    return output.rows(
        rows, LOG_COLUMNS, id="request_id", right=("input", "output", "charged", "latency_ms"), empty="No requests."
    )


def _log_line(row: dict[str, Any]) -> dict[str, Any]:
    """With the two sums of tokens that a table has room for."""
    from daemon.domain.usage import Usage

    usage = Usage(row["usage"])
    return row | {"input": usage.input_tokens, "output": usage.output_tokens}


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """For 80 columns: the time alone when it was today, `~` before tokens that are an estimate."""
    day, _, rest = row["at"].partition("T")
    today = str(clock.iso(clock.now_ms())).startswith(day)
    at = rest[:8] if today else f"{day[5:]} {rest[:5]}"
    return row | {"at": at, "tokens": f"{'~' if row['estimated'] else ''}{row['input']}+{row['output']}"}


def _follow(chosen: Filters, first: list[dict[str, Any]], duration_s: int | None) -> None:
    for row in first:
        _print_line(row)
    for row in _new_rows(chosen, {str(row["request_id"]) for row in first}, duration_s):
        _print_line(_log_line(row))


def _print_line(row: dict[str, Any]) -> None:
    if state.json:
        import json

        whole = {name: value for name, value in row.items() if name not in {"input", "output"}}
        output.text(json.dumps(whole, ensure_ascii=False))
    elif state.quiet:
        output.text(row["request_id"])
    else:
        output.text("  ".join("-" if row[name] is None else str(row[name]) for name in LOG_COLUMNS))
    sys.stdout.flush()


def _new_rows(chosen: Filters, seen: set[str], duration_s: int | None) -> Iterator[dict[str, Any]]:
    """Requests as they end, until interrupted or for `duration_s`.

    Looks back a minute each time: rows of several workers do not become visible in the order of their times.
    """
    from dataclasses import replace

    end = None if duration_s is None else time.monotonic() + duration_s
    start = clock.now_ms()
    while end is None or time.monotonic() < end:
        since = max(start, clock.now_ms() - FOLLOW_LOOK_BACK_MS)
        views = request_log.log(replace(chosen, since=since), limit=FOLLOW_MOST)
        for view in reversed(views):
            if view.request_id not in seen:
                seen.add(view.request_id)
                yield log_row(view)
        if len(seen) > 100 * FOLLOW_MOST:
            seen.intersection_update([view.request_id for view in views])
        time.sleep(FOLLOW_EVERY_S)


@app.command("show")
def show(request_id: str = typer.Argument(metavar="REQUEST_ID")) -> None:
    """One request: what it used, how its price was made up, what of it was not charged, its attempts and ledger entry.

    Example: gatewayctl usage show req_01h0000000
    """
    context.open_database()
    row = detail_row(request_log.show(request_id))
    if state.json or state.quiet:
        return output.record(row, id="request_id")
    output.record(row, hide=("lines", "lines_cost", "attempts"))
    if row["lines"]:
        output.text("")
        columns = ("meter", "count", "price", "unit", "multiplier", "amount")
        total = {"meter": "total", "count": "", "price": "", "unit": "", "multiplier": "", "amount": row["lines_cost"]}
        output.rows([*row["lines"], total], columns, right=("count", "price", "multiplier", "amount"))
        if row["capped"] != "0":
            output.note(f"An estimate is charged up to its hold: {row['capped']} USD less than the total.")
        elif row["lines_cost"] != row["cost"]:
            output.note(f"By its terms this usage costs {row['lines_cost']} USD; {row['cost']} was its cost as recorded.")
        if row["absorbed"] != "0":
            output.note(f"The hold and what was available paid {row['charged']} USD; {row['absorbed']} were absorbed.")
    if row["attempts"]:
        output.text("")
        names = list(dict.fromkeys(name for attempt in row["attempts"] for name in attempt))
        output.rows(row["attempts"], names)
    return None


@app.command("recompute")
def recompute(
    since: str = SINCE, until: str | None = UNTIL, model: str | None = MODEL, user: str | None = USER,
    request_id: str | None = typer.Option(None, "--request-id", metavar="R", help="One request, of any time."),
    stored_terms: bool = typer.Option(
        False, "--stored-terms", help="By the terms each was charged by: finds what they do not explain. Exit code 1 if any."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the differences and change nothing."),
    yes: bool = YES,
) -> None:  # fmt: skip
    """Price old requests again, by their stored meters and today's prices and multipliers, and print the differences.

    Without --dry-run the differences are booked as adjustments, each once: repeating it books nothing twice. What was
    absorbed then is not charged now, and an estimate never costs more than its hold.

    Example: gatewayctl usage recompute --since 2026-11-01 --model gpt-4o-mini --dry-run

    Example: gatewayctl usage recompute --stored-terms --since all --dry-run
    """
    from gatewayctl.recompute import book, priced_again
    from gatewayctl.usage_rows import Recomputed

    chosen = _filters("all" if request_id else since, until, user=user, model=model)
    found = Recomputed()
    for again in priced_again(chosen, request_id, stored_terms=stored_terms):
        found.add(again)
    if request_id is not None and not found.records:
        raise NotFound(f"There is no charged request {request_id[:200]!r}", "See: gatewayctl usage log")
    if not dry_run and found.differing:
        output.confirm(f"Book adjustments for {len(found.differing)} request(s)?", yes=yes)
        for again in found.differing:
            found.booked(again, *book(again))
    if state.json:
        output.document({"records": found.rows, "summary": found.summary()})
    else:
        output.rows(found.rows, RECOMPUTE_COLUMNS, id="request_id", right=RECOMPUTE_COLUMNS[4:-1], empty="No differences.")
        if not state.quiet:
            output.text("")
            output.record(found.summary())
    if stored_terms and found.rows:
        raise typer.Exit(FAILED)


@app.command("export")
def export_rows(
    format: Format = typer.Option(Format.csv, "--format", help="csv, jsonl or parquet."),
    out: Path | None = typer.Option(None, "--output", "-o", metavar="FILE", help="Default: stdout."),
    since: str = SINCE, until: str | None = UNTIL, user: str | None = USER, key: str | None = KEY,
    model: str | None = MODEL, provider: str | None = PROVIDER,
) -> None:  # fmt: skip
    """Every request of a window, the oldest first, for a spreadsheet or a data frame.

    Amounts are exact decimals in USD, times UTC. In csv, a text that a spreadsheet would run as a formula gets a
    leading apostrophe. Parquet needs: pip install 'gatewayctl[parquet]'

    Example: gatewayctl usage export --since 2026-11-01 --format csv > november.csv
    """
    export.require(format, out)
    chosen = _filters(since, until, user=user, key=key, model=model, provider=provider)
    written = 0
    with export.destination(out) as file, output.progress() as bar:
        task = bar.add_task("Exporting", total=request_log.count(chosen)) if bar else None
        writer = export.WRITERS[format](file)
        for view in request_log.rows(chosen):
            writer.add(view)
            written += 1
            if bar and task is not None and written % 500 == 0:
                bar.update(task, completed=written)
        writer.finish()
    output.note(f"Requests written: {written}")
