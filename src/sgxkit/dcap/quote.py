"""ECDSA quotes, versions 3, 4 and 5, as typed values.

Version 3: Intel SGX ECDSA Quote Library Reference, appendix A. Versions 4 and 5: Intel TDX DCAP Quoting Library API,
appendix A. All integers are little-endian; keys and signatures are raw big-endian pairs (x, y) and (r, s) on P-256.
Parsing says what the bytes are; whether any of it is true is for `sgxkit.dcap.verify`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from sgxkit.dcap import der
from sgxkit.dcap.td_report import (
    TD_REPORT_1_0_SIZE,
    TD_REPORT_1_5_EX_SIZE,
    TD_REPORT_1_5_SIZE,
    TdReport,
    parse_td_report,
)
from sgxkit.errors import FormatError
from sgxkit.isa.report import REPORT_BODY_SIZE, ReportBody
from sgxkit.messages import msg

MAX_QUOTE_SIZE = 1 << 20
"""Bytes; a quote is 4 to 5 KB, and the largest buffers that drivers pad it to are 16 KiB."""

MAX_CERTIFICATES = 8

INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

HEADER_SIZE = 48
_HEADER = struct.Struct("<HHIHH16s20s")
_V5_BODY_DESCRIPTOR = struct.Struct("<HI")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_TYPE_AND_SIZE = struct.Struct("<HI")

_PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"


class TeeType(IntEnum):
    """What kind of trusted execution environment was quoted."""

    SGX = 0x00000000
    TDX = 0x00000081


_TEE_TYPES = {tee_type.value: tee_type for tee_type in TeeType}


class AttestationKeyType(IntEnum):
    """The algorithm of the attestation key; only ECDSA on P-256 is in use."""

    EPID_UNLINKABLE = 0
    EPID_LINKABLE = 1
    ECDSA_P256 = 2
    ECDSA_P384 = 3


class BodyType(IntEnum):
    """What a quote's body is; the numbers are those of version 5, where the quote itself carries them."""

    SGX_REPORT = 1
    TD_REPORT_1_0 = 2
    TD_REPORT_1_5 = 3
    TD_REPORT_1_5_EX = 4


_BODY_SIZES = {
    BodyType.SGX_REPORT: REPORT_BODY_SIZE,
    BodyType.TD_REPORT_1_0: TD_REPORT_1_0_SIZE,
    BodyType.TD_REPORT_1_5: TD_REPORT_1_5_SIZE,
    BodyType.TD_REPORT_1_5_EX: TD_REPORT_1_5_EX_SIZE,
}


class CertificationDataType(IntEnum):
    """How the quote proves whose PCK signed its QE report."""

    PPID_CLEARTEXT = 1
    PPID_RSA2048_OAEP = 2
    PPID_RSA3072_OAEP = 3
    PCK_LEAF = 4
    PCK_CHAIN = 5
    QE_REPORT = 6


_CERTIFICATION_DATA_TYPES = {kind.value: kind for kind in CertificationDataType}


class UnsupportedQuoteError(FormatError):
    """A quote of a kind that exists and that this library recognises but does not verify."""

    code = "format.unsupported"


@dataclass(frozen=True, slots=True)
class QuoteHeader:
    """The first 48 bytes. The two SVNs are informational: the PCK certificate and the QE report decide."""

    version: int
    attestation_key_type: AttestationKeyType
    tee_type: TeeType
    qe_svn: int
    pce_svn: int
    qe_vendor_id: bytes
    user_data: bytes


@dataclass(frozen=True, slots=True)
class PpidCertificationData:
    """Types 1 to 3: names the platform, so that its PCK certificate can be asked for; carries no certificate.

    `ppid` is 16 bytes in the clear (type 1) or RSA-OAEP encrypted, 256 (type 2) or 384 bytes (type 3). `pceid` is
    None in the 34-byte form of type 1 that Intel's own sample carries.
    """

    type: CertificationDataType
    ppid: bytes
    cpusvn: bytes
    pcesvn: int
    pceid: bytes | None


