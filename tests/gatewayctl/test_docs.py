"""docs/cli.md is what the commands say."""

from __future__ import annotations

from db import settings
from gatewayctl import cli, docs


def test_the_page_is_current() -> None:
    assert docs.TARGET.read_text(encoding="utf-8") == docs.page(), "Run: python -m gatewayctl.docs"


def test_every_command_and_setting_is_on_it() -> None:
    page = docs.page()
    for noun in cli.NOUNS:
        verbs = getattr(cli.load(noun), "commands", {})
        for path in [f"{noun} {verb}" for verb in verbs] or [noun]:
            section = page.partition(f" gatewayctl {path}\n")[2].partition("\n#")[0]
            assert "Example:" in section, path
    for name in settings.TABLE:
        assert f"| `{name}` |" in page
