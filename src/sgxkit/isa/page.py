"""SECINFO and PAGEINFO: what ENCLS and ENCLU are told of a page (Intel SDM Vol. 3D, 35.10 to 35.12)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from sgxkit.isa.layout import Layout, require_clear

PAGE_SIZE = 4096
SECINFO_SIZE = 64
PAGEINFO_SIZE = 32

_SECINFO = Layout("SECINFO", "Q56x")
_PAGEINFO = Layout("PAGEINFO", "4Q")
_SECINFO_RESERVED = 0xFFFF_FFFF_FFFF_00C0


class PageType(IntEnum):
    """SECINFO.FLAGS[15:8] and EPCM.PT by the manual's names (table "Supported PAGE_TYPE")."""

    SECS = 0
    TCS = 1
    REG = 2
    VA = 3
    TRIM = 4
    SS_FIRST = 5
    SS_REST = 6


class PageFlags(IntFlag):
    """SECINFO.FLAGS[5:0] by the manual's names."""

    R = 1 << 0
    W = 1 << 1
    X = 1 << 2
    PENDING = 1 << 3
    MODIFIED = 1 << 4
    PR = 1 << 5
    """A permission restriction is in progress."""

    RW = R | W
    RX = R | X
    RWX = R | W | X


@dataclass(frozen=True, slots=True)
class SecInfo:
    """SECINFO, 64 bytes.

    flags       FLAGS[5:0].
    page_type   FLAGS[15:8]; a `PageType` where the manual names it.
    """

    flags: PageFlags
    page_type: int

    @classmethod
    def from_bytes(cls, data: bytes, *, field: str = "SECINFO", offset: int = 0) -> SecInfo:
        """Read 64 bytes; raises FormatError on another length and on reserved bits."""
        (word,) = _SECINFO.unpack(data, field, offset)
        require_clear(word, _SECINFO_RESERVED, f"{field}.FLAGS", offset)
        return cls(PageFlags(word & 0x3F), word >> 8)

    def to_bytes(self) -> bytes:
        return _SECINFO.pack(self.word)

    @property
    def word(self) -> int:
        """FLAGS as one 64-bit word."""
        return self.flags | self.page_type << 8

    @property
    def permissions(self) -> PageFlags:
        """R, W and X alone."""
        return self.flags & PageFlags.RWX


@dataclass(frozen=True, slots=True)
class PageInfo:
    """PAGEINFO, 32 bytes: four addresses.

    linaddr   enclave linear address of the page.
    srcpge    effective address of the contents.
    secinfo   effective address of the SECINFO (or PCMD).
    secs      effective address of the EPC page that holds the SECS.
    """

    linaddr: int
    srcpge: int
    secinfo: int
    secs: int

    @classmethod
    def from_bytes(cls, data: bytes, *, field: str = "PAGEINFO", offset: int = 0) -> PageInfo:
        """Read 32 bytes; raises FormatError on another length."""
        return cls(*_PAGEINFO.unpack(data, field, offset))

    def to_bytes(self) -> bytes:
        return _PAGEINFO.pack(self.linaddr, self.srcpge, self.secinfo, self.secs)
