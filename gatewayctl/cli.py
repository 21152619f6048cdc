"""The root of the command line: a line per noun, loaded when called; exceptions become a sentence and an exit code.

To add a noun: 1. `gatewayctl/commands/<noun>.py` with `app = typer.Typer()` (verbs) or `def command(...)` (one
command); 2. one line in NOUNS. Every command then takes --db, --json and --quiet before and after its name.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from gatewayctl import context, output
from gatewayctl.errors import FAILED, USAGE, classify

DEBUG_VARIABLE = "GATEWAYCTL_DEBUG"
START, ACCESS, MONEY, CATALOGUE, OPERATE = (
    "Start",
    "Who may call",
    "Money and usage",
    "What is offered",
    "Operate",
)

# name: (module in gatewayctl.commands, panel, summary)
NOUNS: dict[str, tuple[str, str, str]] = {
    "init": ("init", START, "Create the home, database, master key and default group."),
    "quickstart": (
        "quickstart",
        START,
        "A working gateway with a demo model, user, balance and key; then serve.",
    ),
    "serve": ("serve", START, "Run the gateway."),
    "status": ("status", START, "Ask a running gateway how it is."),
    "doctor": ("doctor", START, "Check everything, change nothing; each finding with its fix."),
    "users": ("users", ACCESS, "People and programs that own a balance."),
    "groups": ("groups", ACCESS, "Which users may call which models."),
    "keys": ("keys", ACCESS, "API keys: create, limit, rotate, revoke."),
    "limits": ("limits", ACCESS, "What is used of limits and fair use; begin anew."),
    "topup": ("topup", MONEY, "Add money to a user's balance."),
    "balances": ("balances", MONEY, "What users have, hold and may spend."),
    "ledger": ("ledger", MONEY, "Every entry behind every balance; verify them."),
    "usage": ("usage", MONEY, "What was used, by whom, at what cost."),
    "providers": ("providers", CATALOGUE, "Who serves models to this gateway."),
    "credentials": ("credentials", CATALOGUE, "Secrets at providers, encrypted."),
    "models": ("models", CATALOGUE, "Public model names, prices and limits."),
    "multipliers": ("multipliers", CATALOGUE, "Price factors for a model, user or group."),
    "catalog": ("catalog", CATALOGUE, "Import and export model_catalog.json."),
    "endpoints": ("endpoints", OPERATE, "Every base URL that clients may use."),
    "explain": ("explain", OPERATE, "Dry run: how a request would be served, priced and admitted."),
    "db": ("database", OPERATE, "Schema, checks, backup and restore."),
    "audit": ("audit", OPERATE, "Who changed what, when."),
    "config": ("config", OPERATE, "Settings and where each came from."),
}


def _set_db(value: str | None) -> None:
    if value is not None:
        context.state.db = value


def _set_json(value: bool) -> None:
    context.state.json |= value


def _set_quiet(value: bool) -> None:
    context.state.quiet |= value


def _everywhere(
    db: str | None = typer.Option(
        None, "--db", metavar="URL", callback=_set_db, expose_value=False, rich_help_panel="Everywhere",
        help="Database: sqlite:///… or postgresql://…",
    ),
    json: bool = typer.Option(
        False, "--json", callback=_set_json, expose_value=False, rich_help_panel="Everywhere",
        help="One JSON document on stdout.",
    ),
    quiet: bool = typer.Option(
        False, "--quiet", "-q", callback=_set_quiet, expose_value=False, rich_help_panel="Everywhere",
        help="Only the id on stdout, no notes.",
    ),
) -> None:  # fmt: skip
    """Declares the options that every command has."""


def _command_of(function: Any, **options: Any) -> TyperCommand:
    app = typer.Typer(add_completion=False)
    app.command(**options)(function)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand)
    return command


EVERYWHERE = [param for param in _command_of(_everywhere).params if param.name in {"db", "json", "quiet"}]


def _with_options_everywhere(command: Any) -> None:
    command.params = [*command.params, *EVERYWHERE]
    for child in getattr(command, "commands", {}).values():
        _with_options_everywhere(child)


def load(name: str) -> Any:
    """The real command or group of a noun, with the options that are accepted everywhere."""
    module_name, panel, summary = NOUNS[name]
    module = importlib.import_module(f"gatewayctl.commands.{module_name}")
    command: Any
    if hasattr(module, "app"):
        command = typer.main.get_group(module.app)
        command.help = command.help or summary
        command.no_args_is_help = True
    else:
        command = _command_of(module.command, context_settings=getattr(module, "CONTEXT_SETTINGS", None))
    command.name = name
    command.rich_help_panel = panel
    _with_options_everywhere(command)
    return command


class Root(TyperGroup):
    """Knows the nouns by NOUNS; imports a noun's module only to run it or to complete its arguments."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(NOUNS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in NOUNS:
            return None
        _, panel, summary = NOUNS[cmd_name]
        return TyperCommand(name=cmd_name, help=summary, rich_help_panel=panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in NOUNS else command, rest


def _version(value: bool) -> None:
    if value:
        from db import __version__

        output.text(f"gatewayctl {__version__}")
        raise typer.Exit


def build() -> Root:
    """The whole command line."""
    app = typer.Typer(
        cls=Root,
        name="gatewayctl",
        add_completion=True,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", callback=_version, is_eager=True, expose_value=False, help="Show the version."
        ),
    ) -> None:
        """A self-hosted LLM gateway: one base URL, one key, every model, every request metered and billed.

        Example: gatewayctl quickstart
        """

    group = typer.main.get_group(app)
    assert isinstance(group, Root)
    group.params = [*group.params, *EVERYWHERE]
    return group


def _usage_hint(error: Any) -> str:
    found = getattr(error, "ctx", None)
    return f"Try: {found.command_path} --help" if found is not None else "Try: gatewayctl --help"


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. The boundary at which exceptions become sentences."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    context.reset()
    try:
        result = build().main(args=arguments, prog_name="gatewayctl", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except typer.Abort:
        output.error("aborted", "Aborted", "")
        return FAILED
    except KeyboardInterrupt:
        return 130
    except (BrokenPipeError, SystemExit) as error:
        # The reader of a pipe (head, less) has seen enough; Typer turns that into SystemExit.
        if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(f"{error.format_message()}\n")
            return USAGE
        context.state.json |= "--json" in arguments  # parsing may have stopped before it
        output.error("usage", error.format_message(), _usage_hint(error))
        return error.exit_code
    except Exception as error:
        return _known_or_defect(error)
    finally:
        _close()


def _known_or_defect(error: Exception) -> int:
    known = classify(error)
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exc()
    if known is None:
        text = f"{type(error).__name__}: {error}"
        output.error("internal_error", f"Unexpected failure: {text}", f"Set {DEBUG_VARIABLE}=1 for a traceback")
        return FAILED
    code, exit_code = known
    output.error(code, getattr(error, "message", str(error)), getattr(error, "hint", ""))
    return exit_code


def _close() -> None:
    if context.state.opened:
        from db.engine import close_connection

        close_connection()


def main() -> None:
    """The console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
