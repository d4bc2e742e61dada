"""Filters that stop a program only where it meets SGX (seccomp(2), classic BPF).

Everything else runs at full speed. RET_TRACE is what stops; its 16 bits say which of the two filters it was.
"""

from __future__ import annotations

import ctypes
import signal
import struct
from collections.abc import Sequence

from sgxkit.emulator.tracer import ptrace
from sgxkit.emulator.tracer.syscalls import Syscall

FROM_PROGRAM, FROM_ENCLAVE = 1, 2
"""What PTRACE_GETEVENTMSG says: the program's own filter, or a system call from inside an enclave."""

TRAPS = (signal.SIGILL, signal.SIGSEGV)
"""Signals by which ENCLU and CPUID reach the tracer."""

SECCOMP_SET_MODE_FILTER, TSYNC = 1, 1

_INSTRUCTION = struct.Struct("<HBBI")
_LOAD, _EQUAL, _GREATER_EQUAL, _SET, _AND, _SHIFT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x74, 0x06
_ALLOW, _TRACE = 0x7FFF_0000, 0x7FF0_0000
_ARCH_X86_64 = 0xC000_003E
_NR, _ARCH, _IP = 0, 4, 8
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_SGX_MAGIC = 0xA4
_MAP_ANONYMOUS, _MAP_DENYWRITE = 0x20, 0x800

_PATHS = (
    Syscall.OPEN, Syscall.OPENAT, Syscall.OPENAT2, Syscall.STAT, Syscall.LSTAT, Syscall.NEWFSTATAT, Syscall.STATX,
    Syscall.ACCESS, Syscall.FACCESSAT, Syscall.FACCESSAT2, Syscall.READLINK, Syscall.READLINKAT, Syscall.CONNECT,
    Syscall.GETXATTR, Syscall.LGETXATTR, Syscall.LISTXATTR, Syscall.LLISTXATTR, Syscall.GETDENTS64, Syscall.FSTAT,
)  # fmt: skip
_MAPPINGS = (Syscall.MMAP, Syscall.MUNMAP, Syscall.MPROTECT, Syscall.PKEY_MPROTECT, Syscall.MREMAP)

Line = tuple[int, int, str, str] | str
"""(code, operand, label if true, label if false), or a label. An empty label is the next line."""


def _argument(index: int) -> int:
    return 16 + 8 * index


def program_filter(quiet_start: int, quiet_end: int) -> bytes:
    """The filter of every traced program.

    System calls from [quiet_start, quiet_end) are the tracer's own.
    """
    lines: list[Line] = [
        (_LOAD, _ARCH, "", ""),
        (_EQUAL, _ARCH_X86_64, "", "allow"),
        *_within(_IP, quiet_start, quiet_end, "allow", "foreign"),
        "foreign",
        (_LOAD, _NR, "", ""),
        *((_EQUAL, number, "trace", "") for number in _PATHS),
        (_EQUAL, Syscall.IOCTL, "ioctl", ""),
        (_EQUAL, Syscall.MMAP, "mmap", ""),
        (_EQUAL, Syscall.RT_SIGACTION, "", "allow"),
        (_LOAD, _argument(0), "", ""),
        *((_EQUAL, number, "trace", "") for number in TRAPS),
        (_RETURN, _ALLOW, "", ""),
        "ioctl",
        (_LOAD, _argument(1), "", ""),
        (_SHIFT, 8, "", ""),
        (_AND, 0xFF, "", ""),
        (_EQUAL, _SGX_MAGIC, "trace", "allow"),
        "mmap",
        # The dynamic linker's own mappings all have MAP_DENYWRITE.
        (_LOAD, _argument(3), "", ""),
        (_SET, _MAP_ANONYMOUS | _MAP_DENYWRITE, "allow", "trace"),
        "trace",
        (_RETURN, _TRACE | FROM_PROGRAM, "", ""),
        "allow",
        (_RETURN, _ALLOW, "", ""),
    ]
    return _assemble(lines)


def enclave_filter(start: int, end: int) -> bytes:
    """One more filter for the range of an enclave: system calls from it, and changes of its mappings."""
    lines: list[Line] = [
        (_LOAD, _ARCH, "", ""),
        (_EQUAL, _ARCH_X86_64, "", "allow"),
        *_within(_IP, start, end, "enclave", "outside"),
        "outside",
        (_LOAD, _NR, "", ""),
        *((_EQUAL, number, "mapping", "") for number in _MAPPINGS),
        (_RETURN, _ALLOW, "", ""),
        "mapping",
        *_within(_argument(0), start, end, "program", "allow"),
        "program",
        (_RETURN, _TRACE | FROM_PROGRAM, "", ""),
        "enclave",
        (_RETURN, _TRACE | FROM_ENCLAVE, "", ""),
        "allow",
        (_RETURN, _ALLOW, "", ""),
    ]
    return _assemble(lines)


def install(program: bytes) -> None:
    """Filter this process from now on; it and its children can gain no privileges by exec."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(program_header(len(program), ctypes.addressof(buffer)), 16)
    ptrace.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    ptrace.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(header))


def program_header(size: int, address: int) -> bytes:
    """struct sock_fprog."""
    return struct.pack("<H6xQ", size // _INSTRUCTION.size, address)


def _within(field: int, start: int, end: int, inside: str, outside: str) -> list[Line]:
    """Compare a 64-bit field with a range; classic BPF has 32-bit registers only."""
    name = f"{field}:{start:x}"
    last = end - 1
    return [
        (_LOAD, field + 4, "", ""),
        (_GREATER_EQUAL, start >> 32, "", outside),
        (_EQUAL, start >> 32, "", f"{name} above"),
        (_LOAD, field, "", ""),
        (_GREATER_EQUAL, start & 0xFFFF_FFFF, "", outside),
        f"{name} above",
        (_LOAD, field + 4, "", ""),
        (_GREATER_EQUAL, (last >> 32) + 1, outside, ""),
        (_EQUAL, last >> 32, "", inside),
        (_LOAD, field, "", ""),
        (_GREATER_EQUAL, last & 0xFFFF_FFFF, f"{name} edge", inside),
        f"{name} edge",
        (_EQUAL, last & 0xFFFF_FFFF, inside, outside),
    ]


def _assemble(lines: Sequence[Line]) -> bytes:
    at: dict[str, int] = {}
    instructions: list[tuple[int, int, str, str]] = []
    for line in lines:
        if isinstance(line, str):
            at[line] = len(instructions)
        else:
            instructions.append(line)
    code = b""
    for index, (operation, operand, if_true, if_false) in enumerate(instructions):
        jumps = [at[label] - index - 1 if label else 0 for label in (if_true, if_false)]
        code += _INSTRUCTION.pack(operation, *jumps, operand)
    return code
