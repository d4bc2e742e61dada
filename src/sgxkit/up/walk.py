"""The steps of `sgxkit up`, from loading an enclave to a verified quote, on any platform."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial

from sgxkit.aesm.client import AesmClient
from sgxkit.dcap.collateral import Collateral
from sgxkit.dcap.errors import PolicyError
from sgxkit.dcap.policy import Policy
from sgxkit.dcap.quote import Quote, parse_quote
from sgxkit.dcap.sources import collateral_for_quote
from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA
from sgxkit.dcap.verification import Verification
from sgxkit.dcap.verify import Verifier
from sgxkit.enclave.platform import Enclave, EnclaveIdentity
from sgxkit.errors import SgxkitError
from sgxkit.isa.keyrequest import KeyPolicy
from sgxkit.isa.status import SgxError, Status
from sgxkit.isa.targetinfo import TargetInfo
from sgxkit.messages import Message, msg
from sgxkit.sample.calls import NotAuthenticError, SampleEnclave
from sgxkit.sample.images import Sample
from sgxkit.up.background import in_background
from sgxkit.up.surroundings import Surroundings

_SECRET_SIZE = 32
_NONCE_SIZE = 64


class Step(StrEnum):
    """What happens, in this order; `CHOOSE` and `SURROUND` come before `walk`."""

    CHOOSE = "choose"
    SURROUND = "surround"
    LAUNCH = "launch"
    CALL = "call"
    SEAL = "seal"
    LOCAL_ATTESTATION = "local-attestation"
    QUOTE = "quote"
    COLLATERAL = "collateral"
    VERIFY = "verify"
    REFUSE_DEBUG = "refuse-debug"


@dataclass(frozen=True, slots=True)
class StepResult:
    """How a step went: what there is to say of it, and the error that ended it, if one did."""

    step: Step
    seconds: float
    sentences: tuple[Message, ...]
    error: SgxkitError | None = None


class WrongError(SgxkitError):
    """A step had a result, and it is not what SGX promises."""

    code = "wrong-result"


class LaunchControlError(SgxkitError):
    """The processor wants a launch token, which nobody gives for the sample enclave."""

    code = "launch-control"


@dataclass(slots=True)
class Findings:
    """What the steps found that is worth more than a sentence; None until its step."""

    identity: EnclaveIdentity | None = None
    quote: bytes | None = None
    verification: Verification | None = None


def walk(surroundings: Surroundings, policy: Policy, findings: Findings) -> Iterator[StepResult]:
    """Take the steps one by one and fill in `findings`; ends after the first step that fails.

    `policy` is what is asked of the quote besides that it is the sample enclave's and fresh.
    """
    with ExitStack() as enclaves:
        walker = _Walker(surroundings, policy, findings, enclaves)
        for step, take in (
            (Step.LAUNCH, walker.launch),
            (Step.CALL, walker.call),
            (Step.SEAL, walker.seal),
            (Step.LOCAL_ATTESTATION, walker.attest_locally),
            (Step.QUOTE, walker.quote),
            (Step.COLLATERAL, walker.fetch),
            (Step.VERIFY, walker.verify),
            (Step.REFUSE_DEBUG, walker.refuse_debug),
        ):
            result = in_background(partial(taken, step, take))
            yield result
            if result.error is not None:
                return


def taken(step: Step, take: Callable[[], tuple[Message, ...]]) -> StepResult:
    """Take one step, and its time."""
    begin = time.perf_counter()
    try:
        sentences, error = take(), None
    except SgxkitError as raised:
        sentences, error = (), raised
    return StepResult(step, time.perf_counter() - begin, sentences, error)


@dataclass(slots=True)
class _Walker:
    surroundings: Surroundings
    policy: Policy
    findings: Findings
    stack: ExitStack
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(_NONCE_SIZE))
    enclaves: dict[tuple[Sample, bool], SampleEnclave] = field(default_factory=dict)
    parsed: Quote | None = None
    collateral: Collateral | None = None
    verifier: Verifier | None = None

    def launch(self) -> tuple[Message, ...]:
        for debug in (True, False):
            self.enclave(Sample.SAMPLE, debug=debug)
        identity = self.enclave(Sample.SAMPLE).enclave.identity
        self.findings.identity = identity
        return (
            msg("launched the sample enclave in debug and in production mode"),
            msg("MRENCLAVE {measurement}...", measurement=identity.mrenclave.hex()[:32]),
        )

    def call(self) -> tuple[Message, ...]:
        numbers = (20, 22)
        for debug in (True, False):
            answer = self.enclave(Sample.SAMPLE, debug=debug).add(numbers)
            if answer != sum(numbers):
                raise WrongError(
                    msg("the enclave says {answer}, not {expected}", answer=answer, expected=sum(numbers))
                )
        return (msg("ECALL: it adds 20 and 22 and answers 42, in both modes"),)

    def seal(self) -> tuple[Message, ...]:
        secret = secrets.token_bytes(_SECRET_SIZE)
        production, debug = self.enclave(Sample.SAMPLE), self.enclave(Sample.SAMPLE, debug=True)
        following, other = self.enclave(Sample.NEXT), self.enclave(Sample.OTHER_AUTHOR)
        to_enclave = production.seal(KeyPolicy.MRENCLAVE, secret)
        to_author = production.seal(KeyPolicy.MRSIGNER, secret)
        for sealed, opens, refuses in (
            (to_enclave, (production,), (debug, following)),
            (to_author, (production, following), (debug, other)),
        ):
            for enclave in opens:
                if enclave.unseal(sealed) != secret:
                    raise WrongError(msg("what was unsealed is not what was sealed"))
            for enclave in refuses:
                _must_refuse(enclave, sealed)
        changed = bytes([*to_enclave[:-1], to_enclave[-1] ^ 1])
        _must_refuse(production, changed)
        return (
            msg("sealed {size} bytes to itself, and unsealed them", size=_SECRET_SIZE),
            msg("its debug twin, its next version and a changed byte are refused"),
            msg("sealed to its author: the next version opens it, another author's not"),
        )

    def attest_locally(self) -> tuple[Message, ...]:
        prover, verifier = self.enclave(Sample.SAMPLE), self.enclave(Sample.NEXT)
        report = prover.report(verifier.enclave.identity.target_info, self.nonce)
        verifier.verify(report)
        expected = prover.enclave.identity.mrenclave
        if report.body.mrenclave != expected or report.body.reportdata != self.nonce:
            raise WrongError(msg("the report is not the one that was asked for"))
        try:
            prover.verify(report)
        except NotAuthenticError:
            return (
                msg("local attestation: a second enclave verified the first one's REPORT"),
                msg("an enclave that it was not made for could not"),
            )
        raise WrongError(msg("an enclave verified a report that was made for another"))

    def quote(self) -> tuple[Message, ...]:
        quote = self.quote_of(self.enclave(Sample.SAMPLE))
        self.findings.quote = quote
        self.parsed = parse_quote(quote)
        return (
            msg(
                "remote attestation: AESM made a quote of it, {size} bytes, version {version}",
                size=len(quote),
                version=self.parsed.header.version,
            ),
        )

    def fetch(self) -> tuple[Message, ...]:
        assert self.parsed is not None
        self.collateral = collateral_for_quote(self.parsed, self.surroundings.collateral)
        return (msg("fetched the collateral: certificates, CRLs, TCB info, QE identity"),)

    def verify(self) -> tuple[Message, ...]:
        assert self.parsed is not None
        expected = Sample.SAMPLE.sigstruct
        policy = replace(
            self.policy,
            mrenclave=frozenset({expected.enclavehash}),
            mrsigner=frozenset({expected.mrsigner}),
            isvprodid=expected.isvprodid,
            minimum_isvsvn=expected.isvsvn,
            reportdata=self.nonce,
        )
        self.verifier = Verifier(policy, trust_anchor=self.surroundings.trust_anchor)
        found = self.findings.verification = self.verifier.examine(self.parsed, self.collateral)
        if not found.verified:
            raise found.error or WrongError(msg("not every step was reached"))
        assert found.tcb is not None
        return (
            self._under(),
            msg("policy: MRENCLAVE, MRSIGNER, a nonce in REPORTDATA; TCB {status}", status=found.tcb.status.value),
        )

    def _under(self) -> Message:
        if self.surroundings.lab is None:
            anchor = self.surroundings.trust_anchor
            if anchor.point == INTEL_SGX_ROOT_CA.point:
                return msg("verified the quote under {anchor}", anchor=anchor.name)
            return msg("verified the quote under {anchor}, which is not Intel's root", anchor=anchor.name)
        return msg(
            "verified the quote under the root of lab {name}, which is not Intel's", name=self.surroundings.lab
        )

    def refuse_debug(self) -> tuple[Message, ...]:
        assert self.verifier is not None
        quote = self.quote_of(self.enclave(Sample.SAMPLE, debug=True))
        strict = replace(self.verifier.policy, allow_debug=False)
        verifier = Verifier(strict, trust_anchor=self.surroundings.trust_anchor)
        found = verifier.examine(quote, self.collateral)
        rules = [error.claim for error in found.errors if isinstance(error, PolicyError)]
        if found.verified or rules != ["debug"]:
            raise WrongError(msg("a debug enclave's quote was not refused for that reason"))
        return (msg("refused the same enclave's quote in debug mode, as it has to be"),)

    def quote_of(self, enclave: SampleEnclave) -> bytes:
        client = AesmClient(self.surroundings.aesm)
        key = client.select_key()
        target, _ = client.initialise(key)
        return client.quote(enclave.report(TargetInfo.from_bytes(target), self.nonce).to_bytes(), key)

    def enclave(self, sample: Sample, *, debug: bool = False) -> SampleEnclave:
        """The enclave, launched when it is asked for first, removed when the walk ends."""
        found = self.enclaves.get((sample, debug))
        if found is None:
            loaded = self.stack.enter_context(self.load(sample, debug=debug))
            found = self.enclaves[sample, debug] = SampleEnclave(loaded)
        return found

    def load(self, sample: Sample, *, debug: bool) -> Enclave:
        try:
            return self.surroundings.platform.load(sample.image, sample.sigstruct, debug=debug)
        except SgxError as error:
            if error.status is not Status.SGX_INVALID_EINITTOKEN:
                raise
            raise LaunchControlError(
                msg(
                    "this machine launches only what Intel's launch enclave allows: it has no flexible launch control"
                ),
                hint=msg("choose a lab with FLC: `sgxkit lab create NAME --cpu icelake-sp`"),
            ) from error


def _must_refuse(enclave: SampleEnclave, sealed: bytes) -> None:
    try:
        enclave.unseal(sealed)
    except NotAuthenticError:
        return
    raise WrongError(msg("an enclave unsealed what was not sealed for it, or was changed"))
