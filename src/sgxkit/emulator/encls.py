"""ENCLS of SGX1, but EINIT: ECREATE, EADD, EEXTEND, EREMOVE, EBLOCK, ETRACK (Intel SDM Vol. 3D, chapter 38).

The operating system has the EPC mapped one to one: an EPC operand is its physical address.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace

from sgxkit.emulator.epc import EpcmEntry
from sgxkit.emulator.faults import GeneralProtectionFault, PageFault
from sgxkit.emulator.memory import Memory
from sgxkit.emulator.processor import (
    Processor,
    SecsState,
    is_canonical,
    parse,
    refuse,
    require_aligned,
    require_epc,
    require_free,
    require_secs,
)
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.page import PAGE_SIZE, PAGEINFO_SIZE, SECINFO_SIZE, PageFlags, PageInfo, PageType, SecInfo
from sgxkit.isa.secs import SECS_SIZE, Secs
from sgxkit.isa.ssa import GPRSGX_SIZE, misc_size, xsave_size
from sgxkit.isa.status import Status
from sgxkit.isa.tcs import Tcs, TcsFlags
from sgxkit.messages import msg

CHUNK_SIZE = 256
"""Bytes that one EEXTEND measures."""

_MEASURED_CREATE = struct.Struct("<8sIQ44x")
_MEASURED_ADD = struct.Struct("<8sQ48s")
_MEASURED_EXTEND = struct.Struct("<8sQ48x")

# Components of XFRM that XCR0 allows only together (Intel SDM Vol. 1, 13.3).
_XFRM_TOGETHER = ((0x18, 0), (0xE0, 0x4), (0x6_0000, 0))


def ecreate(processor: Processor, memory: Memory, rbx: int, rcx: int) -> None:
    """Make the free EPC page RCX the SECS of a new enclave; RBX is a PAGEINFO."""
    require_aligned("RBX", rbx, PAGEINFO_SIZE)
    require_aligned("RCX", rcx, PAGE_SIZE)
    entry = require_epc(processor, rcx)
    info = PageInfo.from_bytes(memory.read(rbx, PAGEINFO_SIZE))
    require_aligned("PAGEINFO.SRCPGE", info.srcpge, PAGE_SIZE)
    require_aligned("PAGEINFO.SECINFO", info.secinfo, SECINFO_SIZE)
    if info.linaddr or info.secs:
        raise refuse("PAGEINFO.LINADDR, SECS", f"{info.linaddr:#x}, {info.secs:#x}")
    secinfo = parse(SecInfo.from_bytes, memory.read(info.secinfo, SECINFO_SIZE))
    if secinfo.page_type != PageType.SECS:
        raise refuse("SECINFO.FLAGS.PT", secinfo.page_type)
    require_free(rcx, entry)
    raw = memory.read(info.srcpge, SECS_SIZE)
    secs = Secs.from_bytes(raw, ignore_reserved=True)
    _check_secs(processor, secs, reserved_clear=secs.to_bytes() == raw)
    secs = replace(secs, mrenclave=bytes(32), mrsigner=bytes(32), isvprodid=0, isvsvn=0)
    state = SecsState(secs, eid=processor.next_eid)
    processor.next_eid += 1
    state.measurement.update(_MEASURED_CREATE.pack(b"ECREATE\0", secs.ssaframesize, secs.size))
    processor.enclaves[rcx] = state
    processor.epc.set_entry(rcx, EpcmEntry(valid=True, page_type=PageType.SECS))


def _check_secs(processor: Processor, secs: Secs, *, reserved_clear: bool) -> None:
    profile = processor.fuses.profile
    flags, xfrm = secs.attributes.flags, secs.attributes.xfrm
    if xfrm & 3 != 3:
        raise refuse("SECS.ATTRIBUTES.XFRM", hex(xfrm))
    if xfrm & ~profile.attributes.xfrm or any(
        xfrm & group and (xfrm & group != group or xfrm & needs != needs) for group, needs in _XFRM_TOGETHER
    ):
        raise refuse("SECS.ATTRIBUTES.XFRM", hex(xfrm))
    if secs.miscselect & ~profile.miscselect.value:
        raise refuse("SECS.MISCSELECT", hex(secs.miscselect))
    if secs.ssaframesize * PAGE_SIZE < xsave_size(xfrm) + GPRSGX_SIZE + misc_size(secs.miscselect):
        raise refuse("SECS.SSAFRAMESIZE", secs.ssaframesize)
    mode64 = bool(flags & AttributeFlags.MODE64BIT)
    if not is_canonical(processor, secs.baseaddr) if mode64 else secs.baseaddr >> 32:
        raise refuse("SECS.BASEADDR", hex(secs.baseaddr))
    if secs.size >= 1 << (profile.max_size_64 if mode64 else profile.max_size_not64):
        raise refuse("SECS.SIZE", hex(secs.size))
    if secs.size < 2 * PAGE_SIZE or secs.size.bit_count() > 1:
        raise refuse("SECS.SIZE", hex(secs.size))
    if secs.baseaddr & (secs.size - 1):
        raise refuse("SECS.BASEADDR", hex(secs.baseaddr))
    if flags & ~profile.attributes.flags:
        raise refuse("SECS.ATTRIBUTES.FLAGS", hex(flags))
    # Without CET, which no profile has, its fields are reserved.
    if not reserved_clear or secs.cet_leg_bitmap_offset or secs.cet_attributes:
        raise GeneralProtectionFault(msg("reserved bytes of SECS are not zero"))
    if not flags & AttributeFlags.KSS and (any(secs.configid) or secs.configsvn):
        raise refuse("SECS.CONFIGID, CONFIGSVN", f"{secs.configid.hex()}, {secs.configsvn}")


def eadd(processor: Processor, memory: Memory, rbx: int, rcx: int) -> None:
    """Copy a page into the free EPC page RCX, measure where it goes and how; RBX is a PAGEINFO."""
    require_aligned("RBX", rbx, PAGEINFO_SIZE)
    require_aligned("RCX", rcx, PAGE_SIZE)
    entry = require_epc(processor, rcx)
    info = PageInfo.from_bytes(memory.read(rbx, PAGEINFO_SIZE))
    require_aligned("PAGEINFO.SRCPGE", info.srcpge, PAGE_SIZE)
    require_aligned("PAGEINFO.SECS", info.secs, PAGE_SIZE)
    require_aligned("PAGEINFO.SECINFO", info.secinfo, SECINFO_SIZE)
    require_aligned("PAGEINFO.LINADDR", info.linaddr, PAGE_SIZE)
    require_epc(processor, info.secs)
    secinfo = parse(SecInfo.from_bytes, memory.read(info.secinfo, SECINFO_SIZE))
    if secinfo.page_type not in (PageType.REG, PageType.TCS):
        raise refuse("SECINFO.FLAGS.PT", secinfo.page_type)
    require_free(rcx, entry)
    enclave = require_secs(processor, info.secs)
    contents = memory.read(info.srcpge, PAGE_SIZE)
    if secinfo.page_type == PageType.TCS:
        tcs = parse(Tcs.from_bytes, contents)
        check_tcs(processor, enclave, tcs)
        contents = replace(tcs, flags=tcs.flags & ~TcsFlags.DBGOPTIN, cssa=0, aep=0, state=0).to_bytes()
    elif secinfo.flags & PageFlags.RW == PageFlags.W:
        raise refuse("SECINFO.FLAGS", hex(secinfo.word))
    if not enclave.covers(info.linaddr):
        raise refuse("PAGEINFO.LINADDR", hex(info.linaddr))
    require_not_initialized(enclave)
    if secinfo.page_type == PageType.TCS:
        secinfo = replace(secinfo, flags=secinfo.flags & ~PageFlags.RWX)
    enclave.measurement.update(
        _MEASURED_ADD.pack(b"EADD\0\0\0\0", info.linaddr - enclave.secs.baseaddr, secinfo.to_bytes()[:48])
    )
    processor.epc.write(rcx, contents)
    processor.epc.set_entry(
        rcx,
        EpcmEntry(
            valid=True,
            page_type=PageType(secinfo.page_type),
            secs=info.secs,
            address=info.linaddr,
            permissions=secinfo.permissions,
        ),
    )
    enclave.children += 1


def add_regular_pages(
    processor: Processor, secs: int, page: int, linear: int, *, secinfo: SecInfo, contents: bytes | int, measure: bool
) -> None:
    """What EADD and, with `measure`, EEXTEND of every page of a run of regular pages do, in one step.

    `page` and `linear` are the first EPC page, all of which are free, and its ENCLAVEADDRESS; `contents` are whole
    pages, or how many pages of zeros.
    """
    enclave = require_secs(processor, secs)
    count = contents if isinstance(contents, int) else len(contents) // PAGE_SIZE
    end = linear + count * PAGE_SIZE
    if secinfo.page_type != PageType.REG:
        raise refuse("SECINFO.FLAGS.PT", secinfo.page_type)
    if secinfo.flags & PageFlags.RW == PageFlags.W:
        raise refuse("SECINFO.FLAGS", hex(secinfo.word))
    if not (enclave.covers(linear) and enclave.covers(end - 1)):
        raise refuse("PAGEINFO.LINADDR", hex(linear))
    require_not_initialized(enclave)
    data = bytes(count * PAGE_SIZE) if measure and isinstance(contents, int) else contents
    flags, base = secinfo.to_bytes()[:48], enclave.secs.baseaddr
    records: list[bytes] = []
    for number in range(count):
        offset = linear - base + number * PAGE_SIZE
        records.append(_MEASURED_ADD.pack(b"EADD\0\0\0\0", offset, flags))
        if measure:
            assert isinstance(data, bytes)
            at = number * PAGE_SIZE
            for chunk in range(0, PAGE_SIZE, CHUNK_SIZE):
                records.append(_MEASURED_EXTEND.pack(b"EEXTEND\0", offset + chunk))
                records.append(data[at + chunk : at + chunk + CHUNK_SIZE])
    enclave.measurement.update(b"".join(records))
    if isinstance(contents, bytes):
        for number in range(count):
            processor.epc.write(page + number * PAGE_SIZE, contents[number * PAGE_SIZE : (number + 1) * PAGE_SIZE])
    entry = EpcmEntry(valid=True, page_type=PageType.REG, secs=secs, address=linear, permissions=secinfo.permissions)
    processor.epc.set_run(page, count, entry)
    enclave.children += count


def remove_enclave(processor: Processor, secs: int, runs: Iterable[tuple[int, int]]) -> None:
    """EREMOVE all pages of an enclave that no thread is in, in one step; `runs` are (EPC page, count)."""
    for page, count in runs:
        processor.epc.free_run(page, count)
    del processor.enclaves[secs]
    processor.epc.free(secs)


def check_tcs(processor: Processor, enclave: SecsState, tcs: Tcs) -> None:
    """What EADD and EACCEPT ask of a TCS besides its reserved bytes."""
    # Without CET, which no profile has, its fields are reserved; so is AEXNOTIFY where it is not supported.
    if tcs.ocetssa or tcs.prevssp:
        raise refuse("TCS.OCETSSA, PREVSSP", f"{tcs.ocetssa:#x}, {tcs.prevssp:#x}")
    if TcsFlags.AEXNOTIFY in tcs.flags and not processor.fuses.profile.attributes.flags & AttributeFlags.AEXNOTIFY:
        raise refuse("TCS.FLAGS", hex(tcs.flags))
    if not enclave.secs.attributes.flags & AttributeFlags.MODE64BIT and (
        tcs.fslimit & 0xFFF != 0xFFF or tcs.gslimit & 0xFFF != 0xFFF
    ):
        raise refuse("TCS.FSLIMIT, GSLIMIT", f"{tcs.fslimit:#x}, {tcs.gslimit:#x}")


def require_not_initialized(enclave: SecsState) -> None:
    """#GP after EINIT."""
    if enclave.initialized:
        raise GeneralProtectionFault(msg("the enclave is initialized already"))


