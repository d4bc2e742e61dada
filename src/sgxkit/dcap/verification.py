"""The record of a verification: every step with its verdict, the TCB status, and what follows for the reader."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sgxkit.dcap.errors import CollateralMissingError, VerificationError
from sgxkit.dcap.pck import PckPlatform
from sgxkit.dcap.quote import Quote
from sgxkit.dcap.tcb import TcbStatus
from sgxkit.dcap.trust import TrustAnchor


class Step(StrEnum):
    """The questions, in the order in which they are asked. Each can be answered without those after it."""

    PCK_CHAIN = "pck-chain"
    ROOT_CRL = "root-crl"
    PCK_CRL = "pck-crl"
    TCB_INFO = "tcb-info"
    QE_IDENTITY = "qe-identity"
    FRESHNESS = "freshness"
    TDX_MODULE = "tdx-module"
    QE_REPORT_SIGNATURE = "qe-report-signature"
    ATTESTATION_KEY = "attestation-key"
    QUOTING_ENCLAVE = "quoting-enclave"
    QUOTE_SIGNATURE = "quote-signature"
    TCB_LEVEL = "tcb-level"
    POLICY = "policy"


class Verdict(StrEnum):
    """What became of a step; one that rests on a step which failed is not reached."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step's verdict, and the reason where it failed."""

    step: Step
    verdict: Verdict
    error: VerificationError | None = None


@dataclass(frozen=True, slots=True)
class TcbVerdict:
    """How Intel rates the platform.

    `status` is the whole's; the others are those of its parts. For a TD, `launch_status` is by the TDX module it was
    started on and `current_status` by the one that is loaded now (only in TD reports of version 1.5).
    `tcb_date` is the earliest of the parts' dates; `advisory_ids` are the parts' together, sorted.
    """

    status: TcbStatus
    platform_status: TcbStatus
    qe_status: TcbStatus
    tdx_module_status: TcbStatus | None
    launch_status: TcbStatus
    current_status: TcbStatus | None
    tcb_date: datetime
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CollateralFacts:
    """What of the collateral a reader may want to keep: its numbers, and when it stops being in force.

    `earliest_expiration` is the first moment at which something of it, the certificates of the quote's own chain
    included, is no longer in force; `latest_issue` is when the newest piece was issued.
    """

    tcb_info_evaluation_data_number: int
    qe_identity_evaluation_data_number: int
    latest_issue: datetime
    earliest_expiration: datetime

    @property
    def tcb_evaluation_data_number(self) -> int:
        """The lower of the two numbers: what can be said of both."""
        return min(self.tcb_info_evaluation_data_number, self.qe_identity_evaluation_data_number)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was asked of one quote at one time, and every answer."""

    quote: Quote
    at: datetime
    trust_anchor: TrustAnchor
    steps: tuple[StepResult, ...]
    platform: PckPlatform | None
    tcb: TcbVerdict | None
    collateral: CollateralFacts | None
    policy_errors: tuple[VerificationError, ...]

    @property
    def verified(self) -> bool:
        """Whether every step passed, the policy included."""
        return all(result.verdict is Verdict.PASSED for result in self.steps)

    @property
    def errors(self) -> tuple[VerificationError, ...]:
        """All reasons for which the quote is not verified, the first step's first."""
        found = [result.error for result in self.steps if result.error is not None]
        return tuple(found) + self.policy_errors[1:]

    @property
    def error(self) -> VerificationError | None:
        """The reason to give: a refusal if there is one, else what is missing; None where the quote is verified."""
        errors = self.errors
        refusals = [error for error in errors if not isinstance(error, CollateralMissingError)]
        return next(iter(refusals or errors), None)

    def verdict_of(self, step: Step) -> Verdict | None:
        """The verdict of one step; None where the step does not concern this quote."""
        return next((result.verdict for result in self.steps if result.step is step), None)
