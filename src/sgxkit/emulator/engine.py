"""Enclave code, run instruction by instruction in Unicorn, with the emulated processor for all that is SGX.

Intel SDM Vol. 3D: 36.3 (access control), 36.6 (illegal instructions), 37 (asynchronous exits), 38 (EENTER, ERESUME,
EEXIT). Pages come into Unicorn when they are touched, with the permissions of the EPCM, and go back to the EPC at
each leaf function and each exit: so all rules are the processor's, and Unicorn only computes.

Unicorn executes at privilege level 0. Each instruction is looked at before it runs (`illegal`).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from sgxkit.emulator.access import require_accessible
from sgxkit.emulator.enclu import egetkey, ereport
from sgxkit.emulator.enclu_sgx2 import eaccept, eacceptcopy, emodpe
from sgxkit.emulator.entry import asynchronous_exit, eenter, eexit, eresume
from sgxkit.emulator.faults import Fault, GeneralProtectionFault, PageFault, PageFaultCode
from sgxkit.emulator.illegal import BREAKPOINT, PROTECTION, exception_of
from sgxkit.emulator.loading import LoadedEnclave
from sgxkit.emulator.memory import SparseMemory
from sgxkit.emulator.processor import LogicalProcessor, refuse
from sgxkit.enclave.platform import EnclaveException, ExitRegisters, Registers
from sgxkit.errors import InputError, SgxkitError
from sgxkit.isa.cpuid import MiscSelect
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.page import PAGE_SIZE, PageFlags
from sgxkit.isa.ssa import ExInfo, ExitInfo, ExitType, GprSgx
from sgxkit.isa.status import Status
from sgxkit.messages import Message, msg

_GPRS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))
_ENCLU = b"\x0f\x01\xd7"
_PAGE_FAULT, _UNDEFINED = 14, 6
_FETCH = 1 << 4
"""The #PF error code's bit for an instruction fetch (Vol. 3A, 4.7)."""

_REPORTED = frozenset((0, 1, 3, 5, 6, 16, 17, 19))
"""Vectors that EXITINFO always reports; #GP and #PF only with MISCSELECT.EXINFO (35.9)."""

_ARITHMETIC, _ZF, _TF, _RF = 0x8D5, 1 << 6, 1 << 8, 1 << 16
"""RFLAGS: CF, PF, AF, ZF, SF and OF; ZF, TF and RF alone."""
_RFLAGS_FIXED, _IOPL = 0x202, 0x3000

_XFRM = 0x3
"""What Unicorn's processor can keep: x87 and SSE."""
_LEGACY_SIZE = 512
_HEADER = struct.Struct("<QQ48s")
_FCW, _MXCSR, _ST0, _XMM0 = 0, 24, 32, 160
_DEFAULT_MXCSR = 0x1F80
_MXCSR_BITS = 0xFFFF

_SCRATCH, _AREA = 0x1000, 0x2000
_NOWHERE = (1 << 64) - 1
"""An address at which Unicorn need not stop."""
_LOW_HALF, _HIGH_HALF, _UNICORN_HIGH_HALF = 1 << 47, (1 << 64) - (1 << 47), 0x1F
"""Where canonical addresses end and begin again; Unicorn shows bits 51 to 0 of them."""
_TICK = 256
"""How many instructions pass between two looks at the clock."""


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


