"""A sign of life on standard error for work that takes over half a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sgxkit.cli import output
from sgxkit.messages import Message

if TYPE_CHECKING:
    from rich.status import Status

PATIENCE_SECONDS = 0.5
_REFRESH_SECONDS = 0.1


@contextmanager
def progress(message: Message) -> Iterator[None]:
    """Show `message` with a spinner while the block runs, once it has run half a second and a person watches."""
    with counter(message):
        yield


@contextmanager
def counter(message: Message) -> Iterator[Callable[[int, int], None]]:
    """As `progress`, and the block is given a function that shows how many things are done, and of how many."""
    text = output.say(message)
    count = [""]

    def tell(done: int, total: int) -> None:
        count[0] = f" {done}/{total}"

    if not sys.stderr.isatty():
        yield tell
        return
    done = threading.Event()
    # Made here: what the command line chose is not known in another thread.
    shown = output.console(stderr=True).status(text)
    thread = threading.Thread(target=_show, args=(shown, text, count, done), daemon=True)
    thread.start()
    try:
        yield tell
    finally:
        done.set()
        thread.join()


def _show(shown: Status, text: str, count: list[str], done: threading.Event) -> None:
    if done.wait(PATIENCE_SECONDS):
        return
    with shown:
        while not done.wait(_REFRESH_SECONDS):
            shown.update(text + count[0])
