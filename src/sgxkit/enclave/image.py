"""An enclave image: what a loader gives to ECREATE, EADD and EEXTEND, in order (Intel SDM Vol. 3D, 36.3, 38.1).

Images may be far larger than memory: pages come in runs of pages that are added alike, and the runs may be read from
a file while they are gone through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sgxkit.isa.attributes import Attributes
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.messages import Message, msg

CHUNK_SIZE = 256
"""Bytes that one EEXTEND measures."""

ALL_CHUNKS = tuple(range(PAGE_SIZE // CHUNK_SIZE))

MAX_SIZE_LOG2 = 56
"""No processor has more linear address bits than 57, half of them for user mode."""

_EADD_TYPES = (PageType.TCS, PageType.REG, PageType.SS_FIRST, PageType.SS_REST)


@dataclass(frozen=True, slots=True)
class PageRun:
    """Pages one after the other that are added alike.

    offset    of the first page from the enclave's base.
    secinfo   as it is measured: a TCS has no permissions.
    measured  the 256-byte chunks of each page that are measured, in that order.
    data      nothing: zeros; one page: every page of the run is like it; else all pages.
    name      what the pages are for, where the file says so; no part of the enclave.
    """

    offset: int
    count: int
    secinfo: SecInfo
    measured: tuple[int, ...] = ALL_CHUNKS
    data: bytes = field(default=b"", repr=False)
    name: str = field(default="", compare=False)

    @property
    def end(self) -> int:
        """The offset after the last page."""
        return self.offset + self.count * PAGE_SIZE

    def page(self, index: int) -> bytes:
        """The contents of one page, measured or not."""
        if not self.data:
            return bytes(PAGE_SIZE)
        if len(self.data) == PAGE_SIZE:
            return self.data
        return self.data[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]


@dataclass(frozen=True, slots=True)
class Page:
    """One page as EADD takes it."""

    offset: int
    secinfo: SecInfo
    measured: tuple[int, ...]
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EnclaveImage:
    """What makes an enclave: the fields of SECS that are measured, and the pages in the order of their EADD.

    runs         can be gone through again and again.
    attributes   what the file asks for in SECS.ATTRIBUTES, where it says so.
    miscselect   likewise.
    sigstruct    the signature, where the file carries it.
    """

    size: int
    ssaframesize: int
    runs: Iterable[PageRun]
    attributes: Attributes | None = None
    miscselect: int | None = None
    sigstruct: Sigstruct | None = None

    def pages(self) -> Iterator[Page]:
        """Go through the pages one by one."""
        for run in self.runs:
            for index in range(run.count):
                yield Page(run.offset + index * PAGE_SIZE, run.secinfo, run.measured, run.page(index))


def create_problem(size: int, ssaframesize: int) -> Message | None:
    """Say what ECREATE would refuse of SECS.SIZE and SECS.SSAFRAMESIZE, None where nothing."""
    if size & (size - 1) or not 2 * PAGE_SIZE <= size <= 1 << MAX_SIZE_LOG2:
        return msg("the size of an enclave must be a power of two from 8192 on, this is {size}", size=size)
    if ssaframesize == 0:
        return msg("SSAFRAMESIZE must not be zero")
    return None


def add_problem(secinfo: SecInfo) -> Message | None:
    """Say what EADD would refuse of a page's SECINFO (as it is measured), None where nothing."""
    if secinfo.page_type not in _EADD_TYPES:
        return msg("a page of type {type} cannot be added", type=secinfo.page_type)
    if secinfo.flags & ~PageFlags.RWX:
        return msg("PENDING, MODIFIED and PR are not for added pages")
    if secinfo.page_type == PageType.TCS and secinfo.flags:
        return msg("a TCS is measured without permissions")
    if secinfo.flags & PageFlags.RW == PageFlags.W:
        return msg("a page that can be written must be readable")
    return None
