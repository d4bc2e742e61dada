"""ENCLU of SGX2: EACCEPT, EMODPE, EACCEPTCOPY (Intel SDM Vol. 3D, chapter 38)."""

from __future__ import annotations

from dataclasses import replace

from sgxkit.emulator.access import require_accessible, require_in_elrange
from sgxkit.emulator.encls import check_tcs, is_tracked
from sgxkit.emulator.epc import EpcmEntry
from sgxkit.emulator.faults import PageFault
from sgxkit.emulator.processor import LogicalProcessor, SecsState, parse, refuse, require_aligned, require_sgx2
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.page import PAGE_SIZE, SECINFO_SIZE, PageFlags, PageType, SecInfo
from sgxkit.isa.status import Status
from sgxkit.isa.tcs import Tcs, TcsFlags
from sgxkit.messages import msg

_ANY = PageFlags(0)
_CHANGEABLE = (PageType.REG, PageType.TCS, PageType.TRIM)


def eaccept(thread: LogicalProcessor, rbx: int, rcx: int) -> Status:
    """Accept what the operating system did to the page RCX, if it is what the SECINFO RBX says."""
    enclave, secs = _begin(thread, Enclu.EACCEPT)
    require_aligned("RBX", rbx, SECINFO_SIZE)
    require_in_elrange(enclave, "RBX", rbx)
    secinfo = _secinfo(thread, secs, rbx)
    require_aligned("RCX", rcx, PAGE_SIZE)
    require_in_elrange(enclave, "RCX", rcx)
    page = thread.translate(rcx)
    if not _is_acceptable(secinfo):
        raise refuse("SECINFO.FLAGS", hex(secinfo.word))
    epc = thread.processor.epc
    entry = epc.entry(page)
    if not entry.valid or entry.blocked or entry.page_type not in _CHANGEABLE or entry.secs != secs:
        raise PageFault(rcx, msg("not a page of this enclave that can be accepted"))
    if (
        entry.address != rcx
        or entry.pending != (PageFlags.PENDING in secinfo.flags)
        or entry.modified != (PageFlags.MODIFIED in secinfo.flags)
        or entry.permissions != secinfo.permissions
        or entry.page_type != secinfo.page_type
    ):
        return Status.SGX_PAGE_ATTRIBUTES_MISMATCH
    if not is_tracked(thread.processor, entry):
        return Status.SGX_NOT_TRACKED
    if entry.page_type is PageType.TCS:
        tcs = parse(Tcs.from_bytes, epc.read(page, PAGE_SIZE))
        if TcsFlags.DBGOPTIN in tcs.flags or tcs.cssa >= tcs.nssa or tcs.aep or tcs.state:
            raise refuse(
                "TCS.FLAGS, CSSA, NSSA, AEP, STATE",
                f"{int(tcs.flags)}, {tcs.cssa}, {tcs.nssa}, {tcs.aep:#x}, {tcs.state}",
            )
        check_tcs(thread.processor, enclave, tcs)
    epc.set_entry(page, replace(entry, pending=False, modified=False, restricting=False, changed_in=None))
    return Status.SGX_SUCCESS


def _is_acceptable(secinfo: SecInfo) -> bool:
    """Whether this combination of page type and state can be accepted at all."""
    flags = secinfo.flags
    if secinfo.page_type == PageType.REG:
        return bool(flags & (PageFlags.PR | PageFlags.PENDING)) and PageFlags.MODIFIED not in flags
    state = flags & (PageFlags.PR | PageFlags.PENDING | PageFlags.MODIFIED)
    return secinfo.page_type in (PageType.TCS, PageType.TRIM) and state == PageFlags.MODIFIED


def emodpe(thread: LogicalProcessor, rbx: int, rcx: int) -> None:
    """Add the permissions of the SECINFO RBX to the page RCX."""
    enclave, secs = _begin(thread, Enclu.EMODPE)
    require_aligned("RBX", rbx, SECINFO_SIZE)
    require_aligned("RCX", rcx, PAGE_SIZE)
    require_in_elrange(enclave, "RBX", rbx)
    require_in_elrange(enclave, "RCX", rcx)
    thread.translate(rbx)
    page = thread.translate(rcx)
    secinfo = _secinfo(thread, secs, rbx)
    require_accessible(thread, secs, rcx, _ANY)
    epc = thread.processor.epc
    entry = epc.entry(page)
    permissions = entry.permissions | secinfo.permissions
    if permissions & PageFlags.RW == PageFlags.W:
        raise refuse("SECINFO.FLAGS", hex(secinfo.word))
    epc.set_entry(page, replace(entry, permissions=permissions))


def eacceptcopy(thread: LogicalProcessor, rbx: int, rcx: int, rdx: int) -> Status:
    """Accept the pending page RCX with the contents of the page RDX and the permissions of the SECINFO RBX."""
    enclave, secs = _begin(thread, Enclu.EACCEPTCOPY)
    require_aligned("RBX", rbx, SECINFO_SIZE)
    require_aligned("RCX", rcx, PAGE_SIZE)
    require_aligned("RDX", rdx, PAGE_SIZE)
    for operand, address in (("RBX", rbx), ("RCX", rcx), ("RDX", rdx)):
        require_in_elrange(enclave, operand, address)
    thread.translate(rbx)
    page = thread.translate(rcx)
    thread.translate(rdx)
    secinfo = _secinfo(thread, secs, rbx)
    if secinfo.flags & PageFlags.RW == PageFlags.W or secinfo.page_type != PageType.REG:
        raise refuse("SECINFO.FLAGS", hex(secinfo.word))
    source = require_accessible(thread, secs, rdx, PageFlags.R)
    epc = thread.processor.epc
    entry = epc.entry(page)
    if not _is_pending_page(entry, secs, rcx):
        return Status.SGX_PAGE_ATTRIBUTES_MISMATCH
    epc.write(page, epc.read(source, PAGE_SIZE))
    epc.set_entry(page, replace(entry, permissions=secinfo.permissions, pending=False))
    return Status.SGX_SUCCESS


def _is_pending_page(entry: EpcmEntry, secs: int, address: int) -> bool:
    """Whether the page is as EAUG leaves it, at its place."""
    return entry == EpcmEntry(
        valid=True,
        page_type=PageType.REG,
        secs=secs,
        address=address,
        permissions=PageFlags.RW,
        pending=True,
        # EMODPR and EMODT leave pending pages alone.
        restricting=False,
    )


def _begin(thread: LogicalProcessor, leaf: Enclu) -> tuple[SecsState, int]:
    require_sgx2(thread.processor, leaf)
    enclave = thread.current(leaf)
    assert thread.active_secs is not None
    return enclave, thread.active_secs


def _secinfo(thread: LogicalProcessor, secs: int, address: int) -> SecInfo:
    physical = require_accessible(thread, secs, address, PageFlags.R)
    return parse(SecInfo.from_bytes, thread.processor.epc.read(physical, SECINFO_SIZE))
