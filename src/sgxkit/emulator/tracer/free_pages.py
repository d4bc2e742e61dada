"""The operating system's list of free EPC pages."""

from __future__ import annotations

import errno

from sgxkit.isa.page import PAGE_SIZE


class FreePages:
    """Which of `size` bytes of EPC from `base` on nobody has."""

    def __init__(self, base: int, size: int) -> None:
        self._runs: list[tuple[int, int]] = [(base, size // PAGE_SIZE)]
        self.total = self.left = size // PAGE_SIZE
        self.most_used = 0

    def take(self, count: int) -> list[tuple[int, int]]:
        """Runs (first page's address, pages) of `count` pages in all; ENOMEM where there are not so many."""
        if count > self.left:
            raise OSError(errno.ENOMEM, "out of EPC")
        taken = []
        self.left -= count
        self.most_used = max(self.most_used, self.total - self.left)
        while count:
            start, length = self._runs.pop()
            part = min(length, count)
            taken.append((start, part))
            if part < length:
                self._runs.append((start + part * PAGE_SIZE, length - part))
            count -= part
        return taken

    def give_back(self, start: int, count: int) -> None:
        self._runs.append((start, count))
        self.left += count
