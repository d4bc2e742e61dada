"""EPC pages in memory that the tracer and its tracees share: a memfd an enclave; offsets are from its base."""

from __future__ import annotations

import mmap
from bisect import bisect_right
from dataclasses import replace

from sgxkit.emulator.epc import FREE, Epc, EpcmEntry
from sgxkit.isa.page import PAGE_SIZE


class SharedEpc(Epc):
    """An EPC whose pages' contents are where `place` says; those of SECS hold nothing.

    Entries of pages that were set as a run take memory when they are asked for.
    """

    def __init__(self, base: int, size: int) -> None:
        super().__init__(base, size)
        self._starts: list[int] = []
        self._runs: list[tuple[int, mmap.mmap, int]] = []
        self._run_starts: list[int] = []
        self._entry_runs: list[tuple[int, EpcmEntry]] = []

    def place(self, page: int, count: int, memory: mmap.mmap, offset: int) -> None:
        """Keep `count` EPC pages from `page` on in `memory` from `offset` on."""
        index = bisect_right(self._starts, page) - 1
        end = page + count * PAGE_SIZE
        if index >= 0:
            last_end, last_memory, shift = self._runs[index]
            if last_end == page and last_memory is memory and shift == offset - page:
                self._runs[index] = (end, memory, shift)
                return
        self._starts.insert(index + 1, page)
        self._runs.insert(index + 1, (end, memory, offset - page))

    def forget(self, memory: mmap.mmap) -> None:
        """Know nothing more of the pages in `memory`."""
        kept = [(start, run) for start, run in zip(self._starts, self._runs, strict=True) if run[1] is not memory]
        self._starts = [start for start, _ in kept]
        self._runs = [run for _, run in kept]

    def entry(self, address: int) -> EpcmEntry:
        """The EPCM entry of the page that `address` is in."""
        page = address & -PAGE_SIZE
        found = self._entries.get(page)
        if found is None:
            found = self._from_run(page)
            if found.valid:
                self._entries[page] = found
        return found

    def set_run(self, address: int, pages: int, entry: EpcmEntry) -> None:
        """Set the entries of pages that follow each other, as their linear addresses do from `entry.address` on."""
        end = address + pages * PAGE_SIZE
        known = range(address, end, PAGE_SIZE) if pages < len(self._entries) else list(self._entries)
        for page in known:
            if address <= page < end:
                self._entries.pop(page, None)
        index = bisect_right(self._run_starts, address)
        overlaps = (index and self._entry_runs[index - 1][0] > address) or (
            index < len(self._run_starts) and self._run_starts[index] < end
        )
        if overlaps:  # over what an earlier run has left
            super().set_run(address, pages, entry)
            return
        self._run_starts.insert(index, address)
        self._entry_runs.insert(index, (end, entry))

    def free(self, address: int) -> None:
        """Make the page that `address` is in free; its contents are gone."""
        page = address & -PAGE_SIZE
        self._entries.pop(page, None)
        if self._from_run(page).valid:
            self._entries[page] = FREE
        found = self._find(page)
        if found is not None:
            memory, at = found
            memory[at : at + PAGE_SIZE] = bytes(PAGE_SIZE)
            self._displace(page)

    def free_run(self, address: int, pages: int) -> None:
        """Make pages that follow each other free, without a look at their contents: their memory is to go."""
        end = address + pages * PAGE_SIZE
        index = bisect_right(self._run_starts, address) - 1
        whole = index >= 0 and (self._run_starts[index], self._entry_runs[index][0]) == (address, end)
        if whole:
            del self._run_starts[index], self._entry_runs[index]
        for page in range(address, end, PAGE_SIZE):
            self._entries.pop(page, None)
            if not whole and self._from_run(page).valid:
                self._entries[page] = FREE

    def read(self, address: int, size: int) -> bytes:
        """Read within one page, past all protection: for the processor itself."""
        found = self._find(address & -PAGE_SIZE)
        if found is None:
            return bytes(size)
        memory, at = found
        at += address % PAGE_SIZE
        return memory[at : at + size]

    def write(self, address: int, data: bytes) -> None:
        """Write within one page, past all protection: for the processor itself."""
        found = self._find(address & -PAGE_SIZE)
        if found is None:
            raise ValueError(f"{address:#x} is nowhere")
        memory, at = found
        at += address % PAGE_SIZE
        memory[at : at + len(data)] = data

    def offset_of(self, address: int) -> int:
        """Where in its enclave's memory an EPC address is."""
        found = self._find(address & -PAGE_SIZE)
        if found is None:
            raise ValueError(f"{address:#x} is nowhere")
        return found[1] + address % PAGE_SIZE

    def _from_run(self, page: int) -> EpcmEntry:
        index = bisect_right(self._run_starts, page) - 1
        if index < 0 or page >= self._entry_runs[index][0]:
            return FREE
        entry = self._entry_runs[index][1]
        return replace(entry, address=entry.address + page - self._run_starts[index])

    def _displace(self, page: int) -> None:
        index = bisect_right(self._starts, page) - 1
        start, (end, memory, shift) = self._starts[index], self._runs[index]
        parts = [(first, last) for first, last in ((start, page), (page + PAGE_SIZE, end)) if first < last]
        self._starts[index : index + 1] = [first for first, _ in parts]
        self._runs[index : index + 1] = [(last, memory, shift) for _, last in parts]

    def _find(self, page: int) -> tuple[mmap.mmap, int] | None:
        index = bisect_right(self._starts, page) - 1
        if index < 0 or page >= self._runs[index][0]:
            return None
        _, memory, shift = self._runs[index]
        return memory, page + shift
