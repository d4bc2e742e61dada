"""Certificates and revocation lists as Intel writes them, and the SGX extension of a PCK certificate.

Intel SGX PCK Certificate and CRL Specification, 2. Every key, serial number and signature follows from a seed
(HKDF-SHA256; deterministic ECDSA, RFC 6979), so that a lab is the same wherever its seed is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from sgxkit.dcap.pck import (
    CACHED_KEYS,
    CONFIGURATION,
    DYNAMIC_PLATFORM,
    FMSPC,
    PCEID,
    PLATFORM_INSTANCE_ID,
    PPID,
    SGX_TYPE,
    SMT_ENABLED,
    TCB,
    TCB_CPUSVN,
    TCB_PCESVN,
    PckPlatform,
)

# The order of P-256 (SEC 2, 2.4.2).
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_ARC = bytes.fromhex("2a864886f84d010d01")
_OCTETS, _INTEGER, _ENUMERATED, _BOOLEAN, _SEQUENCE, _OID = 0x04, 0x02, 0x0A, 0x01, 0x30, 0x06

CRL_URI = "https://lab.invalid/IntelSGXRootCA.der"
"""Where the root's list would be: nowhere (RFC 2606). A lab serves it beside everything else."""


def derive(seed: bytes, label: str, length: int) -> bytes:
    """Derive bytes from a seed; each label gives others."""
    return HKDF(hashes.SHA256(), length, salt=b"sgxkit lab", info=label.encode()).derive(seed)


def derive_key(seed: bytes, label: str) -> ec.EllipticCurvePrivateKey:
    """Derive a P-256 key; 128 bits more than the order make it uniform (FIPS 186-5, A.2.1)."""
    number = int.from_bytes(derive(seed, label, 48), "big") % (_ORDER - 1) + 1
    return ec.derive_private_key(number, ec.SECP256R1())


def raw_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A public key as quotes have it: x and y, 64 bytes."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Sign as quotes and collateral have it: r and s big-endian, 64 bytes."""
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Certified:
    """A key with its certificate."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def certify(
    seed: bytes,
    label: str,
    common_name: str,
    organization: str,
    issuer: Certified | None,
    *,
    validity: tuple[datetime, datetime],
    path_length: int | None = None,
    platform: PckPlatform | None = None,
) -> Certified:
    """Certify the key of `label`, by itself where there is no issuer; a CA has a `path_length`."""
    key = derive_key(seed, f"{label} key")
    signer = key if issuer is None else issuer.key
    ca = path_length is not None
    name = _name(common_name, organization)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(derive(seed, f"{label} serial number", 20), "big") >> 1)
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(
            x509.CRLDistributionPoints(
                [x509.DistributionPoint([x509.UniformResourceIdentifier(CRL_URI)], None, None, None)]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not ca,
                content_commitment=not ca,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=ca,
                crl_sign=ca,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    )
    if platform is not None:
        extension = x509.UnrecognizedExtension(_SGX_EXTENSION, encode_sgx_extension(platform))
        builder = builder.add_extension(extension, critical=False)
    return Certified(key, builder.sign(signer, hashes.SHA256(), ecdsa_deterministic=True))


def revocation_list(
    issuer: Certified, number: int, validity: tuple[datetime, datetime], revoked: Iterable[tuple[int, datetime]]
) -> bytes:
    """Write an issuer's list, in DER, of the serial numbers revoked and since when."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(validity[0])
        .next_update(validity[1])
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    for serial_number, since in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(serial_number)
            .revocation_date(since)
            .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
            .build()
        )
    return builder.sign(issuer.key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def _name(common_name: str, organization: str) -> x509.Name:
    """A name as in Intel's hierarchy: verifiers go by the common name; the organization says whose it really is."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "Santa Clara"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "CA"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        ]
    )


def encode_sgx_extension(platform: PckPlatform) -> bytes:
    """Write the extension that `sgxkit.dcap.pck` reads: DER, a SEQUENCE of SEQUENCE { OID, value } (2.3.1)."""
    tcb = b"".join(
        _pair((TCB, number), _unsigned(_INTEGER, svn)) for number, svn in enumerate(platform.tcb_components, 1)
    )
    tcb += _pair((TCB, TCB_PCESVN), _unsigned(_INTEGER, platform.pcesvn))
    tcb += _pair((TCB, TCB_CPUSVN), _element(_OCTETS, platform.cpusvn))
    pairs = (
        _pair((PPID,), _element(_OCTETS, platform.ppid))
        + _pair((TCB,), _element(_SEQUENCE, tcb))
        + _pair((PCEID,), _element(_OCTETS, platform.pceid))
        + _pair((FMSPC,), _element(_OCTETS, platform.fmspc))
        + _pair((SGX_TYPE,), _unsigned(_ENUMERATED, platform.sgx_type))
    )
    if platform.platform_instance_id is not None:
        pairs += _pair((PLATFORM_INSTANCE_ID,), _element(_OCTETS, platform.platform_instance_id))
    flags = b"".join(
        _pair((CONFIGURATION, number), _element(_BOOLEAN, b"\xff" if value else b"\0"))
        for number, value in (
            (DYNAMIC_PLATFORM, platform.dynamic_platform),
            (CACHED_KEYS, platform.cached_keys),
            (SMT_ENABLED, platform.smt_enabled),
        )
        if value is not None
    )
    if flags:
        pairs += _pair((CONFIGURATION,), _element(_SEQUENCE, flags))
    return _element(_SEQUENCE, pairs)


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _unsigned(tag: int, value: int) -> bytes:
    return _element(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _pair(numbers: tuple[int, ...], value: bytes) -> bytes:
    return _element(_SEQUENCE, _element(_OID, _ARC + bytes(numbers)) + value)


def utc(year: int, month: int, day: int) -> datetime:
    """The beginning of a day in the hierarchy's calendar."""
    return datetime(year, month, day, tzinfo=UTC)
