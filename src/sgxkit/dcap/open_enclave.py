"""What Open Enclave puts in front of a quote: the report header and the evidence header.

openenclave/internal/report.h (`oe_report_header_t`), common/attest_plugin.h (`oe_attestation_header_t`) and
enclave/sgx/attester.c of the Open Enclave SDK. All integers are little-endian.
"""

from __future__ import annotations

import struct
import uuid

from sgxkit.dcap.found_quote import Bind, Bound, Envelope, Layer, binds_sha256
from sgxkit.dcap.quote_shape import is_ecdsa_quote, is_quote, quote_end
from sgxkit.errors import FormatError
from sgxkit.messages import msg

_REPORT_HEADER = struct.Struct("<IIQ")
_LOCAL, _REMOTE = 1, 2
_LOCAL_REPORT_SIZE = 432  # sgx_report_t: the body, KEYID and MAC

_EVIDENCE_HEADER = struct.Struct("<I16s4xQ")  # the C compiler aligns the size to 8 bytes
_SGX_ECDSA = bytes.fromhex("a3a21e871b4d4014b70aa125d2fbcd8c")
_FORMATS = {
    _SGX_ECDSA: "SGX ECDSA",
    bytes.fromhex("f228aa3fde4d49d3884cb2aa87a50da6"): "SGX EPID linkable",
    bytes.fromhex("5c35d290a2c24c559e135ad732746c88"): "SGX EPID unlinkable",
}


def open_report(content: bytes) -> tuple[Layer, ...]:
    """A report of `oe_get_report`: u32 version 1, u32 type (1 local, 2 remote), u64 size, and that many bytes.

    Returns () for what is none; raises FormatError for a local report, and for a quote behind a header whose size is
    not the quote's.
    """
    if len(content) < _REPORT_HEADER.size:
        return ()
    version, kind, size = _REPORT_HEADER.unpack_from(content)
    if version != 1 or kind not in (_LOCAL, _REMOTE):
        return ()
    inner = content[_REPORT_HEADER.size :]
    if kind == _LOCAL:
        if size == len(inner) == _LOCAL_REPORT_SIZE:
            raise FormatError(
                "Open Enclave report",
                msg("a local report, which only an enclave on the same machine can check; it has no quote"),
                offset=4,
            )
        return ()
    if not is_quote(inner):
        return ()
    if size > len(inner) or inner.count(0, size) != len(inner) - size:
        raise FormatError(
            "Open Enclave report",
            msg("{size} bytes announced, {left} left", size=size, left=len(inner)),
            offset=8,
        )
    details = (("header version", version), ("header type", "remote"))
    return (Layer("Open Enclave report", inner[:size], Envelope.OPEN_ENCLAVE_REPORT, (), details),)


def open_evidence(content: bytes) -> tuple[Layer, ...]:
    """Evidence of `oe_get_evidence`: u32 version 2 or 3, format UUID, u64 size, and that many bytes.

    Those are a quote (in version 2 behind a report header) and, in the SGX ECDSA format, custom claims whose SHA-256
    REPORTDATA must begin with. Returns () for what is none; raises FormatError for a size that does not fit.
    """
    if len(content) < _EVIDENCE_HEADER.size:
        return ()
    version, format_id, size = _EVIDENCE_HEADER.unpack_from(content)
    if version not in (2, 3) or format_id not in _FORMATS:
        return ()
    inner = content[_EVIDENCE_HEADER.size :]
    if size > len(inner) or inner.count(0, size) != len(inner) - size:
        raise FormatError(
            "Open Enclave evidence",
            msg("{size} bytes announced, {left} left", size=size, left=len(inner)),
            offset=24,
        )
    quote = inner[:size]
    if version == 2:
        quote = quote[_REPORT_HEADER.size :]
    if not is_quote(quote):
        raise FormatError("Open Enclave evidence", msg("no quote in it"), offset=_EVIDENCE_HEADER.size)
    details: tuple[tuple[str, str | int], ...] = (
        ("header version", version),
        ("format", _FORMATS[format_id]),
        ("format id", str(uuid.UUID(bytes=format_id))),
    )
    bind: tuple[Bind, ...] = ()
    end = quote_end(quote)
    if format_id == _SGX_ECDSA and is_ecdsa_quote(quote) and end is not None and end <= len(quote):
        claims = quote[end:]
        quote = quote[:end]
        details += (("custom claims", claims.hex()),)
        bind = (binds_sha256(Bound.CLAIMS, "custom claims of the evidence", claims),)
    return (Layer("Open Enclave evidence", quote, Envelope.OPEN_ENCLAVE_EVIDENCE, bind, details),)