@dataclass(frozen=True, slots=True)
class Engine:
    """Runs the code of one enclave; one call at a time.

    memory        what the enclave can reach outside itself: only the pages that were written there exist.
    instructions  how many one call may execute.
    seconds       how long one call may take.
    """

    enclave: LoadedEnclave
    memory: SparseMemory = field(default_factory=SparseMemory)
    instructions: int = 10_000_000
    seconds: float = 60.0

    def enter(self, tcs: int, registers: Registers) -> ExitRegisters:
        """EENTER by the TCS at the linear address `tcs`, and run until the enclave is left.

        Raises a Fault where EENTER does, LimitError when a limit is reached, InputError for an enclave that needs
        extended features which Unicorn does not have.
        """
        run = _Run(self, registers.rflags)
        entered = eenter(run.thread, tcs, registers.rcx, rsp=registers.rsp, rbp=registers.rbp)
        inside = replace(registers, rax=entered.rax, rbx=tcs, rcx=registers.rip + len(_ENCLU), rip=entered.rip)
        run.restore(inside, entered.fsbase, entered.gsbase, _initial_area())
        return run.until_exit()

    def resume(self, tcs: int, registers: Registers) -> ExitRegisters:
        """ERESUME by the TCS at `tcs`, and run until the enclave is left; raises as `enter` does."""
        run = _Run(self, registers.rflags)
        saved, area = eresume(run.thread, tcs, registers.rcx)
        try:
            area = _checked_area(area)
        except GeneralProtectionFault:
            # XRSTOR faults before anything has changed.
            asynchronous_exit(run.thread, saved, area)
            raise
        inside = Registers(**{name: getattr(saved, name) for name in (*_GPRS, "rip", "rflags")})
        run.restore(inside, saved.fsbase, saved.gsbase, area)
        return run.until_exit()

    def read(self, address: int, size: int) -> bytes:
        """What software outside enclaves reads: ones where the EPC is (abort page semantics)."""
        end, parts = address + size, []
        while address < end:
            length = min(end - address, PAGE_SIZE - address % PAGE_SIZE)
            outside = address & -PAGE_SIZE not in self.enclave.pages
            parts.append(self.memory.read(address, length) if outside else b"\xff" * length)
            address += length
        return b"".join(parts)


def load_unicorn() -> ModuleType:
    """Import Unicorn; raises InputError where it is not installed."""
    try:
        import unicorn  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            msg("this needs {package}, which is not installed", package="Unicorn"),
            hint=msg("{command} installs it", command="pip install 'sgxkit[emulator]'"),
        ) from error
    return unicorn


@dataclass(frozen=True, slots=True)
class _Leaf:
    """ENCLU is next."""


@dataclass(frozen=True, slots=True)
class _Trap:
    """The instruction raises an exception."""

    vector: int


@dataclass(frozen=True, slots=True)
class _Access:
    """A page is used that is not there, or not so."""

    address: int
    permission: PageFlags


@dataclass(frozen=True, slots=True)
class _Limit:
    """A limit is reached."""

    error: type[LimitError]


_Event = _Leaf | _Trap | _Access | _Limit


