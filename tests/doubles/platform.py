"""A platform made on the spot: its certificates, the collateral about it, and quotes in every format.

Each piece is a plain argument with a good default, so that a test changes the one thing that it is about. Keys are
made anew in each run: nothing verifies under any root but the platform's own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from sgxkit.dcap.collateral import Collateral
from sgxkit.dcap.quote import INTEL_QE_VENDOR_ID
from sgxkit.dcap.trust import TrustAnchor, anchor_from_pem
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.report import ReportBody

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
AT = datetime(2026, 1, 15, tzinfo=UTC)
END = datetime(2026, 2, 1, tzinfo=UTC)
CERTIFICATES_END = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
FMSPC = bytes.fromhex("00606a000000")
QE_SIGNER = bytes.fromhex("8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff")


@dataclass(frozen=True)
class Authority:
    """A certified key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, message: bytes) -> bytes:
        return raw_signature(self.key, message)


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def raw_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def certify(
    common_name: str,
    issuer: Authority | None,
    *,
    ca: bool = False,
    path_length: int | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
    begin: datetime = BEGIN,
    end: datetime = CERTIFICATES_END,
    extension: bytes | None = None,
    critical: bytes | None = None,
) -> Authority:
    """Certify a key, by itself where there is no issuer; `extension` is the DER of an SGX extension."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Intel Corporation"),
        ]
    )
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
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
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if extension is not None:
        oid = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, extension), critical=False)
    if critical is not None:
        oid = x509.ObjectIdentifier("1.2.840.113741.1.13.99")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, critical), critical=True)
    return Authority(key, builder.sign(signer, hashes.SHA256()))


def crl(
    issuer: Authority, revoked: Sequence[Authority] = (), *, begin: datetime = BEGIN, end: datetime = END
) -> bytes:
    """Make an issuer's list, in DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(begin)
        .next_update(end)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    for authority in revoked:
        serial = authority.certificate.serial_number
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(begin).build()
        )
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def _integer(value: int, tag: int = 0x02) -> bytes:
    return _tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _pair(arc: bytes, value: bytes) -> bytes:
    return _tlv(0x30, _tlv(0x06, bytes.fromhex("2a864886f84d010d01") + arc) + value)


def sgx_extension(
    *,
    components: Sequence[int] = (7,) * 16,
    pcesvn: int = 13,
    pceid: bytes = bytes(2),
    fmspc: bytes = FMSPC,
    sgx_type: int = 1,
    instance: bytes | None = bytes(range(16)),
    extra: bytes = b"",
) -> bytes:
    """Encode a PCK certificate's SGX extension."""
    tcb = b"".join(_pair(bytes([2, number]), _integer(svn)) for number, svn in enumerate(components, 1))
    tcb += _pair(bytes([2, 17]), _integer(pcesvn)) + _pair(bytes([2, 18]), _tlv(0x04, bytes(components)))
    pairs = (
        _pair(b"\x01", _tlv(0x04, b"P" * 16))
        + _pair(b"\x02", _tlv(0x30, tcb))
        + _pair(b"\x03", _tlv(0x04, pceid))
        + _pair(b"\x04", _tlv(0x04, fmspc))
        + _pair(b"\x05", _integer(sgx_type, 0x0A))
    )
    if instance is not None:
        flags = b"".join(_pair(bytes([7, number]), _tlv(0x01, b"\xff")) for number in (1, 2, 3))
        pairs += _pair(b"\x06", _tlv(0x04, instance)) + _pair(b"\x07", _tlv(0x30, flags))
    return _tlv(0x30, pairs + extra)


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))


def tcb_level(
    svn: int, status: str, *, pcesvn: int = 10, tdx_svn: int | None = None, advisories: Sequence[str] = ()
) -> dict[str, Any]:
    tcb: dict[str, Any] = {"sgxtcbcomponents": [{"svn": svn}] * 16, "pcesvn": pcesvn}
    if tdx_svn is not None:
        tcb["tdxtcbcomponents"] = [{"svn": tdx_svn}] * 3 + [{"svn": 0}] * 13
    level = {"tcb": tcb, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status}
    return level | {"advisoryIDs": list(advisories)} if advisories else level


