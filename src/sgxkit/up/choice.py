"""Hardware or emulated: what this computer is good for, and what the caller asked for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from sgxkit.errors import SgxkitError
from sgxkit.host.checks.status import Status
from sgxkit.host.collect import collect_facts
from sgxkit.host.profiles import PROFILES, Readiness
from sgxkit.host.report import Diagnosis, Kind, diagnose
from sgxkit.messages import Message, msg

Wanted = Literal["hardware", "emulated", "either"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which platform to go on with, and why: sentences for people."""

    hardware: bool
    reasons: tuple[Message, ...]


class NotReadyError(SgxkitError):
    """There is SGX hardware that cannot be used yet, or hardware was insisted on. `diagnosis` has the remedies."""

    code = "not-ready"

    def __init__(self, message: Message, hint: Message | None, diagnosis: Diagnosis | None) -> None:
        super().__init__(message, hint=hint)
        self.diagnosis = diagnosis


class NotSureError(NotReadyError):
    """The same, where the diagnosis could not tell."""

    code = "not-sure"
    exit_code = 2


def choose(wanted: Wanted, *, timeout: float = 5.0) -> Choice:
    """Decide by a diagnosis of this host, without network; raises NotReadyError, and HostError where it fails."""
    if wanted == "emulated":
        return Choice(False, (msg("emulated, as you asked for"), _PROTECTS_NOTHING))
    if sys.platform != "linux":
        reason = msg("sgxkit uses SGX hardware through Linux, and this is {system}", system=sys.platform)
        if wanted == "hardware":
            raise NotReadyError(reason, None, None)
        return Choice(False, (_NONE, reason, _GOING_ON, _PROTECTS_NOTHING))
    return decide(wanted, diagnose(collect_facts(timeout, network=False), PROFILES["run"]))


def decide(wanted: Wanted, diagnosis: Diagnosis) -> Choice:
    """Decide by a diagnosis; raises NotReadyError."""
    if diagnosis.readiness is Readiness.READY:
        return Choice(True, (msg("this computer is ready for SGX"),))
    has_sgx = diagnosis.verdicts["cpu.sgx"].status is Status.SUPPORTED
    if wanted == "hardware" or has_sgx:
        message = (
            msg("this computer has SGX, but it is not ready")
            if has_sgx
            else msg("this computer has no SGX that could be used")
        )
        hint = msg("`sgxkit up --emulated` goes on without hardware; `sgxkit doctor --verbose` shows every check")
        kind = NotSureError if diagnosis.readiness is Readiness.UNKNOWN else NotReadyError
        raise kind(message, hint, diagnosis)
    return Choice(False, (_NONE, *_why_not(diagnosis), _GOING_ON, _PROTECTS_NOTHING))


_NONE = msg("looked for SGX hardware: there is none to use")
_GOING_ON = msg("so a software platform takes its place, with the same formats and protocols")
_PROTECTS_NOTHING = msg("it protects nothing: it is for development and tests")


def _why_not(diagnosis: Diagnosis) -> tuple[Message, ...]:
    findings = (*diagnosis.of_kind(Kind.MISSING), *diagnosis.of_kind(Kind.UNKNOWN))
    causes = (finding.verdict.cause for finding in findings)
    return tuple(cause for cause in causes if cause is not None)[:1]
