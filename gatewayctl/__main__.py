"""`python -m gatewayctl`."""

from __future__ import annotations

from gatewayctl.cli import main

main()
