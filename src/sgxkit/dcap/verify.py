"""Verification of quotes: `Verifier` asks every question about a quote and records the answers.

The order is that of Intel's verification library (QVL, section 4.1.2.5); each question is asked even where an
earlier one failed, if it can be answered without it, so that the record tells all that is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice

from sgxkit.dcap.certificate import Window
from sgxkit.dcap.checked import (
    CheckedCollateral,
    CheckedPlatform,
    CheckedQe,
    Failures,
    check_collateral,
    check_platform,
    check_qe,
)
from sgxkit.dcap.collateral import Collateral
from sgxkit.dcap.content_cache import ContentCache
from sgxkit.dcap.ecdsa import raw_signature_verifies
from sgxkit.dcap.errors import (
    CollateralMissingError,
    ExpiredError,
    NotYetValidError,
    PolicyError,
    QuoteSignatureError,
    VerificationError,
)
from sgxkit.dcap.policy import Policy, judge_platform, judge_report
from sgxkit.dcap.quote import PpidCertificationData, Quote, TeeType, parse_quote
from sgxkit.dcap.rating import check_tdx_module, module_key, rate
from sgxkit.dcap.td_report import TdReport
from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA, TrustAnchor
from sgxkit.dcap.verification import CollateralFacts, Step, StepResult, TcbVerdict, Verdict, Verification
from sgxkit.errors import FormatError, InputError
from sgxkit.messages import msg

_SGX_STEPS = tuple(step for step in Step if step is not Step.TDX_MODULE)
_ALL_PASSED = {
    TeeType.SGX: tuple(StepResult(step, Verdict.PASSED) for step in _SGX_STEPS),
    TeeType.TDX: tuple(StepResult(step, Verdict.PASSED) for step in Step),
}
_VERIFY_MANY_BATCH = 64


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What is known of one quote before clock and policy are asked; None is what could not be had."""

    collateral: CheckedCollateral | None
    platform: CheckedPlatform | None
    qe: CheckedQe
    tcb: TcbVerdict | None
    failures: Failures


