"""Work in a thread of its own, so that Ctrl-C meets the caller, who waits, and never the middle of the work.

An exception that a signal raises inside a callback out of machine code (ctypes) would be printed and forgotten there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Generic, TypeVar

T = TypeVar("T")

_PATIENCE = 2.0
"""Seconds that unfinished work has to end by itself when the caller is interrupted."""


class _Outcome(Generic[T]):
    def __init__(self) -> None:
        self.value: list[T] = []
        self.error: BaseException | None = None


def in_background(work: Callable[[], T]) -> T:
    """Return what `work` returns, or raise what it raises; an interrupt of the caller waits a little for its end."""
    outcome: _Outcome[T] = _Outcome()
    ended = threading.Event()

    def run() -> None:
        try:
            outcome.value.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again for the caller
            outcome.error = error
        finally:
            ended.set()

    # What the caller has chosen, such as the language of messages, is in its context.
    thread = threading.Thread(target=copy_context().run, args=(run,), daemon=True)
    try:
        thread.start()
        while not ended.wait(0.2):  # in steps: a wait without end would not let signals through on every system
            continue
    except BaseException:
        ended.wait(_PATIENCE)
        raise
    if outcome.error is not None:
        raise outcome.error
    return outcome.value[0]
