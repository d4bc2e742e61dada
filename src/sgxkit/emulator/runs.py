"""EADD and EEXTEND of many pages that are added alike, in one go: what they leave behind is the same."""

from __future__ import annotations

from collections.abc import Sequence

from sgxkit.emulator.encls import require_not_initialized
from sgxkit.emulator.epc import EpcmEntry
from sgxkit.emulator.processor import Processor, SecsState, refuse, require_epc, require_free, require_secs
from sgxkit.enclave.image import PageRun
from sgxkit.enclave.measure import run_records
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType


def add_run(processor: Processor, secs: int, run: PageRun, pages: Sequence[int]) -> None:
    """Add the run to the enclave with the SECS at the EPC address `secs`, on the free EPC pages `pages`.

    For runs of regular pages only. Raises the Fault of the first EADD that would, before anything has changed.
    """
    if run.secinfo.page_type != PageType.REG:
        raise ValueError("pages that are looked at one by one are added one by one")
    for page in pages:
        require_free(page, require_epc(processor, page))
    enclave = require_secs(processor, secs)
    _check(enclave, run)
    epc, base = processor.epc, enclave.secs.baseaddr
    for records in run_records(run):
        enclave.measurement.update(records)
    permissions = run.secinfo.permissions
    for index, page in enumerate(pages):
        if run.data:
            epc.write(page, run.page(index))
        address = base + run.offset + index * PAGE_SIZE
        epc.set_entry(page, EpcmEntry(True, PageType.REG, secs, address, permissions))
    enclave.children += len(pages)


def _check(enclave: SecsState, run: PageRun) -> None:
    if run.secinfo.flags & PageFlags.RW == PageFlags.W:
        raise refuse("SECINFO.FLAGS", hex(run.secinfo.word))
    if run.offset < 0 or run.offset % PAGE_SIZE or run.end > enclave.secs.size:
        raise refuse("PAGEINFO.LINADDR", hex(enclave.secs.baseaddr + run.offset))
    require_not_initialized(enclave)
