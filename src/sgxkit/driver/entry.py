"""Into an enclave and out again in machine code (entry.s): by the vDSO's function, or by ENCLU if it has none."""

from __future__ import annotations

import ctypes
import struct
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from sgxkit.driver.kernel import MAP_ANONYMOUS, MAP_PRIVATE, Kernel, Linux, Protection
from sgxkit.driver.problems import memory_problem
from sgxkit.driver.vdso import find_enter_function
from sgxkit.enclave.platform import EnclaveException, ExitRegisters, Registers
from sgxkit.errors import HostError
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.messages import msg

SIGNALS = (4, 5, 7, 8, 11)
"""SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV: what exceptions inside become where the vDSO has no function."""

_REGISTERS = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *(f"r{number}" for number in range(8, 16)),
    "rflags",
)
# The data page (entry.s).
_BLOCK = struct.Struct("<17Q")
_VDSO, _RESULT, _SIGNAL, _RUN, _BEFORE = 0x90, 0x98, 0xB0, 0x100, 0x200
# signal | vector | error code | address
_FAULT = struct.Struct("<QQQQ")
# struct sgx_enclave_run: tcs | function | exception vector | error code | address | user handler | user data
_EXIT = struct.Struct("<QIHHQQQ")
_MAGIC = b"sgxkitEN"
_OFFSETS = struct.Struct("<QQ")

_PAGE_FAULT = 14
_SA_SIGINFO, _SA_ONSTACK = 0x4, 0x0800_0000


class Door(Protocol):
    """One thread's way into its enclave and back."""

    def go(self, leaf: Enclu, tcs: int, registers: Registers) -> ExitRegisters:
        """EENTER or ERESUME, and stay until the enclave is left."""
        ...

    def close(self) -> None: ...


class MachineDoor:
    """Machine code of its own, with a page of data that nothing else uses."""

    def __init__(self, kernel: Kernel, vdso: int) -> None:
        self._kernel = kernel
        self._vdso = vdso
        self._code = _map_code(kernel)
        self._data = self._code + PAGE_SIZE
        self._enter = ctypes.CFUNCTYPE(None)(self._code)
        if not vdso:
            _handle_signals()

    def go(self, leaf: Enclu, tcs: int, registers: Registers) -> ExitRegisters:
        handler, _ = code_offsets()
        values = {name: getattr(registers, name) for name in _REGISTERS} | {"rax": int(leaf), "rbx": tcs}
        self._kernel.write(self._data, _BLOCK.pack(*(values[name] for name in _REGISTERS)))
        self._kernel.write(self._data + _VDSO, struct.pack("<QQ", self._vdso, 0))
        self._kernel.write(self._data + _SIGNAL, bytes(_FAULT.size))
        run = _EXIT.pack(tcs, 0, 0, 0, 0, self._code + handler, 0).ljust(256, b"\0")
        self._kernel.write(self._data + _RUN, run)
        self._enter()
        found = dict(zip(_REGISTERS, _BLOCK.unpack(self._kernel.read(self._data, _BLOCK.size)), strict=True))
        found["rip"] = self._code
        return self._through_vdso(found) if self._vdso else self._by_enclu(found)

    def _through_vdso(self, found: dict[str, int]) -> ExitRegisters:
        (result,) = struct.unpack("<q", self._kernel.read(self._data + _RESULT, 8))
        if result < 0:
            raise HostError(msg("the vDSO's function for entering enclaves refuses: {number}", number=result))
        _, leaf, vector, code, address, _, _ = _EXIT.unpack(self._kernel.read(self._data + _RUN, _EXIT.size))
        if leaf == Enclu.EEXIT:
            return ExitRegisters(Registers(**found), None)
        return _interrupted(vector, code, address)

    def _by_enclu(self, found: dict[str, int]) -> ExitRegisters:
        signal, vector, code, address = _FAULT.unpack(self._kernel.read(self._data + _SIGNAL, _FAULT.size))
        return _interrupted(vector, code, address) if signal else ExitRegisters(Registers(**found), None)

    def close(self) -> None:
        """Unmap the code; it must not be used again."""
        self._kernel.munmap(self._code, 2 * PAGE_SIZE)


def _map_code(kernel: Kernel) -> int:
    """A page of the machine code, never writable and executable at once, and a page of data behind it."""
    address = 0
    try:
        writable = Protection.READ | Protection.WRITE
        address = kernel.mmap(0, 2 * PAGE_SIZE, writable, MAP_PRIVATE | MAP_ANONYMOUS, -1)
        kernel.write(address, machine_code())
        kernel.mprotect(address, PAGE_SIZE, Protection.READ | Protection.EXEC)
    except OSError as error:
        if address:
            kernel.munmap(address, 2 * PAGE_SIZE)
        raise memory_problem(error) from error
    return address


def open_door() -> MachineDoor:
    """A way in for one thread of this process."""
    return MachineDoor(Linux(), _enter_function())


@cache
def machine_code() -> bytes:
    """The contents of the code page."""
    return files("sgxkit.driver").joinpath("entry.code").read_bytes()


@cache
def code_offsets() -> tuple[int, int]:
    """Offsets in the code page: of what the vDSO's function calls, and of the signals' handler."""
    code = machine_code()
    handler, on_signal = _OFFSETS.unpack_from(code, code.rindex(_MAGIC) + len(_MAGIC))
    return handler, on_signal


@cache
def _enter_function() -> int:
    return find_enter_function()


def _interrupted(vector: int, code: int, address: int) -> ExitRegisters:
    problem = msg("exception {vector} in the enclave", vector=vector)
    exception = EnclaveException(vector, code, None, problem, address if vector == _PAGE_FAULT else None)
    return ExitRegisters(Registers(rax=int(Enclu.ERESUME)), exception)


class _SignalAction(ctypes.Structure):
    """struct sigaction of the C library on x86-64."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


@cache
def _handle_signals() -> None:
    """Put the handler of entry.s before all others, for good: once a process."""
    kernel = Linux()
    page = _map_code(kernel)
    library: Any = ctypes.CDLL(None, use_errno=True)
    pointer = ctypes.POINTER(_SignalAction)
    library.sigaction.argtypes = [ctypes.c_int, pointer, pointer]
    _, on_signal = code_offsets()
    for number in SIGNALS:
        before = _SignalAction()
        # Read first and stored, so that the handler never runs without knowing who was before it.
        library.sigaction(number, None, ctypes.byref(before))
        kernel.write(page + PAGE_SIZE + _BEFORE + 8 * number, struct.pack("<Q", before.handler or 0))
        action = _SignalAction(page + on_signal, before.mask, _SA_SIGINFO | _SA_ONSTACK, None)
        if library.sigaction(number, ctypes.byref(action), None) < 0:
            raise HostError(msg("signal {number} cannot be handled", number=number))
