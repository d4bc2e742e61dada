"""System calls of x86-64 Linux that the tracer looks at or makes (arch/x86/entry/syscalls/syscall_64.tbl)."""

from __future__ import annotations

from enum import IntEnum


class Syscall(IntEnum):
    OPEN = 2
    CLOSE = 3
    STAT = 4
    FSTAT = 5
    LSTAT = 6
    MMAP = 9
    MPROTECT = 10
    MUNMAP = 11
    RT_SIGACTION = 13
    IOCTL = 16
    ACCESS = 21
    MREMAP = 25
    MADVISE = 28
    CONNECT = 42
    READLINK = 89
    ARCH_PRCTL = 158
    GETXATTR = 191
    LGETXATTR = 192
    LISTXATTR = 194
    LLISTXATTR = 195
    GETDENTS64 = 217
    OPENAT = 257
    NEWFSTATAT = 262
    READLINKAT = 267
    FACCESSAT = 269
    SECCOMP = 317
    MEMFD_CREATE = 319
    PKEY_MPROTECT = 329
    STATX = 332
    OPENAT2 = 437
    FACCESSAT2 = 439


NONE = 2**64 - 1
"""In orig_rax: no system call."""


def failure(number: int) -> int:
    """What a system call that failed with errno `number` leaves in RAX."""
    return -number & NONE
