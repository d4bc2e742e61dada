"""REPORT: what EREPORT writes for another enclave of the same platform, and REPORTTYPE.

Intel SDM Vol. 3D, 35.15 (table REPORT) and 35.18 (REPORTTYPE).
"""

from __future__ import annotations

from dataclasses import dataclass

from sgxkit.isa.layout import Layout
from sgxkit.isa.report import REPORT_BODY_SIZE, ReportBody

REPORT_SIZE = 432
REPORTDATA_SIZE = 64

_REPORT = Layout("REPORT", f"{REPORT_BODY_SIZE}s32s16s")
_REPORTTYPE = Layout("REPORTTYPE", "BBBx")


@dataclass(frozen=True, slots=True)
class Report:
    """REPORT, 432 bytes: the body, and the AES-CMAC of its 384 bytes under the target's report key for `keyid`."""

    body: ReportBody
    keyid: bytes
    mac: bytes

    @classmethod
    def from_bytes(cls, data: bytes, *, field: str = "REPORT", offset: int = 0) -> Report:
        """Read 432 bytes; raises FormatError on another length and on reserved bytes. The MAC is not verified."""
        body, keyid, mac = _REPORT.unpack(data, field, offset)
        return cls(ReportBody.from_bytes(body, field=f"{field}.body", offset=offset), keyid, mac)

    def to_bytes(self) -> bytes:
        return _REPORT.pack(self.body.to_bytes(), self.keyid, self.mac)


@dataclass(frozen=True, slots=True)
class ReportType:
    """REPORTTYPE, 4 bytes: which kind of report follows (0: SGX, 0x81: TDX)."""

    type: int
    subtype: int
    version: int

    @classmethod
    def from_bytes(cls, data: bytes, *, field: str = "REPORTTYPE", offset: int = 0) -> ReportType:
        """Read 4 bytes; raises FormatError on another length and on the reserved byte."""
        return cls(*_REPORTTYPE.unpack(data, field, offset))

    def to_bytes(self) -> bytes:
        return _REPORTTYPE.pack(self.type, self.subtype, self.version)
