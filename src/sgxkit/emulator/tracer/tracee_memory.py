"""The memory of a tracee, through /proc/PID/mem: what a kernel's copy_from_user and copy_to_user are."""

from __future__ import annotations

import errno
import os

_MAX_STRING = 4096


class TraceeMemory:
    """Reads and writes raise OSError EFAULT where nothing is mapped."""

    def __init__(self, pid: int) -> None:
        self._file = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)

    def read(self, address: int, size: int) -> bytes:
        try:
            data = os.pread(self._file, size, address)
        except (OSError, OverflowError) as error:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT)) from error
        if len(data) != size:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return data

    def write(self, address: int, data: bytes) -> None:
        try:
            written = os.pwrite(self._file, data, address)
        except (OSError, OverflowError) as error:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT)) from error
        if written != len(data):
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    def string(self, address: int) -> bytes:
        """A string that ends with a zero byte, without it."""
        parts = b""
        while len(parts) < _MAX_STRING:
            part = self.read(address + len(parts), min(256, 4096 - (address + len(parts)) % 4096))
            end = part.find(b"\0")
            if end >= 0:
                return parts + part[:end]
            parts += part
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    def close(self) -> None:
        os.close(self._file)
        self._file = -1
