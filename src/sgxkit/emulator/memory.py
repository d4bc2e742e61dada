"""Ordinary memory, as far as leaf functions read their operands from it."""

from __future__ import annotations

from typing import Protocol

from sgxkit.emulator.faults import PageFault, PageFaultCode
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.messages import msg

_ALLOCATED = 0x1000_0000_0000
"""Where `SparseMemory.allocate` begins: far from the addresses that tests and documents choose by hand."""


class Memory(Protocol):
    """What software outside enclaves has at an address. `read` raises PageFault where nothing is mapped."""

    def read(self, address: int, size: int) -> bytes: ...


class SparseMemory:
    """Memory in which only the pages that were written exist; implements `enclave.platform.OutsideMemory`."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._allocated: dict[int, int] = {}
        self._next = _ALLOCATED

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes of zeros on pages of their own, with a page that is not there behind."""
        address, pages = self._next, max(1, -(-size // PAGE_SIZE))
        self.write(address, bytes(pages * PAGE_SIZE))
        self._allocated[address] = pages
        self._next += (pages + 1) * PAGE_SIZE
        return address

    def free(self, address: int) -> None:
        """Unmap what `allocate` returned."""
        for page in range(self._allocated.pop(address)):
            del self._pages[address + page * PAGE_SIZE]

    def read(self, address: int, size: int) -> bytes:
        """Return `size` bytes; raises PageFault where a page was never written."""
        parts = []
        while size:
            page, start = address & -PAGE_SIZE, address % PAGE_SIZE
            if page not in self._pages:
                raise PageFault(address, msg("nothing is mapped there"), PageFaultCode(0))
            part = self._pages[page][start : start + size]
            parts.append(part)
            address, size = address + len(part), size - len(part)
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Write `data`, mapping pages of zeros where there were none."""
        while data:
            page, start = address & -PAGE_SIZE, address % PAGE_SIZE
            part = data[: PAGE_SIZE - start]
            self._pages.setdefault(page, bytearray(PAGE_SIZE))[start : start + len(part)] = part
            address, data = address + len(part), data[len(part) :]
