"""Traced threads and their address spaces, and system calls made in their name."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sgxkit.emulator.processor import LogicalProcessor
from sgxkit.emulator.tracer import ptrace
from sgxkit.emulator.tracer.device import EnclaveFile
from sgxkit.emulator.tracer.interval_map import IntervalMap
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.syscalls import NONE, Syscall
from sgxkit.emulator.tracer.tracee_memory import TraceeMemory
from sgxkit.isa.page import PAGE_SIZE

if TYPE_CHECKING:
    from sgxkit.emulator.tracer.fast_transitions import Published

_ALL_SIGNALS = b"\xff" * 8


@dataclass(slots=True, eq=False)
class Mapped:
    """The mappings of one enclave in one address space.

    asked    protections that the program has asked for; `MAPPED` is set wherever there is a mapping.
    actual   protections that the mappings have: less where there is no page, or the EPCM gives less.
    alias    where all of its memory is mapped once more, for the agent.
    """

    file: EnclaveFile
    alias: int = 0
    asked: IntervalMap = field(default_factory=IntervalMap)
    actual: IntervalMap = field(default_factory=IntervalMap)


MAPPED = 8


class AddressSpace(Mapping[int, int]):
    """An address space; as a mapping, the page table of its enclaves: EPC page by linear page."""

    def __init__(self, pid: int) -> None:
        self.memory = TraceeMemory(pid)
        self.enclaves: list[Mapped] = []
        self.agent = False
        self.low_page: bool | None = None
        self.threads: set[Thread] = set()
        self.probed: set[int] = set()
        self.filtered: set[tuple[int, int]] = set()
        self.garbage: list[tuple[int, int]] = []

    def find(self, address: int) -> Mapped | None:
        """The enclave whose range `address` is in, if it is mapped here."""
        for mapped in self.enclaves:
            if mapped.file.covers(address) and mapped.asked[address]:
                return mapped
        return None

    def mapped(self, file: EnclaveFile) -> Mapped:
        for mapped in self.enclaves:
            if mapped.file is file:
                return mapped
        new = Mapped(file)
        self.enclaves.append(new)
        return new

    def __getitem__(self, page: int) -> int:
        mapped = self.find(page)
        if mapped is None:
            raise KeyError(page)
        return mapped.file.pages[page]

    def __iter__(self) -> Iterator[int]:
        return (page for mapped in self.enclaves for page in mapped.file.pages)

    def __len__(self) -> int:
        return sum(len(mapped.file.pages) for mapped in self.enclaves)


@dataclass(slots=True, eq=False)
class Thread:
    """One traced thread.

    cpu             its logical processor.
    fs, gs          bases outside the enclave, while it is inside.
    in_call         it is stopped before a system call.
    at_exit         what to do when its system call is done.
    redeliver       siginfo of a signal that had to wait for something.
    postponed       signals that arrived in between.
    published       the TCS by which it may enter without the tracer.
    """

    tid: int
    pid: int
    space: AddressSpace
    cpu: LogicalProcessor
    fs: int = 0
    gs: int = 0
    in_call: bool = False
    at_exit: Callable[[Thread], None] | None = None
    redeliver: bytes | None = None
    postponed: list[int] = field(default_factory=list)
    published: Published | None = None

    def skip_call(self, registers: Registers, result: int) -> None:
        """Let the system call that it is stopped before be done already."""
        registers.orig_rax = NONE
        registers.rax = result & NONE
        ptrace.set_registers(self.tid, registers)

    def finish_call(self) -> None:
        """Go from before a system call to behind it."""
        ptrace.resume(self.tid, ptrace.PTRACE_SYSCALL)
        self.wait_for_syscall_stop()
        self.in_call = False

    def call(self, instruction: int, number: Syscall, *arguments: int) -> int:
        """Make a system call in the thread's name, at a SYSCALL instruction; returns what it leaves in RAX.

        The thread is stopped anywhere but before a system call of its own; its registers are as before.
        """
        saved = Registers()
        ptrace.get_registers(self.tid, saved)
        registers = saved.copy()
        registers.rax, registers.rip, registers.orig_rax = int(number), instruction, NONE
        padded = [*arguments, *[0] * (6 - len(arguments))]
        (registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9) = padded
        mask = ptrace.get_signal_mask(self.tid)
        ptrace.set_signal_mask(self.tid, _ALL_SIGNALS)
        ptrace.set_registers(self.tid, registers)
        for _ in range(2):
            ptrace.resume(self.tid, ptrace.PTRACE_SYSCALL)
            self.wait_for_syscall_stop()
        ptrace.get_registers(self.tid, registers)
        ptrace.set_registers(self.tid, saved)
        ptrace.set_signal_mask(self.tid, mask)
        return registers.rax

    def wait_for_syscall_stop(self) -> None:
        """Wait until it is at a syscall stop; other signals wait. Raises ProcessLookupError when it ends instead."""
        while True:
            _, status = os.waitpid(self.tid, ptrace.WALL)
            if not os.WIFSTOPPED(status):
                raise EndedError(self.tid, status)
            stop, event = os.WSTOPSIG(status), status >> 16
            if stop == ptrace.SYSCALL_STOP:
                return
            if event == 0 and stop != signal.SIGSTOP:
                self.postponed.append(stop)
            elif event == 0:
                self.postponed.append(signal.SIGSTOP)
            ptrace.resume(self.tid, ptrace.PTRACE_SYSCALL)


class EndedError(ProcessLookupError):
    """A thread ended while the tracer worked for it."""

    def __init__(self, tid: int, status: int) -> None:
        super().__init__(f"thread {tid} ended")
        self.tid = tid
        self.status = status


def page_range(start: int, length: int) -> tuple[int, int]:
    """The pages of [start, start + length)."""
    return start & -PAGE_SIZE, -(-(start + length) // PAGE_SIZE) * PAGE_SIZE
