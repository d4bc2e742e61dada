"""What an enclave's code can reach, page by page: its own pages by the EPCM, the caller's memory outside.

Intel SDM Vol. 3D, 36.3 (access control), 36.5.3 (abort page).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sgxkit.emulator.access import require_accessible
from sgxkit.emulator.chunk import CHUNK_SIZE, Chunk
from sgxkit.emulator.faults import GeneralProtectionFault, PageFault, PageFaultCode
from sgxkit.emulator.memory import SparseMemory
from sgxkit.emulator.processor import LogicalProcessor, SecsState, is_canonical
from sgxkit.isa.page import PAGE_SIZE, PageFlags
from sgxkit.messages import msg


class Area(Enum):
    """Which memory a page is in."""

    EPC = 1
    OUTSIDE = 2
    ABORT = 3
    """Reads as ones, loses what is written."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page is: `offset` in its area, and what may be done with it."""

    area: Area
    offset: int
    permissions: PageFlags


@dataclass(slots=True)
class Space:
    """The address space of a thread in an enclave, with the memory that its caller shares."""

    thread: LogicalProcessor
    enclave: SecsState
    memory: SparseMemory

    def find(self, page: int, permission: PageFlags) -> Place:
        """Where the page is that is about to be read, written or executed; raises the Fault if it may not be."""
        thread = self.thread
        if not is_canonical(thread.processor, page):
            raise GeneralProtectionFault(msg("{address} is not canonical", address=hex(page)))
        if self.enclave.covers(page):
            if page not in thread.page_table:
                raise PageFault(page, msg("nothing is mapped there"), PageFaultCode(0))
            assert thread.active_secs is not None
            physical = require_accessible(thread, thread.active_secs, page, permission)
            epc = thread.processor.epc
            return Place(Area.EPC, physical - epc.base, epc.entry(physical).permissions)
        if permission is PageFlags.X:
            raise GeneralProtectionFault(msg("code outside the enclave at {address}", address=hex(page)))
        if page in thread.page_table:
            return Place(Area.ABORT, 0, PageFlags.RW)
        return Place(Area.OUTSIDE, self.memory.frame(page), PageFlags.RW)

    def chunk(self, place: Place) -> Chunk:
        """The host memory that a place in the EPC or outside is in."""
        index = place.offset // CHUNK_SIZE
        return self.thread.processor.epc.chunk(index) if place.area is Area.EPC else self.memory.chunk(index)

    def access(self, address: int, size: int, permission: PageFlags) -> list[memoryview]:
        """The bytes at `address`, for an instruction that is executed in Python; raises the Fault it would."""
        views, end = [], address + size
        while address < end:
            length = min(end - address, PAGE_SIZE - address % PAGE_SIZE)
            try:
                place = self.find(address & -PAGE_SIZE, permission)
            except PageFault as fault:
                raise PageFault(address, fault.problem, PageFaultCode(fault.error_code)) from None
            if place.area is Area.ABORT:
                views.append(memoryview(bytearray(b"\xff" * length)))
            else:
                start = place.offset % CHUNK_SIZE + address % PAGE_SIZE
                views.append(self.chunk(place).view[start : start + length])
            address += length
        return views

    def read(self, address: int, size: int) -> bytes:
        """Read as the enclave's code does."""
        return b"".join(self.access(address, size, PageFlags.R))

    def write(self, address: int, data: bytes) -> None:
        """Write as the enclave's code does, all or nothing."""
        for view in self.access(address, len(data), PageFlags.W):
            view[:] = data[: len(view)]
            data = data[len(view) :]

    def code(self, address: int, size: int) -> bytes:
        """Up to `size` bytes of code from `address`, as far as they can be executed."""
        parts = []
        while size > 0:
            try:
                (view,) = self.access(address, min(size, PAGE_SIZE - address % PAGE_SIZE), PageFlags.X)
            except (GeneralProtectionFault, PageFault):
                break
            parts.append(bytes(view))
            address, size = address + len(view), size - len(view)
        return b"".join(parts)
