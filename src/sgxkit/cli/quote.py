"""`sgxkit quote`: look at quotes, and judge them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.errors import FormatError, InputError
from sgxkit.messages import msg

if TYPE_CHECKING:
    from sgxkit.dcap.found_quote import Search

quote_app = typer.Typer(
    name="quote",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at quotes, and judge them.",
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(quote_app)

    @command(quote_app, "inspect")
    def inspect(
        quote: Annotated[Path, typer.Argument(help="A quote in any form (docs/quotes.md); - reads standard input.")],
        *,
        offsets: Annotated[
            bool, typer.Option("--offsets", help="Show where each field stands: @offset +size.")
        ] = False,
        index: Annotated[
            int | None, typer.Option("--index", help="Show one quote of several, from 0 [default: all].")
        ] = None,
        raw: Annotated[
            Path | None,
            typer.Option("--raw", help="Write the quote's bytes to this file; - is standard output.", metavar="OUT"),
        ] = None,
    ) -> None:
        """Show what a quote says, field by field. Nothing is verified.

        Exit code: 0 shown, 3 bad input (what can be read of it is shown all the same).
        """
        from sgxkit.cli.input import read_input
        from sgxkit.dcap.envelope import MAX_INPUT_SIZE, search_quotes

        search = search_quotes(read_input(quote, MAX_INPUT_SIZE))
        chosen = _choose(search, index)
        if raw is not None:
            _write_raw(chosen, raw)
            if str(raw) == "-":
                return
        _show(chosen, index or 0 if len(search.quotes) > 1 else None, offsets=offsets)


def _choose(search: Search, index: int | None) -> Search:
    from sgxkit.dcap.found_quote import Search

    if index is None or not search.quotes:
        return search
    if not 0 <= index < len(search.quotes):
        raise InputError(msg("--index {index}: the input has {count} quotes", index=index, count=len(search.quotes)))
    return Search((search.quotes[index],), search.problems)


def _write_raw(search: Search, path: Path) -> None:
    """Write one quote as it was found, padding included."""
    if not search.quotes:
        raise search.problems[0]
    if len(search.quotes) > 1:
        raise InputError(
            msg("the input has {count} quotes", count=len(search.quotes)), hint=msg("choose one with --index")
        )
    data = search.quotes[0].data
    if str(path) == "-":
        typer.get_binary_stream("stdout").write(data)
        return
    try:
        path.write_bytes(data)
    except OSError as error:
        raise InputError(
            msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or error)
        ) from error


def _show(search: Search, first: int | None, *, offsets: bool) -> None:
    """Print everything that could be read, then fail if anything could not.

    `first` is the index of the first quote shown, None where the input has but one.
    """
    from sgxkit.dcap.inspection import inspect_quote

    inspections = [inspect_quote(found) for found in search.quotes]
    broken = any(inspection.error is not None for inspection in inspections)
    if settings().json:
        from sgxkit.dcap.inspection_document import inspection_document

        output.print_json(inspection_document(search))
    else:
        from sgxkit.cli.quote_tree import quote_tree
        from sgxkit.cli.tree import lines

        console = output.console()
        for number, inspection in enumerate(inspections):
            if number:
                console.print()
            index = None if first is None else first + number
            for line in lines(quote_tree(inspection, index, offsets=offsets), console.encoding):
                console.print(line)
        if search.problems:
            raise search.problems[0]
    if broken or search.problems:
        raise typer.Exit(FormatError.exit_code)
