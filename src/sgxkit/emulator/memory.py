"""Ordinary memory: leaf functions read their operands from it, enclaves share it with their caller."""

from __future__ import annotations

import threading
from typing import Protocol

from sgxkit.emulator.chunk import CHUNK_SIZE, Chunk
from sgxkit.emulator.faults import PageFault, PageFaultCode
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.messages import msg

_ALLOCATED = 0x1000_0000_0000
"""Where `SparseMemory.allocate` begins: far from the addresses that tests and documents choose by hand."""
_ZEROS = bytes(PAGE_SIZE)


class Memory(Protocol):
    """What software outside enclaves has at an address. `read` raises PageFault where nothing is mapped."""

    def read(self, address: int, size: int) -> bytes: ...


class SparseMemory:
    """Memory in which only the pages that were written exist; implements `enclave.platform.OutsideMemory`.

    Several threads may use it at once.

    generation   how often a page ceased to exist.
    """

    def __init__(self) -> None:
        self._frames: dict[int, int] = {}
        self._chunks: list[Chunk] = []
        self._unused: list[int] = []
        self._allocated: dict[int, int] = {}
        self._next = _ALLOCATED
        self._lock = threading.RLock()
        self.generation = 0

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes of zeros on pages of their own, with a page that is not there behind."""
        pages = max(1, -(-size // PAGE_SIZE))
        with self._lock:
            address = self._next
            self._next += (pages + 1) * PAGE_SIZE
            for page in range(pages):
                self._new_frame(address + page * PAGE_SIZE)
            self._allocated[address] = pages
        return address

    def free(self, address: int) -> None:
        """Unmap what `allocate` returned."""
        with self._lock:
            for page in range(self._allocated.pop(address)):
                self._unused.append(self._frames.pop(address + page * PAGE_SIZE))
            self.generation += 1

    def frame(self, page: int) -> int:
        """Where the page at `page` is in all chunks put end to end; raises PageFault where there is none."""
        frame = self._frames.get(page)
        if frame is None:
            raise PageFault(page, msg("nothing is mapped there"), PageFaultCode(0))
        return frame

    def chunk(self, index: int) -> Chunk:
        """The memory behind frames from `index * CHUNK_SIZE`."""
        return self._chunks[index]

    def read(self, address: int, size: int) -> bytes:
        """Return `size` bytes; raises PageFault where a page was never written."""
        parts = []
        while size:
            page, start = address & -PAGE_SIZE, address % PAGE_SIZE
            if page not in self._frames:
                raise PageFault(address, msg("nothing is mapped there"), PageFaultCode(0))
            part = bytes(self._page(page)[start : start + size])
            parts.append(part)
            address, size = address + len(part), size - len(part)
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Write `data`, mapping pages of zeros where there were none."""
        done = 0
        while done < len(data):
            page, start = (address + done) & -PAGE_SIZE, (address + done) % PAGE_SIZE
            if page not in self._frames:
                self._new_frame(page)
            part = data[done : done + PAGE_SIZE - start]
            self._page(page)[start : start + len(part)] = part
            done += len(part)

    def _page(self, page: int) -> memoryview:
        index, start = divmod(self._frames[page], CHUNK_SIZE)
        return self._chunks[index].view[start : start + PAGE_SIZE]

    def _new_frame(self, page: int) -> None:
        with self._lock:
            if page in self._frames:
                return
            if not self._unused:
                first = len(self._chunks) * CHUNK_SIZE
                self._chunks.append(Chunk())
                self._unused.extend(range(first + CHUNK_SIZE - PAGE_SIZE, first - PAGE_SIZE, -PAGE_SIZE))
            index, start = divmod(frame := self._unused.pop(), CHUNK_SIZE)
            self._chunks[index].view[start : start + PAGE_SIZE] = _ZEROS
            self._frames[page] = frame
