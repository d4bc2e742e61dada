"""Signals: ENCLU and CPUID, faults inside enclaves, and interrupts of them."""

from __future__ import annotations

import contextlib
import signal
import struct
from typing import TYPE_CHECKING

from sgxkit.emulator.faults import Fault, PageFault
from sgxkit.emulator.tracer import agent, fast_transitions, ptrace, seccomp
from sgxkit.emulator.tracer.compacted_xrstor import restore_compacted
from sgxkit.emulator.tracer.device_calls import protect, release_unused
from sgxkit.emulator.tracer.host_cpuid import host_cpuid
from sgxkit.emulator.tracer.leaf_functions import (
    AC,
    BP,
    DB,
    DE,
    ENCLU,
    GP,
    MF,
    PF,
    SIGNALS,
    UD,
    XM,
    Exception_,
    execute,
    leave,
    page_fault_code,
)
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.signal_actions import restore_action
from sgxkit.emulator.tracer.syscalls import Syscall
from sgxkit.emulator.tracer.tracee import Mapped, Thread
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.page import PAGE_SIZE

if TYPE_CHECKING:
    from sgxkit.emulator.tracer.supervisor import Supervisor

_CPUID = b"\x0f\xa2"
_SI_KERNEL = 0x80
_SEGV_ACCERR = 2
_ILL_ILLOPN = 2
_FPE_INTDIV = 1
_MXCSR_EXCEPTIONS = 0x3F


def signalled(tracer: Supervisor, thread: Thread, number: int) -> None:
    if thread.redeliver is not None:
        ptrace.set_siginfo(thread.tid, thread.redeliver)
        thread.redeliver = None
        ptrace.resume(thread.tid, ptrace.PTRACE_CONT, number)
        return
    registers = tracer.registers
    if thread.published is not None and is_between(tracer, thread, number):
        return
    fast_transitions.catch_up(thread, tracer.processor)
    if number in (signal.SIGILL, signal.SIGSEGV):
        ptrace.get_registers(thread.tid, registers)
        try:
            code = thread.space.memory.read(registers.rip, 3)
        except OSError:
            code = b""
        if number == signal.SIGILL and code == ENCLU:
            execute_enclu(tracer, thread, registers)
            return
        if code[:2] == _CPUID and number == signal.SIGSEGV:
            if thread.cpu.active_secs is not None:
                raise_in_enclave(tracer, thread, registers, Exception_(UD))
            elif is_from_instruction(thread):
                answer_cpuid(tracer, thread, registers)
            else:
                ptrace.resume(thread.tid, ptrace.PTRACE_CONT, number)
            return
        if number == signal.SIGSEGV and thread.cpu.active_secs is None and outside_fault(tracer, thread):
            return
    if thread.cpu.active_secs is None:
        if number in seccomp.TRAPS:
            information = ptrace.get_siginfo(thread.tid)
            if restore_action(tracer, thread, number):
                thread.redeliver = information
                tracer.go_on(thread)
                return
        ptrace.resume(thread.tid, ptrace.PTRACE_CONT, number)
        return
    ptrace.get_registers(thread.tid, registers)
    signalled_inside(tracer, thread, registers, number)


def is_between(tracer: Supervisor, thread: Thread, number: int) -> bool:
    """A signal between outside and inside waits until the thread is through; says whether it was one."""
    ptrace.get_registers(thread.tid, tracer.registers)
    if not agent.in_transition(tracer.registers.rip):
        return False
    information = ptrace.get_siginfo(thread.tid)
    fast_transitions.step_out(thread, tracer.registers)
    # It is stopped for SIGTRAP now, in whose place it can be given what it was stopped for before.
    ptrace.set_siginfo(thread.tid, information)
    signalled(tracer, thread, number)
    return True


def is_from_instruction(thread: Thread) -> bool:
    return ptrace.code_and_address(ptrace.get_siginfo(thread.tid))[0] == _SI_KERNEL


def answer_cpuid(tracer: Supervisor, thread: Thread, registers: Registers) -> None:
    leaf, subleaf = registers.rax & 0xFFFF_FFFF, registers.rcx & 0xFFFF_FFFF
    if leaf == 0x12:
        found = tracer.cpuid.get((leaf, subleaf))
        values = (found.eax, found.ebx, found.ecx, found.edx) if found else (0, 0, 0, 0)
    else:
        values = host_cpuid(leaf, subleaf)
        if leaf == 0:
            values = (max(values[0], 0x12), *values[1:])
        elif leaf == 7 and subleaf == 0:
            lc = tracer.processor.fuses.profile.flexible_launch_control
            values = (values[0], values[1] | 1 << 2, values[2] & ~(1 << 30) | lc << 30, values[3])
    registers.rax, registers.rbx, registers.rcx, registers.rdx = values
    registers.rip += len(_CPUID)
    ptrace.set_registers(thread.tid, registers)
    ptrace.resume(thread.tid)


