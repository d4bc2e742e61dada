"""EENTER, ERESUME, EEXIT and the asynchronous exit, as far as the processor's own state goes.

Intel SDM Vol. 3D, chapter 38 (leaf functions) and chapter 37 (asynchronous enclave exits). What runs the code keeps
the registers and is told what they become. 64-bit mode only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from sgxkit.emulator.access import require_accessible
from sgxkit.emulator.faults import Fault, GeneralProtectionFault, PageFault
from sgxkit.emulator.processor import (
    LogicalProcessor,
    SavedFrame,
    SecsState,
    is_canonical,
    parse,
    refuse,
    require_aligned,
    require_capability,
)
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.cpuid import SgxCapabilities
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType
from sgxkit.isa.ssa import GPRSGX_SIZE, ExInfo, GprSgx, ssa_frame
from sgxkit.isa.tcs import Tcs, TcsFlags
from sgxkit.messages import msg

ACTIVE, INACTIVE = 1, 0
"""TCS.STATE while a thread is inside by it, and else."""

_URSP_URBP = struct.Struct("<QQ")
_URSP_OFFSET, _AEXNOTIFY_OFFSET = 144, 167


@dataclass(frozen=True, slots=True)
class Entered:
    """What EENTER makes of the registers; RCX becomes the address after the instruction."""

    rip: int
    rax: int
    fsbase: int
    gsbase: int


@dataclass(frozen=True, slots=True)
class AsynchronousExit:
    """The synthetic state after an asynchronous exit: ERESUME's operands, ready to be used again."""

    rax: int
    rbx: int
    rcx: int
    rsp: int
    rbp: int


def eenter(thread: LogicalProcessor, rbx: int, rcx: int, *, rsp: int, rbp: int) -> Entered:
    """Enter by the TCS RBX; RCX is the address for asynchronous exits, `rsp` and `rbp` are the caller's."""
    page, tcs, enclave = _usable_tcs(thread, Enclu.EENTER, rbx, rcx)
    base = enclave.secs.baseaddr
    fsbase, gsbase, rip = base + tcs.ofsbase, base + tcs.ogsbase, base + tcs.oentry
    _require_canonical(thread, "TCS.OFSBASE", fsbase)
    _require_canonical(thread, "TCS.OGSBASE", gsbase)
    _require_ready(thread, enclave, tcs)
    if tcs.cssa >= tcs.nssa:
        raise refuse("TCS.CSSA", tcs.cssa)
    frame = _frame(thread, page, enclave, tcs, tcs.cssa)
    _require_canonical(thread, "TCS.OENTRY", rip)
    _require_inactive(tcs)
    thread.processor.epc.write(frame.gprsgx + _URSP_OFFSET, _URSP_URBP.pack(rsp, rbp))
    _activate(thread, page, replace(tcs, aep=rcx), rbx, frame)
    return Entered(rip=rip, rax=tcs.cssa, fsbase=fsbase, gsbase=gsbase)


def eexit(thread: LogicalProcessor, rbx: int) -> int:
    """Leave for the address RBX; returns what RCX becomes: the address for asynchronous exits."""
    thread.current(Enclu.EEXIT)
    _require_canonical(thread, "RBX", rbx)
    tcs = Tcs.from_bytes(thread.processor.epc.read(thread.tcs_page, PAGE_SIZE))
    _deactivate(thread, tcs)
    return tcs.aep


