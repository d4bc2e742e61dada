"""Printing: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from sgxkit.cli.options import settings
from sgxkit.messages import Message

if TYPE_CHECKING:
    from rich.console import Console


def print_json(document: Any) -> None:
    """Print one JSON document, in ASCII so that no terminal or pipe can break it."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def say(message: Message) -> str:
    """Return a sentence in the language of this run, fit for a terminal."""
    return printable(message.render(settings().language))


def printable(text: str) -> str:
    """Return text with what would steer a terminal written out: names and values in it come from outside."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def console(*, stderr: bool = False) -> Console:
    """Return a console that shows colour where the reader's terminal, NO_COLOR and --no-color allow it."""
    from rich.console import Console

    plain = not settings().color or bool(os.environ.get("NO_COLOR"))
    return Console(
        stderr=stderr, no_color=plain, highlight=False, soft_wrap=True, color_system=None if plain else "auto"
    )


def draws(symbols: str, on: Console) -> bool:
    """Whether the reader sees these symbols: on a terminal, with colour allowed, whose encoding has them."""
    if not on.is_terminal or on.no_color:
        return False
    try:
        symbols.encode(on.encoding)
    except UnicodeEncodeError:
        return False
    return True
