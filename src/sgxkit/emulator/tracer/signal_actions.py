"""The program's actions for the two signals by which ENCLU and CPUID reach the tracer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sgxkit.emulator.tracer import agent, ptrace
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.syscalls import NONE, Syscall
from sgxkit.emulator.tracer.tracee import Thread

if TYPE_CHECKING:
    from sgxkit.emulator.tracer.supervisor import Supervisor

_SIGACTION_SIZE = 32


def sigaction(tracer: Supervisor, thread: Thread, registers: Registers) -> bool:
    """A new action for one of the signals that our own traps may reset to the default."""
    number, new = registers.rdi & 0xFFFF_FFFF, registers.rsi
    restore_action(tracer, thread, number)
    if not thread.in_call:  # it was skipped to restore the action before: do it now
        registers.rax = tracer.call(thread, Syscall.RT_SIGACTION, number, new, registers.rdx, registers.r10)
        registers.orig_rax = NONE
        ptrace.set_registers(thread.tid, registers)
        if registers.rax == 0 and new:
            note_action(tracer, thread, number, new)
        tracer.go_on(thread)
        return True
    if not new:
        return False

    def behind(thread: Thread) -> None:
        ptrace.get_registers(thread.tid, tracer.registers)
        if tracer.registers.rax == 0:
            note_action(tracer, thread, number, new)

    thread.at_exit = behind
    ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
    return True


def note_action(tracer: Supervisor, thread: Thread, number: int, address: int) -> None:
    with contextlib.suppress(OSError):
        action = thread.space.memory.read(address, _SIGACTION_SIZE)
        tracer.actions.setdefault(thread.pid, {})[number] = action


def restore_action(tracer: Supervisor, thread: Thread, number: int) -> bool:
    """Set the program's action for a signal again if a trap of ours has reset it; says whether it was so.

    The kernel resets an action when a fault's signal is blocked or ignored: ENCLU in a signal handler is both.
    """
    action = tracer.actions.get(thread.pid, {}).get(number)
    if action is None or action[:8] == bytes(8):
        return False
    caught, ignored = dispositions(thread.tid)
    if (caught | ignored) >> (number - 1) & 1:
        return False
    ptrace.get_registers(thread.tid, tracer.registers)
    registers = tracer.registers.copy()
    tracer.leave_call(thread, registers)
    memory = thread.space.memory
    at = (registers.rsp - 1024) & -16 if thread.cpu.active_secs is None else scratch(thread)
    saved = memory.read(at, _SIGACTION_SIZE)
    memory.write(at, action)
    tracer.call(thread, Syscall.RT_SIGACTION, number, at, 0, 8)
    memory.write(at, saved)
    return True


def scratch(thread: Thread) -> int:
    """Memory of the agent's, for operands of system calls made inside an enclave."""
    del thread
    return agent.SCRATCH


def dispositions(tid: int) -> tuple[int, int]:
    """Signals that a process catches and ignores, one bit each."""
    caught = ignored = 0
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{tid}/status") as file:  # noqa: PTH123 - of proc
        for line in file:
            if line.startswith("SigIgn:"):
                ignored = int(line[7:], 16)
            elif line.startswith("SigCgt:"):
                caught = int(line[7:], 16)
    return caught, ignored