def eextend(processor: Processor, rbx: int, rcx: int) -> None:
    """Measure the 256 bytes at EPC address RCX of the enclave with the SECS RBX."""
    require_aligned("RBX", rbx, PAGE_SIZE)
    require_epc(processor, rbx)
    require_aligned("RCX", rcx, CHUNK_SIZE)
    entry = require_epc(processor, rcx)
    if not entry.valid:
        raise PageFault(rcx, msg("the EPC page is free"))
    if entry.page_type not in (PageType.REG, PageType.TCS):
        raise PageFault(rcx, msg("EPCM.{field} is {value}", field="PT", value=entry.page_type.name))
    if entry.secs != rbx:
        raise refuse("RBX", hex(rbx))
    enclave = processor.enclaves[rbx]
    require_not_initialized(enclave)
    offset = entry.address - enclave.secs.baseaddr + rcx % PAGE_SIZE
    enclave.measurement.update(_MEASURED_EXTEND.pack(b"EEXTEND\0", offset))
    enclave.measurement.update(processor.epc.read(rcx, CHUNK_SIZE))


def eremove(processor: Processor, rcx: int) -> Status:
    """Make the EPC page RCX free."""
    require_aligned("RCX", rcx, PAGE_SIZE)
    entry = require_epc(processor, rcx)
    if not entry.valid:
        return Status.SGX_SUCCESS
    if entry.secs is None:
        if processor.enclaves[rcx].children:
            return Status.SGX_CHILD_PRESENT
        del processor.enclaves[rcx]
        processor.epc.free(rcx)
        return Status.SGX_SUCCESS
    trimmed = entry.page_type is PageType.TRIM and not entry.modified
    if not trimmed and any(thread.active_secs == entry.secs for thread in processor.inside):
        return Status.SGX_ENCLAVE_ACT
    processor.enclaves[entry.secs].children -= 1
    processor.epc.free(rcx)
    return Status.SGX_SUCCESS


