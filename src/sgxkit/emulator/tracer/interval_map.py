"""A value for every address, kept as runs of equal values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator


class IntervalMap:
    """Integers by address; 0 where none was set."""

    def __init__(self) -> None:
        self._starts: list[int] = [0]
        self._values: list[int] = [0]

    def __getitem__(self, address: int) -> int:
        return self._values[bisect_right(self._starts, address) - 1]

    def set(self, start: int, end: int, value: int) -> None:
        """Give `value` to all of [start, end)."""
        if start >= end:
            return
        first = self._cut(start)
        last = self._cut(end)
        self._starts[first:last] = [start]
        self._values[first:last] = [value]
        for index in (first + 1, first):
            if 0 < index < len(self._starts) and self._values[index] == self._values[index - 1]:
                del self._starts[index], self._values[index]

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(start, end, value) of each run within [start, end), zeros included."""
        index = bisect_right(self._starts, start) - 1
        while start < end:
            stop = self._starts[index + 1] if index + 1 < len(self._starts) else end
            yield start, min(stop, end), self._values[index]
            start, index = min(stop, end), index + 1

    def _cut(self, address: int) -> int:
        """Make a run begin at `address`; returns its index."""
        index = bisect_right(self._starts, address) - 1
        if self._starts[index] == address:
            return index
        self._starts.insert(index + 1, address)
        self._values.insert(index + 1, self._values[index])
        return index + 1
