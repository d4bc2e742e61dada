"""DCAP attestation: quotes, collateral and their verification.

    from sgxkit.dcap import Policy, Verifier, parse_bundle

    verification = Verifier(Policy(mrenclave=frozenset({expected}))).verify(quote, parse_bundle(bundle))

`Verifier.verify` returns only for a quote that is genuine, in force and what the policy asks for, and raises a
`VerificationError` otherwise. docs/verification.md says what each step checks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgxkit.dcap.collateral import Collateral, CollateralError, export_bundle, parse_bundle
    from sgxkit.dcap.errors import CollateralMissingError, PolicyError, VerificationError
    from sgxkit.dcap.policy import Policy
    from sgxkit.dcap.quote import Quote, TeeType, UnsupportedQuoteError, parse_quote
    from sgxkit.dcap.tcb import TcbStatus
    from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA, TrustAnchor, anchor_from_pem
    from sgxkit.dcap.verification import Step, Verdict, Verification
    from sgxkit.dcap.verify import Verifier

__all__ = [
    "INTEL_SGX_ROOT_CA",
    "Collateral",
    "CollateralError",
    "CollateralMissingError",
    "Policy",
    "PolicyError",
    "Quote",
    "Step",
    "TcbStatus",
    "TeeType",
    "TrustAnchor",
    "UnsupportedQuoteError",
    "Verdict",
    "Verification",
    "VerificationError",
    "Verifier",
    "anchor_from_pem",
    "export_bundle",
    "parse_bundle",
    "parse_quote",
]

_MODULES = {
    "Collateral": "collateral",
    "CollateralError": "collateral",
    "CollateralMissingError": "errors",
    "INTEL_SGX_ROOT_CA": "trust",
    "Policy": "policy",
    "PolicyError": "errors",
    "Quote": "quote",
    "Step": "verification",
    "TcbStatus": "tcb",
    "TeeType": "quote",
    "TrustAnchor": "trust",
    "UnsupportedQuoteError": "quote",
    "Verdict": "verification",
    "Verification": "verification",
    "VerificationError": "errors",
    "Verifier": "verify",
    "anchor_from_pem": "trust",
    "export_bundle": "collateral",
    "parse_bundle": "collateral",
    "parse_quote": "quote",
}


def __getattr__(name: str) -> Any:
    """Import a name's module when it is first asked for: who needs one part does not wait for all."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
