"""`sgxkit doctor`: is this host ready for SGX, and if not, what is missing?"""

from __future__ import annotations

import typer

from sgxkit.cli.options import command


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "doctor")
    def doctor() -> None:
        """Is this host ready for SGX? What exactly is missing?"""
