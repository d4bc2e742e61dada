"""The EPC and its map, the EPCM: pages that belong to enclaves, and what the processor knows of each.

Intel SDM Vol. 3D, 34.5 (EPC, EPCM) and 35.19 (EPCM entries).
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    def __init__(self, base: int, size: int) -> None:
        if base % PAGE_SIZE or size % PAGE_SIZE or size <= 0:
            raise ValueError("an EPC section is whole pages")
        self.base = base
        self.size = size
        self._entries: dict[int, EpcmEntry] = {}
        self._contents: dict[int, bytes] = {}

    def __contains__(self, address: int) -> bool:
        """Whether `address` is in the EPC."""
        return self.base <= address < self.base + self.size

    def entry(self, address: int) -> EpcmEntry:
        """The EPCM entry of the page that `address` is in."""
        return self._entries.get(self._page(address), FREE)

    def set_entry(self, address: int, entry: EpcmEntry) -> None:
        """Replace the EPCM entry of the page that `address` is in."""
        self._entries[self._page(address)] = entry

    def free(self, address: int) -> None:
        """Make the page that `address` is in free; its contents are gone."""
        page = self._page(address)
        self._entries.pop(page, None)
        self._contents.pop(page, None)

    def read(self, address: int, size: int) -> bytes:
        """Read within one page, past all protection: for the processor itself."""
        page, start = self._page(address), address % PAGE_SIZE
        if start + size > PAGE_SIZE:
            raise ValueError("reads past the end of the page")
        return self._contents.get(page, bytes(PAGE_SIZE))[start : start + size]

    def write(self, address: int, data: bytes) -> None:
        """Write within one page, past all protection: for the processor itself."""
        page, start = self._page(address), address % PAGE_SIZE
        if start + len(data) > PAGE_SIZE:
            raise ValueError("writes past the end of the page")
        old = self._contents.get(page, bytes(PAGE_SIZE))
        self._contents[page] = old[:start] + data + old[start + len(data) :]

    def _page(self, address: int) -> int:
        if address not in self:
            raise ValueError(f"{address:#x} is not in the EPC")
        return address & -PAGE_SIZE