def tcb_info(
    levels: Sequence[dict[str, Any]],
    *,
    tee: str = "SGX",
    fmspc: bytes = FMSPC,
    pceid: bytes = bytes(2),
    number: int = 17,
    begin: datetime = BEGIN,
    end: datetime = END,
    **more: Any,
) -> str:
    """Write a TCB info of version 3."""
    document: dict[str, Any] = {
        "id": tee,
        "version": 3,
        "issueDate": _time(begin),
        "nextUpdate": _time(end),
        "fmspc": fmspc.hex().upper(),
        "pceId": pceid.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": number,
    }
    if tee == "TDX":
        module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "ff" * 8}
        levels_of_module = [
            {"tcb": {"isvsvn": 2}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "UpToDate"},
            {"tcb": {"isvsvn": 0}, "tcbDate": "2024-01-01T00:00:00Z", "tcbStatus": "OutOfDate"},
        ]
        document["tdxModule"] = module
        document["tdxModuleIdentities"] = [{"id": "TDX_01", **module, "tcbLevels": levels_of_module}]
    return _compact(document | {"tcbLevels": list(levels)} | more)


def qe_identity(
    *,
    identity: str = "QE",
    signer: bytes = QE_SIGNER,
    status: str = "UpToDate",
    number: int = 17,
    begin: datetime = BEGIN,
    end: datetime = END,
    **more: Any,
) -> str:
    """Write an enclave identity of version 2."""
    document = {
        "id": identity,
        "version": 2,
        "issueDate": _time(begin),
        "nextUpdate": _time(end),
        "tcbEvaluationDataNumber": number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": signer.hex().upper(),
        "isvprodid": 1,
        "tcbLevels": [{"tcb": {"isvsvn": 8}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status}],
    }
    return _compact(document | more)


def report_body(**more: Any) -> ReportBody:
    """Make an enclave's report body, debug mode off."""
    values: dict[str, Any] = {
        "cpusvn": bytes(16),
        "miscselect": 0,
        "isvextprodid": bytes(16),
        "attributes": Attributes(AttributeFlags.INIT | AttributeFlags.MODE64BIT, 3),
        "mrenclave": b"E" * 32,
        "mrsigner": b"S" * 32,
        "configid": bytes(64),
        "isvprodid": 5,
        "isvsvn": 9,
        "configsvn": 0,
        "isvfamilyid": bytes(16),
        "reportdata": b"D" * 64,
    }
    return ReportBody(**(values | more))


def td_report(
    size: int,
    *,
    tee_tcb_svn: bytes = bytes([5, 1, 3]),
    tee_tcb_svn2: bytes = bytes([5, 1, 3]),
    mrsignerseam: bytes = bytes(48),
    tdattributes: int = 1 << 28,
    mrservicetd: bytes = bytes(48),
    reportdata: bytes = b"D" * 64,
) -> bytes:
    """Encode a TD report body of 584 (1.0), 648 (1.5) or 885 bytes (1.5 extended)."""
    body = tee_tcb_svn.ljust(16, b"\0") + b"M" * 48 + mrsignerseam + bytes(8)
    body += struct.pack("<QQ", tdattributes, 0xE7) + b"T" * 48 + bytes(3 * 48)
    body += b"0" * 48 + b"1" * 48 + b"2" * 48 + b"3" * 48 + reportdata
    return (body + tee_tcb_svn2.ljust(16, b"\0") + mrservicetd).ljust(885, b"\0")[:size]


