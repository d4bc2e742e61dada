"""Whose certificate is this: the quotes in it, verified, and its key, bound by them.

RA-TLS (Gramine, "Attested TLS"; Confidential Computing Consortium, "Interoperable RA-TLS"): TLS proves that the peer
has the certificate's key, and the quote that an enclave has it. Names, issuer and signature of the certificate prove
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from sgxkit.dcap.envelope import find_quotes
from sgxkit.dcap.errors import ExpiredError, NotYetValidError, VerificationError
from sgxkit.dcap.found_quote import Bound, FoundQuote
from sgxkit.dcap.quote import parse_quote
from sgxkit.dcap.sources import CollateralSource, collateral_for_quote
from sgxkit.dcap.verification import Verification
from sgxkit.dcap.verify import Verifier
from sgxkit.errors import FormatError
from sgxkit.isa.report import ReportBody
from sgxkit.messages import msg

MAX_CERTIFICATE_SIZE = 64 << 10


class NoQuoteError(VerificationError):
    """The peer shows no certificate, or one without a quote: it does not say that it is an enclave."""

    code = "peer.no-quote"


class UnboundQuoteError(VerificationError):
    """The quote does not bind the certificate's key: it may have been copied from elsewhere."""

    code = "peer.unbound"


@dataclass(frozen=True, slots=True)
class Peer:
    """An enclave, or TD, at the other end.

    certificate     DER, as it was shown.
    verifications   the record of each quote in it.
    """

    certificate: bytes
    verifications: tuple[Verification, ...]

    @property
    def body(self) -> ReportBody:
        """What its quote says of the enclave; raises VerificationError for a TD."""
        body = self.verifications[0].quote.body
        if not isinstance(body, ReportBody):
            raise VerificationError(msg("the peer is a TD, not an SGX enclave"))
        return body

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its certificate."""
        return sha256(self.certificate).hexdigest()


@dataclass(frozen=True, slots=True)
class PeerVerifier:
    """Judges certificates; may be shared between threads."""

    verifier: Verifier
    source: CollateralSource

    def verify(self, certificate: bytes | None, *, at: datetime | None = None) -> Peer:
        """Return the enclave whose certificate (DER) this is.

        Every quote in it must be verified and bind the certificate's key, and `at` (now if None) lie in its validity.
        Raises VerificationError, or CollateralError where what the quote is judged by cannot be had.
        """
        at = datetime.now(UTC) if at is None else at
        found = quotes_in(certificate)
        assert certificate is not None
        _check_validity(certificate, at)
        for quote in found:
            _check_binding(quote)
        verifications = []
        for quote in found:
            parsed = parse_quote(quote.data)
            verifications.append(self.verifier.verify(parsed, collateral_for_quote(parsed, self.source), at=at))
        return Peer(certificate, tuple(verifications))


def quotes_in(certificate: bytes | None) -> tuple[FoundQuote, ...]:
    """Return the quotes in a certificate (DER); raises NoQuoteError where there is none that can be read."""
    if certificate is None:
        raise NoQuoteError(msg("the peer showed no certificate"))
    if len(certificate) > MAX_CERTIFICATE_SIZE:
        raise NoQuoteError(
            msg(
                "a certificate of {size} bytes; at most {limit} are read",
                size=len(certificate),
                limit=MAX_CERTIFICATE_SIZE,
            )
        )
    try:
        return find_quotes(certificate)
    except FormatError as error:
        raise NoQuoteError(
            msg("the certificate has no quote that can be read: {problem}", problem=error.message)
        ) from error


def _check_validity(certificate: bytes, at: datetime) -> None:
    from cryptography import x509  # noqa: PLC0415

    try:
        parsed = x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise NoQuoteError(msg("not a certificate: {error}", error=str(error)[:200])) from error
    if at < parsed.not_valid_before_utc:
        raise NotYetValidError(
            msg("the peer's certificate is valid from {date} on", date=parsed.not_valid_before_utc.isoformat())
        )
    if at > parsed.not_valid_after_utc:
        raise ExpiredError(msg("the peer's certificate ended on {date}", date=parsed.not_valid_after_utc.isoformat()))


def _check_binding(found: FoundQuote) -> None:
    for binding in found.bindings:
        if not binding.holds:
            raise UnboundQuoteError(
                msg("{place} does not bind the {content}", place=binding.place, content=binding.content)
            )
    if not any(binding.bound is Bound.PUBLIC_KEY for binding in found.bindings):
        raise UnboundQuoteError(msg("the quote does not bind the certificate's key"))
