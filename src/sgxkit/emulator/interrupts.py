"""Ctrl-C while Unicorn runs: Python would raise it in a callback of Unicorn's, where it gets lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_held(interrupt: Callable[[Callable[[], object]], None]) -> Iterator[None]:
    """Within this, SIGINT calls `interrupt` with what it would have done. Does nothing but in the main thread."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return

    def hold(number: int, frame: FrameType | None) -> None:
        interrupt(lambda: handler(number, frame))

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
