"""EDBGRD and EDBGWR: what a debugger has of a debug enclave (Intel SDM Vol. 3D, chapter 38). 64-bit mode only.

The EPCM's R, W and X do not count here. An EPC operand is its physical address.
"""

from __future__ import annotations

import struct

from sgxkit.emulator.epc import EpcmEntry
from sgxkit.emulator.faults import GeneralProtectionFault, PageFault
from sgxkit.emulator.processor import Processor, refuse, require_aligned, require_epc
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.page import PAGE_SIZE, PageType
from sgxkit.isa.status import Status
from sgxkit.isa.tcs import TCS_LIMIT
from sgxkit.messages import msg

WORD_SIZE = 8
"""Bytes that one of them reads or writes."""

_WORD = struct.Struct("<Q")
_TCS_FLAGS = 8
_READABLE = (PageType.REG, PageType.TCS, PageType.VA)
_WRITABLE = (PageType.REG, PageType.TCS)
_ONES = (1 << 64) - 1


def edbgrd(processor: Processor, rcx: int) -> tuple[Status, int]:
    """Read 8 bytes at the EPC address RCX; returns the status and what RBX becomes.

    Of a version array page only whether the slot is in use can be seen: all ones, or zero.
    """
    entry = _debuggable(processor, rcx, _READABLE)
    if entry is None:
        return Status.SGX_PAGE_NOT_DEBUGGABLE, 0
    if entry.page_type is PageType.TCS and rcx % PAGE_SIZE >= TCS_LIMIT:
        raise refuse("RCX", hex(rcx))
    if entry.page_type is PageType.VA:
        (slot,) = _WORD.unpack(processor.epc.read(rcx, WORD_SIZE))
        return Status.SGX_SUCCESS, _ONES if slot & ~7 else 0
    _require_debug(processor, entry)
    (word,) = _WORD.unpack(processor.epc.read(rcx, WORD_SIZE))
    return Status.SGX_SUCCESS, word


def edbgwr(processor: Processor, rbx: int, rcx: int) -> Status:
    """Write RBX to the 8 bytes at the EPC address RCX; of a TCS only FLAGS can be written."""
    entry = _debuggable(processor, rcx, _WRITABLE)
    if entry is None:
        return Status.SGX_PAGE_NOT_DEBUGGABLE
    if entry.page_type is PageType.TCS and rcx % PAGE_SIZE != _TCS_FLAGS:
        raise refuse("RCX", hex(rcx))
    _require_debug(processor, entry)
    processor.epc.write(rcx, _WORD.pack(rbx))
    return Status.SGX_SUCCESS


def _debuggable(processor: Processor, rcx: int, types: tuple[PageType, ...]) -> EpcmEntry | None:
    """The page's EPCM entry; None while the enclave has not accepted what happens to the page."""
    require_aligned("RCX", rcx, WORD_SIZE)
    entry = require_epc(processor, rcx)
    if not entry.valid or entry.page_type not in types:
        raise PageFault(rcx, msg("not a page that can be debugged"))
    return None if entry.pending or entry.modified else entry


def _require_debug(processor: Processor, entry: EpcmEntry) -> None:
    assert entry.secs is not None
    if not processor.enclaves[entry.secs].secs.attributes.flags & AttributeFlags.DEBUG:
        raise GeneralProtectionFault(msg("the enclave is not a debug enclave"))