class Verifier:
    """Verifies quotes under one trust anchor and one policy; may be shared between threads.

    `remember` bounds how many checked pieces of each kind (collateral, platforms, quoting enclaves) are kept by their
    content, so that for the next quote only what changed is checked. Times and the policy are judged for each quote;
    with 0, everything is.
    """

    def __init__(
        self, policy: Policy | None = None, *, trust_anchor: TrustAnchor = INTEL_SGX_ROOT_CA, remember: int = 1024
    ) -> None:
        self.policy = Policy() if policy is None else policy
        self._trust_anchor = trust_anchor
        self._remember = remember
        self._collateral: ContentCache[CheckedCollateral] = ContentCache(remember)
        self._platforms: ContentCache[CheckedPlatform] = ContentCache(remember)
        self._qes: ContentCache[CheckedQe] = ContentCache(remember)
        self._ratings: ContentCache[TcbVerdict] = ContentCache(remember)

    @property
    def trust_anchor(self) -> TrustAnchor:
        """The root key that all that is remembered was checked under, which is why it cannot be changed."""
        return self._trust_anchor

    def verify(
        self, quote: bytes | Quote, collateral: Collateral | None, *, at: datetime | None = None
    ) -> Verification:
        """Return the record of a quote that is genuine, in force at `at` (now if None) and what the policy asks for.

        Raises FormatError for bytes that are no quote, and the VerificationError that comes first otherwise; its
        `verification` is the whole record.
        """
        verification = self.examine(quote, collateral, at=at)
        if not verification.verified:
            error = verification.error or VerificationError(msg("not every step was reached"))
            error.verification = verification
            raise error
        return verification

    def examine(
        self, quote: bytes | Quote, collateral: Collateral | None, *, at: datetime | None = None
    ) -> Verification:
        """Return the record of every step, whether the quote is verified or not.

        Raises FormatError for bytes that are no quote.
        """
        at = datetime.now(UTC) if at is None else _in_utc(at)
        if not isinstance(quote, Quote):
            quote = parse_quote(quote)

        evidence = self._gather(quote, collateral)
        failures = evidence.failures
        facts = None
        if evidence.collateral is not None:
            facts = self._check_freshness(evidence, at, failures)
        policy_errors: tuple[PolicyError, ...] = ()
        platform = None if evidence.platform is None else evidence.platform.platform
        complete = platform is not None and evidence.tcb is not None and facts is not None
        if not failures and platform is not None and evidence.tcb is not None and facts is not None:
            policy_errors = (
                *judge_platform(self.policy, platform, evidence.tcb, facts, at),
                *judge_report(self.policy, quote),
            )
            if policy_errors:
                failures[Step.POLICY] = policy_errors[0]
        return Verification(
            quote=quote,
            at=at,
            trust_anchor=self.trust_anchor,
            steps=_ALL_PASSED[quote.tee_type] if complete and not failures else _steps(quote, evidence),
            platform=platform,
            tcb=evidence.tcb,
            collateral=facts,
            policy_errors=policy_errors,
        )

    def verify_many(
        self,
        quotes: Iterable[tuple[bytes | Quote, Collateral | None]],
        *,
        at: datetime | None = None,
        threads: int | None = None,
    ) -> Iterator[Verification | FormatError]:
        """Examine many quotes on all cores (or `threads` of them), and yield the answers in the order of the quotes.

        For bytes that are no quote the answer is the FormatError. `quotes` is read as answers are taken, so it may be
        without end.
        """
        at = datetime.now(UTC) if at is None else at

        def examine_batch(batch: list[tuple[bytes | Quote, Collateral | None]]) -> list[Verification | FormatError]:
            return [self._examine_or_error(quote, collateral, at) for quote, collateral in batch]

        workers = threads or os.cpu_count() or 1
        source = iter(quotes)
        with ThreadPoolExecutor(workers) as pool:
            waiting: list[Future[list[Verification | FormatError]]] = []
            while True:
                while len(waiting) < 2 * workers and (batch := list(islice(source, _VERIFY_MANY_BATCH))):
                    waiting.append(pool.submit(examine_batch, batch))
                if not waiting:
                    return
                yield from waiting.pop(0).result()

    def _examine_or_error(
        self, quote: bytes | Quote, collateral: Collateral | None, at: datetime
    ) -> Verification | FormatError:
        try:
            return self.examine(quote, collateral, at=at)
        except FormatError as error:
            return error

    def _name(self, *parts: bytes) -> bytes | None:
        """Name content by its SHA-256, if anything is remembered at all; only the last part may vary in size."""
        return sha256(b"".join(parts)).digest() if self._remember else None

    def _gather(self, quote: Quote, collateral: Collateral | None) -> _Evidence:
        """Ask all that does not depend on the clock or the policy, remembering what was found before."""
        failures = Failures()
        checked = None
        if collateral is not None:
            checked = self._collateral.get(collateral.digest)
            if checked is None:
                checked = check_collateral(collateral, self.trust_anchor)
                if not checked.failures:
                    self._collateral.put(collateral.digest, checked)
            failures.update(checked.failures)
        else:
            failures[Step.ROOT_CRL] = CollateralMissingError(
                msg("without collateral nobody can say whether this platform is revoked or out of date"),
                hint=msg("give it with --collateral FILE, or fetch it: --pcs, --pccs URL"),
            )

        pem = _pck_chain(quote, collateral)
        platform = None
        platform_key = None
        if pem is None:
            failures[Step.PCK_CHAIN] = CollateralMissingError(
                msg("the quote names its platform by PPID and carries no PCK certificate chain")
                if isinstance(quote.certification_data, PpidCertificationData)
                else msg("the quote carries its PCK certificate, but not the chain above it as PEM"),
                hint=msg(
                    "put the chain into the collateral (pck_certificate_chain), or fetch it from the PCS or PCCS"
                ),
            )
        else:
            platform_key = (None if collateral is None else collateral.digest, quote.tee_type, self._name(pem))
            platform = self._platforms.get(platform_key)
            if platform is None:
                platform = failures.attempt(
                    Step.PCK_CHAIN,
                    check_platform,
                    pem.decode("utf-8", "replace"),
                    quote.tee_type,
                    self.trust_anchor,
                    checked,
                )
                if platform is not None and not platform.failures:
                    self._platforms.put(platform_key, platform)
            if platform is not None:
                for step, error in platform.failures.items():
                    failures.setdefault(step, error)

        qe_key = (
            platform_key,
            self._name(quote.attestation_key, quote.qe_report_bytes, quote.qe_report_signature, quote.qe_auth_data),
        )
        qe = self._qes.get(qe_key)
        if qe is None:
            usable = checked is not None and Step.QE_IDENTITY not in failures
            qe = check_qe(
                quote,
                None if platform is None else platform.pck,
                checked.identity if checked is not None and usable else None,
            )
            if not qe.failures and qe.level is not None and not failures:
                self._qes.put(qe_key, qe)
        failures.update(qe.failures)
        if qe.attestation_key is not None and not raw_signature_verifies(
            qe.attestation_key, quote.signature, quote.signed_bytes
        ):
            failures[Step.QUOTE_SIGNATURE] = QuoteSignatureError(
                msg("the signature of the {name} does not verify", name="quote")
            )
        tcb = None
        if checked is not None and Step.TCB_INFO not in failures:
            tcb = self._rate(quote, checked, platform, qe, qe_key, failures=failures)
        return _Evidence(checked, platform, qe, tcb, failures)

    def _rate(
        self,
        quote: Quote,
        collateral: CheckedCollateral,
        platform: CheckedPlatform | None,
        qe: CheckedQe,
        qe_key: object,
        *,
        failures: Failures,
    ) -> TcbVerdict | None:
        body, tcb_info = quote.body, collateral.tcb_info
        key = (qe_key, module_key(body) if isinstance(body, TdReport) else None)
        if tcb_info is None:
            return None
        if not failures and (verdict := self._ratings.get(key)) is not None:
            return verdict
        module_level = None
        if isinstance(body, TdReport):
            module_level = failures.attempt(Step.TDX_MODULE, check_tdx_module, body, tcb_info)
        if failures or platform is None or qe.level is None:
            # What is not authentic gets no rating: a reader who looks at the status alone must not be misled.
            return None
        verdict = failures.attempt(Step.TCB_LEVEL, rate, quote, platform.platform, tcb_info, qe.level, module_level)
        if verdict is not None and not failures:
            self._ratings.put(key, verdict)
        return verdict

    def _check_freshness(self, evidence: _Evidence, at: datetime, failures: Failures) -> CollateralFacts | None:
        collateral, platform = evidence.collateral, evidence.platform
        if collateral is None:
            return None
        spans = [collateral.in_force] if platform is None else [collateral.in_force, platform.in_force]
        begin = max(span.begin for span in spans)
        end = min(span.end for span in spans)
        if not begin <= at < end:
            windows = [window for span in spans for window in span.windows]
            failures.attempt(Step.FRESHNESS, _check_in_force, windows, at, self.policy.collateral_grace_period)
        if collateral.tcb_info is None or collateral.identity is None:
            return None
        return CollateralFacts(
            collateral.tcb_info.tcb_evaluation_data_number,
            collateral.identity.tcb_evaluation_data_number,
            latest_issue=begin,
            earliest_expiration=end,
        )


