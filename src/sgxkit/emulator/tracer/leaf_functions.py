"""ENCLU where a program executes it, and asynchronous exits: registers in, registers out.

The rules are those of `emulator.entry`, `enclu` and `enclu_sgx2`; here a thread's real registers and extended state
are moved between it and them.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from sgxkit.emulator.enclu import egetkey, ereport
from sgxkit.emulator.enclu_sgx2 import eaccept, eacceptcopy, emodpe
from sgxkit.emulator.entry import (
    asynchronous_exit,
    edeccssa,
    eenter,
    eexit,
    eresume,
    eresume_notified,
    wants_notification,
)
from sgxkit.emulator.faults import GeneralProtectionFault, PageFaultCode
from sgxkit.emulator.tracer import ptrace
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.tracee import Thread
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.ssa import ExInfo, ExitInfo, ExitType, GprSgx
from sgxkit.messages import msg

ENCLU = b"\x0f\x01\xd7"
DE, DB, BP, UD, GP, PF, MF, AC, XM = 0, 1, 3, 6, 13, 14, 16, 17, 19

_REPORTED = (DE, DB, BP, 5, UD, MF, AC, XM)
_REPORTED_WITH_EXINFO = (GP, PF)
GENERAL_REGISTERS = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"),
)

_STATUS_FLAGS, _ZF = 0x8D5, 0x40
_XCR0_AT, _XSTATE_BV_AT, _HEADER_END = 464, 512, 576
_INITIAL_FCW, _INITIAL_MXCSR = b"\x7f\x03", b"\x80\x1f\x00\x00"


@dataclass(frozen=True, slots=True)
class Exception_:  # noqa: N801 - the manual's word, which Python has taken
    """A processor exception that happened inside: its vector, error code, and for #PF the address."""

    vector: int
    error_code: int = 0
    address: int = 0


def execute(thread: Thread, registers: Registers) -> Enclu:
    """Execute the ENCLU at RIP; changes `registers`. Raises Fault."""
    cpu = thread.cpu
    try:
        leaf = Enclu(registers.rax & 0xFFFF_FFFF)
    except ValueError:
        raise GeneralProtectionFault(msg("{leaf} is not a leaf function of this processor", leaf="ENCLU")) from None
    rbx, rcx, rdx = registers.rbx, registers.rcx, registers.rdx
    notified = leaf is Enclu.ERESUME and wants_notification(cpu, rbx)
    if leaf is Enclu.EENTER or notified:
        enter = eresume_notified if notified else eenter
        entered = enter(cpu, rbx, rcx, rsp=registers.rsp, rbp=registers.rbp)
        thread.fs, thread.gs = registers.fs_base, registers.gs_base
        registers.rcx = registers.rip + len(ENCLU)
        registers.rip, registers.rax = entered.rip, entered.rax
        registers.fs_base, registers.gs_base = entered.fsbase, entered.gsbase
        return leaf
    if leaf is Enclu.ERESUME:
        frame, xsave = eresume(cpu, rbx, rcx)
        thread.fs, thread.gs = registers.fs_base, registers.gs_base
        _restore(registers, frame)
        _restore_xstate(thread, xsave)
        return leaf
    if leaf is Enclu.EEXIT:
        registers.rcx = eexit(cpu, rbx)
        registers.rip = rbx
        registers.fs_base, registers.gs_base = thread.fs, thread.gs
        return leaf
    if leaf is Enclu.EREPORT:
        ereport(cpu, rbx, rcx, rdx)
    elif leaf is Enclu.EDECCSSA:
        edeccssa(cpu)
    elif leaf is Enclu.EMODPE:
        emodpe(cpu, rbx, rcx)
    elif leaf in (Enclu.EGETKEY, Enclu.EACCEPT, Enclu.EACCEPTCOPY):
        if leaf is Enclu.EGETKEY:
            status = egetkey(cpu, rbx, rcx)
        elif leaf is Enclu.EACCEPT:
            status = eaccept(cpu, rbx, rcx)
        else:
            status = eacceptcopy(cpu, rbx, rcx, rdx)
        registers.rax = int(status)
        registers.eflags = registers.eflags & ~_STATUS_FLAGS | (_ZF if status else 0)
    else:
        raise GeneralProtectionFault(msg("{leaf} is not a leaf function of this processor", leaf=leaf.name))
    registers.rip += len(ENCLU)
    return leaf


