"""Real quotes get the verdict that Intel's own library gives; altered ones are refused for the stated reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from real_quotes import Vector, named
from sgxkit.dcap import INTEL_SGX_ROOT_CA, Policy, Verifier
from sgxkit.dcap.errors import CollateralMissingError, PolicyError
from sgxkit.dcap.tcb import TcbStatus
from sgxkit.dcap.verification import Step, Verdict, Verification
from sgxkit.errors import FormatError

ANY_STATUS = Policy(
    accepted_statuses=frozenset(TcbStatus) - {TcbStatus.REVOKED}, allow_debug=True, require_sept_ve_disable=False
)


def examine(vector: Vector) -> Verification:
    verifier = Verifier(ANY_STATUS, trust_anchor=vector.anchor)
    return verifier.examine(vector.quote, vector.collateral, at=vector.at)


def codes(verification: Verification) -> list[str]:
    return [error.code for error in verification.errors]


@named("vectors")
def test_real_quotes_get_the_expected_verdict(vector: Vector) -> None:
    verification = examine(vector)
    expected = vector.expected["status"]
    if expected.startswith("ERROR:"):
        assert verification.tcb is None
        assert verification.error is not None
        assert (
            verification.error.code
            == {
                "ERROR:TCB_NOT_SUPPORTED": "tcb.not-supported",
                "ERROR:TDX_MODULE_MISMATCH": "tdx-module.mismatch",
            }[expected]
        )
        return
    assert verification.tcb is not None
    assert verification.tcb.status == expected
    assert list(verification.tcb.advisory_ids) == vector.expected["advisory_ids"]
    assert verification.tcb.tcb_date.strftime("%Y-%m-%dT%H:%M:%SZ") == vector.expected["tcb_date"]
    assert {error.claim for error in verification.errors if isinstance(error, PolicyError)} <= {"mrservicetd"}
    assert set(codes(verification)) <= {"policy"}


@named("vectors")
def test_the_strict_default_accepts_only_up_to_date_and_not_debug(vector: Vector) -> None:
    verification = Verifier(trust_anchor=vector.anchor).examine(vector.quote, vector.collateral, at=vector.at)
    if verification.verified:
        assert vector.expected["status"] == "UpToDate"
        assert vector.expected["debug"] is False


@named("vectors")
def test_another_root_is_not_trusted(vector: Vector) -> None:
    if vector.anchor is INTEL_SGX_ROOT_CA:
        stranger = replace(INTEL_SGX_ROOT_CA, point=INTEL_SGX_ROOT_CA.point[:1] + bytes(64))
    else:
        stranger = INTEL_SGX_ROOT_CA
    verification = Verifier(ANY_STATUS, trust_anchor=stranger).examine(vector.quote, vector.collateral, at=vector.at)
    assert not verification.verified
    assert verification.tcb is None
    assert verification.verdict_of(Step.PCK_CHAIN) is Verdict.FAILED
    assert "chain.untrusted-root" in codes(verification)


@named("vectors", with_collateral=False)
def test_without_collateral_nothing_is_decided(vector: Vector) -> None:
    verification = Verifier(ANY_STATUS).examine(vector.quote, None)
    if "corrupted" in vector.name:
        assert not isinstance(verification.error, CollateralMissingError)
        return
    assert isinstance(verification.error, CollateralMissingError)
    assert verification.verdict_of(Step.QUOTE_SIGNATURE) is Verdict.PASSED
    assert verification.verdict_of(Step.TCB_LEVEL) is Verdict.NOT_REACHED


# What each stated reason is called here; any of these among the reasons found will do.
REASONS = {
    "reject:quote-signature": {"quote.signature"},
    "reject:quote-signature/fmspc": {"quote.signature", "tcb-info.mismatch"},
    "reject:point-not-on-curve/binding": {"attestation-key.binding"},
    "reject:bad-key": {"attestation-key.binding"},
    "reject:qe-binding": {"attestation-key.binding"},
    "reject:qe-report-signature": {"qe-report.signature"},
    "reject:qe-report-signature/crl-issuer": {"qe-report.signature", "crl.issuer"},
    "reject:fmspc-mismatch (or expired)": {"tcb-info.mismatch"},
    "reject:tcb-type-mismatch": {"tcb-info.type"},
    "reject:qe-identity-type": {"qe-identity.type"},
    "reject:tcb-info-signature": {"tcb-info.signature", "chain.invalid"},
    "reject:qe-identity-signature": {"qe-identity.signature"},
    "reject:not-yet-valid (Intel QVL does NOT check issueDate)": {"not-yet-valid"},
    "reject:cert-not-yet-valid (Intel QVL has no notBefore check)": {"not-yet-valid"},
    "reject:expired": {"expired"},
    "reject:crl-expired": {"expired"},
    "reject:crl-issuer": {"crl.issuer"},
    "reject:crl-missing": {"crl.missing"},
    "reject:crl-signature": {"crl.signature"},
    "reject:chain": {"chain.invalid"},
}
# Where the vector leaves the decision open, or gives no reason: what is decided here, and why it is.
DECIDED = {
    "sgx-trailing-bytes": "format",  # only zero padding may follow a quote
    "sgx-trailing-zero-padding": "accept",
    "sgx-malleable-quote-sig-n-minus-s": "accept",  # a valid ECDSA signature
    "sgx-malleable-qe-sig-n-minus-s": "accept",
    "sgx-pckchain-old-root-2033": "accept",  # the same root key
    "sgx-pckchain-reversed": "chain.invalid",  # leaf first, as the specification has it
    "sgx-pckchain-no-root": "chain.invalid",  # complete chains only
    "sgx-tcb-issuer-chain-leaf-only": "chain.invalid",
    "sgx-tcb-issuer-chain-pck-leaf": "chain.invalid",
    "sgx-time-exactly-tcbinfo-nextupdate": "expired",  # at nextUpdate there is a newer one
    "sgx-qeidentity-duplicate-key": "qe-identity.signature",
}


@named("vectors-negative")
def test_altered_quotes_are_refused_for_the_stated_reason(vector: Vector) -> None:
    expected = vector.expected["expected"]
    if expected == "reject:format" or DECIDED.get(vector.name) == "format":
        with pytest.raises(FormatError):
            examine(vector)
        return
    found = codes(examine(vector))
    if vector.name in DECIDED:
        decided = DECIDED[vector.name]
        assert found == [] if decided == "accept" else decided in found
    else:
        assert REASONS[expected] & set(found)


# Where a strict verifier differs from Intel's library (key "recommended" of the vector), and how this one does.
STRICTER = {
    "revoked-root-self": "certificate.revoked",
    "revoked-tcb-signing": "certificate.revoked",
    "fmspc-mismatch": "tcb-info.mismatch",
    "sgx-v4-over-tdx-collateral": "collateral.malformed",
    "tcbinfo-15-components": "collateral.malformed",
    "tcbinfo-empty-levels": "collateral.malformed",
    "tcbinfo-version-2-shape": "collateral.malformed",
    "tcbinfo-signed-by-pck": "tcb-info.signature",
    "time-before-issue": "not-yet-valid",
    "untrusted-root": "chain.untrusted-root",
}
HARD_ERRORS = {
    "ERROR:TCB_NOT_SUPPORTED": "tcb.not-supported",
    "ERROR:QE_IDENTITY_MISMATCH": "qe.mismatch",
    "ERROR:TDX_MODULE_MISMATCH": "tdx-module.mismatch",
}


@named("vectors-mock")
def test_every_cell_of_the_status_merge(vector: Vector) -> None:
    verification = examine(vector)
    status = vector.expected["status"]
    if vector.name in STRICTER:
        assert STRICTER[vector.name] in codes(verification)
    elif status in HARD_ERRORS:
        assert codes(verification) == [HARD_ERRORS[status]]
    else:
        assert verification.tcb is not None
        assert verification.tcb.status == status
        assert list(verification.tcb.advisory_ids) == vector.expected["advisory_ids"]


@named("vectors-mock", only="sgx-debug")
def test_debug_is_refused_by_default(vector: Vector) -> None:
    verification = Verifier(trust_anchor=vector.anchor).examine(vector.quote, vector.collateral, at=vector.at)
    assert [error.claim for error in verification.policy_errors if isinstance(error, PolicyError)] == ["debug"]
    assert verification.tcb is not None
