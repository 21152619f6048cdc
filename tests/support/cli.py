"""Run a command of the command line in this process, as a script would: exit code, stdout, stderr."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayctl import cli


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """stdout without the last line break."""
        return self.out.splitlines()


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    earlier = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _standard_input(text: str) -> Iterator[None]:
    earlier, sys.stdin = sys.stdin, io.StringIO(text)
    try:
        yield
    finally:
        sys.stdin = earlier


class Gateway:
    """A home of its own, and commands over it; `url` is given to every command as --db."""

    def __init__(self, home: Path, url: str | None = None) -> None:
        self.home = home
        self.url = url

    def run(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
        """Run `gatewayctl …`."""
        out, err = io.StringIO(), io.StringIO()
        database = ("--db", self.url) if self.url else ()
        variables = {"GATEWAYCTL_HOME": str(self.home), **(env or {})}
        streams = contextlib.ExitStack()
        for part in (
            _environment(variables),
            _standard_input(stdin),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            streams.enter_context(part)
        with streams:
            code = cli.run([*database, *arguments])
        return Result(code, out.getvalue(), err.getvalue())

    def ok(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
        """Run, and require exit code 0."""
        result = self.run(*arguments, stdin=stdin, env=env)
        assert result.code == 0, f"gatewayctl {' '.join(arguments)} -> {result.code}: {result.err}"
        return result

    def json(self, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
        """Run with --json, and require exit code 0; the document."""
        return self.ok(*arguments, "--json", env=env).json