def eblock(processor: Processor, rcx: int) -> Status:
    """Let no new translation to the EPC page RCX be made: the first step of taking it away."""
    require_aligned("RCX", rcx, PAGE_SIZE)
    entry = require_epc(processor, rcx)
    if not entry.valid:
        return Status.SGX_PG_INVLD
    if entry.secs is None:
        return Status.SGX_PG_IS_SECS
    if entry.blocked:
        return Status.SGX_BLKSTATE
    processor.epc.set_entry(rcx, replace(entry, blocked=True, changed_in=processor.enclaves[entry.secs].epoch))
    return Status.SGX_SUCCESS


def etrack(processor: Processor, rcx: int) -> Status:
    """Begin a tracking epoch of the enclave with the SECS RCX; refused while a thread of the one before is inside."""
    require_aligned("RCX", rcx, PAGE_SIZE)
    require_epc(processor, rcx)
    enclave = require_secs(processor, rcx)
    if any(thread.active_secs == rcx and thread.epoch < enclave.epoch for thread in processor.inside):
        return Status.SGX_PREV_TRK_INCMPL
    enclave.epoch += 1
    return Status.SGX_SUCCESS


def is_tracked(processor: Processor, entry: EpcmEntry) -> bool:
    """Whether every thread that was inside when the page was changed has left since, and ETRACK made sure of it."""
    if entry.changed_in is None:
        return True
    assert entry.secs is not None, "a SECS is never changed"
    if processor.enclaves[entry.secs].epoch <= entry.changed_in:
        return False
    return not any(
        thread.active_secs == entry.secs and thread.epoch <= entry.changed_in for thread in processor.inside
    )
