"""Load an enclave image into the emulated EPC: what an operating system's driver does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sgxkit.emulator.einit import einit
from sgxkit.emulator.encls import CHUNK_SIZE, eadd, ecreate, eextend, eremove
from sgxkit.emulator.epc import Epc
from sgxkit.emulator.keys import SecsIdentity
from sgxkit.emulator.memory import SparseMemory
from sgxkit.emulator.processor import LogicalProcessor, Processor
from sgxkit.emulator.runs import add_run
from sgxkit.enclave.image import EnclaveImage, PageRun
from sgxkit.errors import InputError
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.einittoken import EinitToken
from sgxkit.isa.leaf import Encls
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageInfo, PageType, SecInfo
from sgxkit.isa.secs import Secs
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.isa.status import require_success
from sgxkit.messages import msg

# Where the operands of ENCLS stand in the memory that is made for them.
_INFO, _SECINFO, _SOURCE, _TOKEN = 0x1000, 0x2000, 0x3000, 0x4000
_NO_TOKEN = EinitToken(valid=False)


@dataclass(frozen=True, slots=True)
class LoadedEnclave:
    """An initialized enclave.

    secs   EPC address of its SECS.
    pages  EPC page by linear page: the page table that a thread needs.
    tcs    linear addresses of its TCS pages, in the order of loading.
    """

    processor: Processor
    secs: int
    pages: dict[int, int]
    tcs: tuple[int, ...]

    @property
    def identity(self) -> SecsIdentity:
        return self.processor.enclaves[self.secs].identity

    def thread(self) -> LogicalProcessor:
        """A logical processor outside the enclave that has its pages mapped and all its XFRM turned on."""
        return LogicalProcessor(
            self.processor, self.pages, xcr0=self.processor.enclaves[self.secs].secs.attributes.xfrm
        )

    def remove(self) -> None:
        """Give the pages back; raises SgxError while a thread is inside."""
        _remove(self.processor, [*self.pages.values(), self.secs])


def load(
    processor: Processor,
    image: EnclaveImage,
    sigstruct: Sigstruct,
    *,
    debug: bool = False,
    base: int | None = None,
    token: EinitToken = _NO_TOKEN,
    progress: Callable[[int], None] | None = None,
) -> LoadedEnclave:
    """Create, fill and initialize the enclave of `image` at `base`, by default the lowest multiple of its size.

    MISCSELECT and ATTRIBUTES are SIGSTRUCT's; `debug` adds DEBUG. `progress` is told how many pages have been added
    each time that some have. Needs NumPy. Raises SgxError or a Fault as the leaf functions
    do, and InputError when the EPC is full; then nothing is left behind.
    """
    base = image.size if base is None else base
    memory = SparseMemory()
    free = _free_pages(processor.epc)
    flags = sigstruct.attributes.flags | (AttributeFlags.DEBUG if debug else 0)
    secs = Secs(
        size=image.size,
        baseaddr=base,
        ssaframesize=image.ssaframesize,
        miscselect=sigstruct.miscselect,
        attributes=Attributes(flags & ~AttributeFlags.INIT, sigstruct.attributes.xfrm),
    )
    memory.write(_SOURCE, secs.to_bytes())
    memory.write(_SECINFO, SecInfo(PageFlags(0), PageType.SECS).to_bytes())
    memory.write(_INFO, PageInfo(0, _SOURCE, _SECINFO, 0).to_bytes())
    secs_page = _take(free)
    ecreate(processor, memory, _INFO, secs_page)
    pages: dict[int, int] = {}
    tcs = []
    try:
        for run in image.runs:
            linear = [base + run.offset + index * PAGE_SIZE for index in range(run.count)]
            pages.update(zip(linear, itertools.islice(free, run.count), strict=False))
            if run.count and linear[-1] not in pages:
                raise InputError(msg("the EPC is full"), hint=msg("remove an enclave, or emulate a larger EPC"))
            if run.secinfo.page_type == PageType.REG:
                add_run(processor, secs_page, run, [pages[address] for address in linear])
            else:
                _add_one_by_one(processor, memory, secs_page, run, [(address, pages[address]) for address in linear])
            if run.secinfo.page_type == PageType.TCS:
                tcs.extend(linear)
            if progress is not None:
                progress(run.count)
        memory.write(_SOURCE, sigstruct.to_bytes())
        memory.write(_TOKEN, token.to_bytes())
        require_success(Encls.EINIT, einit(processor, memory, _SOURCE, secs_page, _TOKEN))
    except BaseException:
        _remove(processor, [*pages.values(), secs_page])
        raise
    return LoadedEnclave(processor, secs_page, pages, tuple(tcs))


def _add_one_by_one(
    processor: Processor, memory: SparseMemory, secs: int, run: PageRun, pages: list[tuple[int, int]]
) -> None:
    for index, (linear, page) in enumerate(pages):
        memory.write(_SOURCE, run.page(index))
        memory.write(_SECINFO, run.secinfo.to_bytes())
        memory.write(_INFO, PageInfo(linear, _SOURCE, _SECINFO, secs).to_bytes())
        eadd(processor, memory, _INFO, page)
        for chunk in run.measured:
            eextend(processor, secs, page + chunk * CHUNK_SIZE)


def _remove(processor: Processor, pages: list[int]) -> None:
    for page in pages:
        require_success(Encls.EREMOVE, eremove(processor, page))


def _free_pages(epc: Epc) -> Iterator[int]:
    return (page for page in range(epc.base, epc.base + epc.size, PAGE_SIZE) if not epc.entry(page).valid)


def _take(free: Iterator[int]) -> int:
    page = next(free, None)
    if page is None:
        raise InputError(msg("the EPC is full"), hint=msg("remove an enclave, or emulate a larger EPC"))
    return page
