"""What the fixed offsets of a quote tell before it is parsed: whether bytes are meant to be one, and where it ends.

Used to recognise a quote among other bytes, broken ones included, so that the parser can then say what is wrong.
Layouts: Intel SGX ECDSA Quote Library Reference, appendix A (version 3); Intel TDX DCAP Quoting Library API, appendix
A (versions 4 and 5); sgx_quote.h of the Intel SGX SDK (EPID, versions 1 and 2).
"""

from __future__ import annotations

import struct

from sgxkit.dcap.quote import HEADER_SIZE, INTEL_QE_VENDOR_ID, TeeType
from sgxkit.dcap.td_report import TD_REPORT_1_0_SIZE
from sgxkit.isa.report import REPORT_BODY_SIZE

EPID_BODY_END = 432
_VERSION_KEY_TEE = struct.Struct("<HHI")
_V5_BODY_DESCRIPTOR = struct.Struct("<HI")
_ECDSA_KEY_TYPES = (2, 3)
_SGX_REPORTDATA, _TD_REPORTDATA = 320, 520

# Offsets in an EPID quote: what must be zero in every genuine one, and the INIT bit that every report has.
_EPID_RESERVED = ((12, 16), (68, 80), (144, 176), (208, 240), (310, 352))
_EPID_FLAGS = 96
_INIT = 1


def is_ecdsa_quote(data: bytes) -> bool:
    """Whether `data` begins as a quote of version 3, 4 or 5 does, or has Intel's QE vendor id where those have it."""
    if data.startswith(INTEL_QE_VENDOR_ID, 12):
        return True
    if len(data) < _VERSION_KEY_TEE.size:
        return False
    version, key_type, tee = _VERSION_KEY_TEE.unpack_from(data)
    return version in (3, 4, 5) and key_type in _ECDSA_KEY_TYPES and tee in (TeeType.SGX, TeeType.TDX)


def is_epid_quote(data: bytes) -> bool:
    """Whether `data` begins with the 432 bytes of an EPID quote's body, as IAS reports carry it without signature."""
    if len(data) < EPID_BODY_END:
        return False
    version, sign_type = struct.unpack_from("<HH", data)
    return (
        version in (1, 2)
        and sign_type in (0, 1)
        and bool(data[_EPID_FLAGS] & _INIT)
        and not any(any(data[start:end]) for start, end in _EPID_RESERVED)
    )


def is_quote(data: bytes) -> bool:
    """Whether `data` begins as some quote does."""
    return is_ecdsa_quote(data) or is_epid_quote(data)


def body_span(data: bytes) -> tuple[int, int] | None:
    """Where the body (SGX report or TD report) begins and ends; None where that cannot be told.

    In version 5 the quote itself gives the size; it is taken as it stands if it is no larger than 64 KiB.
    """
    if is_epid_quote(data):
        return HEADER_SIZE, EPID_BODY_END
    if not is_ecdsa_quote(data):
        return None
    version, _, tee = _VERSION_KEY_TEE.unpack_from(data)
    if version == 5:
        start = HEADER_SIZE + _V5_BODY_DESCRIPTOR.size
        if len(data) < start:
            return None
        _, size = _V5_BODY_DESCRIPTOR.unpack_from(data, HEADER_SIZE)
        return (start, start + size) if size <= 1 << 16 else None
    size = TD_REPORT_1_0_SIZE if version == 4 and tee == TeeType.TDX else REPORT_BODY_SIZE
    return HEADER_SIZE, HEADER_SIZE + size


def reportdata_of(data: bytes) -> bytes | None:
    """The 64 bytes of REPORTDATA; None where the quote ends before or its body is of no known size."""
    span = body_span(data)
    if span is None:
        return None
    start, end = span
    if end - start == REPORT_BODY_SIZE:
        at = start + _SGX_REPORTDATA
    elif end - start >= TD_REPORT_1_0_SIZE:
        at = start + _TD_REPORTDATA
    else:
        return None
    return data[at : at + 64] if at + 64 <= len(data) else None


def quote_end(data: bytes) -> int | None:
    """Where the quote ends by its own account, which may be after the end of `data`; None where it cannot be told."""
    span = body_span(data)
    if span is None or len(data) < span[1] + 4:
        return None
    (signature_size,) = struct.unpack_from("<I", data, span[1])
    return span[1] + 4 + int(signature_size)
