"""REPORTBODY: the 384 bytes of a REPORT that its MAC, and a quote's signature, cover.

Intel SDM Vol. 3D, 35.15 (table REPORT), without KEYID and MAC.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sgxkit.errors import FormatError
from sgxkit.isa.attributes import Attributes
from sgxkit.messages import msg

REPORT_BODY_SIZE = 384

# CPUSVN 16 | MISCSELECT 4 | CET_ATTRIBUTES 1 | reserved 11 | ISVEXTPRODID 16 | ATTRIBUTES 16 | MRENCLAVE 32
# | reserved 32 | MRSIGNER 32 | reserved 32 | CONFIGID 64 | ISVPRODID 2 | ISVSVN 2 | CONFIGSVN 2 | reserved 42
# | ISVFAMILYID 16 | REPORTDATA 64
_REPORT_BODY = struct.Struct("<16sIB11s16sQQ32s32s32s32s64sHHH42s16s64s")
_RESERVED = (("reserved1", 21, 11), ("reserved2", 96, 32), ("reserved3", 160, 32), ("reserved4", 262, 42))
_ZEROS = tuple(bytes(size) for _, _, size in _RESERVED)


@dataclass(frozen=True, slots=True)
class ReportBody:
    """What the processor says of one enclave; integers are little-endian in the 384 bytes.

    `cet_attributes` is 0 but on processors with control-flow enforcement, for enclaves that use it.
    """

    cpusvn: bytes
    miscselect: int
    isvextprodid: bytes
    attributes: Attributes
    mrenclave: bytes
    mrsigner: bytes
    configid: bytes
    isvprodid: int
    isvsvn: int
    configsvn: int
    isvfamilyid: bytes
    reportdata: bytes
    cet_attributes: int = 0

    @classmethod
    def from_bytes(cls, data: bytes, *, field: str = "report body", offset: int = 0) -> ReportBody:
        """Read 384 bytes.

        Raises FormatError on another length, and where a reserved byte is not zero: the processor writes zeros there.
        `field` and `offset` say where the bytes stood, for the error's text.
        """
        if len(data) != REPORT_BODY_SIZE:
            raise FormatError(
                field,
                msg("{size} bytes, must be {expected}", size=len(data), expected=REPORT_BODY_SIZE),
                offset=offset,
            )
        (
            cpusvn,
            miscselect,
            cet_attributes,
            reserved1,
            isvextprodid,
            flags,
            xfrm,
            mrenclave,
            reserved2,
            mrsigner,
            reserved3,
            configid,
            isvprodid,
            isvsvn,
            configsvn,
            reserved4,
            isvfamilyid,
            reportdata,
        ) = _REPORT_BODY.unpack(data)
        reserved = (reserved1, reserved2, reserved3, reserved4)
        if reserved != _ZEROS:
            name, at = next(
                (name, at)
                for (name, at, _), value, zeros in zip(_RESERVED, reserved, _ZEROS, strict=True)
                if value != zeros
            )
            raise FormatError(f"{field}.{name}", msg("reserved bytes must be zero"), offset=offset + at)
        return cls(
            cpusvn,
            miscselect,
            isvextprodid,
            Attributes(flags, xfrm),
            mrenclave,
            mrsigner,
            configid,
            isvprodid,
            isvsvn,
            configsvn,
            isvfamilyid,
            reportdata,
            cet_attributes,
        )

    def to_bytes(self) -> bytes:
        """The 384 bytes that `from_bytes` reads back to this value."""
        return _REPORT_BODY.pack(
            self.cpusvn,
            self.miscselect,
            self.cet_attributes,
            bytes(11),
            self.isvextprodid,
            self.attributes.flags,
            self.attributes.xfrm,
            self.mrenclave,
            bytes(32),
            self.mrsigner,
            bytes(32),
            self.configid,
            self.isvprodid,
            self.isvsvn,
            self.configsvn,
            bytes(42),
            self.isvfamilyid,
            self.reportdata,
        )