@dataclass(frozen=True)
class Platform:
    """A platform with everything around it; `replace` any field to make it another."""

    root: Authority
    ca: Authority
    tcb_signer: Authority
    pck: Authority
    attestation_key: ec.EllipticCurvePrivateKey
    tee: str = "SGX"
    qe_auth_data: bytes = bytes(range(32))
    qe_isvsvn: int = 8
    qe_attributes: int = AttributeFlags.INIT | AttributeFlags.MODE64BIT | AttributeFlags.PROVISIONKEY
    header_user_data: bytes = field(default=b"Q" * 16 + bytes(4))

    @property
    def anchor(self) -> TrustAnchor:
        return anchor_from_pem(self.root.pem, "root")

    @property
    def pck_chain(self) -> str:
        return self.pck.pem + self.ca.pem + self.root.pem

    def collateral(
        self,
        *,
        levels: Sequence[dict[str, Any]] | None = None,
        tcb_info_text: str | None = None,
        identity_text: str | None = None,
        revoked_by_root: Sequence[Authority] = (),
        revoked_by_ca: Sequence[Authority] = (),
        **more: Any,
    ) -> Collateral:
        """Make the collateral about this platform; `more` replaces fields of the result."""
        if levels is None:
            tdx_svn = 3 if self.tee == "TDX" else None
            levels = [tcb_level(7, "UpToDate", tdx_svn=tdx_svn), tcb_level(3, "OutOfDate", tdx_svn=tdx_svn and 1)]
        info = tcb_info_text or tcb_info(levels, tee=self.tee)
        identity = identity_text or qe_identity(identity="QE" if self.tee == "SGX" else "TD_QE")
        signer_chain = self.tcb_signer.pem + self.root.pem
        collateral = Collateral(
            pck_crl_issuer_chain=self.ca.pem + self.root.pem,
            root_ca_crl=crl(self.root, revoked_by_root, end=BEGIN + timedelta(days=365)),
            pck_crl=crl(self.ca, revoked_by_ca),
            tcb_info_issuer_chain=signer_chain,
            tcb_info=info,
            tcb_info_signature=self.tcb_signer.sign(info.encode()),
            qe_identity_issuer_chain=signer_chain,
            qe_identity=identity,
            qe_identity_signature=self.tcb_signer.sign(identity.encode()),
        )
        return replace(collateral, **more)

    def qe_report(self) -> bytes:
        binding = sha256(raw_point(self.attestation_key) + self.qe_auth_data).digest() + bytes(32)
        return report_body(
            mrsigner=QE_SIGNER,
            isvprodid=1,
            isvsvn=self.qe_isvsvn,
            attributes=Attributes(self.qe_attributes, 3),
            reportdata=binding,
        ).to_bytes()

    def quote(
        self, *, version: int = 3, body: bytes | None = None, certification: tuple[int, bytes] | None = None
    ) -> bytes:
        """Make a quote; by default over `report_body()` or a TD report that suits the version."""
        tdx = self.tee == "TDX"
        if body is None:
            body = td_report(648 if version == 5 else 584) if tdx else report_body().to_bytes()
        header = struct.pack("<HHIHH", version, 2, 0x81 if tdx else 0, 0, 0) + INTEL_QE_VENDOR_ID
        signed = header + self.header_user_data
        if version == 5:
            signed += struct.pack("<HI", {384: 1, 584: 2, 648: 3, 885: 4}[len(body)], len(body))
        signed += body
        qe_report = self.qe_report()
        kind, data = certification or (5, self.pck_chain.encode() + b"\0")
        inner = qe_report + self.pck.sign(qe_report) + struct.pack("<H", len(self.qe_auth_data)) + self.qe_auth_data
        inner += struct.pack("<HI", kind, len(data)) + data
        if version > 3:
            inner = struct.pack("<HI", 6, len(inner)) + inner
        tail = raw_signature(self.attestation_key, signed) + raw_point(self.attestation_key) + inner
        return signed + struct.pack("<I", len(tail)) + tail


def make_platform(tee: str = "SGX", *, extension: bytes | None = None, ca_name: str = "Platform") -> Platform:
    """Make a platform and the authority above it, all keys new."""
    root = certify("Intel SGX Root CA", None, ca=True, path_length=1)
    ca = certify(f"Intel SGX PCK {ca_name} CA", root, ca=True, path_length=0)
    return Platform(
        root=root,
        ca=ca,
        tcb_signer=certify("Intel SGX TCB Signing", root),
        pck=certify("Intel SGX PCK Certificate", ca, extension=extension or sgx_extension()),
        attestation_key=ec.generate_private_key(ec.SECP256R1()),
        tee=tee,
    )
