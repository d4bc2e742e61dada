"""TARGETINFO: the enclave that is to verify a REPORT (Intel SDM Vol. 3D, 35.16)."""

from __future__ import annotations

from dataclasses import dataclass

from sgxkit.isa.attributes import Attributes
from sgxkit.isa.layout import Layout
from sgxkit.isa.report import ReportBody

TARGETINFO_SIZE = 512

# MEASUREMENT 32 | ATTRIBUTES 16 | CET_ATTRIBUTES 1 | reserved 1 | CONFIGSVN 2 | MISCSELECT 4 | reserved 8
# | CONFIGID 64 | reserved 384
_TARGETINFO = Layout("TARGETINFO", "32sQQBxHI8x64s384x")


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """TARGETINFO, 512 bytes; `measurement` is the target's MRENCLAVE."""

    measurement: bytes
    attributes: Attributes
    miscselect: int = 0
    configid: bytes = bytes(64)
    configsvn: int = 0
    cet_attributes: int = 0

    @classmethod
    def from_bytes(
        cls, data: bytes, *, field: str = "TARGETINFO", offset: int = 0, ignore_reserved: bool = False
    ) -> TargetInfo:
        """Read 512 bytes; raises FormatError on another length and, unless told to ignore them, on reserved bytes."""
        measurement, flags, xfrm, cet_attributes, configsvn, miscselect, configid = _TARGETINFO.unpack(
            data, field, offset, ignore_reserved=ignore_reserved
        )
        return cls(
            measurement=measurement,
            attributes=Attributes(flags, xfrm),
            miscselect=miscselect,
            configid=configid,
            configsvn=configsvn,
            cet_attributes=cet_attributes,
        )

    @classmethod
    def of(cls, body: ReportBody) -> TargetInfo:
        """The target that the enclave which `body` describes is."""
        return cls(
            measurement=body.mrenclave,
            attributes=body.attributes,
            miscselect=body.miscselect,
            configid=body.configid,
            configsvn=body.configsvn,
        )

    def to_bytes(self) -> bytes:
        return _TARGETINFO.pack(
            self.measurement,
            self.attributes.flags,
            self.attributes.xfrm,
            self.cet_attributes,
            self.configsvn,
            self.miscselect,
            self.configid,
        )
