"""TCS: one thread's way into an enclave (Intel SDM Vol. 3D, 35.8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from sgxkit.isa.layout import Layout, require_clear

TCS_SIZE = 4096
TCS_LIMIT = 72
"""Where the fields end that a debugger can read, those for control-flow enforcement aside (SGX_TCS_LIMIT)."""

# STATE 8 | FLAGS 8 | OSSA 8 | CSSA 4 | NSSA 4 | OENTRY 8 | AEP 8 | OFSBASE 8 | OGSBASE 8 | FSLIMIT 4 | GSLIMIT 4
# | OCETSSA 8 | PREVSSP 8 | reserved 4008
_TCS = Layout("TCS", "QQQIIQQQQIIQQ4008x")
_FLAGS_OFFSET = 8


class TcsFlags(IntFlag):
    """Bits of TCS.FLAGS by the manual's names."""

    DBGOPTIN = 1 << 0
    """A debugger may set breakpoints and single-step this thread."""
    AEXNOTIFY = 1 << 1
    """ERESUME may enter the thread's AEX notification handler."""


_NO_FLAGS = TcsFlags(0)


@dataclass(frozen=True, slots=True)
class Tcs:
    """TCS, 4096 bytes. Offsets are relative to the enclave's base.

    ossa           offset of the first SSA frame; `nssa` frames follow each other, `cssa` is the current one.
    oentry         offset at which EENTER begins.
    ofsbase, ogsbase   offsets that become the bases of FS and GS inside; `fslimit`, `gslimit` outside 64-bit mode.
    state, aep     the processor's own: whether a thread is inside, and where an asynchronous exit goes.
    ocetssa, prevssp   for control-flow enforcement (CET).
    """

    ossa: int
    nssa: int
    oentry: int
    ofsbase: int = 0
    ogsbase: int = 0
    fslimit: int = 0
    gslimit: int = 0
    flags: TcsFlags = _NO_FLAGS
    cssa: int = 0
    state: int = 0
    aep: int = 0
    ocetssa: int = 0
    prevssp: int = 0

    @classmethod
    def from_bytes(cls, data: bytes, *, field: str = "TCS", offset: int = 0) -> Tcs:
        """Read 4096 bytes; raises FormatError on another length, on reserved bytes and on reserved flags."""
        state, flags, ossa, cssa, nssa, oentry, aep, ofsbase, ogsbase, fslimit, gslimit, ocetssa, prevssp = (
            _TCS.unpack(data, field, offset)
        )
        require_clear(
            flags, ~(TcsFlags.DBGOPTIN | TcsFlags.AEXNOTIFY).value, f"{field}.FLAGS", offset + _FLAGS_OFFSET
        )
        return cls(
            ossa=ossa,
            nssa=nssa,
            oentry=oentry,
            ofsbase=ofsbase,
            ogsbase=ogsbase,
            fslimit=fslimit,
            gslimit=gslimit,
            flags=TcsFlags(flags),
            cssa=cssa,
            state=state,
            aep=aep,
            ocetssa=ocetssa,
            prevssp=prevssp,
        )

    def to_bytes(self) -> bytes:
        return _TCS.pack(
            self.state,
            self.flags,
            self.ossa,
            self.cssa,
            self.nssa,
            self.oentry,
            self.aep,
            self.ofsbase,
            self.ogsbase,
            self.fslimit,
            self.gslimit,
            self.ocetssa,
            self.prevssp,
        )
