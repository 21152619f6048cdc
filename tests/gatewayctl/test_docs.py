"""The generated pages are what the commands and the error catalogue say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daemon.domain import errors
from daemon.domain.errors import CATALOGUE
from db import settings
from gatewayctl import cli, docs


@pytest.mark.parametrize("path", docs.PAGES, ids=lambda path: path.name)
def test_the_page_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == docs.PAGES[path](), "Run: python -m gatewayctl.docs"


def test_check_names_the_page_that_is_not_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(docs, "PAGES", {tmp_path / "errors.md": docs.errors_page})
    assert docs.main(["--check"]) == 1
    assert "docs/errors.md is not current" in capsys.readouterr().err
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0


def test_every_error_is_on_its_page_and_used() -> None:
    page = docs.errors_page()
    sources = set((docs.DOCS.parent / "daemon").rglob("*.py")) - {Path(errors.__file__)}
    used = {word for path in sources for word in re.findall(r'"(\w+)"', path.read_text(encoding="utf-8"))}
    for code in CATALOGUE:
        assert f"### {code}\n" in page
        assert code in used, code


def test_every_command_and_setting_is_on_it() -> None:
    page = docs.page()
    for noun in cli.NOUNS:
        verbs = getattr(cli.load(noun), "commands", {})
        for path in [f"{noun} {verb}" for verb in verbs] or [noun]:
            section = page.partition(f" gatewayctl {path}\n")[2].partition("\n#")[0]
            assert "Example:" in section, path
    for name in settings.TABLE:
        assert f"| `{name}` |" in page


PAGES = [docs.DOCS.parent / "README.md", *sorted(docs.DOCS.rglob("*.md"))]


def _anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in _anchors(found.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`((?:daemon|db|gatewayctl|tests|docs|scripts)/[\w./]+)`", page.read_text(encoding="utf-8"))
    missing = [path for path in named if not (docs.DOCS.parent / path).exists() and path != "docs/performance.md"]
    assert not missing
