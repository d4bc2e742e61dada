"""XSAVE, XSAVEC, XSAVEOPT and XRSTOR of x87 and SSE state, in both formats (Intel SDM Vol. 1, 13.7 to 13.11).

Unicorn does not know the compacted format. State is a legacy area here: the 512 bytes that FXSAVE64 writes.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from sgxkit.emulator.decode import Instruction
from sgxkit.emulator.processor import refuse, require_aligned
from sgxkit.emulator.space import Space

XFRM = 0x3
"""What Unicorn's processor can keep: x87 and SSE."""
LEGACY_SIZE = 512
HEADER = struct.Struct("<QQ48s")
AREA_SIZE = LEGACY_SIZE + HEADER.size
_X87, _SSE = 1, 2
_COMPACTED = 1 << 63
_FCW, _MXCSR, _ST0, _XMM0, _END = 0, 24, 32, 160, 416
_DEFAULT_MXCSR = 0x1F80
_MXCSR_BITS = 0xFFFF
_MASK = struct.pack("<I", _MXCSR_BITS)


class XsaveInstruction(IntEnum):
    """Which of them: the reg field of the ModRM byte; XSAVEC has another opcode."""

    XSAVE = 4
    XRSTOR = 5
    XSAVEOPT = 6
    XSAVEC = 0xC4


def xsave_instruction(instruction: Instruction) -> XsaveInstruction | None:
    """Whether this is one of the instructions of this module."""
    if instruction.map != 1 or not instruction.in_memory or b"\x66"[0] in instruction.prefixes:
        return None
    if instruction.opcode == 0xC7:
        return XsaveInstruction.XSAVEC if instruction.reg == 4 else None
    if instruction.opcode == 0xAE and instruction.reg in (4, 5, 6):
        return XsaveInstruction(instruction.reg)
    return None


def _initial() -> bytes:
    area = bytearray(LEGACY_SIZE)
    struct.pack_into("<H", area, _FCW, 0x37F)
    struct.pack_into("<I", area, _MXCSR, _DEFAULT_MXCSR)
    return bytes(area)


INITIAL = _initial()
"""The legacy area of a processor after reset: also what an asynchronous exit leaves."""


def standard_area(state: bytes) -> bytes:
    """An XSAVE area in the standard format with all of the legacy area `state`: what an asynchronous exit saves."""
    return state[:LEGACY_SIZE] + HEADER.pack(XFRM, 0, bytes(48))


def save(kind: XsaveInstruction, space: Space, address: int, mask: int, state: bytes) -> None:
    """Execute XSAVE, XSAVEC or XSAVEOPT of `state`; `mask` is EDX:EAX. Raises the instruction's Fault."""
    require_aligned(kind.name, address, 64)
    requested = mask & XFRM
    compacted = kind is XsaveInstruction.XSAVEC
    used = _in_use(state) if compacted else XFRM
    area = bytearray(space.read(address, AREA_SIZE))
    old, *_ = HEADER.unpack_from(area, LEGACY_SIZE)
    saved = requested & used
    if saved & _X87:
        area[:_MXCSR], area[_ST0:_XMM0] = state[:_MXCSR], state[_ST0:_XMM0]
    if saved & _SSE or (requested & _SSE and not compacted):
        area[_MXCSR:_ST0] = state[_MXCSR : _MXCSR + 4] + _MASK
        area[_XMM0:_END] = state[_XMM0:_END]
    if compacted:
        struct.pack_into("<QQ", area, LEGACY_SIZE, saved, requested | _COMPACTED)
    else:
        struct.pack_into("<Q", area, LEGACY_SIZE, old & ~requested | saved)
    space.write(address, bytes(area))


def restore(space: Space, address: int, mask: int, state: bytes) -> bytes:
    """Execute XRSTOR over `state`; returns the new one. `mask` is EDX:EAX. Raises the instruction's Fault."""
    require_aligned("XRSTOR", address, 64)
    return restored(space.read(address, AREA_SIZE), mask & XFRM, state)


def restored(area: bytes, requested: int, state: bytes) -> bytes:
    """What XRSTOR makes of `state` from an XSAVE area; raises the #GP for one that it refuses."""
    present, format_, rest = HEADER.unpack_from(area, LEGACY_SIZE)
    compacted = bool(format_ & _COMPACTED)
    allowed = format_ & ~_COMPACTED if compacted else XFRM
    if allowed & ~XFRM or present & ~allowed or (format_ and not compacted) or any(rest):
        raise refuse("XSTATE_BV, XCOMP_BV", f"{present:#x}, {format_:#x}")
    result = bytearray(state[:LEGACY_SIZE])
    if requested & _X87:
        source = area if present & _X87 else INITIAL
        result[:_MXCSR], result[_ST0:_XMM0] = source[:_MXCSR], source[_ST0:_XMM0]
    if requested & _SSE:
        source = area if present & _SSE else INITIAL
        result[_XMM0:_END] = source[_XMM0:_END]
        # In the standard format MXCSR is loaded whether or not XSTATE_BV says that SSE state is there.
        source = area if present & _SSE or not compacted else INITIAL
        (mxcsr,) = struct.unpack_from("<I", source, _MXCSR)
        if mxcsr & ~_MXCSR_BITS:
            raise refuse("MXCSR", hex(mxcsr))
        struct.pack_into("<I", result, _MXCSR, mxcsr)
    return bytes(result)


def _in_use(state: bytes) -> int:
    """XINUSE: components that are not in their initial state; MXCSR counts as SSE state here (13.6)."""
    x87 = state[:_MXCSR] + state[_ST0:_XMM0] != INITIAL[:_MXCSR] + INITIAL[_ST0:_XMM0]
    sse = state[_XMM0:_END] != INITIAL[_XMM0:_END] or state[_MXCSR : _MXCSR + 4] != INITIAL[_MXCSR : _MXCSR + 4]
    return (_X87 if x87 else 0) | (_SSE if sse else 0)
