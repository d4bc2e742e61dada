"""A sign of life on standard error for work that takes over half a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sgxkit.cli import output
from sgxkit.messages import Message

PATIENCE_SECONDS = 0.5


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


def _show(text: str, done: threading.Event) -> None:
    if done.wait(PATIENCE_SECONDS):
        return
    with output.console(stderr=True).status(text):
        done.wait()
