"""The system calls that the driver makes, behind an interface that tests can stand in for."""

from __future__ import annotations

import ctypes
import errno
import os
from enum import IntFlag
from functools import cache
from typing import Any, Protocol

MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE = 0x1, 0x2, 0x10, 0x20, 0x4000
MADV_DONTFORK = 10


class Protection(IntFlag):
    """PROT_* of mmap(2)."""

    NONE = 0
    READ = 1
    WRITE = 2
    EXEC = 4


class Kernel(Protocol):
    """The calls by the names of the manual pages; all raise OSError as the kernel says."""

    def open(self, path: str) -> int:
        """Open for reading and writing."""
        ...

    def close(self, descriptor: int) -> None: ...

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> int:
        """The kernel may change `argument`, also where it raises OSError."""
        ...

    def mmap(self, address: int, size: int, protection: Protection, flags: int, descriptor: int) -> int: ...
    def munmap(self, address: int, size: int) -> None: ...
    def mprotect(self, address: int, size: int, protection: Protection) -> None: ...
    def madvise(self, address: int, size: int, advice: int) -> None: ...

    def read(self, address: int, size: int) -> bytes:
        """Memory of this process; OSError where nothing is mapped."""
        ...

    def write(self, address: int, data: bytes) -> None: ...

    def read_debug(self, address: int, size: int) -> bytes:
        """Memory of this process as a debugger reads it, that of a debug enclave included."""
        ...


class _Range(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("address", ctypes.c_size_t), ("size", ctypes.c_size_t))
    address: int
    size: int


class Linux:
    """The real ones, through the C library."""

    def __init__(self) -> None:
        self._c = _c_library()

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> int:
        # Not fcntl.ioctl: it need not give back what the kernel wrote where it also failed.
        buffer = (ctypes.c_char * len(argument)).from_buffer(argument)
        try:
            return self._checked(self._c.ioctl(descriptor, request, ctypes.addressof(buffer)))
        finally:
            del buffer

    def mmap(self, address: int, size: int, protection: Protection, flags: int, descriptor: int) -> int:
        found = self._c.mmap(address, size, protection, flags, descriptor, 0)
        if found == ctypes.c_void_p(-1).value:
            raise _failure()
        return int(found or 0)

    def munmap(self, address: int, size: int) -> None:
        self._checked(self._c.munmap(address, size))

    def mprotect(self, address: int, size: int, protection: Protection) -> None:
        self._checked(self._c.mprotect(address, size, protection))

    def madvise(self, address: int, size: int, advice: int) -> None:
        self._checked(self._c.madvise(address, size, advice))

    def read(self, address: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        self._copy(self._c.process_vm_readv, _Range(ctypes.addressof(buffer), size), _Range(address, size))
        return buffer.raw

    def write(self, address: int, data: bytes) -> None:
        buffer = ctypes.create_string_buffer(data, len(data))
        size = len(data)
        self._copy(self._c.process_vm_writev, _Range(ctypes.addressof(buffer), size), _Range(address, size))

    def _copy(self, copy: Any, own: _Range, other: _Range) -> None:
        """Have the kernel copy: it refuses addresses at which this process itself would end."""
        done = 0
        while done < own.size:
            left = own.size - done
            here, there = _Range(own.address + done, left), _Range(other.address + done, left)
            copied = self._checked(copy(os.getpid(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0))
            if copied == 0:
                raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
            done += copied

    def read_debug(self, address: int, size: int) -> bytes:
        descriptor = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = bytearray()
            while len(parts) < size:
                part = os.pread(descriptor, size - len(parts), address + len(parts))
                if not part:
                    break
                parts += part
            return bytes(parts)
        finally:
            os.close(descriptor)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            raise _failure()
        return result


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


@cache
def _c_library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    pointer, size, number, many = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_ulong
    copy = (number, pointer, many, pointer, many, many)
    for name, arguments, result in (
        ("ioctl", (number, ctypes.c_ulong, pointer), number),
        ("mmap", (pointer, size, number, number, number, ctypes.c_long), pointer),
        ("munmap", (pointer, size), number),
        ("mprotect", (pointer, size, number), number),
        ("madvise", (pointer, size, number), number),
        ("process_vm_readv", copy, ctypes.c_ssize_t),
        ("process_vm_writev", copy, ctypes.c_ssize_t),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library
