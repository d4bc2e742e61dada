"""KEYREQUEST: what an enclave asks of EGETKEY (Intel SDM Vol. 3D, 35.17)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from sgxkit.isa.attributes import Attributes
from sgxkit.isa.layout import Layout, require_clear

KEYREQUEST_SIZE = 512

# KEYNAME 2 | KEYPOLICY 2 | ISVSVN 2 | CET_ATTRIBUTES_MASK 1 | reserved 1 | CPUSVN 16 | ATTRIBUTEMASK 16 | KEYID 32
# | MISCMASK 4 | CONFIGSVN 2 | reserved 434
_KEYREQUEST = Layout("KEYREQUEST", "HHHBx16sQQ32sIH434x")
_KEYPOLICY_OFFSET = 2


class KeyName(IntEnum):
    """KEYREQUEST.KEYNAME by the manual's names (table "Supported KEYName Values")."""

    EINITTOKEN_KEY = 0
    PROVISION_KEY = 1
    PROVISION_SEAL_KEY = 2
    REPORT_KEY = 3
    SEAL_KEY = 4


class KeyPolicy(IntFlag):
    """Bits of KEYREQUEST.KEYPOLICY by the manual's names; all but the first two need ATTRIBUTES.KSS."""

    MRENCLAVE = 1 << 0
    MRSIGNER = 1 << 1
    NOISVPRODID = 1 << 2
    """Leave ISVPRODID out, which is in the key otherwise."""
    CONFIGID = 1 << 3
    """CONFIGID and the requested CONFIGSVN."""
    ISVFAMILYID = 1 << 4
    ISVEXTPRODID = 1 << 5


KSS_POLICY = KeyPolicy.NOISVPRODID | KeyPolicy.CONFIGID | KeyPolicy.ISVFAMILYID | KeyPolicy.ISVEXTPRODID
"""The bits that an enclave without KSS must leave clear."""

_KEYPOLICY_RESERVED = ~(KeyPolicy.MRENCLAVE | KeyPolicy.MRSIGNER | KSS_POLICY).value
_NO_ATTRIBUTES = Attributes(0, 0)
_NO_POLICY = KeyPolicy(0)


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """KEYREQUEST, 512 bytes.

    keyname         a `KeyName` where the manual names it: EGETKEY, not this type, refuses others.
    attributemask   which of the enclave's ATTRIBUTES the key depends on, besides INIT and DEBUG, which always count.
    """

    keyname: int
    keypolicy: KeyPolicy = _NO_POLICY
    isvsvn: int = 0
    cpusvn: bytes = bytes(16)
    attributemask: Attributes = _NO_ATTRIBUTES
    keyid: bytes = bytes(32)
    miscmask: int = 0
    configsvn: int = 0
    cet_attributes_mask: int = 0

    @classmethod
    def from_bytes(cls, data: bytes, *, field: str = "KEYREQUEST", offset: int = 0) -> KeyRequest:
        """Read 512 bytes; raises FormatError on another length, on reserved bytes and on reserved policy bits."""
        keyname, keypolicy, isvsvn, cet_attributes_mask, cpusvn, flags, xfrm, keyid, miscmask, configsvn = (
            _KEYREQUEST.unpack(data, field, offset)
        )
        require_clear(keypolicy, _KEYPOLICY_RESERVED, f"{field}.KEYPOLICY", offset + _KEYPOLICY_OFFSET)
        return cls(
            keyname=keyname,
            keypolicy=KeyPolicy(keypolicy),
            isvsvn=isvsvn,
            cpusvn=cpusvn,
            attributemask=Attributes(flags, xfrm),
            keyid=keyid,
            miscmask=miscmask,
            configsvn=configsvn,
            cet_attributes_mask=cet_attributes_mask,
        )

    def to_bytes(self) -> bytes:
        return _KEYREQUEST.pack(
            self.keyname,
            self.keypolicy,
            self.isvsvn,
            self.cet_attributes_mask,
            self.cpusvn,
            self.attributemask.flags,
            self.attributemask.xfrm,
            self.keyid,
            self.miscmask,
            self.configsvn,
        )
