"""ptrace(2) and what goes with it, as functions: registers, siginfo, extended state, memory of a tracee.

Requests and structures are those of <linux/ptrace.h> and <sys/user.h> for x86-64. A request to a thread that is not
stopped, or not there any more, raises ProcessLookupError.
"""

from __future__ import annotations

import ctypes
import os
import struct

PTRACE_GETREGS, PTRACE_SETREGS = 12, 13
PTRACE_CONT, PTRACE_SINGLESTEP, PTRACE_SYSCALL = 7, 9, 24
PTRACE_GETEVENTMSG, PTRACE_GETSIGINFO, PTRACE_SETSIGINFO = 0x4201, 0x4202, 0x4203
PTRACE_GETREGSET, PTRACE_SETREGSET = 0x4204, 0x4205
PTRACE_SEIZE, PTRACE_LISTEN = 0x4206, 0x4208
PTRACE_GETSIGMASK, PTRACE_SETSIGMASK = 0x420A, 0x420B

EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_SECCOMP, EVENT_STOP = 1, 2, 3, 4, 7, 128
NEW_TASK_EVENTS = (EVENT_FORK, EVENT_VFORK, EVENT_CLONE)
# Syscall stops are told apart from SIGTRAP; new tasks are traced; all die with their tracer.
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x10_0000
SYSCALL_STOP = 5 | 0x80

WALL = 0x4000_0000
"""__WALL: wait for threads, too."""

NT_X86_XSTATE = 0x202
_MAX_XSTATE = 1 << 15
SIGINFO_SIZE = 128
_SIGINFO_HEAD = struct.Struct("<iii4xQ")

_GENERAL = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss"
_NAMES = f"{_GENERAL} fs_base gs_base ds es fs gs"


class Registers(ctypes.Structure):
    """struct user_regs_struct."""

    _fields_ = [(name, ctypes.c_uint64) for name in _NAMES.split()]

    r15: int
    r14: int
    r13: int
    r12: int
    rbp: int
    rbx: int
    r11: int
    r10: int
    r9: int
    r8: int
    rax: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    orig_rax: int
    rip: int
    cs: int
    eflags: int
    rsp: int
    ss: int
    fs_base: int
    gs_base: int
    ds: int
    es: int
    fs: int
    gs: int

    def copy(self) -> Registers:
        return Registers.from_buffer_copy(self)


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_ptrace.restype = ctypes.c_long
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def _request(request: int, tid: int, address: object = None, data: object = None) -> None:
    if _ptrace(request, tid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def seize(pid: int) -> None:
    """Become the tracer of a process that goes on running."""
    _request(PTRACE_SEIZE, pid, None, ctypes.c_void_p(_OPTIONS))


def resume(tid: int, request: int = PTRACE_CONT, signal: int = 0) -> None:
    """Let a stopped thread go on, with a signal that it was stopped for."""
    _request(request, tid, None, ctypes.c_void_p(signal))


def listen(tid: int) -> None:
    """Leave a thread in its group stop, until SIGCONT."""
    _request(PTRACE_LISTEN, tid)


def get_registers(tid: int, into: Registers) -> None:
    if _ptrace(PTRACE_GETREGS, tid, None, ctypes.byref(into)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def set_registers(tid: int, registers: Registers) -> None:
    if _ptrace(PTRACE_SETREGS, tid, None, ctypes.byref(registers)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def event_message(tid: int) -> int:
    """What PTRACE_EVENT stops carry: the new thread's number, or a filter's value."""
    value = ctypes.c_ulong()
    _request(PTRACE_GETEVENTMSG, tid, None, ctypes.byref(value))
    return value.value


def get_siginfo(tid: int) -> bytes:
    """siginfo_t of the signal that the thread is stopped for."""
    buffer = ctypes.create_string_buffer(SIGINFO_SIZE)
    _request(PTRACE_GETSIGINFO, tid, None, buffer)
    return buffer.raw


def set_siginfo(tid: int, information: bytes) -> None:
    _request(PTRACE_SETSIGINFO, tid, None, ctypes.create_string_buffer(information, SIGINFO_SIZE))


def siginfo(signal: int, code: int, address: int) -> bytes:
    """siginfo_t of a fault."""
    return _SIGINFO_HEAD.pack(signal, 0, code, address).ljust(SIGINFO_SIZE, b"\0")


def code_and_address(information: bytes) -> tuple[int, int]:
    """si_code and si_addr of a siginfo_t."""
    _, _, code, address = _SIGINFO_HEAD.unpack_from(information)
    return code, address


def get_signal_mask(tid: int) -> bytes:
    buffer = ctypes.create_string_buffer(8)
    _request(PTRACE_GETSIGMASK, tid, ctypes.c_void_p(8), buffer)
    return buffer.raw


def set_signal_mask(tid: int, mask: bytes) -> None:
    _request(PTRACE_SETSIGMASK, tid, ctypes.c_void_p(8), ctypes.create_string_buffer(mask, 8))


def get_xstate(tid: int) -> bytes:
    """The thread's XSAVE area in the standard format; bytes 464 to 471 hold XCR0."""
    buffer = ctypes.create_string_buffer(_MAX_XSTATE)
    vector = _Vector(ctypes.addressof(buffer), _MAX_XSTATE)
    _request(PTRACE_GETREGSET, tid, ctypes.c_void_p(NT_X86_XSTATE), ctypes.byref(vector))
    return buffer.raw[: vector.length]


def set_xstate(tid: int, area: bytes) -> None:
    buffer = ctypes.create_string_buffer(area, len(area))
    vector = _Vector(ctypes.addressof(buffer), len(area))
    _request(PTRACE_SETREGSET, tid, ctypes.c_void_p(NT_X86_XSTATE), ctypes.byref(vector))


def prctl(option: int, value: int, address: int = 0) -> None:
    """prctl(2) on this process."""
    if _prctl(option, value, address, 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
