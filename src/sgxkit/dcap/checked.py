"""What a verification finds out about its parts, each as far as it depends on that part alone.

Three parts change at different rates: collateral every few weeks, a platform (its PCK chain) with each new machine, a
quoting enclave's attestation key every few months. Each function here checks one part and returns what holds of it
for ever; nothing here looks at the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import ParamSpec, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from sgxkit.dcap.certificate import Certificate, Crl, Window
from sgxkit.dcap.chains import (
    PCK_CERTIFICATE_NAME,
    ROOT_CA_NAME,
    TCB_SIGNING_NAME,
    InForce,
    PckCaChain,
    check_leaf,
    check_not_revoked,
    check_pck_ca,
    check_root,
    crl_window,
    in_force,
    pck_ca,
    read_chain,
    read_crl,
)
from sgxkit.dcap.collateral import Collateral
from sgxkit.dcap.ecdsa import public_key, raw_signature_verifies
from sgxkit.dcap.errors import (
    AttestationKeyError,
    CrlIssuerError,
    MalformedCollateralError,
    QeIdentitySignatureError,
    QeIdentityTypeError,
    QeMismatchError,
    QeReportSignatureError,
    TcbInfoMismatchError,
    TcbInfoSignatureError,
    TcbInfoTypeError,
    TcbNotSupportedError,
    VerificationError,
)
from sgxkit.dcap.identity import EnclaveIdentity, EnclaveIdentityId, first_mismatch, parse_enclave_identity
from sgxkit.dcap.pck import PckPlatform, parse_pck_platform
from sgxkit.dcap.quote import Quote, TeeType
from sgxkit.dcap.tcb import SvnLevel, TcbInfo, parse_tcb_info, select_svn_level
from sgxkit.dcap.trust import TrustAnchor
from sgxkit.dcap.verification import Step
from sgxkit.errors import FormatError
from sgxkit.messages import msg

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Failures(dict[Step, VerificationError]):
    """The reason for each step that failed; the first one counts."""

    def attempt(
        self, step: Step, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result | None:
        """Call the function; what it refuses is noted as the reason why `step` failed, and None is returned."""
        try:
            return function(*args, **kwargs)
        except VerificationError as error:
            self.setdefault(step, error)
        except FormatError as error:
            self.setdefault(step, MalformedCollateralError(error))
        return None


@dataclass(frozen=True, slots=True)
class SignerChain:
    """The TCB signing certificate and the root above it."""

    signer: Certificate
    root: Certificate


@dataclass(frozen=True, slots=True)
class CheckedCollateral:
    """Collateral of which the signatures were checked; what could not be had is None, and `failures` says why."""

    pck_ca_chain: PckCaChain | None
    root_crl: Crl | None
    pck_crl: Crl | None
    tcb_info: TcbInfo | None
    identity: EnclaveIdentity | None
    in_force: InForce
    failures: Failures


@dataclass(frozen=True, slots=True)
class CheckedPlatform:
    """A PCK chain that leads to the trust anchor, and what it certifies."""

    pck: Certificate
    platform: PckPlatform
    in_force: InForce
    failures: Failures


@dataclass(frozen=True, slots=True)
class CheckedQe:
    """A quoting enclave that the platform vouches for, with the attestation key that it made."""

    attestation_key: ec.EllipticCurvePublicKey | None
    level: SvnLevel | None
    failures: Failures


def check_collateral(collateral: Collateral, anchor: TrustAnchor) -> CheckedCollateral:
    """Check that each piece of the collateral is signed by whom it must be, up to the trust anchor."""
    failures = Failures()
    certificates: dict[bytes, Certificate] = {}
    tcb_info = identity = root_crl = pck_crl = None

    chain = failures.attempt(
        Step.TCB_INFO, _signer_chain, collateral.tcb_info_issuer_chain, "TCB info issuer chain", anchor, certificates
    )
    identity_chain = chain
    if chain is None or collateral.qe_identity_issuer_chain != collateral.tcb_info_issuer_chain:
        identity_chain = failures.attempt(
            Step.QE_IDENTITY,
            _signer_chain,
            collateral.qe_identity_issuer_chain,
            "QE identity issuer chain",
            anchor,
            certificates,
        )
    if chain is not None:
        tcb_info = failures.attempt(Step.TCB_INFO, _signed_tcb_info, collateral, chain.signer)
    if identity_chain is not None:
        identity = failures.attempt(Step.QE_IDENTITY, _signed_identity, collateral, identity_chain.signer)

    ca_chain = failures.attempt(Step.PCK_CRL, _pck_ca_chain, collateral.pck_crl_issuer_chain, anchor, certificates)
    if ca_chain is not None:
        pck_crl = failures.attempt(Step.PCK_CRL, read_crl, collateral.pck_crl, "PCK CRL", ca_chain.ca)

    root = next((found.root for found in (ca_chain, chain, identity_chain) if found is not None), None)
    if root is not None:
        root_crl = failures.attempt(Step.ROOT_CRL, read_crl, collateral.root_ca_crl, "root CA CRL", root)
    if root_crl is not None:
        for certificate in certificates.values():
            if certificate.issuer == root_crl.issuer:
                failures.attempt(Step.ROOT_CRL, check_not_revoked, certificate, root_crl)

    windows = [certificate.window for certificate in certificates.values()]
    if root_crl is not None:
        windows.append(crl_window("root CA CRL", root_crl))
    if pck_crl is not None:
        windows.append(crl_window("PCK CRL", pck_crl))
    if tcb_info is not None:
        windows.append(Window("TCB info", tcb_info.issue_date, tcb_info.next_update, published=True))
    if identity is not None:
        windows.append(Window("QE identity", identity.issue_date, identity.next_update, published=True))
    return CheckedCollateral(ca_chain, root_crl, pck_crl, tcb_info, identity, in_force(windows), failures)


def _signer_chain(pem: str, name: str, anchor: TrustAnchor, certificates: dict[bytes, Certificate]) -> SignerChain:
    signer, root = read_chain(pem, name, 2)
    certificates.update({signer.encoded: signer, root.encoded: root})
    check_root(root, anchor)
    check_leaf(signer, TCB_SIGNING_NAME, root)
    return SignerChain(signer, root)


def _pck_ca_chain(pem: str, anchor: TrustAnchor, certificates: dict[bytes, Certificate]) -> PckCaChain:
    ca, root = read_chain(pem, "PCK CRL issuer chain", 2)
    certificates.update({ca.encoded: ca, root.encoded: root})
    check_pck_ca(ca, root, anchor)
    return PckCaChain(ca, root)


def _signed_tcb_info(collateral: Collateral, signer: Certificate) -> TcbInfo:
    text = collateral.tcb_info
    if not raw_signature_verifies(signer.public_key, collateral.tcb_info_signature, _encode(text)):
        raise TcbInfoSignatureError(msg("the signature of the {name} does not verify", name="TCB info"))
    return parse_tcb_info(text)


def _signed_identity(collateral: Collateral, signer: Certificate) -> EnclaveIdentity:
    text = collateral.qe_identity
    if not raw_signature_verifies(signer.public_key, collateral.qe_identity_signature, _encode(text)):
        raise QeIdentitySignatureError(msg("the signature of the {name} does not verify", name="QE identity"))
    return parse_enclave_identity(text)


def _encode(text: str) -> bytes:
    # A lone surrogate is nothing that was ever signed; it must not be an error of another kind either.
    return text.encode("utf-8", "surrogatepass")


def check_platform(
    pck_chain_pem: str, tee_type: TeeType, anchor: TrustAnchor, collateral: CheckedCollateral | None
) -> CheckedPlatform:
    """Check whose PCK certificate it is, and that the collateral is about that platform.

    Raises VerificationError or FormatError where the chain itself is refused: then there is no platform to speak of.
    """
    chain = read_chain(pck_chain_pem, "PCK certificate chain", 3)
    pck, ca, root = chain
    if ca.common_name == ROOT_CA_NAME:
        # Quotes exist that were made with leaf, root, CA; which is which is beyond doubt, so both orders are read.
        ca, root = root, ca
    ca_chain = collateral.pck_ca_chain if collateral is not None else None
    if ca_chain is None or ca.encoded != ca_chain.ca.encoded or root.encoded != ca_chain.root.encoded:
        check_pck_ca(ca, root, anchor)
    check_leaf(pck, PCK_CERTIFICATE_NAME, ca)
    platform = parse_pck_platform(pck)
    failures = Failures()
    if collateral is not None:
        failures.attempt(Step.ROOT_CRL, _check_ca_not_revoked, ca, root, collateral)
        failures.attempt(Step.PCK_CRL, _check_pck_not_revoked, pck, ca, collateral)
        failures.attempt(Step.TCB_INFO, _check_tcb_info_is_for, platform, tee_type, collateral.tcb_info)
        failures.attempt(Step.QE_IDENTITY, _check_identity_is_for, tee_type, collateral.identity)
    return CheckedPlatform(pck, platform, in_force(certificate.window for certificate in chain), failures)


def _check_ca_not_revoked(ca: Certificate, root: Certificate, collateral: CheckedCollateral) -> None:
    if collateral.root_crl is not None:
        check_not_revoked(ca, collateral.root_crl)
        check_not_revoked(root, collateral.root_crl)


def _check_pck_not_revoked(pck: Certificate, ca: Certificate, collateral: CheckedCollateral) -> None:
    if collateral.pck_crl is None or collateral.pck_ca_chain is None:
        return
    listed = collateral.pck_ca_chain.ca
    if (listed.subject, listed.public_point) != (ca.subject, ca.public_point):
        raise CrlIssuerError(
            msg("the {name} is not by {issuer}", name="PCK CRL", issuer=ca.common_name),
            hint=msg("the list needed is that of ca={ca}", ca=_ca_parameter(ca)),
        )
    check_not_revoked(pck, collateral.pck_crl)


def _ca_parameter(ca: Certificate) -> str:
    kind = pck_ca(ca)
    return "?" if kind is None else kind.value


def _check_tcb_info_is_for(platform: PckPlatform, tee_type: TeeType, tcb_info: TcbInfo | None) -> None:
    if tcb_info is None:
        return
    if tcb_info.tee_type is not tee_type:
        raise TcbInfoTypeError(
            msg(
                "the {name} is for {found}, the quote is {tee}",
                name="TCB info",
                found=tcb_info.tee_type.name,
                tee=tee_type.name,
            )
        )
    for name, found, wanted in (
        ("FMSPC", tcb_info.fmspc, platform.fmspc),
        ("PCE-ID", tcb_info.pceid, platform.pceid),
    ):
        if found != wanted:
            raise TcbInfoMismatchError(
                msg(
                    "the TCB info is for {name} {found}, the platform's is {wanted}",
                    name=name,
                    found=found.hex(),
                    wanted=wanted.hex(),
                )
            )


_QE_IDENTITY_OF = {TeeType.SGX: EnclaveIdentityId.QE, TeeType.TDX: EnclaveIdentityId.TD_QE}


def _check_identity_is_for(tee_type: TeeType, identity: EnclaveIdentity | None) -> None:
    if identity is not None and identity.id is not _QE_IDENTITY_OF[tee_type]:
        raise QeIdentityTypeError(
            msg(
                "the {name} is for {found}, the quote is {tee}",
                name="QE identity",
                found=identity.id.value,
                tee=tee_type.name,
            )
        )


def check_qe(quote: Quote, pck: Certificate | None, identity: EnclaveIdentity | None) -> CheckedQe:
    """Check that the PCK vouches for the QE, the QE for the attestation key, and Intel for the QE.

    `pck` and `identity` are None where they are not to be had; what needs them is then left open.
    """
    failures = Failures()
    if pck is not None:
        failures.attempt(Step.QE_REPORT_SIGNATURE, _check_qe_report, quote, pck)
    key = failures.attempt(Step.ATTESTATION_KEY, _attestation_key, quote)
    if key is not None:
        failures.attempt(Step.ATTESTATION_KEY, _check_binding, quote)
    level = None
    if identity is not None:
        level = failures.attempt(Step.QUOTING_ENCLAVE, _qe_level, quote, identity)
    return CheckedQe(key, level, failures)


def _check_qe_report(quote: Quote, pck: Certificate) -> None:
    if not raw_signature_verifies(pck.public_key, quote.qe_report_signature, quote.qe_report_bytes):
        raise QeReportSignatureError(msg("the signature of the {name} does not verify", name="QE report"))


def _attestation_key(quote: Quote) -> ec.EllipticCurvePublicKey:
    try:
        return public_key(quote.attestation_key)
    except ValueError as error:
        raise AttestationKeyError(msg("the attestation key is not a point on P-256")) from error


def _check_binding(quote: Quote) -> None:
    expected = sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
    if quote.qe_report.reportdata != expected:
        raise AttestationKeyError(msg("the QE report does not name this attestation key and authentication data"))


def _qe_level(quote: Quote, identity: EnclaveIdentity) -> SvnLevel:
    mismatch = first_mismatch(identity, quote.qe_report)
    if mismatch is not None:
        raise QeMismatchError(msg("{field} of the quoting enclave is not what Intel vouches for", field=mismatch))
    level = select_svn_level(identity.levels, quote.qe_report.isvsvn)
    if level is None:
        raise TcbNotSupportedError(
            msg(
                "the {name} has SVN {svn}, below every level that Intel rates",
                name="quoting enclave",
                svn=quote.qe_report.isvsvn,
            )
        )
    return level
