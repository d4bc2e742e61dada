"""FreePages: every page is given once, and again only after it came back."""

import errno

import pytest

from sgxkit.emulator.tracer.free_pages import FreePages
from sgxkit.isa.page import PAGE_SIZE

BASE = 0x8000_0000


def pages_of(runs: list[tuple[int, int]]) -> set[int]:
    return {start + number * PAGE_SIZE for start, count in runs for number in range(count)}


def test_pages_are_given_once() -> None:
    free = FreePages(BASE, 10 * PAGE_SIZE)
    first, second = free.take(4), free.take(6)
    assert pages_of(first) | pages_of(second) == {BASE + number * PAGE_SIZE for number in range(10)}
    assert not pages_of(first) & pages_of(second)


def test_out_of_pages_is_enomem_and_takes_none() -> None:
    free = FreePages(BASE, 3 * PAGE_SIZE)
    with pytest.raises(OSError) as refused:
        free.take(4)
    assert refused.value.errno == errno.ENOMEM
    assert free.left == 3


def test_pages_come_back() -> None:
    free = FreePages(BASE, 3 * PAGE_SIZE)
    ((start, count),) = free.take(3)
    free.give_back(start + PAGE_SIZE, 1)
    assert free.take(1) == [(start + PAGE_SIZE, 1)]
    assert (count, free.most_used) == (3, 3)
