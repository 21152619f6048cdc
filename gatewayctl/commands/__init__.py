"""One module per noun. A module exposes `app` (a typer.Typer with its verbs) or `command` (one function)."""
