"""TD report bodies: what the TDX module says of one trust domain, as TDX quotes carry it.

Intel TDX DCAP Quoting Library API, "TD Quote Body" (1.0: 584 bytes; 1.5: 648 bytes); the 885 bytes of the extended
1.5 body are `sgx_report2_body_v1_5_ex_t` of Intel's DCAP headers (2026).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag

from sgxkit.errors import FormatError
from sgxkit.messages import msg


class TdAttributes(IntFlag):
    """Bits of TDATTRIBUTES (Intel TDX Module ABI, "TD_PARAMS: ATTRIBUTES")."""

    DEBUG = 1 << 0
    SEPT_VE_DISABLE = 1 << 28
    MIGRATABLE = 1 << 29
    PKS = 1 << 30
    KL = 1 << 31
    PERFMON = 1 << 63


# TEE_TCB_SVN 16 | MRSEAM 48 | MRSIGNERSEAM 48 | SEAMATTRIBUTES 8 | TDATTRIBUTES 8 | XFAM 8 | MRTD 48 | MRCONFIGID 48
# | MROWNER 48 | MROWNERCONFIG 48 | RTMR0..3 4 x 48 | REPORTDATA 64
_TD_REPORT_1_0 = struct.Struct("<16s48s48s8sQQ48s48s48s48s48s48s48s48s64s")
_TD_REPORT_1_5 = struct.Struct("<16s48s")
_TD_REPORT_1_5_EX = struct.Struct("<B32s48s48s8s16s16s12s48s8s")

TD_REPORT_1_0_SIZE = _TD_REPORT_1_0.size
TD_REPORT_1_5_SIZE = TD_REPORT_1_0_SIZE + _TD_REPORT_1_5.size
TD_REPORT_1_5_EX_SIZE = TD_REPORT_1_5_SIZE + _TD_REPORT_1_5_EX.size


@dataclass(frozen=True, slots=True)
class TdReport:
    """A TD report of version 1.0; hashes are 48 bytes (SHA-384), TDATTRIBUTES and XFAM little-endian integers.

    TEE_TCB_SVN[0] is the TDX module's SVN, [1] its major version (0 before 1.5), [2] the SEAM loader's SVN.
    """

    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seamattributes: bytes
    tdattributes: int
    xfam: int
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    reportdata: bytes

    @property
    def rtmrs(self) -> tuple[bytes, bytes, bytes, bytes]:
        return (self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3)

    @property
    def debug(self) -> bool:
        """Whether any bit of the "TD under debug" byte is set: its memory is not private then."""
        return bool(self.tdattributes & 0xFF)

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The names of the TDATTRIBUTES bits that are set; unnamed bits come as ``bit N``."""
        known = {flag.value: flag.name or "" for flag in TdAttributes}
        return tuple(known.get(1 << bit, f"bit {bit}") for bit in range(64) if self.tdattributes >> bit & 1)


@dataclass(frozen=True, slots=True)
class TdReport15(TdReport):
    """A TD report of version 1.5: also what the TDX module is now, after an update under running TDs."""

    tee_tcb_svn2: bytes
    mrservicetd: bytes


@dataclass(frozen=True, slots=True)
class TdReport15Ex(TdReport15):
    """The extended 1.5 report: also the partition's identity and its service TDs, at creation and now."""

    vmid: int
    td_id: bytes
    devinfo: bytes
    init_servtd_hash: bytes
    init_servtd_attr: bytes
    init_cpusvn: bytes
    init_tee_tcb_svn: bytes
    init_tee_fmspc: bytes
    cur_servtd_hash: bytes
    cur_servtd_attr: bytes


def parse_td_report(data: bytes, *, offset: int = 0) -> TdReport:
    """Read a TD report body; its length says which of the three it is.

    Raises FormatError on any other length; `offset` says where the bytes stood in the quote.
    """
    size = len(data)
    if size == TD_REPORT_1_0_SIZE:
        return TdReport(*_TD_REPORT_1_0.unpack(data))
    if size == TD_REPORT_1_5_SIZE:
        return TdReport15(*_TD_REPORT_1_0.unpack_from(data), *_TD_REPORT_1_5.unpack_from(data, TD_REPORT_1_0_SIZE))
    if size == TD_REPORT_1_5_EX_SIZE:
        return TdReport15Ex(
            *_TD_REPORT_1_0.unpack_from(data),
            *_TD_REPORT_1_5.unpack_from(data, TD_REPORT_1_0_SIZE),
            *_TD_REPORT_1_5_EX.unpack_from(data, TD_REPORT_1_5_SIZE),
        )
    raise FormatError(
        "TD report body",
        msg(
            "{size} bytes, must be {expected}",
            size=size,
            expected=f"{TD_REPORT_1_0_SIZE}, {TD_REPORT_1_5_SIZE} or {TD_REPORT_1_5_EX_SIZE}",
        ),
        offset=offset,
    )
