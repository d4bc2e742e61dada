"""A sign of life on standard error for work that takes over half a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sgxkit.cli import output
from sgxkit.messages import Message

PATIENCE_SECONDS = 0.5
_REFRESH_SECONDS = 0.1


@contextmanager
def progress(message: Message) -> Iterator[None]:
    """Show `message` with a spinner while the block runs, once it has run half a second and a person watches."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_show, args=(output.say(message), done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def counter(message: Message) -> Iterator[Callable[[int, int], None]]:
    """As `progress`, and the block is given a function that shows how many things are done, and of how many."""
    count = [""]

    def tell(done: int, total: int) -> None:
        count[0] = f" {done}/{total}"

    if not sys.stderr.isatty():
        yield tell
        return
    done = threading.Event()
    thread = threading.Thread(target=_show_counting, args=(output.say(message), count, done), daemon=True)
    thread.start()
    try:
        yield tell
    finally:
        done.set()
        thread.join()


def _show_counting(text: str, count: list[str], done: threading.Event) -> None:
    if done.wait(PATIENCE_SECONDS):
        return
    with output.console(stderr=True).status(text) as status:
        while not done.wait(_REFRESH_SECONDS):
            status.update(text + count[0])


def _show(text: str, done: threading.Event) -> None:
    if done.wait(PATIENCE_SECONDS):
        return
    with output.console(stderr=True).status(text):
        done.wait()
