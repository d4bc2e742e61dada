"""The EPC and its map, the EPCM: pages that belong to enclaves, and what the processor knows of each.

Intel SDM Vol. 3D, 34.5 (EPC, EPCM) and 35.19 (EPCM entries).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sgxkit.emulator.chunk import CHUNK_SIZE, Chunk
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType

_NO_PERMISSIONS = PageFlags(0)


@dataclass(frozen=True, slots=True)
class EpcmEntry:
    """What the processor knows of one EPC page. Entries are replaced, never changed.

    address       ENCLAVEADDRESS: the only linear address at which the enclave can use the page.
    secs          ENCLAVESECS: EPC address of the SECS that it belongs to; None for a SECS and for a free page.
    permissions   R, W and X.
    changed_in    the enclave's tracking epoch in which EBLOCK, EMODPR or EMODT took something away: processors may
                  hold translations from before, until all that were inside have left.
    """

    valid: bool = False
    page_type: PageType = PageType.SECS
    secs: int | None = None
    address: int = 0
    permissions: PageFlags = _NO_PERMISSIONS
    blocked: bool = False
    pending: bool = False
    modified: bool = False
    restricting: bool = False
    changed_in: int | None = None


FREE = EpcmEntry()


class Epc:
    """One EPC section: `size` bytes of pages from physical address `base`, all free at first.

    Only pages that were written take memory.

    generation        how often an EPCM entry has changed: translations from before may be wrong.
    code_generation   how often one that can be executed has, or what it holds.
    """

    def __init__(self, base: int, size: int) -> None:
        if base % PAGE_SIZE or size % PAGE_SIZE or size <= 0:
            raise ValueError("an EPC section is whole pages")
        self.base = base
        self.size = size
        self.generation = self.code_generation = 0
        self._entries: dict[int, EpcmEntry] = {}
        self._chunks: dict[int, Chunk] = {}

    def __contains__(self, address: int) -> bool:
        """Whether `address` is in the EPC."""
        return self.base <= address < self.base + self.size

    def entry(self, address: int) -> EpcmEntry:
        """The EPCM entry of the page that `address` is in."""
        return self._entries.get(self._page(address), FREE)

    def set_entry(self, address: int, entry: EpcmEntry) -> None:
        """Replace the EPCM entry of the page that `address` is in."""
        page = self._page(address)
        old = self._entries.get(page, FREE)
        self._entries[page] = entry
        self._changed(old.permissions | entry.permissions)

    def set_run(self, address: int, pages: int, entry: EpcmEntry) -> None:
        """Set the entries of pages that follow each other, as their linear addresses do from `entry.address` on."""
        for at in range(0, pages * PAGE_SIZE, PAGE_SIZE):
            self.set_entry(address + at, replace(entry, address=entry.address + at))

    def free_run(self, address: int, pages: int) -> None:
        """Make pages that follow each other free."""
        for page in range(address, address + pages * PAGE_SIZE, PAGE_SIZE):
            self.free(page)

    def free(self, address: int) -> None:
        """Make the page that `address` is in free; its contents are gone."""
        page = self._page(address)
        self._changed(self._entries.pop(page, FREE).permissions)
        index, start = divmod(page - self.base, CHUNK_SIZE)
        if index in self._chunks:
            self._chunks[index].view[start : start + PAGE_SIZE] = bytes(PAGE_SIZE)

    def chunk(self, index: int) -> Chunk:
        """The memory behind the section's bytes from `index * CHUNK_SIZE`."""
        found = self._chunks.get(index)
        if found is None:
            found = self._chunks[index] = Chunk()
        return found

    def read(self, address: int, size: int) -> bytes:
        """Read within one page, past all protection: for the processor itself."""
        view, start = self._at(address, size)
        return bytes(view[start : start + size])

    def write(self, address: int, data: bytes) -> None:
        """Write within one page, past all protection: for the processor itself."""
        view, start = self._at(address, len(data))
        view[start : start + len(data)] = data
        entry = self._entries.get(address & -PAGE_SIZE)
        if entry is not None and PageFlags.X in entry.permissions:
            self.code_generation += 1

    def _at(self, address: int, size: int) -> tuple[memoryview, int]:
        self._page(address)
        if address % PAGE_SIZE + size > PAGE_SIZE:
            raise ValueError("goes past the end of the page")
        index, start = divmod(address - self.base, CHUNK_SIZE)
        return self.chunk(index).view, start

    def _changed(self, permissions: PageFlags) -> None:
        self.generation += 1
        if PageFlags.X in permissions:
            self.code_generation += 1

    def _page(self, address: int) -> int:
        if not self.base <= address < self.base + self.size:
            raise ValueError(f"{address:#x} is not in the EPC")
        return address & -PAGE_SIZE