@dataclass(frozen=True, slots=True)
class PckCertificationData:
    """Types 4 and 5: the PCK certificate alone (4), or leaf, intermediate and root (5).

    `content` is PEM text, without the zero byte that usually ends it; Intel's test tooling writes type 5 as
    certificates in DER one after the other, which is kept as it stands.
    """

    type: CertificationDataType
    content: bytes

    @property
    def is_pem(self) -> bool:
        return self.content.startswith(_PEM_BEGIN)


CertificationData = PpidCertificationData | PckCertificationData


@dataclass(frozen=True, slots=True)
class Quote:
    """One parsed quote.

    `signed_bytes` are the header and the body, which the attestation key signed; `qe_report_bytes` are the 384 bytes
    that the PCK signed; `padding` counts the zero bytes after the quote.
    """

    header: QuoteHeader
    body_type: BodyType
    body: ReportBody | TdReport
    signed_bytes: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: ReportBody
    qe_report_bytes: bytes
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification_data: CertificationData
    padding: int

    @property
    def version(self) -> int:
        return self.header.version

    @property
    def tee_type(self) -> TeeType:
        return self.header.tee_type

    @property
    def reportdata(self) -> bytes:
        """The 64 bytes that the enclave or TD chose."""
        return self.body.reportdata

    @property
    def pck_chain_pem(self) -> bytes | None:
        """The PEM of the PCK certificate chain where the quote carries all of it (type 5), else None."""
        data = self.certification_data
        if isinstance(data, PckCertificationData) and data.type is CertificationDataType.PCK_CHAIN and data.is_pem:
            return data.content
        return None


def parse_quote(data: bytes) -> Quote:
    """Read a version 3, 4 or 5 quote from its bytes; zero bytes may follow it, and nothing else.

    Raises FormatError naming the field and its offset, UnsupportedQuoteError for EPID and P-384 quotes.
    """
    if len(data) > MAX_QUOTE_SIZE:
        raise FormatError(
            "quote", msg("{size} bytes, at most {limit} are read", size=len(data), limit=MAX_QUOTE_SIZE)
        )
    header = _parse_header(data)
    if header.version < 5:
        body_type = BodyType.SGX_REPORT if header.tee_type is TeeType.SGX else BodyType.TD_REPORT_1_0
        body_start = HEADER_SIZE
    else:
        body_type = _parse_v5_body_descriptor(data, header.tee_type)
        body_start = HEADER_SIZE + _V5_BODY_DESCRIPTOR.size
    body_end = body_start + _BODY_SIZES[body_type]
    body_bytes = _take(data, body_start, body_end, "body")
    body: ReportBody | TdReport
    if body_type is BodyType.SGX_REPORT:
        body = ReportBody.from_bytes(body_bytes, field="body", offset=body_start)
    else:
        body = parse_td_report(body_bytes, offset=body_start)

    signature_start = body_end + 4
    (signature_size,) = _U32.unpack(_take(data, body_end, signature_start, "signature data size"))
    end = signature_start + signature_size
    if end > len(data):
        raise FormatError(
            "signature data size",
            msg("{size} bytes announced, {left} left", size=signature_size, left=len(data) - signature_start),
            offset=body_end,
        )
    padding = len(data) - end
    if padding and data.count(0, end) != padding:
        raise FormatError("quote", msg("bytes other than zero padding follow it"), offset=end)
    inner = data[:end] if padding else data

    position = signature_start + 128
    signature_and_key = _take(inner, signature_start, position, "signature and attestation key")
    if header.version > 3:
        position, certification_end = _open_qe_report_certification_data(inner, position)
        if certification_end != end:
            raise FormatError(
                "QE report certification data",
                msg("{count} bytes of signature data left over", count=end - certification_end),
                offset=certification_end,
            )
    qe_report_bytes = _take(inner, position, position + REPORT_BODY_SIZE, "QE report")
    qe_report = ReportBody.from_bytes(qe_report_bytes, field="QE report", offset=position)
    position += REPORT_BODY_SIZE
    qe_report_signature = _take(inner, position, position + 64, "QE report signature")
    position += 64
    (auth_size,) = _U16.unpack(_take(inner, position, position + 2, "QE authentication data size"))
    position += 2
    qe_auth_data = _take(inner, position, position + auth_size, "QE authentication data")
    position += auth_size
    certification_data = _parse_certification_data(inner, position)
    return Quote(
        header=header,
        body_type=body_type,
        body=body,
        signed_bytes=inner[:body_end],
        signature=signature_and_key[:64],
        attestation_key=signature_and_key[64:],
        qe_report=qe_report,
        qe_report_bytes=qe_report_bytes,
        qe_report_signature=qe_report_signature,
        qe_auth_data=qe_auth_data,
        certification_data=certification_data,
        padding=padding,
    )