def asynchronous_exit(
    thread: LogicalProcessor, registers: GprSgx, xsave: bytes, exinfo: ExInfo | None = None
) -> AsynchronousExit:
    """Save the enclave's state in its current SSA frame and leave.

    `registers` are the enclave's with EXITINFO, but for URSP and URBP, which EENTER has saved, and AEXNOTIFY, which
    is the enclave's own; `xsave` is its XSAVE area; `exinfo` is written where MISCSELECT has it.
    """
    frame = thread.frame
    if frame is None:
        raise ValueError("no enclave is being executed")
    epc = thread.processor.epc
    tcs = Tcs.from_bytes(epc.read(thread.tcs_page, PAGE_SIZE))
    if len(xsave) > frame.xsave_size:
        raise ValueError("the XSAVE area is larger than XFRM allows")
    ursp, urbp = _URSP_URBP.unpack(epc.read(frame.gprsgx + _URSP_OFFSET, _URSP_URBP.size))
    (aexnotify,) = epc.read(frame.gprsgx + _AEXNOTIFY_OFFSET, 1)
    for offset in range(0, len(xsave), PAGE_SIZE):
        epc.write(frame.xsave_pages[offset // PAGE_SIZE], xsave[offset : offset + PAGE_SIZE])
    if frame.misc_size and exinfo is not None:
        epc.write(frame.misc, exinfo.to_bytes())
    epc.write(frame.gprsgx, replace(registers, ursp=ursp, urbp=urbp, aexnotify=aexnotify).to_bytes())
    _deactivate(thread, replace(tcs, cssa=tcs.cssa + 1))
    return AsynchronousExit(rax=Enclu.ERESUME, rbx=thread.tcs, rcx=tcs.aep, rsp=ursp, rbp=urbp)


def wants_notification(thread: LogicalProcessor, rbx: int) -> bool:
    """Whether ERESUME by the TCS RBX enters the enclave's handler (`eresume_notified`) instead of resuming."""
    try:
        page, tcs, enclave = _usable_tcs(thread, Enclu.ERESUME, rbx, 0)
        if TcsFlags.AEXNOTIFY not in tcs.flags or tcs.cssa == 0:
            return False
        frame = _frame(thread, page, enclave, tcs, tcs.cssa - 1)
    except Fault:
        return False  # ERESUME will raise it
    return bool(thread.processor.epc.read(frame.gprsgx + _AEXNOTIFY_OFFSET, 1)[0] & 1)


def eresume_notified(thread: LogicalProcessor, rbx: int, rcx: int, *, rsp: int, rbp: int) -> Entered:
    """ERESUME where the interrupted thread has asked to be told: as EENTER, on the next SSA frame."""
    page, tcs, enclave = _usable_tcs(thread, Enclu.ERESUME, rbx, rcx)
    _require_ready(thread, enclave, tcs)
    base = enclave.secs.baseaddr
    if tcs.cssa >= tcs.nssa:
        raise refuse("TCS.CSSA", tcs.cssa)
    frame = _frame(thread, page, enclave, tcs, tcs.cssa)
    fsbase, gsbase, rip = base + tcs.ofsbase, base + tcs.ogsbase, base + tcs.oentry
    _require_canonical(thread, "TCS.OENTRY", rip)
    _require_canonical(thread, "TCS.OFSBASE", fsbase)
    _require_canonical(thread, "TCS.OGSBASE", gsbase)
    _require_inactive(tcs)
    thread.processor.epc.write(frame.gprsgx + _URSP_OFFSET, _URSP_URBP.pack(rsp, rbp))
    _activate(thread, page, replace(tcs, aep=rcx), rbx, frame)
    return Entered(rip=rip, rax=tcs.cssa, fsbase=fsbase, gsbase=gsbase)


def edeccssa(thread: LogicalProcessor) -> None:
    """Make the SSA frame before the current one the current one: the next asynchronous exit saves there."""
    require_capability(thread.processor, Enclu.EDECCSSA, SgxCapabilities.EDECCSSA)
    enclave = thread.current(Enclu.EDECCSSA)
    epc = thread.processor.epc
    tcs = Tcs.from_bytes(epc.read(thread.tcs_page, PAGE_SIZE))
    if tcs.cssa == 0:
        raise refuse("TCS.CSSA", 0)
    frame = _frame(thread, thread.tcs_page, enclave, tcs, tcs.cssa - 1)
    epc.write(thread.tcs_page, replace(tcs, cssa=tcs.cssa - 1).to_bytes())
    thread.frame = frame


def eresume(thread: LogicalProcessor, rbx: int, rcx: int) -> tuple[GprSgx, bytes]:
    """Go on where the TCS RBX left last; returns the registers and the XSAVE area to restore.

    Where `wants_notification`, ERESUME is `eresume_notified` and not this.
    """
    page, tcs, enclave = _usable_tcs(thread, Enclu.ERESUME, rbx, rcx)
    _require_ready(thread, enclave, tcs)
    if tcs.cssa == 0:
        raise refuse("TCS.CSSA", 0)
    frame = _frame(thread, page, enclave, tcs, tcs.cssa - 1)
    epc = thread.processor.epc
    registers = parse(GprSgx.from_bytes, epc.read(frame.gprsgx, GPRSGX_SIZE))
    _require_canonical(thread, "GPRSGX.RIP", registers.rip)
    _require_canonical(thread, "GPRSGX.FSBASE", registers.fsbase)
    _require_canonical(thread, "GPRSGX.GSBASE", registers.gsbase)
    _require_inactive(tcs)
    xsave = b"".join(epc.read(at, PAGE_SIZE) for at in frame.xsave_pages)[: frame.xsave_size]
    _activate(thread, page, replace(tcs, aep=rcx, cssa=tcs.cssa - 1), rbx, frame)
    return registers, xsave


def _usable_tcs(thread: LogicalProcessor, leaf: Enclu, rbx: int, rcx: int) -> tuple[int, Tcs, SecsState]:
    if thread.active_secs is not None:
        raise GeneralProtectionFault(msg("{leaf} inside an enclave", leaf=leaf.name))
    require_aligned("RBX", rbx, PAGE_SIZE)
    page = thread.translate(rbx)
    _require_canonical(thread, "RCX", rcx)
    processor = thread.processor
    entry = processor.epc.entry(page)
    for name, holds in (
        ("VALID", entry.valid),
        ("BLOCKED", not entry.blocked),
        ("ENCLAVEADDRESS", entry.address == rbx),
        ("PT", entry.page_type is PageType.TCS),
        ("PENDING", not entry.pending),
        ("MODIFIED", not entry.modified),
    ):
        if not holds:
            raise PageFault(rbx, msg("EPCM.{field} does not allow an entry", field=name))
    tcs = parse(Tcs.from_bytes, processor.epc.read(page, PAGE_SIZE))
    require_aligned("TCS.OSSA", tcs.ossa, PAGE_SIZE)
    require_aligned("TCS.OFSBASE", tcs.ofsbase, PAGE_SIZE)
    require_aligned("TCS.OGSBASE", tcs.ogsbase, PAGE_SIZE)
    assert entry.secs is not None
    return page, tcs, processor.enclaves[entry.secs]


def _require_ready(thread: LogicalProcessor, enclave: SecsState, tcs: Tcs) -> None:
    if not enclave.initialized:
        raise GeneralProtectionFault(msg("the enclave is not initialized"))
    attributes = enclave.secs.attributes
    notified = bool(attributes.flags & AttributeFlags.AEXNOTIFY)
    if notified != (TcsFlags.AEXNOTIFY in tcs.flags) and TcsFlags.DBGOPTIN not in tcs.flags:
        raise refuse("TCS.FLAGS", hex(tcs.flags))
    if not attributes.flags & AttributeFlags.MODE64BIT:
        raise refuse("SECS.ATTRIBUTES.FLAGS", hex(attributes.flags))
    if attributes.xfrm & ~thread.xcr0:
        raise refuse("SECS.ATTRIBUTES.XFRM", hex(attributes.xfrm))


def _frame(thread: LogicalProcessor, tcs_page: int, enclave: SecsState, tcs: Tcs, index: int) -> SavedFrame:
    secs = thread.processor.epc.entry(tcs_page).secs
    assert secs is not None
    layout = ssa_frame(enclave.secs.ssaframesize, enclave.secs.attributes.xfrm, enclave.secs.miscselect)
    start = enclave.secs.baseaddr + tcs.ossa + layout.size * index
    pages = tuple(
        require_accessible(thread, secs, page, PageFlags.RW)
        for page in range(start, start + layout.xsave_size, PAGE_SIZE)
    )
    gprsgx = require_accessible(thread, secs, start + layout.gprsgx, PageFlags.RW)
    # GPRSGX and MISC fit in the last page.
    return SavedFrame(pages, layout.xsave_size, gprsgx - layout.misc_size, layout.misc_size, gprsgx)


def _require_canonical(thread: LogicalProcessor, field: str, address: int) -> None:
    if not is_canonical(thread.processor, address):
        raise refuse(field, hex(address))


def _require_inactive(tcs: Tcs) -> None:
    if tcs.state == ACTIVE:
        raise GeneralProtectionFault(msg("the TCS is in use by another thread"))


def _activate(thread: LogicalProcessor, page: int, tcs: Tcs, address: int, frame: SavedFrame) -> None:
    processor = thread.processor
    secs = processor.epc.entry(page).secs
    assert secs is not None
    processor.epc.write(page, replace(tcs, state=ACTIVE).to_bytes())
    thread.active_secs, thread.tcs, thread.tcs_page, thread.frame = secs, address, page, frame
    thread.epoch = processor.enclaves[secs].epoch
    processor.inside.add(thread)


def _deactivate(thread: LogicalProcessor, tcs: Tcs) -> None:
    thread.processor.epc.write(thread.tcs_page, replace(tcs, state=INACTIVE).to_bytes())
    thread.active_secs = thread.frame = None
    thread.processor.inside.discard(thread)
