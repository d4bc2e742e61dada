"""`sgxkit quote`: look at quotes, and judge them."""

from __future__ import annotations

import typer

quote_app = typer.Typer(
    name="quote",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at quotes, and judge them.",
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(quote_app)
