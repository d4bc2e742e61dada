"""ENCLS of SGX2: EAUG, EMODPR, EMODT (Intel SDM Vol. 3D, chapter 38). What they change, the enclave must accept."""

from __future__ import annotations

from dataclasses import replace

from sgxkit.emulator.epc import EpcmEntry
from sgxkit.emulator.faults import GeneralProtectionFault, PageFault
from sgxkit.emulator.memory import Memory
from sgxkit.emulator.processor import (
    Processor,
    SecsState,
    parse,
    refuse,
    require_aligned,
    require_epc,
    require_free,
    require_secs,
    require_sgx2,
)
from sgxkit.isa.leaf import Encls
from sgxkit.isa.page import PAGE_SIZE, PAGEINFO_SIZE, SECINFO_SIZE, PageFlags, PageInfo, PageType, SecInfo
from sgxkit.isa.status import Status
from sgxkit.messages import msg

_NO_PERMISSIONS = PageFlags(0)


def eaug(processor: Processor, memory: Memory, rbx: int, rcx: int) -> None:
    """Give an initialized enclave the free EPC page RCX, zeroed and pending; RBX is a PAGEINFO."""
    require_sgx2(processor, Encls.EAUG)
    require_aligned("RBX", rbx, PAGEINFO_SIZE)
    require_aligned("RCX", rcx, PAGE_SIZE)
    entry = require_epc(processor, rcx)
    info = PageInfo.from_bytes(memory.read(rbx, PAGEINFO_SIZE))
    require_aligned("PAGEINFO.SECS", info.secs, PAGE_SIZE)
    require_aligned("PAGEINFO.LINADDR", info.linaddr, PAGE_SIZE)
    if info.srcpge or info.secinfo:
        raise refuse("PAGEINFO.SRCPGE, SECINFO", f"{info.srcpge:#x}, {info.secinfo:#x}")
    require_epc(processor, info.secs)
    require_free(rcx, entry)
    enclave = require_secs(processor, info.secs)
    _require_initialized(enclave)
    if not enclave.covers(info.linaddr):
        raise refuse("PAGEINFO.LINADDR", hex(info.linaddr))
    processor.epc.write(rcx, bytes(PAGE_SIZE))
    processor.epc.set_entry(
        rcx,
        EpcmEntry(
            valid=True,
            page_type=PageType.REG,
            secs=info.secs,
            address=info.linaddr,
            permissions=PageFlags.RW,
            pending=True,
        ),
    )
    enclave.children += 1


def emodpr(processor: Processor, memory: Memory, rbx: int, rcx: int) -> Status:
    """Take away permissions of the EPC page RCX that the SECINFO RBX does not have."""
    require_sgx2(processor, Encls.EMODPR)
    entry, secinfo = _operands(processor, memory, rbx, rcx)
    if secinfo.flags & PageFlags.RW == PageFlags.W:
        raise refuse("SECINFO.FLAGS", hex(secinfo.word))
    _require_valid(rcx, entry)
    if entry.pending or entry.modified:
        return Status.SGX_PAGE_NOT_MODIFIABLE
    if entry.page_type is not PageType.REG:
        raise PageFault(rcx, msg("EPCM.{field} is {value}", field="PT", value=entry.page_type.name))
    assert entry.secs is not None
    enclave = processor.enclaves[entry.secs]
    _require_initialized(enclave)
    processor.epc.set_entry(
        rcx,
        replace(
            entry,
            restricting=True,
            permissions=entry.permissions & secinfo.permissions,
            changed_in=enclave.epoch,
        ),
    )
    return Status.SGX_SUCCESS


def emodt(processor: Processor, memory: Memory, rbx: int, rcx: int) -> Status:
    """Make the EPC page RCX a TCS, or trim it, as the SECINFO RBX says."""
    require_sgx2(processor, Encls.EMODT)
    entry, secinfo = _operands(processor, memory, rbx, rcx)
    if secinfo.page_type not in (PageType.TCS, PageType.TRIM):
        raise refuse("SECINFO.FLAGS.PT", secinfo.page_type)
    _require_valid(rcx, entry)
    trimmed_tcs = entry.page_type is PageType.TCS and secinfo.page_type == PageType.TRIM
    if not (entry.page_type is PageType.REG or trimmed_tcs):
        raise PageFault(rcx, msg("EPCM.{field} is {value}", field="PT", value=entry.page_type.name))
    assert entry.secs is not None
    if entry.pending or entry.modified:
        return Status.SGX_PAGE_NOT_MODIFIABLE
    enclave = processor.enclaves[entry.secs]
    _require_initialized(enclave)
    processor.epc.set_entry(
        rcx,
        replace(
            entry,
            restricting=False,
            modified=True,
            permissions=_NO_PERMISSIONS,
            page_type=PageType(secinfo.page_type),
            changed_in=enclave.epoch,
        ),
    )
    return Status.SGX_SUCCESS


def _operands(processor: Processor, memory: Memory, rbx: int, rcx: int) -> tuple[EpcmEntry, SecInfo]:
    require_aligned("RBX", rbx, SECINFO_SIZE)
    require_aligned("RCX", rcx, PAGE_SIZE)
    entry = require_epc(processor, rcx)
    return entry, parse(SecInfo.from_bytes, memory.read(rbx, SECINFO_SIZE))


def _require_valid(address: int, entry: EpcmEntry) -> None:
    if not entry.valid:
        raise PageFault(address, msg("the EPC page is free"))


def _require_initialized(enclave: SecsState) -> None:
    if not enclave.initialized:
        raise GeneralProtectionFault(msg("the enclave is not initialized"))