def outside_fault(tracer: Supervisor, thread: Thread) -> bool:
    """A fault outside, at an address of an enclave that is not protected as it should be yet."""
    code, address = ptrace.code_and_address(ptrace.get_siginfo(thread.tid))
    mapped = thread.space.find(address) if code in (1, 2) else None
    if mapped is None or not protect(tracer, thread, mapped, *around(mapped, address), grant=True):
        return False
    ptrace.resume(thread.tid)
    return True


def execute_enclu(tracer: Supervisor, thread: Thread, registers: Registers) -> None:
    inside, at = thread.cpu.active_secs, registers.rip
    for _ in range(8):
        try:
            leaf = execute(thread, registers)
        except PageFault as fault:
            if augmented(tracer, thread, fault.address):
                continue
            leaf_fault(tracer, thread, registers, fault)
            return
        except Fault as fault:
            leaf_fault(tracer, thread, registers, fault)
            return
        break
    ptrace.set_registers(thread.tid, registers)
    if leaf is Enclu.EEXIT:
        tracer.observer.left(thread, registers)
        has_left(tracer, thread, at)
    elif leaf in (Enclu.EENTER, Enclu.ERESUME, Enclu.EDECCSSA):
        if leaf is not Enclu.EDECCSSA:
            tracer.observer.entered(thread, registers, leaf)
        mapped = thread.space.find(thread.cpu.tcs)
        if tracer.fast and mapped is not None:
            fast_transitions.publish(thread, mapped, registers)
    else:
        tracer.observer.executed(thread, leaf, registers.rax)
        if leaf in (Enclu.EACCEPT, Enclu.EMODPE, Enclu.EACCEPTCOPY) and inside is not None:
            mapped = thread.space.find(registers.rcx)
            if mapped is not None:
                mapped.file.note(registers.rcx & -PAGE_SIZE)
    ptrace.resume(thread.tid)


def has_left(tracer: Supervisor, thread: Thread, at: int) -> None:
    """After an EEXIT at `at` that reached the tracer: the next one there is not to."""
    published = thread.published
    if published is None:
        return
    with contextlib.suppress(OSError):
        thread.space.memory.write(published.entry + agent.ACTIVE_AT, bytes(8))
    mapped = thread.space.find(at)
    if mapped is not None and at not in mapped.file.exits:
        tracer.catch_up()
        if not any(cpu.active_secs == mapped.file.secs for cpu in tracer.processor.inside):
            fast_transitions.bypass_exit(thread, mapped, at, tracer.call)


def augmented(tracer: Supervisor, thread: Thread, address: int) -> bool:
    """Do what the driver's fault handler does for an address without a page: EAUG one."""
    mapped = thread.space.find(address)
    if mapped is None or not mapped.file.initialized or address & -PAGE_SIZE in mapped.file.pages:
        return False
    if not tracer.processor.fuses.profile.sgx2:
        return False
    try:
        mapped.file.augment(address)
    except OSError:
        release_unused(tracer)
        try:
            mapped.file.augment(address)
        except OSError:
            return False
    return True


def leaf_fault(tracer: Supervisor, thread: Thread, registers: Registers, fault: Fault) -> None:
    address = fault.address if isinstance(fault, PageFault) else 0
    exception = Exception_(fault.vector, fault.error_code | (4 if fault.vector == PF else 0), address)
    if thread.cpu.active_secs is not None:
        raise_in_enclave(tracer, thread, registers, exception)
    else:
        raise_outside(tracer, thread, registers, exception, at_signal=True)


def signalled_inside(tracer: Supervisor, thread: Thread, registers: Registers, number: int) -> None:
    """A signal for a thread inside: a fault of the enclave's, or an interrupt."""
    information = ptrace.get_siginfo(thread.tid)
    code, address = ptrace.code_and_address(information)
    exception: Exception_ | None = None
    if code > 0:  # from the kernel
        if number == signal.SIGSEGV and code == _SI_KERNEL:
            exception = Exception_(GP)
        elif number == signal.SIGSEGV and restore_compacted(thread, registers, xcr0=tracer.xcr0):
            ptrace.set_registers(thread.tid, registers)
            let_probe(tracer, thread, address & -PAGE_SIZE)
            ptrace.resume(thread.tid)
            return
        elif number == signal.SIGSEGV:
            found = page_fault(tracer, thread, registers, address)
            if found is None:
                ptrace.resume(thread.tid)
                return
            exception = found
        elif number == signal.SIGBUS:
            exception = Exception_(AC)
        elif number == signal.SIGILL:
            exception = Exception_(UD)
        elif number == signal.SIGFPE:
            exception = Exception_(DE if code == _FPE_INTDIV else floating_point(thread.tid))
        elif number == signal.SIGTRAP:
            exception = Exception_(BP if code == _SI_KERNEL else DB)
            if exception.vector == BP:
                registers.rip -= 1
    if exception is None:
        tracer.observer.interrupted(thread, None, number, registers.rip)
        fast_transitions.withdraw(thread)
        leave(thread, registers, None)
        ptrace.set_registers(thread.tid, registers)
        ptrace.resume(thread.tid, ptrace.PTRACE_CONT, number)
        return
    raise_in_enclave(tracer, thread, registers, exception)