def _check_in_force(windows: list[Window], at: datetime, grace: timedelta) -> None:
    """Refuse a time outside any window; raises for the one that ended first, or else for the one that begins last."""
    ended = [window for window in windows if at - window.end >= (grace if window.published else timedelta(0))]
    if ended:
        first = min(ended, key=lambda window: window.end)
        raise ExpiredError(
            msg("{name} was in force until {end}", name=first.name, end=_time(first.end)),
            hint=msg("fetch current collateral; to judge as of an earlier time, say which: --at TIME"),
        )
    if pending := [window for window in windows if at < window.begin]:
        last = max(pending, key=lambda window: window.begin)
        raise NotYetValidError(msg("{name} is in force only from {begin}", name=last.name, begin=_time(last.begin)))


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise InputError(msg("the time of verification needs a time zone"))
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise InputError(msg("the time of verification is outside the years 1 to 9999")) from error


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _pck_chain(quote: Quote, collateral: Collateral | None) -> bytes | None:
    """The PCK chain to use: the one that comes with the collateral, else the quote's own.

    Either is only a claim until the root and the QE report's signature prove it.
    """
    if collateral is not None and collateral.pck_certificate_chain is not None:
        return collateral.pck_certificate_chain.encode("utf-8", "surrogatepass")
    return quote.pck_chain_pem


def _steps(quote: Quote, evidence: _Evidence) -> tuple[StepResult, ...]:
    """The verdict of each step that concerns the quote, where not all passed."""
    failures, platform, qe = evidence.failures, evidence.platform, evidence.qe
    collateral = evidence.collateral
    answered = {
        Step.PCK_CHAIN: platform is not None,
        Step.ROOT_CRL: collateral is not None and collateral.root_crl is not None,
        Step.PCK_CRL: collateral is not None and collateral.pck_crl is not None and platform is not None,
        Step.TCB_INFO: collateral is not None and collateral.tcb_info is not None and platform is not None,
        Step.QE_IDENTITY: collateral is not None and collateral.identity is not None,
        Step.FRESHNESS: collateral is not None and platform is not None,
        Step.QE_REPORT_SIGNATURE: platform is not None,
        Step.ATTESTATION_KEY: True,
        Step.QUOTING_ENCLAVE: qe.level is not None,
        Step.QUOTE_SIGNATURE: qe.attestation_key is not None,
        Step.TDX_MODULE: collateral is not None and collateral.tcb_info is not None and Step.TCB_INFO not in failures,
        Step.TCB_LEVEL: evidence.tcb is not None,
        Step.POLICY: False,
    }
    results = []
    for step in Step if quote.tee_type is TeeType.TDX else _SGX_STEPS:
        error = failures.get(step)
        if error is None:
            verdict = Verdict.PASSED if answered[step] else Verdict.NOT_REACHED
        else:
            verdict = Verdict.NOT_REACHED if isinstance(error, CollateralMissingError) else Verdict.FAILED
        results.append(StepResult(step, verdict, error))
    return tuple(results)