def _take(data: bytes, start: int, end: int, field: str) -> bytes:
    if end > len(data):
        raise FormatError(
            field,
            msg("cut short: {size} bytes needed, {left} left", size=end - start, left=max(0, len(data) - start)),
            offset=start,
        )
    return data[start:end]


def _parse_header(data: bytes) -> QuoteHeader:
    if len(data) >= 2:
        # The version decides what the other bytes mean, so it is judged before their number.
        (version,) = _U16.unpack_from(data)
        if version in (1, 2):
            raise UnsupportedQuoteError(
                "version",
                msg("{version} is an EPID quote, not an ECDSA (DCAP) quote", version=version),
                offset=0,
                hint=msg(
                    "only Intel's attestation service (IAS) could verify EPID quotes, and it ended on 2025-04-02; "
                    "make an ECDSA quote on a platform with flexible launch control"
                ),
            )
        if version not in (3, 4, 5):
            raise FormatError(
                "version", msg("{version} is not a quote version (3, 4 or 5)", version=version), offset=0
            )
    version, key_type, tee, qe_svn, pce_svn, vendor, user_data = _HEADER.unpack(_take(data, 0, HEADER_SIZE, "header"))
    if key_type != AttestationKeyType.ECDSA_P256:
        if key_type == AttestationKeyType.ECDSA_P384:
            raise UnsupportedQuoteError(
                "attestation key type", msg("ECDSA P-384 is defined but not in use"), offset=2
            )
        raise FormatError("attestation key type", msg("{type} is not ECDSA P-256 (2)", type=key_type), offset=2)
    if version == 3 and tee != 0:
        raise FormatError("header.reserved", msg("reserved bytes must be zero"), offset=4)
    tee_type = _TEE_TYPES.get(tee)
    if tee_type is None:
        raise FormatError("TEE type", msg("{type} is neither SGX (0) nor TDX (0x81)", type=hex(tee)), offset=4)
    if vendor != INTEL_QE_VENDOR_ID:
        raise FormatError("QE vendor id", msg("{id} is not Intel's", id=vendor.hex()), offset=12)
    return QuoteHeader(version, AttestationKeyType.ECDSA_P256, tee_type, qe_svn, pce_svn, vendor, user_data)


def _parse_v5_body_descriptor(data: bytes, tee_type: TeeType) -> BodyType:
    descriptor_end = HEADER_SIZE + _V5_BODY_DESCRIPTOR.size
    number, size = _V5_BODY_DESCRIPTOR.unpack(_take(data, HEADER_SIZE, descriptor_end, "body descriptor"))
    if number not in _BODY_SIZES:
        raise FormatError("body type", msg("{type} is not defined (1 to 4)", type=number), offset=HEADER_SIZE)
    body_type = BodyType(number)
    if (body_type is BodyType.SGX_REPORT) != (tee_type is TeeType.SGX):
        raise FormatError(
            "body type",
            msg("{type} does not go with TEE type {tee}", type=number, tee=tee_type.name),
            offset=HEADER_SIZE,
        )
    if size != _BODY_SIZES[body_type]:
        raise FormatError(
            "body size",
            msg(
                "{size} bytes, body type {type} has {expected}",
                size=size,
                type=number,
                expected=_BODY_SIZES[body_type],
            ),
            offset=HEADER_SIZE + 2,
        )
    return body_type