class _Run:
    """One stay inside, on a Unicorn processor of its own."""

    def __init__(self, engine: Engine, outside_rflags: int) -> None:
        unicorn = load_unicorn()
        from unicorn import x86_const  # noqa: PLC0415

        self.engine = engine
        self.outside_rflags = outside_rflags
        self.thread: LogicalProcessor = engine.enclave.thread()
        self.state = self.thread.processor.enclaves[engine.enclave.secs]
        xfrm = self.state.secs.attributes.xfrm
        if xfrm & ~_XFRM:
            raise InputError(
                msg("the enclave needs XFRM {xfrm}; its code can be run with 3 only (x87 and SSE)", xfrm=hex(xfrm)),
                hint=msg("sign it with an XFRM of 3"),
            )
        self.error: type[Exception] = unicorn.UcError
        self.const = x86_const
        self.numbers = {
            name: getattr(x86_const, f"UC_X86_REG_{register}")
            for name, register in (
                *((name, name.upper()) for name in _GPRS),
                ("rip", "RIP"),
                ("rflags", "EFLAGS"),
                ("fsbase", "FS_BASE"),
                ("gsbase", "GS_BASE"),
            )
        }
        self.protection = {
            PageFlags.R: unicorn.UC_PROT_READ,
            PageFlags.W: unicorn.UC_PROT_WRITE,
            PageFlags.X: unicorn.UC_PROT_EXEC,
        }
        self.accesses = {
            unicorn.UC_MEM_READ_UNMAPPED: PageFlags.R,
            unicorn.UC_MEM_READ_PROT: PageFlags.R,
            unicorn.UC_MEM_WRITE_UNMAPPED: PageFlags.W,
            unicorn.UC_MEM_WRITE_PROT: PageFlags.W,
            unicorn.UC_MEM_FETCH_UNMAPPED: PageFlags.X,
            unicorn.UC_MEM_FETCH_PROT: PageFlags.X,
        }
        self.everything = unicorn.UC_PROT_ALL
        self.sgx2 = self.thread.processor.fuses.profile.sgx2
        self.pages: dict[int, PageFlags] = {}
        self.store: dict[int, Callable[[bytes], None]] = {}
        self.allowed: set[int] = set()
        self.event: _Event | None = None
        self.at = 0
        self.count = 0
        self.deadline = time.monotonic() + engine.seconds
        self.uc: Any = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self.uc.ctl_set_cpu_model(x86_const.UC_CPU_X86_ICELAKE_SERVER)
        self.hooks = (
            (unicorn.UC_HOOK_CODE, self._on_code),
            (unicorn.UC_HOOK_INTR, self._on_exception),
            (unicorn.UC_HOOK_INSN_INVALID, self._on_invalid),
            (unicorn.UC_HOOK_MEM_INVALID, self._on_memory),
        )

    # Before and after

    def restore(self, registers: Registers, fsbase: int, gsbase: int, area: bytes) -> None:
        """Load the whole state of the enclave's thread."""
        cr4 = self.uc.reg_read(self.const.UC_X86_REG_CR4)
        self.uc.reg_write(self.const.UC_X86_REG_CR4, cr4 | 1 << 9 | 1 << 10 | 1 << 16 | 1 << 18)  # OSFXSR to OSXSAVE
        self._supervise(b"\x0f\x01\xd1", rax=_XFRM, rcx=0, rdx=0)  # XSETBV
        self._supervise(b"\x48\x0f\xae\x08", area, rax=_AREA)  # FXRSTOR64 [rax]
        values = {name: getattr(registers, name) for name in (*_GPRS, "rip")}
        rflags = registers.rflags & ~(_TF | _RF | _IOPL) | _RFLAGS_FIXED
        for name, value in (*values.items(), ("rflags", rflags), ("fsbase", fsbase), ("gsbase", gsbase)):
            self.uc.reg_write(self.numbers[name], value)
        for kind, hook in self.hooks:
            self.uc.hook_add(kind, hook)

    def _supervise(self, code: bytes, area: bytes = b"", **registers: int) -> bytes:
        """Execute one instruction of the processor's own, outside the enclave's sight; returns its memory."""
        self.uc.mem_map(_SCRATCH, 2 * PAGE_SIZE, self.everything)
        self.uc.mem_write(_SCRATCH, code)
        self.uc.mem_write(_AREA, area)
        for name, value in registers.items():
            self.uc.reg_write(self.numbers[name], value)
        self.uc.emu_start(_SCRATCH, _SCRATCH + len(code))
        result = bytes(self.uc.mem_read(_AREA, _LEGACY_SIZE))
        self.uc.mem_unmap(_SCRATCH, 2 * PAGE_SIZE)
        self.uc.ctl_flush_tb()
        return result

    def until_exit(self) -> ExitRegisters:
        """Execute, and do what Unicorn leaves to us, until EEXIT or an asynchronous exit.

        What ends it otherwise, such as Ctrl-C, is an interrupt to the enclave: its TCS is free again.
        """
        try:
            return self._execute()
        except BaseException:
            if self.thread.active_secs is not None:
                self.event = _Limit(LimitError)
                self._write_back()
                self._leave_asynchronously(ExitInfo(), None, None)
            raise

    def _execute(self) -> ExitRegisters:
        while True:
            self.event = None
            try:
                self.uc.emu_start(self._read("rip"), _NOWHERE)
            except self.error:
                # What a hook has not explained is a bug of ours or of Unicorn, never the enclave's.
                if self.event is None:
                    raise
            left = self._handle(self.event)
            if left is not None:
                return left

    def _handle(self, event: _Event | None) -> ExitRegisters | None:
        match event:
            case _Leaf():
                return self._leaf()
            case _Access(address, permission):
                return self._touch(address, permission)
            case _Trap(vector):
                problem = msg("exception {vector} at {address}", vector=vector, address=hex(self.at))
                return self._interrupted(EnclaveException(vector, 0, self.at, problem))
            case _Limit(error):
                self._write_back()
                at = self._read("rip")
                problem = msg("the enclave ran longer than it may, up to {address}", address=hex(at))
                raise error(problem, self._leave_asynchronously(ExitInfo(), None, None))
            case None:
                raise RuntimeError("Unicorn stopped without a reason")

    # Hooks: they only say what happened, and stop

    def _stop(self, event: _Event) -> None:
        self.event = event
        self.uc.emu_stop()

    def _on_code(self, _uc: object, address: int, size: int, _data: object) -> None:
        self.at = address
        if self.event is not None:
            return
        if self.count >= self.engine.instructions:
            self._stop(_Limit(InstructionLimitError))
            return
        if self.count % _TICK == 0 and time.monotonic() > self.deadline:
            self._stop(_Limit(TimeLimitError))
            return
        self.count += 1
        if address in self.allowed:
            return
        # Unicorn has no size for an instruction that it does not know.
        code = bytes(self.uc.mem_read(address, min(size, 15, PAGE_SIZE - address % PAGE_SIZE if size > 15 else 15)))
        if code.startswith(_ENCLU):
            self._stop(_Leaf())
            return
        vector = exception_of(code, sgx2=self.sgx2)
        if vector is not None:
            self._stop(_Trap(vector))
        elif PageFlags.W not in self.pages[address & -PAGE_SIZE]:
            self.allowed.add(address)

    def _on_exception(self, _uc: object, vector: int, _data: object) -> None:
        if self.event is None:
            self._stop(_Trap(vector))

    def _on_invalid(self, _uc: object, _data: object) -> bool:
        if self.event is None:
            self._stop(_Trap(_UNDEFINED))
        return False

    def _on_memory(self, _uc: object, access: int, address: int, _size: int, _value: int, _data: object) -> bool:
        if self.event is None:
            self.event = _Access(address, self.accesses[access])
        return False

    # Memory

    def _touch(self, address: int, permission: PageFlags) -> ExitRegisters | None:
        """Bring in the page that was used; an asynchronous exit where it may not be used so."""
        if address >> 47 == _UNICORN_HIGH_HALF:
            address |= _HIGH_HALF
        try:
            self._bring_in(address & -PAGE_SIZE, address, permission)
            if permission is not PageFlags.X:
                self.count -= 1  # the instruction begins again
        except (GeneralProtectionFault, PageFault) as fault:
            more = {PageFlags.W: PageFaultCode.W.value, PageFlags.X: _FETCH}.get(permission, 0)
            return self._faulted(fault, PageFaultCode.U | more)
        return None

    def _bring_in(self, page: int, address: int, permission: PageFlags) -> None:
        secs = self.thread.active_secs
        assert secs is not None
        if _LOW_HALF <= address < _HIGH_HALF:
            raise GeneralProtectionFault(msg("{address} is not canonical", address=hex(address)))
        if not self.state.covers(address):
            if permission is PageFlags.X:
                raise GeneralProtectionFault(msg("code outside the enclave at {address}", address=hex(address)))
            if page in self.thread.page_table:
                self._map(page, PageFlags.RW, b"\xff" * PAGE_SIZE, _discard)
                return
            memory = self.engine.memory
            self._map(page, PageFlags.RW, memory.read(page, PAGE_SIZE), lambda data: memory.write(page, data))
            return
        if page not in self.thread.page_table:
            raise PageFault(address, msg("nothing is mapped there"), PageFaultCode(0))
        physical = require_accessible(self.thread, secs, address, permission) & -PAGE_SIZE
        epc = self.thread.processor.epc
        contents = epc.read(physical, PAGE_SIZE)
        self._map(page, epc.entry(physical).permissions, contents, lambda data: epc.write(physical, data))

    def _map(self, page: int, permissions: PageFlags, data: bytes, store: Callable[[bytes], None]) -> None:
        protection = sum(bit for flag, bit in self.protection.items() if flag in permissions)
        self.uc.mem_map(page, PAGE_SIZE, protection)
        self.uc.mem_write(page, data)
        self.pages[page] = permissions
        if PageFlags.W in permissions:
            self.store[page] = store

    def _write_back(self) -> None:
        """Store what was written, and forget all pages: the processor may change them."""
        for page, store in self.store.items():
            store(bytes(self.uc.mem_read(page, PAGE_SIZE)))
        for page in self.pages:
            self.uc.mem_unmap(page, PAGE_SIZE)
        self.pages.clear()
        self.store.clear()
        self.allowed.clear()
        self.uc.ctl_flush_tb()

    # Leaf functions

    def _leaf(self) -> ExitRegisters | None:
        self._write_back()
        rax, rbx, rcx, rdx = (self._read(name) for name in ("rax", "rbx", "rcx", "rdx"))
        leaf = rax & 0xFFFF_FFFF
        status: Status | None = None
        try:
            match leaf:
                case Enclu.EREPORT:
                    ereport(self.thread, rbx, rcx, rdx)
                case Enclu.EGETKEY:
                    status = egetkey(self.thread, rbx, rcx)
                case Enclu.EACCEPT:
                    status = eaccept(self.thread, rbx, rcx)
                case Enclu.EMODPE:
                    emodpe(self.thread, rbx, rcx)
                case Enclu.EACCEPTCOPY:
                    status = eacceptcopy(self.thread, rbx, rcx, rdx)
                case Enclu.EEXIT:
                    aep = eexit(self.thread, rbx)
                    outside = replace(self._registers(), rip=rbx, rcx=aep)
                    return ExitRegisters(self._outside(outside), None, self.count)
                case _:
                    raise refuse("EAX", hex(leaf))
        except (GeneralProtectionFault, PageFault) as fault:
            return self._faulted(fault, PageFaultCode.U)
        if status is not None:
            rflags = self._read("rflags") & ~_ARITHMETIC | (0 if status is Status.SGX_SUCCESS else _ZF)
            self.uc.reg_write(self.numbers["rax"], status)
            self.uc.reg_write(self.numbers["rflags"], rflags)
        self.uc.reg_write(self.numbers["rip"], self.at + len(_ENCLU))
        return None

    # Exits

    def _faulted(self, fault: Fault, more: int) -> ExitRegisters:
        """The asynchronous exit for a fault; `more` are bits of a #PF's error code that the access adds."""
        rip = self._read("rip")
        if isinstance(fault, PageFault):
            code = int(fault.error_code | more)
            return self._interrupted(EnclaveException(_PAGE_FAULT, code, rip, fault.message, fault.address))
        return self._interrupted(EnclaveException(PROTECTION, fault.error_code, rip, fault.message))

    def _interrupted(self, exception: EnclaveException) -> ExitRegisters:
        self._write_back()
        self.uc.reg_write(self.numbers["rip"], exception.rip)
        vector, exinfo = exception.vector, None
        reported = vector in _REPORTED
        if vector in (PROTECTION, _PAGE_FAULT) and self.state.secs.miscselect & MiscSelect.EXINFO:
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
            **{name: getattr(inside, name) for name in (*_GPRS, "rip", "rflags")},
            exitinfo=info,
            fsbase=self._read("fsbase"),
            gsbase=self._read("gsbase"),
        )
        legacy = self._supervise(b"\x48\x0f\xae\x00", rax=_AREA)  # FXSAVE64 [rax]
        left = asynchronous_exit(self.thread, saved, legacy + _HEADER.pack(_XFRM, 0, bytes(48)), exinfo)
        synthetic = Registers(
            rax=int(left.rax),
            rbx=left.rbx,
            rcx=left.rcx,
            rsp=left.rsp,
            rbp=left.rbp,
            rip=left.rcx,
            rflags=inside.rflags & ~(_ARITHMETIC | _RF),
        )
        return ExitRegisters(self._outside(synthetic), exception, self.count)

    def _outside(self, registers: Registers) -> Registers:
        """RFLAGS outside have the caller's TF again."""
        return replace(registers, rflags=registers.rflags & ~_TF | self.outside_rflags & _TF)

    def _registers(self) -> Registers:
        values = {name: self._read(name) for name in (*_GPRS, "rip", "rflags")}
        values["rflags"] = values["rflags"] & ~_IOPL | _RFLAGS_FIXED
        return Registers(**values)

    def _read(self, name: str) -> int:
        return int(self.uc.reg_read(self.numbers[name]))


