"""One stay in an enclave, from EENTER or ERESUME to EEXIT or an asynchronous exit.

Intel SDM Vol. 3D: 36.6 (illegal instructions), 37 (asynchronous exits), 38 (EENTER, ERESUME, EEXIT).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sgxkit.emulator import events, xsave
from sgxkit.emulator.cpu import ENCLU, GPRS, Access, Cpu, Enough, Late, Leaf, Trap, Xsave
from sgxkit.emulator.decode import MAX_LENGTH, Instruction, decode
from sgxkit.emulator.enclu import egetkey, ereport
from sgxkit.emulator.enclu_sgx2 import eaccept, eacceptcopy, emodpe
from sgxkit.emulator.entry import (
    Entered,
    asynchronous_exit,
    edeccssa,
    eenter,
    eexit,
    eresume,
    eresume_notified,
    wants_notification,
)
from sgxkit.emulator.faults import Fault, GeneralProtectionFault, PageFault, PageFaultCode
from sgxkit.emulator.illegal import BREAKPOINT, PROTECTION
from sgxkit.emulator.interrupts import interrupts_held
from sgxkit.emulator.processor import LogicalProcessor, refuse
from sgxkit.enclave.platform import EnclaveException, ExitRegisters, Registers
from sgxkit.errors import SgxkitError
from sgxkit.isa.cpuid import MiscSelect
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.page import PAGE_SIZE, PageFlags
from sgxkit.isa.ssa import ExInfo, ExitInfo, ExitType, GprSgx
from sgxkit.isa.status import Status
from sgxkit.messages import Message, msg

_PAGE_FAULT = 14
_FETCH = 1 << 4
"""The #PF error code's bit for an instruction fetch (Vol. 3A, 4.7)."""

_REPORTED = frozenset((0, 1, 3, 5, 6, 16, 17, 19))
"""Vectors that EXITINFO always reports; #GP and #PF only with MISCSELECT.EXINFO (35.9)."""

_ARITHMETIC, _ZF, _TF, _RF = 0x8D5, 1 << 6, 1 << 8, 1 << 16
"""RFLAGS: CF, PF, AF, ZF, SF and OF; ZF, TF and RF alone."""
_RFLAGS_FIXED, _IOPL = 0x202, 0x3000
_PUSHES = frozenset((*range(0x50, 0x58), 0x68, 0x6A, 0x9C, 0xE8))
_STRINGS = frozenset((0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF))


class LimitError(SgxkitError):
    """The enclave ran longer than it may; it was interrupted, and ERESUME goes on. `exit` is the state outside."""

    code = "limit"

    def __init__(self, message: Message, left: ExitRegisters) -> None:
        super().__init__(message)
        self.exit = left


class InstructionLimitError(LimitError):
    """The enclave used up its instructions."""

    code = "instruction-limit"


class TimeLimitError(LimitError):
    """The enclave used up its time."""

    code = "time-limit"


