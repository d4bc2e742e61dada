"""Why two images are measured differently: the first thing that the processor would hash otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sgxkit.enclave.image import ALL_CHUNKS, CHUNK_SIZE, EnclaveImage, PageRun
from sgxkit.isa.page import PAGE_SIZE

What = Literal["size", "ssaframesize", "page", "secinfo", "measured chunks", "contents"]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference.

    what    a field of ECREATE, a page that only one has (or has first), its SECINFO, which chunks of it are measured
            and in what order, or what is in them.
    offset  of the page, or, for contents, of the first byte; None for the fields of ECREATE.
    first   what the first image has there, None where it has nothing; `second` likewise.
    """

    what: What
    offset: int | None
    first: str | None
    second: str | None
    name: str = ""


def first_difference(first: EnclaveImage, second: EnclaveImage) -> Difference | None:
    """Return the first thing by which the measurements differ, None where they are the same."""
    if first.size != second.size:
        return Difference("size", None, hex(first.size), hex(second.size))
    if first.ssaframesize != second.ssaframesize:
        return Difference("ssaframesize", None, str(first.ssaframesize), str(second.ssaframesize))
    for one, other in _side_by_side(iter(first.runs), iter(second.runs)):
        if one is None or other is None or one.offset != other.offset:
            return _lone_page(one, other)
        name = one.name or other.name
        if one.secinfo != other.secinfo:
            return Difference("secinfo", one.offset, hex(one.secinfo.word), hex(other.secinfo.word), name)
        if one.measured != other.measured:
            return Difference("measured chunks", one.offset, _chunks(one), _chunks(other), name)
        if found := _contents(one, other, name):
            return found
    return None


def _side_by_side(
    first: Iterator[PageRun], second: Iterator[PageRun]
) -> Iterator[tuple[PageRun | None, PageRun | None]]:
    """Go through both in steps of as many pages as both have."""
    one, other = next(first, None), next(second, None)
    while one is not None or other is not None:
        if one is None or other is None:
            yield one, other
            return
        count = min(one.count, other.count)
        yield _part(one, 0, count), _part(other, 0, count)
        one = _part(one, count, one.count) if count < one.count else next(first, None)
        other = _part(other, count, other.count) if count < other.count else next(second, None)


def _part(run: PageRun, begin: int, end: int) -> PageRun:
    if (begin, end) == (0, run.count):
        return run
    data = run.data
    if len(data) > PAGE_SIZE:
        data = data[begin * PAGE_SIZE : end * PAGE_SIZE]
    return PageRun(run.offset + begin * PAGE_SIZE, end - begin, run.secinfo, run.measured, data, run.name)


def _lone_page(one: PageRun | None, other: PageRun | None) -> Difference:
    """Of two pages that are not the same, the lower is the one that the other image lacks there."""
    if other is None or (one is not None and one.offset < other.offset):
        assert one is not None, "there is a page"
        return Difference("page", one.offset, _page(one), None, one.name)
    return Difference("page", other.offset, None, _page(other), other.name)


def _page(run: PageRun) -> str:
    return f"{run.secinfo.word:#x}"


def _chunks(run: PageRun) -> str:
    if run.measured == ALL_CHUNKS:
        return "all"
    return " ".join(map(str, run.measured)) or "none"


def _contents(one: PageRun, other: PageRun, name: str) -> Difference | None:
    if not one.measured or one.data == other.data:
        return None
    alike = len(one.data) <= PAGE_SIZE and len(other.data) <= PAGE_SIZE
    for index in range(1 if alike else one.count):
        left, right = one.page(index), other.page(index)
        if left == right:
            continue
        for chunk in one.measured:
            begin = chunk * CHUNK_SIZE
            for at in range(begin, begin + CHUNK_SIZE):
                if left[at] != right[at]:
                    offset = one.offset + index * PAGE_SIZE + at
                    end = begin + CHUNK_SIZE
                    shown = (left[at : min(at + 16, end)].hex(), right[at : min(at + 16, end)].hex())
                    return Difference("contents", offset, *shown, name)
    return None
