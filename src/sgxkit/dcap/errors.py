"""Why a quote is refused: one type a reason.

`step` says at which step of the verification the reason belongs (`sgxkit.dcap.verification.Step`), and `code` is the
word that programs can rely on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgxkit.errors import FormatError, SgxkitError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from sgxkit.dcap.verification import Verification


class VerificationError(SgxkitError):
    """The quote is refused. `verification`, where set, is the whole record: every step with its verdict."""

    code = "refused"
    exit_code = 1
    verification: Verification | None = None


class CollateralMissingError(VerificationError):
    """What is needed to judge the quote is not there: neither verified nor refused."""

    code = "collateral.missing"
    exit_code = 2


class MalformedCollateralError(VerificationError):
    """A certificate, a CRL or a JSON document that is not what its format says."""

    code = "collateral.malformed"

    def __init__(self, error: FormatError) -> None:
        super().__init__(error.message, hint=error.hint)


class CertificateChainError(VerificationError):
    """A chain with the wrong certificates in it: number, names, roles or signatures."""

    code = "chain.invalid"


class UntrustedRootError(VerificationError):
    """A chain that ends in another key than the trust anchor's."""

    code = "chain.untrusted-root"


class CertificateRevokedError(VerificationError):
    """A certificate that its issuer has revoked."""

    code = "certificate.revoked"


class CrlMissingError(VerificationError):
    """No list, where only a list can say that nothing is revoked."""

    code = "crl.missing"


class CrlIssuerError(VerificationError):
    """A list by another issuer than that of the certificate in question."""

    code = "crl.issuer"


class CrlSignatureError(VerificationError):
    """A list that its issuer did not sign."""

    code = "crl.signature"


class TcbInfoSignatureError(VerificationError):
    """TCB info that Intel's TCB signing key did not sign."""

    code = "tcb-info.signature"


class TcbInfoTypeError(VerificationError):
    """TCB info for SGX with a TDX quote, or the reverse."""

    code = "tcb-info.type"


class TcbInfoMismatchError(VerificationError):
    """TCB info for another family of platforms (FMSPC) or another PCE."""

    code = "tcb-info.mismatch"


class QeIdentitySignatureError(VerificationError):
    """An enclave identity that Intel's TCB signing key did not sign."""

    code = "qe-identity.signature"


class QeIdentityTypeError(VerificationError):
    """The identity of another enclave of Intel's than the one that makes such quotes."""

    code = "qe-identity.type"


class ExpiredError(VerificationError):
    """Something that was in force before the time of verification, and no longer is."""

    code = "expired"


class NotYetValidError(VerificationError):
    """Something that comes into force only after the time of verification."""

    code = "not-yet-valid"


class QeReportSignatureError(VerificationError):
    """A QE report that the platform's PCK did not sign."""

    code = "qe-report.signature"


class QeMismatchError(VerificationError):
    """A quoting enclave that is not the one Intel vouches for."""

    code = "qe.mismatch"


class AttestationKeyError(VerificationError):
    """An attestation key that is no P-256 point, or that the QE report does not name."""

    code = "attestation-key.binding"


class QuoteSignatureError(VerificationError):
    """A header or body that the attestation key did not sign."""

    code = "quote.signature"


class TdxModuleMismatchError(VerificationError):
    """A TDX module that is not one Intel vouches for."""

    code = "tdx-module.mismatch"


class TcbNotSupportedError(VerificationError):
    """Versions below every level that Intel rates."""

    code = "tcb.not-supported"


class PolicyError(VerificationError):
    """A genuine quote that is not what the policy asks for; `claim` names the rule that it does not meet."""

    code = "policy"

    def __init__(self, claim: str, message: Message, *, hint: Message | None = None) -> None:
        super().__init__(msg("policy: {problem}", problem=message), hint=hint)
        self.claim = claim
        self.problem = message
