"""SECS: the page that describes one enclave to the processor (Intel SDM Vol. 3D, 35.7)."""

from __future__ import annotations

from dataclasses import dataclass

from sgxkit.isa.attributes import Attributes
from sgxkit.isa.layout import Layout

SECS_SIZE = 4096

# SIZE 8 | BASEADDR 8 | SSAFRAMESIZE 4 | MISCSELECT 4 | CET_LEG_BITMAP_OFFSET 8 | CET_ATTRIBUTES 1 | reserved 15
# | ATTRIBUTES 16 | MRENCLAVE 32 | reserved 32 | MRSIGNER 32 | reserved 32 | CONFIGID 64 | ISVPRODID 2 | ISVSVN 2
# | CONFIGSVN 2 | reserved 3834
_SECS = Layout("SECS", "QQIIQB15xQQ32s32x32s32x64sHHH3834x")


@dataclass(frozen=True, slots=True)
class Secs:
    """What software writes for ECREATE, and what EINIT completes.

    size           bytes of ELRANGE, a power of 2; `baseaddr` is a multiple of it.
    ssaframesize   pages of one SSA frame.

    The processor keeps more in the reserved bytes (enclave id, padding, ISVEXTPRODID, ISVFAMILYID), at places that
    the manual leaves to it: software writes zeros there and cannot read them.
    """

    size: int
    baseaddr: int
    ssaframesize: int
    miscselect: int
    attributes: Attributes
    cet_leg_bitmap_offset: int = 0
    cet_attributes: int = 0
    mrenclave: bytes = bytes(32)
    mrsigner: bytes = bytes(32)
    configid: bytes = bytes(64)
    isvprodid: int = 0
    isvsvn: int = 0
    configsvn: int = 0

    @classmethod
    def from_bytes(cls, data: bytes, *, field: str = "SECS", offset: int = 0, ignore_reserved: bool = False) -> Secs:
        """Read 4096 bytes; raises FormatError on another length and, unless told otherwise, on reserved bytes."""
        (
            size,
            baseaddr,
            ssaframesize,
            miscselect,
            cet_leg_bitmap_offset,
            cet_attributes,
            flags,
            xfrm,
            mrenclave,
            mrsigner,
            configid,
            isvprodid,
            isvsvn,
            configsvn,
        ) = _SECS.unpack(data, field, offset, ignore_reserved=ignore_reserved)
        return cls(
            size=size,
            baseaddr=baseaddr,
            ssaframesize=ssaframesize,
            miscselect=miscselect,
            attributes=Attributes(flags, xfrm),
            cet_leg_bitmap_offset=cet_leg_bitmap_offset,
            cet_attributes=cet_attributes,
            mrenclave=mrenclave,
            mrsigner=mrsigner,
            configid=configid,
            isvprodid=isvprodid,
            isvsvn=isvsvn,
            configsvn=configsvn,
        )

    def to_bytes(self) -> bytes:
        return _SECS.pack(
            self.size,
            self.baseaddr,
            self.ssaframesize,
            self.miscselect,
            self.cet_leg_bitmap_offset,
            self.cet_attributes,
            self.attributes.flags,
            self.attributes.xfrm,
            self.mrenclave,
            self.mrsigner,
            self.configid,
            self.isvprodid,
            self.isvsvn,
            self.configsvn,
        )
