"""Who may use the emulated processor: one thread at a time, in turn.

Unicorn's processors do not make their memory accesses atomic for each other, and leaf functions are plain Python. So
code runs in turns of `TURN` seconds: whoever wants to run waits for his, and gets it in the order of asking.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

TURN = 0.005


class Turns:
    """A lock that is given to those who wait in the order in which they came; not for the holder himself again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    @property
    def wanted(self) -> bool:
        """Whether someone waits."""
        return bool(self._waiting)

    def acquire(self) -> None:
        with self._lock:
            if not self._held:
                self._held = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        try:
            gate.acquire()
        except BaseException:
            with self._lock:
                waiting = gate in self._waiting
                if waiting:
                    self._waiting.remove(gate)
            if not waiting:
                self.release()
            raise

    def release(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False

    def yield_turn(self) -> None:
        """Let those who wait go first."""
        if self.wanted:
            self.release()
            self.acquire()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.release()


class Clock:
    """Calls everything that runs once a `TURN`, from a thread of its own that sleeps while nothing does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[Callable[[], None]] = []
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def ticking(self, tick: Callable[[], None]) -> Iterator[None]:
        """Call `tick` once a `TURN`."""
        with self._lock:
            self._running.append(tick)
            self._busy.set()
            if self._thread is None or not self._thread.is_alive():  # none of it is left after a fork
                self._thread = threading.Thread(target=self._run, name="sgxkit clock", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(tick)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._busy.wait()
            pause.wait(TURN)
            with self._lock:
                for tick in self._running:
                    tick()
                if not self._running:
                    self._busy.clear()


CLOCK = Clock()