def _open_qe_report_certification_data(data: bytes, start: int) -> tuple[int, int]:
    """Return where the content of the outer certification data (type 6 in versions 4 and 5) begins and ends."""
    content = start + _TYPE_AND_SIZE.size
    number, size = _TYPE_AND_SIZE.unpack(_take(data, start, content, "certification data type"))
    if number != CertificationDataType.QE_REPORT:
        raise FormatError(
            "certification data type", msg("{type}, must be 6 (QE report) in this version", type=number), offset=start
        )
    if content + size > len(data):
        raise FormatError(
            "certification data size",
            msg("{size} bytes announced, {left} left", size=size, left=len(data) - content),
            offset=start + 2,
        )
    return content, content + size


def _parse_certification_data(data: bytes, start: int) -> CertificationData:
    content = start + _TYPE_AND_SIZE.size
    number, size = _TYPE_AND_SIZE.unpack(_take(data, start, content, "certification data type"))
    if content + size != len(data):
        raise FormatError(
            "certification data size",
            msg("{size} bytes announced, {left} left", size=size, left=len(data) - content),
            offset=start + 2,
        )
    kind = _CERTIFICATION_DATA_TYPES.get(number)
    payload = data[content:]
    if kind in (CertificationDataType.PCK_CHAIN, CertificationDataType.PCK_LEAF):
        return _parse_pck_certification_data(kind, payload, content)
    if kind in _PPID_SIZES:
        return _parse_ppid_certification_data(kind, payload, content)
    raise FormatError(
        "certification data type", msg("{type} is not one that a quote can carry (1 to 5)", type=number), offset=start
    )


_PPID_SIZES = {
    CertificationDataType.PPID_CLEARTEXT: 16,
    CertificationDataType.PPID_RSA2048_OAEP: 256,
    CertificationDataType.PPID_RSA3072_OAEP: 384,
}


def _parse_ppid_certification_data(
    type_: CertificationDataType, payload: bytes, offset: int
) -> PpidCertificationData:
    ppid_size = _PPID_SIZES[type_]
    expected = ppid_size + 16 + 2 + 2
    short_form = type_ is CertificationDataType.PPID_CLEARTEXT and len(payload) == expected - 2
    if len(payload) != expected and not short_form:
        raise FormatError(
            "certification data",
            msg("{size} bytes, must be {expected}", size=len(payload), expected=expected),
            offset=offset,
        )
    ppid, rest = payload[:ppid_size], payload[ppid_size:]
    (pcesvn,) = _U16.unpack_from(rest, 16)
    return PpidCertificationData(type_, ppid, rest[:16], pcesvn, None if short_form else rest[18:20])


def _parse_pck_certification_data(type_: CertificationDataType, payload: bytes, offset: int) -> PckCertificationData:
    if payload.startswith(_PEM_BEGIN):
        content = payload.rstrip(b"\0")
        if type_ is CertificationDataType.PCK_LEAF and content.count(_PEM_BEGIN) != 1:
            raise FormatError(
                "certification data", msg("type 4 carries one certificate, this has more"), offset=offset
            )
        return PckCertificationData(type_, content)
    for count, _ in enumerate(der.elements(payload, "certification data", offset), 1):
        if count > MAX_CERTIFICATES:
            raise FormatError(
                "certification data",
                msg("{count} values, at most {limit} are read", count=count, limit=MAX_CERTIFICATES),
            )
    return PckCertificationData(type_, payload)
