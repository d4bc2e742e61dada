"""Which instructions of an enclave were executed, and which pages it used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sgxkit.isa.page import PageFlags


@dataclass(slots=True)
class Coverage:
    """What the code of an enclave did, over all entries of an engine that was given this.

    base           the enclave's lowest address, from which its offsets count.
    instructions   how often the instruction at an offset was executed; each round of a repeated one counts.
    pages          the offsets of pages that were used, and how; the processor's own use (SSA, TCS, operands of
                   leaf functions) does not count.
    outside        addresses of pages outside the enclave, and how they were used.
    """

    base: int
    size: int
    instructions: Counter[int] = field(default_factory=Counter)
    pages: dict[int, PageFlags] = field(default_factory=dict)
    outside: dict[int, PageFlags] = field(default_factory=dict)

    def executed(self, addresses: Iterable[int], times: int = 1) -> None:
        """Count instructions at these linear addresses."""
        for address in addresses:
            self.instructions[address - self.base] += times

    def not_executed(self, addresses: Iterable[int]) -> None:
        """Take back what `executed` counted."""
        for address in addresses:
            offset = address - self.base
            if self.instructions[offset] == 1:
                del self.instructions[offset]
            else:
                self.instructions[offset] -= 1

    def touched(self, page: int, permission: PageFlags) -> None:
        """Note that the page at this linear address was used."""
        inside = self.base <= page < self.base + self.size
        where = self.pages if inside else self.outside
        place = page - self.base if inside else page
        where[place] = where.get(place, PageFlags(0)) | permission
