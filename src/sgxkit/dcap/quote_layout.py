"""Every field of a quote with its place, read from the bytes alone: also of quotes that the parser refuses.

Layouts as in `sgxkit.dcap.quote`, `sgxkit.dcap.td_report` and `sgxkit.dcap.epid`. Nothing is judged here; the walk
goes on for as long as the bytes say where the next field is. What is wrong with them, the parser says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sgxkit.dcap.epid import parse_epid_quote
from sgxkit.dcap.quote import BodyType, CertificationDataType, TeeType, parse_quote
from sgxkit.dcap.quote_shape import is_epid_quote
from sgxkit.errors import FormatError

Kind = Literal["integer", "bytes"]
_Table = tuple[tuple[str, int, Kind], ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `value` is an integer (little-endian in the quote) or the bytes as they stand.

    `missing` counts the bytes that the field should have beyond the end of the data.
    """

    path: str
    offset: int
    size: int
    value: int | bytes
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields that could be read, in order, and why the quote cannot be parsed, None where it can."""

    fields: tuple[Field, ...]
    error: FormatError | None


_HEADER: _Table = (
    ("version", 2, "integer"),
    ("attestation_key_type", 2, "integer"),
    ("tee_type", 4, "integer"),
    ("qe_svn", 2, "integer"),
    ("pce_svn", 2, "integer"),
    ("qe_vendor_id", 16, "bytes"),
    ("user_data", 20, "bytes"),
)
_EPID_HEADER: _Table = (
    ("version", 2, "integer"),
    ("signature_type", 2, "integer"),
    ("group_id", 4, "integer"),
    ("qe_svn", 2, "integer"),
    ("pce_svn", 2, "integer"),
    ("xeid", 4, "integer"),
    ("basename", 32, "bytes"),
)
_SGX_REPORT: _Table = (
    ("cpusvn", 16, "bytes"),
    ("miscselect", 4, "integer"),
    ("cet_attributes", 1, "integer"),
    ("reserved1", 11, "bytes"),
    ("isvextprodid", 16, "bytes"),
    ("attributes.flags", 8, "integer"),
    ("attributes.xfrm", 8, "integer"),
    ("mrenclave", 32, "bytes"),
    ("reserved2", 32, "bytes"),
    ("mrsigner", 32, "bytes"),
    ("reserved3", 32, "bytes"),
    ("configid", 64, "bytes"),
    ("isvprodid", 2, "integer"),
    ("isvsvn", 2, "integer"),
    ("configsvn", 2, "integer"),
    ("reserved4", 42, "bytes"),
    ("isvfamilyid", 16, "bytes"),
    ("reportdata", 64, "bytes"),
)
_TD_REPORT_1_0: _Table = (
    ("tee_tcb_svn", 16, "bytes"),
    ("mrseam", 48, "bytes"),
    ("mrsignerseam", 48, "bytes"),
    ("seamattributes", 8, "bytes"),
    ("tdattributes", 8, "integer"),
    ("xfam", 8, "integer"),
    ("mrtd", 48, "bytes"),
    ("mrconfigid", 48, "bytes"),
    ("mrowner", 48, "bytes"),
    ("mrownerconfig", 48, "bytes"),
    ("rtmr0", 48, "bytes"),
    ("rtmr1", 48, "bytes"),
    ("rtmr2", 48, "bytes"),
    ("rtmr3", 48, "bytes"),
    ("reportdata", 64, "bytes"),
)
_TD_REPORT_1_5: _Table = (*_TD_REPORT_1_0, ("tee_tcb_svn2", 16, "bytes"), ("mrservicetd", 48, "bytes"))
_TD_REPORT_1_5_EX: _Table = (
    *_TD_REPORT_1_5,
    ("vmid", 1, "integer"),
    ("td_id", 32, "bytes"),
    ("devinfo", 48, "bytes"),
    ("init_servtd_hash", 48, "bytes"),
    ("init_servtd_attr", 8, "bytes"),
    ("init_cpusvn", 16, "bytes"),
    ("init_tee_tcb_svn", 16, "bytes"),
    ("init_tee_fmspc", 12, "bytes"),
    ("cur_servtd_hash", 48, "bytes"),
    ("cur_servtd_attr", 8, "bytes"),
)
_BODIES: dict[int, _Table] = {
    BodyType.SGX_REPORT: _SGX_REPORT,
    BodyType.TD_REPORT_1_0: _TD_REPORT_1_0,
    BodyType.TD_REPORT_1_5: _TD_REPORT_1_5,
    BodyType.TD_REPORT_1_5_EX: _TD_REPORT_1_5_EX,
}
_PPID_SIZES = {
    CertificationDataType.PPID_CLEARTEXT: 16,
    CertificationDataType.PPID_RSA2048_OAEP: 256,
    CertificationDataType.PPID_RSA3072_OAEP: 384,
}


def layout(data: bytes) -> Layout:
    """List the fields of a quote of version 1 to 5, as far as they can be read; never raises.

    Fields follow each other without gaps; those of unknown form come as bytes under ``unread``.
    """
    walk = _Walk(data)
    if data[:2] in (b"\x01\x00", b"\x02\x00") and (is_epid_quote(data) or len(data) < 28):
        walk.epid()
        error = _error(data, epid=True)
    else:
        walk.ecdsa()
        error = _error(data, epid=False)
    walk.rest()
    return Layout(tuple(walk.fields), error)


def _error(data: bytes, *, epid: bool) -> FormatError | None:
    try:
        if epid:
            parse_epid_quote(data)
        else:
            parse_quote(data)
    except FormatError as error:
        return error
    return None


class _Walk:
    """A position in the data and the fields before it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.fields: list[Field] = []

    def take(self, path: str, size: int, kind: Kind = "bytes") -> int | None:
        """Add a field; return its value as an integer, or None where the data ends before the field does."""
        start = self.position
        content = self.data[start : start + size]
        missing = size - len(content)
        number = int.from_bytes(content, "little")
        if content or not missing:
            value = number if kind == "integer" and not missing else content
            self.fields.append(Field(path, start, len(content), value, missing))
        self.position = start + len(content)
        return None if missing else number

    def table(self, prefix: str, table: _Table) -> dict[str, int] | None:
        """Add the fields of a table; return their values, or None where the data ends before they do."""
        values: dict[str, int] = {}
        for name, size, kind in table:
            value = self.take(f"{prefix}.{name}", size, kind)
            if value is None:
                return None
            values[name] = value
        return values

    def ecdsa(self) -> None:
        header = self.table("header", _HEADER)
        if header is None or header["version"] not in (3, 4, 5):
            return
        body = self.body(header["version"], header["tee_type"])
        if body is None or self.table("body", body) is None:
            return
        size = self.take("signature_data.size", 4, "integer")
        if size is None or self.take("signature_data.signature", 64) is None:
            return
        if self.take("signature_data.attestation_key", 64) is None:
            return
        prefix = "signature_data"
        if header["version"] > 3:
            prefix = "signature_data.certification_data"
            if self.type_and_size(prefix) is None:
                return
        self.qe_report(prefix)

    def body(self, version: int, tee_type: int) -> _Table | None:
        """Which body follows; in version 5 after its own type and size."""
        if version < 5:
            is_td = version == 4 and tee_type == TeeType.TDX
            return _TD_REPORT_1_0 if is_td else _SGX_REPORT
        number = self.take("body_type", 2, "integer")
        size = self.take("body_size", 4, "integer")
        return None if number is None or size is None else _BODIES.get(number)

    def type_and_size(self, prefix: str) -> tuple[int, int] | None:
        number = self.take(f"{prefix}.type", 2, "integer")
        size = self.take(f"{prefix}.size", 4, "integer")
        return None if number is None or size is None else (number, size)

    def qe_report(self, prefix: str) -> None:
        if self.table(f"{prefix}.qe_report", _SGX_REPORT) is None:
            return
        if self.take(f"{prefix}.qe_report_signature", 64) is None:
            return
        size = self.take(f"{prefix}.qe_auth_data.size", 2, "integer")
        if size is None or self.take(f"{prefix}.qe_auth_data.data", size) is None:
            return
        prefix = f"{prefix}.certification_data"
        found = self.type_and_size(prefix)
        if found is None:
            return
        number, content_size = found
        ppid_size = _PPID_SIZES.get(CertificationDataType(number)) if number in _PPID_SIZES else None
        if ppid_size is None or content_size not in (ppid_size + 18, ppid_size + 20):
            self.take(f"{prefix}.data", content_size)
            return
        parts: Iterable[tuple[str, int, Kind]] = (
            ("ppid", ppid_size, "bytes"),
            ("cpusvn", 16, "bytes"),
            ("pcesvn", 2, "integer"),
            ("pceid", content_size - ppid_size - 18, "bytes"),
        )
        self.table(f"{prefix}.data", tuple(part for part in parts if part[1]))

    def epid(self) -> None:
        if self.table("header", _EPID_HEADER) is None or self.table("body", _SGX_REPORT) is None:
            return
        if self.position == len(self.data):
            return
        size = self.take("signature.size", 4, "integer")
        if size is not None:
            self.take("signature.data", size)

    def rest(self) -> None:
        """Add what is left: zero padding, or bytes whose place in the quote is not known."""
        left = len(self.data) - self.position
        if left:
            is_padding = self.data.count(0, self.position) == left
            self.take("padding" if is_padding else "unread", left)
