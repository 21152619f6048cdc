"""Findings of checks as a person, or a script, reads them: `doctor` and `db check`."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from db.checks import Finding, Status
from gatewayctl import output
from gatewayctl.context import state
from gatewayctl.errors import FAILED

MARKS = {Status.OK: "ok  ", Status.WARN: "WARN", Status.FAIL: "FAIL"}


def report(found: Sequence[Finding]) -> None:
    """Print every finding, a fix below each that needs one; leave with exit code 1 when one failed."""
    failed = [finding for finding in found if finding.status is Status.FAIL]
    warned = [finding for finding in found if finding.status is Status.WARN]
    if state.json:
        rows = [{"name": one.name, "status": one.status.value, "detail": one.detail, "fix": one.fix or None} for one in found]
        output.document({"ok": not failed, "failed": len(failed), "warned": len(warned), "checks": rows})
    elif state.quiet:
        for finding in failed:
            output.text(finding.name)
    else:
        _print(found)
        output.note(f"{len(found)} checks: {len(failed)} failed, {len(warned)} to look at.")
    if failed:
        raise typer.Exit(FAILED)


def _print(found: Sequence[Finding]) -> None:
    width = max((len(finding.name) for finding in found), default=0)
    for finding in found:
        output.text(f"{MARKS[finding.status]}  {finding.name.ljust(width)}  {finding.detail}")
        if finding.fix:
            output.text(f"      {' ' * width}  → {finding.fix}")
