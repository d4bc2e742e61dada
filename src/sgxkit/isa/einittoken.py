"""EINITTOKEN: a launch enclave's leave to start one enclave (Intel SDM Vol. 3D, 35.14)."""

from __future__ import annotations

from dataclasses import dataclass

from sgxkit.isa.attributes import Attributes
from sgxkit.isa.layout import Layout, require_clear

EINITTOKEN_SIZE = 304
EINITTOKEN_MAC_COVERS = 192
"""So many bytes at the start are under the MAC."""

# VALID 4 | reserved 44 | ATTRIBUTES 16 | MRENCLAVE 32 | reserved 32 | MRSIGNER 32 | reserved 32 | CPUSVNLE 16
# | ISVPRODIDLE 2 | ISVSVNLE 2 | CET_MASKED_ATTRIBUTES_LE 1 | reserved 23 | MASKEDMISCSELECTLE 4
# | MASKEDATTRIBUTESLE 16 | KEYID 32 | MAC 16
_EINITTOKEN = Layout("EINITTOKEN", "I44xQQ32s32x32s32x16sHHB23xIQQ32s16s")

_NONE = Attributes(0, 0)


@dataclass(frozen=True, slots=True)
class EinitToken:
    """EINITTOKEN, 304 bytes. Fields that end in `le` describe the launch enclave that made it.

    valid   VALID[0]: without it EINIT looks at nothing else of the token.
    """

    valid: bool
    attributes: Attributes = _NONE
    mrenclave: bytes = bytes(32)
    mrsigner: bytes = bytes(32)
    cpusvnle: bytes = bytes(16)
    isvprodidle: int = 0
    isvsvnle: int = 0
    maskedmiscselectle: int = 0
    maskedattributesle: Attributes = _NONE
    keyid: bytes = bytes(32)
    mac: bytes = bytes(16)
    cet_masked_attributes_le: int = 0

    @classmethod
    def from_bytes(
        cls, data: bytes, *, field: str = "EINITTOKEN", offset: int = 0, ignore_reserved: bool = False
    ) -> EinitToken:
        """Read 304 bytes; raises FormatError on another length and, unless told to ignore them, on reserved bits.

        The MAC is not verified.
        """
        (
            valid,
            flags,
            xfrm,
            mrenclave,
            mrsigner,
            cpusvnle,
            isvprodidle,
            isvsvnle,
            cet_masked_attributes_le,
            maskedmiscselectle,
            flags_le,
            xfrm_le,
            keyid,
            mac,
        ) = _EINITTOKEN.unpack(data, field, offset, ignore_reserved=ignore_reserved)
        if not ignore_reserved:
            require_clear(valid, ~1, f"{field}.VALID", offset)
        return cls(
            valid=bool(valid & 1),
            attributes=Attributes(flags, xfrm),
            mrenclave=mrenclave,
            mrsigner=mrsigner,
            cpusvnle=cpusvnle,
            isvprodidle=isvprodidle,
            isvsvnle=isvsvnle,
            maskedmiscselectle=maskedmiscselectle,
            maskedattributesle=Attributes(flags_le, xfrm_le),
            keyid=keyid,
            mac=mac,
            cet_masked_attributes_le=cet_masked_attributes_le,
        )

    def to_bytes(self) -> bytes:
        return _EINITTOKEN.pack(
            int(self.valid),
            self.attributes.flags,
            self.attributes.xfrm,
            self.mrenclave,
            self.mrsigner,
            self.cpusvnle,
            self.isvprodidle,
            self.isvsvnle,
            self.cet_masked_attributes_le,
            self.maskedmiscselectle,
            self.maskedattributesle.flags,
            self.maskedattributesle.xfrm,
            self.keyid,
            self.mac,
        )