def _discard(_data: bytes) -> None:
    """Writes to the abort page go nowhere."""


def _initial_area() -> bytes:
    """The legacy XSAVE area of a processor after reset: what a thread brings in."""
    area = bytearray(_LEGACY_SIZE)
    struct.pack_into("<H", area, _FCW, 0x37F)
    struct.pack_into("<I", area, _MXCSR, _DEFAULT_MXCSR)
    return bytes(area)


def _checked_area(area: bytes) -> bytes:
    """What XRSTOR makes of an XSAVE area: components that its header does not have are initial (Vol. 1, 13.8)."""
    state, compacted, reserved = _HEADER.unpack_from(area, _LEGACY_SIZE)
    if state & ~_XFRM or compacted or any(reserved):
        raise refuse("XSTATE_BV, XCOMP_BV", f"{state:#x}, {compacted:#x}")
    (mxcsr,) = struct.unpack_from("<I", area, _MXCSR)
    if mxcsr & ~_MXCSR_BITS:
        raise refuse("MXCSR", hex(mxcsr))
    result, initial = bytearray(area[:_LEGACY_SIZE]), _initial_area()
    if not state & 1:
        result[:_MXCSR], result[_ST0:_XMM0] = initial[:_MXCSR], initial[_ST0:_XMM0]
    if not state & 2:
        result[_XMM0:] = initial[_XMM0:]
    return bytes(result)