@dataclass(slots=True)
class Stay:
    """One stay of `thread` in its enclave, on `cpu`, by the TCS at `tcs`.

    outside_rflags   the caller's, of which TF comes back to him.
    state            the caller's x87 and SSE registers: EENTER changes nothing of them.
    """

    cpu: Cpu
    thread: LogicalProcessor
    tcs: int
    outside_rflags: int
    observers: Sequence[events.Observer] = ()
    state: bytes = xsave.INITIAL

    def enter(self, registers: Registers) -> ExitRegisters:
        """EENTER, and stay."""
        entered = eenter(self.thread, self.tcs, registers.rcx, rsp=registers.rsp, rbp=registers.rbp)
        return self._begin(Enclu.EENTER, registers, entered)

    def _begin(self, leaf: Enclu, registers: Registers, entered: Entered) -> ExitRegisters:
        inside = replace(registers, rax=entered.rax, rbx=self.tcs, rcx=registers.rip + len(ENCLU), rip=entered.rip)
        return self._go_on(leaf, inside, entered.fsbase, entered.gsbase, self.state)

    def resume(self, registers: Registers) -> ExitRegisters:
        """ERESUME, and stay."""
        if wants_notification(self.thread, self.tcs):
            entered = eresume_notified(self.thread, self.tcs, registers.rcx, rsp=registers.rsp, rbp=registers.rbp)
            return self._begin(Enclu.ERESUME, registers, entered)
        saved, area = eresume(self.thread, self.tcs, registers.rcx)
        try:
            state = xsave.restored(area, xsave.XFRM, xsave.INITIAL)
        except GeneralProtectionFault:
            # XRSTOR faults before anything has changed.
            asynchronous_exit(self.thread, saved, area)
            raise
        inside = Registers(**{name: getattr(saved, name) for name in (*GPRS, "rip", "rflags")})
        return self._go_on(Enclu.ERESUME, inside, saved.fsbase, saved.gsbase, state)

    def _go_on(self, leaf: Enclu, registers: Registers, fsbase: int, gsbase: int, state: bytes) -> ExitRegisters:
        """Execute until the enclave is left.

        What ends it otherwise, such as Ctrl-C, is an interrupt to the enclave: its TCS is free again.
        """
        self._load(registers, fsbase, gsbase, state)
        try:
            with interrupts_held(self.cpu.interrupt):
                self._tell(events.Entered(self.tcs, leaf, registers))
                while True:
                    left = self._next()
                    if left is not None:
                        return left
        except BaseException:
            if self.thread.active_secs is not None:
                self._leave_asynchronously(ExitInfo(), None, None)
            raise

    def _load(self, registers: Registers, fsbase: int, gsbase: int, state: bytes) -> None:
        self.cpu.load_state(state)
        for name in (*GPRS, "rip"):
            self.cpu.write(name, getattr(registers, name))
        self.cpu.write("rflags", registers.rflags & ~(_TF | _RF | _IOPL) | _RFLAGS_FIXED)
        self.cpu.write("fsbase", fsbase)
        self.cpu.write("gsbase", gsbase)

    def _next(self) -> ExitRegisters | None:
        event = self.cpu.run()
        match event:
            case Leaf():
                return self._leaf()
            case Xsave(kind, instruction):
                return self._xsave(kind, instruction)
            case Access(fault, page, permission):
                return self._refused(fault, page, permission)
            case Trap(vector):
                rip = self.cpu.read("rip")
                problem = msg("exception {vector} at {address}", vector=vector, address=hex(rip))
                return self._interrupted(EnclaveException(vector, 0, rip, problem))
            case Enough() | Late():
                problem = msg(
                    "the enclave ran longer than it may, up to {address}", address=hex(self.cpu.read("rip"))
                )
                error = InstructionLimitError if isinstance(event, Enough) else TimeLimitError
                raise error(problem, self._leave_asynchronously(ExitInfo(), None, None))

    # What is not Unicorn's business

    def _leaf(self) -> ExitRegisters | None:
        rip, rax, rbx, rcx, rdx = (self.cpu.read(name) for name in ("rip", "rax", "rbx", "rcx", "rdx"))
        leaf = rax & 0xFFFF_FFFF
        if leaf == Enclu.EEXIT:
            return self._exit(rip, rbx)
        status: Status | None = None
        try:
            status = self._execute(leaf, rbx, rcx, rdx)
        except (GeneralProtectionFault, PageFault) as fault:
            self._tell(events.LeafCalled(self.tcs, rip, leaf, rbx, rcx, rdx, None, fault))
            return self._faulted(fault, PageFaultCode.U)
        self._tell(events.LeafCalled(self.tcs, rip, leaf, rbx, rcx, rdx, status, None))
        if status is not None:
            rflags = self.cpu.read("rflags") & ~_ARITHMETIC | (0 if status is Status.SGX_SUCCESS else _ZF)
            self.cpu.write("rax", status)
            self.cpu.write("rflags", rflags)
        self.cpu.write("rip", rip + len(ENCLU))
        self.cpu.refresh()
        return None

    def _execute(self, leaf: int, rbx: int, rcx: int, rdx: int) -> Status | None:
        match leaf:
            case Enclu.EREPORT:
                ereport(self.thread, rbx, rcx, rdx)
                return None
            case Enclu.EGETKEY:
                return egetkey(self.thread, rbx, rcx)
            case Enclu.EACCEPT:
                return eaccept(self.thread, rbx, rcx)
            case Enclu.EMODPE:
                emodpe(self.thread, rbx, rcx)
                return None
            case Enclu.EACCEPTCOPY:
                return eacceptcopy(self.thread, rbx, rcx, rdx)
            case Enclu.EDECCSSA:
                edeccssa(self.thread)
                return None
            case _:
                raise refuse("EAX", hex(leaf))

    def _exit(self, rip: int, target: int) -> ExitRegisters:
        try:
            aep = eexit(self.thread, target)
        except GeneralProtectionFault as fault:
            return self._faulted(fault, PageFaultCode.U)
        outside = self._outside(replace(self._registers(), rip=target, rcx=aep))
        self._tell(events.Left(self.tcs, rip, outside))
        # EEXIT changes nothing of x87 and SSE: what the enclave has left in them goes out.
        return ExitRegisters(outside, None, self._count(), self.cpu.save_state())

    def _xsave(self, kind: xsave.XsaveInstruction, instruction: Instruction) -> ExitRegisters | None:
        cpu = self.cpu
        rip = cpu.read("rip")
        address = instruction.effective_address(rip, cpu.read)
        mask = (cpu.read("rdx") & 0xFFFF_FFFF) << 32 | cpu.read("rax") & 0xFFFF_FFFF
        try:
            if kind is xsave.XsaveInstruction.XRSTOR:
                cpu.load_state(xsave.restore(cpu.space, address, mask, cpu.save_state()))
            else:
                xsave.save(kind, cpu.space, address, mask, cpu.save_state())
        except (GeneralProtectionFault, PageFault) as fault:
            written = PageFaultCode(0) if kind is xsave.XsaveInstruction.XRSTOR else PageFaultCode.W
            return self._faulted(fault, PageFaultCode.U | written)
        cpu.write("rip", rip + instruction.length)
        return None

    def _refused(self, fault: Fault, page: int, permission: PageFlags) -> ExitRegisters:
        if isinstance(fault, PageFault):
            fault = PageFault(self._address_in(page, permission), fault.problem, PageFaultCode(fault.error_code))
        more = {PageFlags.W: PageFaultCode.W.value, PageFlags.X: _FETCH}.get(permission, 0)
        return self._faulted(fault, PageFaultCode.U | more)

    def _address_in(self, page: int, permission: PageFlags) -> int:
        """The first address in the page that the instruction used: Unicorn tells the page only."""
        cpu = self.cpu
        rip = cpu.read("rip")
        if permission is PageFlags.X:
            return max(rip, page) if rip & -PAGE_SIZE <= page else page
        instruction = decode(cpu.space.code(rip, MAX_LENGTH))
        if instruction is None:
            return page
        candidates = []
        if instruction.in_memory:
            candidates.append(instruction.effective_address(rip, cpu.read))
        if instruction.map == 0 and instruction.opcode in _STRINGS:
            candidates.extend((cpu.read("rdi"), cpu.read("rsi")))
        stack = cpu.read("rsp")
        candidates.extend((stack - 8, stack) if permission is PageFlags.W else (stack, stack - 8))
        for address in candidates:
            if address & -PAGE_SIZE == page:
                return address
            if page - 64 < address < page:  # the operand begins on the page before
                return page
        return page

    # Exits

    def _faulted(self, fault: Fault, more: int) -> ExitRegisters:
        """The asynchronous exit for a fault; `more` are bits of a #PF's error code that the access adds."""
        rip = self.cpu.read("rip")
        if isinstance(fault, PageFault):
            code = int(fault.error_code | more)
            return self._interrupted(EnclaveException(_PAGE_FAULT, code, rip, fault.message, fault.address))
        return self._interrupted(EnclaveException(PROTECTION, fault.error_code, rip, fault.message))

    def _interrupted(self, exception: EnclaveException) -> ExitRegisters:
        vector, exinfo = exception.vector, None
        reported = vector in _REPORTED
        miscselect = self.cpu.space.enclave.secs.miscselect
        if vector in (PROTECTION, _PAGE_FAULT) and miscselect & MiscSelect.EXINFO:
            reported = True
            exinfo = ExInfo(exception.address or 0, exception.error_code)
        kind = ExitType.SOFTWARE if vector == BREAKPOINT else ExitType.HARDWARE
        info = ExitInfo(vector, kind, True) if reported else ExitInfo()
        # The operating system is told the page, not the address (37).
        told = None if exception.address is None else exception.address & -PAGE_SIZE
        return self._leave_asynchronously(info, exinfo, replace(exception, address=told))

    def _leave_asynchronously(
        self, info: ExitInfo, exinfo: ExInfo | None, exception: EnclaveException | None
    ) -> ExitRegisters:
        inside = self._registers()
        saved = GprSgx(
            **{name: getattr(inside, name) for name in (*GPRS, "rip", "rflags")},
            exitinfo=info,
            fsbase=self.cpu.read("fsbase"),
            gsbase=self.cpu.read("gsbase"),
        )
        left = asynchronous_exit(self.thread, saved, xsave.standard_area(self.cpu.save_state()), exinfo)
        synthetic = Registers(
            rax=int(left.rax),
            rbx=left.rbx,
            rcx=left.rcx,
            rsp=left.rsp,
            rbp=left.rbp,
            rip=left.rcx,
            rflags=inside.rflags & ~(_ARITHMETIC | _RF),
        )
        self._tell(events.Interrupted(self.tcs, inside.rip, inside, exception))
        return ExitRegisters(self._outside(synthetic), exception, self._count())

    def _outside(self, registers: Registers) -> Registers:
        """RFLAGS outside have the caller's TF again."""
        return replace(registers, rflags=registers.rflags & ~_TF | self.outside_rflags & _TF)

    def _registers(self) -> Registers:
        values = {name: self.cpu.read(name) for name in (*GPRS, "rip", "rflags")}
        values["rflags"] = values["rflags"] & ~_IOPL | _RFLAGS_FIXED
        return Registers(**values)

    def _count(self) -> int | None:
        limits = self.cpu.limits
        return None if limits.instructions is None else limits.count

    def _tell(self, event: events.EngineEvent) -> None:
        for observer in self.observers:
            observer(event)
