"""The certificate chains of the SGX hierarchy and the lists that revoke in it.

Intel SGX PCK Certificate and CRL Specification, 2.1: root, then either a PCK CA and the PCK certificate of a
platform, or the TCB signing certificate. Each has its one common name; a chain is complete, leaf first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

from sgxkit.dcap.certificate import Certificate, Crl, KeyUsage, Window, parse_certificate, parse_crl, split_pem
from sgxkit.dcap.ecdsa import signature_verifies
from sgxkit.dcap.errors import (
    CertificateChainError,
    CertificateRevokedError,
    CrlIssuerError,
    CrlMissingError,
    CrlSignatureError,
    UntrustedRootError,
)
from sgxkit.dcap.trust import TrustAnchor
from sgxkit.errors import FormatError
from sgxkit.messages import msg

ROOT_CA_NAME = "Intel SGX Root CA"
PCK_CERTIFICATE_NAME = "Intel SGX PCK Certificate"
TCB_SIGNING_NAME = "Intel SGX TCB Signing"


class PckCa(StrEnum):
    """Which CA certifies the platform; the value is how the PCS asks for it."""

    PROCESSOR = "processor"
    PLATFORM = "platform"


_PCK_CA_NAMES = {"Intel SGX PCK Processor CA": PckCa.PROCESSOR, "Intel SGX PCK Platform CA": PckCa.PLATFORM}


@dataclass(frozen=True, slots=True)
class InForce:
    """Some windows, and when all of them are open: from `begin` until just before `end`."""

    windows: tuple[Window, ...]
    begin: datetime
    end: datetime


_ALWAYS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def in_force(windows: Iterable[Window]) -> InForce:
    """Put windows together; without any, always is."""
    every = tuple(windows)
    begin, end = _ALWAYS
    for window in every:
        begin = max(begin, window.begin)
        end = min(end, window.end)
    return InForce(every, begin, end)


@dataclass(frozen=True, slots=True)
class PckCaChain:
    """A PCK CA and the root above it."""

    ca: Certificate
    root: Certificate


def crl_window(name: str, crl: Crl) -> Window:
    """A list is in force until its nextUpdate, when there is a newer one that may revoke more."""
    return Window(name, crl.this_update, crl.next_update, published=True)


@lru_cache(maxsize=256)
def read_chain(pem: str, field: str, length: int) -> tuple[Certificate, ...]:
    """Read a chain that must have `length` certificates; the last few chains are remembered as they were read.

    Raises FormatError for what is no certificate, CertificateChainError for another number.
    """
    encoded = split_pem(pem, field)
    if len(encoded) != length:
        raise CertificateChainError(
            msg("{name}: {count} certificates, must be {expected}", name=field, count=len(encoded), expected=length)
        )
    try:
        return tuple(parse_certificate(one) for one in encoded)
    except FormatError as error:
        raise FormatError(field, error.message, hint=error.hint) from error


def check_root(root: Certificate, anchor: TrustAnchor) -> None:
    """Refuse a root certificate that is not the trust anchor's (UntrustedRootError, CertificateChainError)."""
    if root.common_name != ROOT_CA_NAME or root.subject != root.issuer or not root.is_ca:
        raise CertificateChainError(
            msg(
                "{name} stands where {expected} must: a chain is leaf first, root last",
                name=root.common_name,
                expected=ROOT_CA_NAME,
            )
        )
    if root.public_point != anchor.point:
        raise UntrustedRootError(
            msg("the chain leads to another root key than that of the trust anchor, {anchor}", anchor=anchor.name),
            hint=msg("quotes of a lab or of test tooling need that root as the trust anchor: --trusted-root FILE"),
        )
    if root.digest not in anchor.certificates and not signature_verifies(
        root.public_key, root.signature, root.signed_bytes
    ):
        raise CertificateChainError(msg("the signature of {name} does not verify", name=root.common_name))


def check_issued(certificate: Certificate, issuer: Certificate) -> None:
    """Refuse a certificate that `issuer`, a CA, did not issue; raises CertificateChainError."""
    if certificate.issuer != issuer.subject:
        raise CertificateChainError(
            msg("{name} was not issued by {issuer}", name=certificate.common_name, issuer=issuer.common_name)
        )
    if issuer.path_length is None or not _may(issuer, KeyUsage.KEY_CERT_SIGN):
        raise CertificateChainError(msg("{name} may not issue certificates", name=issuer.common_name))
    if certificate.is_ca and issuer.path_length < 1:
        raise CertificateChainError(msg("{name} may not issue certificates of a CA", name=issuer.common_name))
    if not signature_verifies(issuer.public_key, certificate.signature, certificate.signed_bytes):
        raise CertificateChainError(msg("the signature of {name} does not verify", name=certificate.common_name))


def _may(certificate: Certificate, usage: KeyUsage) -> bool:
    """Without the extension, a key may be used for anything (RFC 5280, 4.2.1.3)."""
    return certificate.key_usage is None or bool(certificate.key_usage & usage)


def check_pck_ca(ca: Certificate, root: Certificate, anchor: TrustAnchor) -> None:
    """Refuse what is not a PCK CA under the trust anchor."""
    check_root(root, anchor)
    if ca.common_name not in _PCK_CA_NAMES or not ca.is_ca:
        raise CertificateChainError(msg("{name} is not a PCK CA", name=ca.common_name))
    check_issued(ca, root)


def check_leaf(leaf: Certificate, name: str, issuer: Certificate) -> None:
    """Refuse an end certificate that is not the one called `name` or that `issuer` did not issue."""
    if leaf.common_name != name or leaf.is_ca:
        raise CertificateChainError(msg("{name} stands where {expected} must", name=leaf.common_name, expected=name))
    if not _may(leaf, KeyUsage.DIGITAL_SIGNATURE):
        raise CertificateChainError(msg("{name} may not sign", name=leaf.common_name))
    check_issued(leaf, issuer)


def pck_ca(certificate: Certificate) -> PckCa | None:
    """Which PCK CA a certificate is by its name, None where it is none."""
    return _PCK_CA_NAMES.get(certificate.common_name)


def read_crl(encoded: bytes, name: str, issuer: Certificate) -> Crl:
    """Read a list and make sure that `issuer` made it.

    Raises CrlMissingError for no list at all, FormatError for what is none, CrlIssuerError, CrlSignatureError.
    """
    if not encoded:
        raise CrlMissingError(msg("the {name} is empty: nothing says what is revoked", name=name))
    crl = parse_crl(encoded, name)
    if crl.issuer != issuer.subject:
        raise CrlIssuerError(msg("the {name} is not by {issuer}", name=name, issuer=issuer.common_name))
    if not _may(issuer, KeyUsage.CRL_SIGN):
        raise CrlIssuerError(msg("{name} may not sign revocation lists", name=issuer.common_name))
    if not signature_verifies(issuer.public_key, crl.signature, crl.signed_bytes):
        raise CrlSignatureError(msg("the signature of the {name} does not verify", name=name))
    return crl


def check_not_revoked(certificate: Certificate, crl: Crl) -> None:
    """Refuse a certificate that is on its issuer's list; raises CertificateRevokedError."""
    if crl.revokes(certificate.serial_number):
        raise CertificateRevokedError(
            msg(
                "{name} with serial number {serial} is revoked",
                name=certificate.common_name,
                serial=f"{certificate.serial_number:x}",
            )
        )
