"""Work in a thread of its own: results, errors, the caller's context, and interrupts."""

from __future__ import annotations

import signal
import threading
import time
from contextvars import ContextVar

import pytest

from sgxkit.up.background import in_background

CHOSEN: ContextVar[str] = ContextVar("chosen")


def test_results_and_errors_come_back_from_another_thread() -> None:
    assert in_background(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 // 0)


def test_the_callers_context_is_there() -> None:
    CHOSEN.set("zh")
    assert in_background(CHOSEN.get) == "zh"


def test_an_interrupt_meets_the_caller_after_the_work() -> None:
    done: list[bool] = []

    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.3)
        done.append(True)

    with pytest.raises(KeyboardInterrupt):
        in_background(work)
    assert done
