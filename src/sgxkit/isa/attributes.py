"""ATTRIBUTES of an enclave: a flags word and an XFRM word (Intel SDM Vol. 3D, 35.7.1 and table 35-3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag

_ATTRIBUTES = struct.Struct("<QQ")


class AttributeFlags(IntFlag):
    """Bits of ATTRIBUTES.FLAGS by the manual's names."""

    INIT = 1 << 0
    DEBUG = 1 << 1
    MODE64BIT = 1 << 2
    PROVISIONKEY = 1 << 4
    EINITTOKEN_KEY = 1 << 5
    CET = 1 << 6
    KSS = 1 << 7
    AEXNOTIFY = 1 << 10


@dataclass(frozen=True, slots=True)
class Attributes:
    """16 bytes: FLAGS and XFRM, each 8 bytes little-endian."""

    flags: int
    xfrm: int

    @classmethod
    def from_bytes(cls, data: bytes) -> Attributes:
        """Read 16 bytes; raises struct.error on another length."""
        return cls(*_ATTRIBUTES.unpack(data))

    def to_bytes(self) -> bytes:
        return _ATTRIBUTES.pack(self.flags, self.xfrm)

    @property
    def debug(self) -> bool:
        """Whether a debugger may read the enclave's memory: such an enclave keeps no secret."""
        return bool(self.flags & AttributeFlags.DEBUG)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the flags that are set; bits that the manual does not name come as ``bit N``."""
        known = {flag.value: flag.name or "" for flag in AttributeFlags}
        return tuple(known.get(1 << bit, f"bit {bit}") for bit in range(64) if self.flags >> bit & 1)