def let_probe(tracer: Supervisor, thread: Thread, page: int) -> None:
    """Let XRSTOR look at a page where the enclave has none: the next one there is to need no help."""
    mapped = next((mapped for mapped in thread.space.enclaves if mapped.file.covers(page)), None)
    if mapped is not None and page not in thread.space.probed and page not in mapped.file.pages:
        thread.space.probed.add(page)
        tracer.call(thread, Syscall.MPROTECT, page, PAGE_SIZE, 1)


def page_fault(tracer: Supervisor, thread: Thread, registers: Registers, address: int) -> Exception_ | None:
    """What a page fault inside is; None if it was but our mapping that lagged behind."""
    cpu = thread.cpu
    enclave = tracer.processor.enclaves[cpu.active_secs or 0]
    if not enclave.covers(address):
        return Exception_(PF, page_fault_code(present=False, write=False, epcm=False), address)
    mapped = thread.space.find(address)
    if mapped is None:
        return Exception_(PF, page_fault_code(present=False, write=False, epcm=False), address)
    if address & -PAGE_SIZE not in mapped.file.pages:
        augmented(tracer, thread, address)
        epcm = address & -PAGE_SIZE in mapped.file.pages
        return Exception_(PF, page_fault_code(present=False, write=False, epcm=epcm), address)
    if protect(tracer, thread, mapped, *around(mapped, address), grant=True):
        return None
    accessible, asked = mapped.file.accessible[address], mapped.asked[address]
    writes = bool(accessible & asked & 1) and registers.rip & -PAGE_SIZE != address & -PAGE_SIZE
    epcm = accessible & 7 != 7 and asked & 7 & ~accessible != 0
    return Exception_(PF, page_fault_code(present=True, write=writes, epcm=epcm), address)


def raise_in_enclave(
    tracer: Supervisor, thread: Thread, registers: Registers, exception: Exception_, *, at_signal: bool = True
) -> None:
    """Leave the enclave because of an exception, and let the outside have its signal."""
    tracer.observer.interrupted(thread, exception, SIGNALS[exception.vector], registers.rip)
    fast_transitions.withdraw(thread)
    leave(thread, registers, exception)
    raise_outside(tracer, thread, registers, exception, at_signal=at_signal)


def raise_outside(
    tracer: Supervisor, thread: Thread, registers: Registers, exception: Exception_, *, at_signal: bool
) -> None:
    """Give the program the signal of an exception at RIP, as the kernel does."""
    vector, number = exception.vector, SIGNALS[exception.vector]
    if registers.rip == agent.AEP:  # the vDSO's own: its caller is told instead
        registers.rdi, registers.rsi = vector, exception.error_code
        registers.rdx = exception.address & -PAGE_SIZE
        registers.rip = agent.EXCEPTION
        ptrace.set_registers(thread.tid, registers)
        tracer.go_on(thread)
        return
    code, address = _SI_KERNEL, 0
    if vector == PF:
        code, address = _SEGV_ACCERR, exception.address & -PAGE_SIZE
    elif vector == UD:
        code, address = _ILL_ILLOPN, registers.rip
    elif vector == DE:
        code, address = _FPE_INTDIV, registers.rip
    elif vector in (MF, XM):
        code, address = 7, registers.rip
    elif vector == AC:
        code = 1
    ptrace.set_registers(thread.tid, registers)
    information = ptrace.siginfo(number, code, address)
    if number in seccomp.TRAPS and restore_action(tracer, thread, number):
        at_signal = False
    if at_signal:
        ptrace.set_siginfo(thread.tid, information)
        ptrace.resume(thread.tid, ptrace.PTRACE_CONT, number)
    else:
        thread.redeliver = information
        tracer.go_on(thread)


def around(mapped: Mapped, address: int) -> tuple[int, int]:
    """As much around an address as is to be brought up to date with it: what the EPCM treats alike."""
    reach = 1 << 26
    for start, end, _ in mapped.file.accessible.runs(
        max(mapped.file.base, address - reach), min(mapped.file.end, address + reach)
    ):
        if start <= address < end:
            return start, end
    return address & -PAGE_SIZE, (address & -PAGE_SIZE) + PAGE_SIZE


def floating_point(tid: int) -> int:
    """#XM if an exception that MXCSR does not mask is pending, else #MF."""
    (mxcsr,) = struct.unpack_from("<I", ptrace.get_xstate(tid), 24)
    return XM if mxcsr & ~(mxcsr >> 7) & _MXCSR_EXCEPTIONS else MF