def leave(thread: Thread, registers: Registers, exception: Exception_ | None) -> None:
    """Leave the enclave asynchronously: save everything in the SSA; `registers` become what the outside sees."""
    cpu = thread.cpu
    enclave = cpu.processor.enclaves[cpu.active_secs or 0]
    secs = enclave.secs
    exinfo, information = None, ExitInfo()
    if exception is not None:
        vector = exception.vector
        if vector in _REPORTED or (secs.miscselect & 1 and vector in _REPORTED_WITH_EXINFO):
            information = ExitInfo(vector, ExitType.SOFTWARE if vector == BP else ExitType.HARDWARE, valid=True)
        if vector in _REPORTED_WITH_EXINFO:
            exinfo = ExInfo(exception.address if vector == PF else 0, exception.error_code)
    frame = GprSgx(
        rax=registers.rax,
        rcx=registers.rcx,
        rdx=registers.rdx,
        rbx=registers.rbx,
        rsp=registers.rsp,
        rbp=registers.rbp,
        rsi=registers.rsi,
        rdi=registers.rdi,
        r8=registers.r8,
        r9=registers.r9,
        r10=registers.r10,
        r11=registers.r11,
        r12=registers.r12,
        r13=registers.r13,
        r14=registers.r14,
        r15=registers.r15,
        rflags=registers.eflags,
        rip=registers.rip,
        exitinfo=information,
        fsbase=registers.fs_base,
        gsbase=registers.gs_base,
    )
    xfrm = secs.attributes.xfrm
    area = ptrace.get_xstate(thread.tid)
    assert cpu.frame is not None
    state = asynchronous_exit(cpu, frame, _saved_xstate(area, xfrm)[: cpu.frame.xsave_size], exinfo)
    ptrace.set_xstate(thread.tid, _initial_xstate(area, xfrm))
    for name in GENERAL_REGISTERS:
        setattr(registers, name, 0)
    registers.rax, registers.rbx, registers.rcx = state.rax, state.rbx, state.rcx
    registers.rsp, registers.rbp, registers.rip = state.rsp, state.rbp, state.rcx
    registers.eflags = registers.eflags & ~_STATUS_FLAGS
    registers.fs_base, registers.gs_base = thread.fs, thread.gs
    registers.orig_rax = 2**64 - 1


def page_fault_code(*, present: bool, write: bool, epcm: bool) -> int:
    """The error code of a #PF of the enclave's own code."""
    code = PageFaultCode.U | (PageFaultCode.W if write else 0)
    if present or epcm:
        code |= PageFaultCode.P
    return int(code | (PageFaultCode.SGX if epcm else 0))


SIGNALS = {
    DE: signal.SIGFPE,
    DB: signal.SIGTRAP,
    BP: signal.SIGTRAP,
    UD: signal.SIGILL,
    GP: signal.SIGSEGV,
    PF: signal.SIGSEGV,
    MF: signal.SIGFPE,
    AC: signal.SIGBUS,
    XM: signal.SIGFPE,
}


def _restore(registers: Registers, frame: GprSgx) -> None:
    for name in [
        "rax",
        "rcx",
        "rdx",
        "rbx",
        "rsp",
        "rbp",
        "rsi",
        "rdi",
        "r8",
        "r9",
        "r10",
        "r11",
        "r12",
        "r13",
        "r14",
        "r15",
        "rip",
    ]:
        setattr(registers, name, getattr(frame, name))
    registers.eflags = frame.rflags
    registers.fs_base, registers.gs_base = frame.fsbase, frame.gsbase


def xcr0(area: bytes) -> int:
    """XCR0, as the kernel leaves it in an XSAVE area."""
    return int.from_bytes(area[_XCR0_AT : _XCR0_AT + 8], "little")


def _saved_xstate(area: bytes, xfrm: int) -> bytes:
    """What an asynchronous exit saves of an XSAVE area: the components in XFRM."""
    present = int.from_bytes(area[_XSTATE_BV_AT : _XSTATE_BV_AT + 8], "little") & xfrm
    return area[:_XCR0_AT] + bytes(48) + present.to_bytes(8, "little") + bytes(56) + area[_HEADER_END:]


def _initial_xstate(area: bytes, xfrm: int) -> bytes:
    """The state that the outside sees: the components in XFRM are initial, others are as they were."""
    present = int.from_bytes(area[_XSTATE_BV_AT : _XSTATE_BV_AT + 8], "little") & ~xfrm
    legacy = _INITIAL_FCW + bytes(22) + _INITIAL_MXCSR + area[28:32] + bytes(_XCR0_AT - 32)
    return legacy + area[_XCR0_AT:_XSTATE_BV_AT] + present.to_bytes(8, "little") + bytes(56) + area[_HEADER_END:]


def _restore_xstate(thread: Thread, saved: bytes) -> None:
    """Load the components in XFRM from an SSA frame; #GP where the processor would refuse it."""
    cpu = thread.cpu
    xfrm = cpu.processor.enclaves[cpu.active_secs or 0].secs.attributes.xfrm
    area = ptrace.get_xstate(thread.tid)
    others = int.from_bytes(area[_XSTATE_BV_AT : _XSTATE_BV_AT + 8], "little") & ~xfrm
    present = int.from_bytes(saved[_XSTATE_BV_AT : _XSTATE_BV_AT + 8], "little")
    if present & ~xfrm or any(saved[_XSTATE_BV_AT + 8 : _HEADER_END]):
        raise GeneralProtectionFault(msg("the XSAVE area of the SSA frame is not what XFRM allows"))
    legacy = saved[:_XCR0_AT] + area[_XCR0_AT:_XSTATE_BV_AT]
    header = (present | others).to_bytes(8, "little") + bytes(56)
    end = min(len(saved), len(area))
    extended = saved[_HEADER_END:end] + area[end:]
    if others >> 9 & 1 and end > 2696:  # PKRU is the outside's where XFRM has it not
        extended = extended[: 2688 - 576] + area[2688:2696] + extended[2696 - 576 :]
    try:
        ptrace.set_xstate(thread.tid, legacy + header + extended)
    except OSError as error:
        raise GeneralProtectionFault(msg("the XSAVE area of the SSA frame is not what XFRM allows")) from error
