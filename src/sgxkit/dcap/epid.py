"""EPID quotes, versions 1 and 2: read so that they can be shown. Nothing can verify them any more.

`sgx_quote_t` of the Intel SGX SDK (sgx_quote.h). Intel's attestation service (IAS), the only one that could verify
their signatures, ended on 2025-04-02; its reports carry the first 432 bytes, without the signature.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from sgxkit.dcap.quote_shape import EPID_BODY_END
from sgxkit.errors import FormatError
from sgxkit.isa.report import ReportBody
from sgxkit.messages import msg

_HEADER = struct.Struct("<HHIHHI32s")
_U32 = struct.Struct("<I")


class EpidSignatureType(IntEnum):
    """Whether two signatures by one platform for the same basename can be linked."""

    UNLINKABLE = 0
    LINKABLE = 1


@dataclass(frozen=True, slots=True)
class EpidQuote:
    """One EPID quote; `signature` is None in the 432-byte form, and encrypted to IAS otherwise.

    `group_id` names the EPID group, `basename` what linkable signatures are linked by, `xeid` the extended group.
    """

    version: int
    signature_type: EpidSignatureType
    group_id: int
    qe_svn: int
    pce_svn: int
    xeid: int
    basename: bytes
    body: ReportBody
    signature: bytes | None
    padding: int

    @property
    def reportdata(self) -> bytes:
        """The 64 bytes that the enclave chose."""
        return self.body.reportdata


def parse_epid_quote(data: bytes) -> EpidQuote:
    """Read a version 1 or 2 quote: 432 bytes, or those, a u32 length and a signature, and then only zero bytes.

    Integers are little-endian. Raises FormatError naming the field and its offset.
    """
    if len(data) < EPID_BODY_END:
        raise FormatError(
            "EPID quote", msg("cut short: {size} bytes needed, {left} left", size=EPID_BODY_END, left=len(data))
        )
    version, sign_type, group_id, qe_svn, pce_svn, xeid, basename = _HEADER.unpack_from(data)
    if version not in (1, 2):
        raise FormatError(
            "version", msg("{version} is not an EPID quote version (1 or 2)", version=version), offset=0
        )
    if sign_type not in (EpidSignatureType.UNLINKABLE, EpidSignatureType.LINKABLE):
        raise FormatError("signature type", msg("{type} is neither 0 nor 1", type=sign_type), offset=2)
    body = ReportBody.from_bytes(data[_HEADER.size : EPID_BODY_END], field="body", offset=_HEADER.size)
    signature, end = _signature(data)
    padding = len(data) - end
    if data.count(0, end) != padding:
        raise FormatError("quote", msg("bytes other than zero padding follow it"), offset=end)
    return EpidQuote(
        version=version,
        signature_type=EpidSignatureType(sign_type),
        group_id=group_id,
        qe_svn=qe_svn,
        pce_svn=pce_svn,
        xeid=xeid,
        basename=basename,
        body=body,
        signature=signature,
        padding=padding,
    )


def _signature(data: bytes) -> tuple[bytes | None, int]:
    """Return the signature and where it ends; the 432-byte form has none."""
    if len(data) == EPID_BODY_END:
        return None, EPID_BODY_END
    start = EPID_BODY_END + _U32.size
    if len(data) < start:
        raise FormatError(
            "signature size",
            msg("cut short: {size} bytes needed, {left} left", size=_U32.size, left=len(data) - EPID_BODY_END),
            offset=EPID_BODY_END,
        )
    (size,) = _U32.unpack_from(data, EPID_BODY_END)
    if start + size > len(data):
        raise FormatError(
            "signature size",
            msg("{size} bytes announced, {left} left", size=size, left=len(data) - start),
            offset=EPID_BODY_END,
        )
    return data[start : start + size], start + size
