"""The SSA frame: where an asynchronous exit leaves an enclave's state (Intel SDM Vol. 3D, 35.9).

A frame of SECS.SSAFRAMESIZE pages begins with the XSAVE area and ends with GPRSGX; MISC lies right before GPRSGX.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from sgxkit.isa.cpuid import MiscSelect
from sgxkit.isa.layout import Layout, require_clear

GPRSGX_SIZE = 184
EXINFO_SIZE = 16

_GPRSGX = Layout("GPRSGX", "20QI3xBQQ")
_EXINFO = Layout("EXINFO", "QI4x")
_EXITINFO_RESERVED = 0x7FFF_F800
_EXITINFO_OFFSET = 160

# XFRM bit: offset and size of the component in the standard (not compacted) XSAVE area, as CPUID leaf 0DH gives
# them on every processor with SGX. Bits 0 and 1 are in the legacy area and the header.
_XSAVE_LEGACY_AND_HEADER = 576
_XSAVE_COMPONENTS = {
    2: (576, 256),  # AVX
    3: (960, 64),  # MPX bounds registers
    4: (1024, 64),  # MPX bounds configuration
    5: (1088, 64),  # AVX-512 opmask
    6: (1152, 512),  # AVX-512 upper halves of ZMM0 to 15
    7: (1664, 1024),  # AVX-512 ZMM16 to 31
    9: (2688, 8),  # PKRU
    17: (2752, 64),  # AMX tile configuration
    18: (2816, 8192),  # AMX tile data
}


_ALIGNED_COMPONENTS = (17, 18)


class ExitType(IntEnum):
    """EXITINFO.EXIT_TYPE: what raised the exception."""

    HARDWARE = 3
    SOFTWARE = 6


@dataclass(frozen=True, slots=True)
class ExitInfo:
    """EXITINFO, 4 bytes: the exception of the last asynchronous exit; all zero when it is not reported.

    vector      the exception's number.
    exit_type   an `ExitType` where the manual names it.
    """

    vector: int = 0
    exit_type: int = 0
    valid: bool = False

    @classmethod
    def from_word(cls, word: int, *, field: str = "EXITINFO", offset: int = 0) -> ExitInfo:
        """Read the 32-bit word; raises FormatError on reserved bits."""
        require_clear(word, _EXITINFO_RESERVED, field, offset)
        return cls(word & 0xFF, word >> 8 & 7, bool(word >> 31))

    @property
    def word(self) -> int:
        return self.vector | self.exit_type << 8 | self.valid << 31


@dataclass(frozen=True, slots=True)
class GprSgx:
    """GPRSGX, 184 bytes: the general registers of an interrupted enclave.

    ursp, urbp   RSP and RBP of the caller outside.
    aexnotify    bit 0: ERESUME enters the handler instead of resuming.
    """

    rax: int = 0
    rcx: int = 0
    rdx: int = 0
    rbx: int = 0
    rsp: int = 0
    rbp: int = 0
    rsi: int = 0
    rdi: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0
    r12: int = 0
    r13: int = 0
    r14: int = 0
    r15: int = 0
    rflags: int = 0
    rip: int = 0
    ursp: int = 0
    urbp: int = 0
    exitinfo: ExitInfo = ExitInfo()
    aexnotify: int = 0
    fsbase: int = 0
    gsbase: int = 0

    @classmethod
    def from_bytes(cls, data: bytes, *, field: str = "GPRSGX", offset: int = 0) -> GprSgx:
        """Read 184 bytes; raises FormatError on another length and on reserved bits."""
        values = _GPRSGX.unpack(data, field, offset)
        exit_info = ExitInfo.from_word(values[20], field=f"{field}.EXITINFO", offset=offset + _EXITINFO_OFFSET)
        return cls(*(*values[:20], exit_info, *values[21:]))

    def to_bytes(self) -> bytes:
        return _GPRSGX.pack(
            self.rax,
            self.rcx,
            self.rdx,
            self.rbx,
            self.rsp,
            self.rbp,
            self.rsi,
            self.rdi,
            self.r8,
            self.r9,
            self.r10,
            self.r11,
            self.r12,
            self.r13,
            self.r14,
            self.r15,
            self.rflags,
            self.rip,
            self.ursp,
            self.urbp,
            self.exitinfo.word,
            self.aexnotify,
            self.fsbase,
            self.gsbase,
        )


@dataclass(frozen=True, slots=True)
class ExInfo:
    """EXINFO, 16 bytes: address and error code of a #PF or #GP inside, when MISCSELECT.EXINFO is set."""

    maddr: int
    errcd: int

    @classmethod
    def from_bytes(cls, data: bytes, *, field: str = "EXINFO", offset: int = 0) -> ExInfo:
        """Read 16 bytes; raises FormatError on another length and on reserved bytes."""
        return cls(*_EXINFO.unpack(data, field, offset))

    def to_bytes(self) -> bytes:
        return _EXINFO.pack(self.maddr, self.errcd)


@dataclass(frozen=True, slots=True)
class SsaFrame:
    """Where the parts of one SSA frame are, in bytes from its start."""

    xsave_size: int
    misc: int
    misc_size: int
    gprsgx: int
    size: int


def xsave_size(xfrm: int) -> int:
    """Bytes of the standard XSAVE area that the components of `xfrm` need (CPUID leaf 0DH)."""
    ends = [offset + size for bit, (offset, size) in _XSAVE_COMPONENTS.items() if xfrm >> bit & 1]
    return max([_XSAVE_LEGACY_AND_HEADER, *ends])


def compacted_components(xcomp_bv: int) -> dict[int, tuple[int, int, int]]:
    """Where the components of a compacted XSAVE area are, by bit: offset there, offset in a standard area, size.

    Intel SDM Vol. 1, 13.4.3. Bits 0, 1 and 63 have no part in it; AMX state is aligned to 64 bytes.
    """
    found, at = {}, _XSAVE_LEGACY_AND_HEADER
    for bit, (standard, size) in sorted(_XSAVE_COMPONENTS.items()):
        if xcomp_bv >> bit & 1:
            at = -(-at // 64) * 64 if bit in _ALIGNED_COMPONENTS else at
            found[bit] = at, standard, size
            at += size
    return found


def misc_size(miscselect: int) -> int:
    """Bytes of the MISC region that `miscselect` needs."""
    return EXINFO_SIZE if miscselect & MiscSelect.EXINFO else 0


def least_frame_pages(xfrm: int, miscselect: int) -> int:
    """The fewest pages that SECS.SSAFRAMESIZE may say for these features."""
    return -(-(xsave_size(xfrm) + misc_size(miscselect) + GPRSGX_SIZE) // 4096)


def ssa_frame(ssaframesize: int, xfrm: int, miscselect: int) -> SsaFrame:
    """Where things are in a frame of `ssaframesize` pages."""
    size = ssaframesize * 4096
    misc = misc_size(miscselect)
    gprsgx = size - GPRSGX_SIZE
    return SsaFrame(xsave_size=xsave_size(xfrm), misc=gprsgx - misc, misc_size=misc, gprsgx=gprsgx, size=size)
