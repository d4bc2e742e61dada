"""Which TCS serves which thread of the caller, as Intel's uRTS decides (psw/urts/tcs.cpp of SDK 2.26).

A thread of the caller keeps its TCS. Where none is free, those of threads that have ended are taken, and, for an
enclave with the policy "unbound", those of threads that make no ECALL at the moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from sgxkit.enclave.platform import OutsideMemory

_RED_ZONE = 256
"""Bytes below a stack pointer that are left alone: System V's red zone of 128, and some."""
_ALIGNMENT = 16
_EXCEPTIONS = 1 << 14
"""Bytes at the end of a stack that only ECMD_EXCEPT uses, wherever the interrupted ECALL's stack pointer is."""


@dataclass(slots=True, eq=False)
class TrustedThread:
    """One TCS, the stack outside that its ECALLs use, and the event that other threads wake it by.

    An event counts how often it was set, so that none is lost (common/src/se_event.c).

    pointers   the stack pointer of each ECALL that it is in, outermost first.
    """

    tcs: int
    stack: int = 0
    stack_size: int = 0
    pointers: list[int] = field(default_factory=list)
    event: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def next_pointer(self) -> int:
        """The stack pointer for another entry."""
        top = self.pointers[-1] if self.pointers else self.stack + self.stack_size
        return (top - _RED_ZONE) & -_ALIGNMENT

    def exception_pointer(self) -> int:
        """The stack pointer for showing the enclave an exception, and for resuming it."""
        return (self.stack + _EXCEPTIONS - _RED_ZONE) & -_ALIGNMENT


class ThreadPool:
    """The TCSs of one enclave."""

    def __init__(self, tcs: Iterable[int], *, bound: bool, memory: OutsideMemory, stack_size: int) -> None:
        self.threads = {address: TrustedThread(address) for address in tcs}
        self._free = list(reversed(self.threads.values()))
        self._bound_policy = bound
        self._owned: dict[threading.Thread, TrustedThread] = {}
        self._lock = threading.Lock()
        self._memory = memory
        self._stack_size = stack_size

    def acquire(self) -> TrustedThread | None:
        """The calling thread's TCS, its old one or another, in one ECALL more; None where there is none left."""
        with self._lock:
            caller = threading.current_thread()
            thread = self._owned.get(caller) or self._take()
            if thread is not None:
                self._owned[caller] = thread
                thread.pointers.append(thread.next_pointer())
            return thread

    def reserve(self) -> TrustedThread | None:
        """A TCS for a thread that is yet to begin; None where there is none left."""
        with self._lock:
            return self._take()

    def own(self, thread: TrustedThread) -> None:
        """Give the calling thread a TCS that was reserved."""
        with self._lock:
            self._owned[threading.current_thread()] = thread

    def release(self) -> None:
        """Take the calling thread's TCS back, which is in no ECALL."""
        with self._lock:
            thread = self._owned.pop(threading.current_thread(), None)
            if thread is not None:
                self._free.append(thread)

    def retire(self, thread: TrustedThread) -> None:
        """Never use a TCS again: its thread inside is stopped in the middle."""
        with self._lock:
            self._owned = {owner: owned for owner, owned in self._owned.items() if owned is not thread}

    def free_stacks(self) -> None:
        """Give the memory of all stacks back."""
        for thread in self.threads.values():
            if thread.stack:
                self._memory.free(thread.stack)
                thread.stack = 0

    def _take(self) -> TrustedThread | None:
        if not self._free:
            self._collect()
        if not self._free:
            return None
        thread = self._free.pop()
        if not thread.stack:
            thread.stack, thread.stack_size = self._memory.allocate(self._stack_size), self._stack_size
        return thread

    def _collect(self) -> None:
        for owner, thread in list(self._owned.items()):
            if not owner.is_alive() or not (self._bound_policy or thread.pointers):
                del self._owned[owner]
                if not thread.pointers:
                    self._free.append(thread)
