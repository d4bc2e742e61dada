"""The diagnosis of a host for a profile, and its JSON document (docs/schema/doctor.schema.json)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from sgxkit.host.checks.check import Check, Outcome, Verdict
from sgxkit.host.checks.evidence import Evidence, known
from sgxkit.host.checks.readings import enumeration
from sgxkit.host.checks.registry import BY_ID, CHECKS, RANK, judge
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import Facts
from sgxkit.host.profiles import Assessment, Profile, Readiness, assess
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.messages import Message

SCHEMA = 1
"""Version of the JSON document."""


class Kind(Enum):
    """How a finding counts."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    REMARK = "remark"


@dataclass(frozen=True, slots=True)
class Finding:
    """A root cause, and the checks of the profile that it explains."""

    kind: Kind
    check: Check
    verdict: Verdict
    explains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a reader wants to know of the host at first sight."""

    host: str | None
    operating_system: str | None
    kernel: str | None
    processor: str | None
    virtual_machine: bool | None
    container: str | None
    epc_bytes: int | None
    features: tuple[str, ...]
    captured: datetime | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Facts, judged for one profile. `findings` come most fundamental first, what is missing before all else."""

    facts: Facts
    profile: Profile
    verdicts: Mapping[str, Verdict]
    assessment: Assessment
    findings: tuple[Finding, ...]
    summary: Summary

    @property
    def readiness(self) -> Readiness:
        return self.assessment.readiness

    def of_kind(self, kind: Kind) -> tuple[Finding, ...]:
        """The findings that count in one way."""
        return tuple(finding for finding in self.findings if finding.kind is kind)


def diagnose(facts: Facts, profile: Profile) -> Diagnosis:
    """Judge every check and say what it means for `profile`."""
    verdicts = judge(facts)
    assessment = assess(profile, verdicts)
    findings = tuple(
        Finding(kind, BY_ID[root], verdicts[root], explained)
        for kind, causes in (
            (Kind.MISSING, assessment.missing),
            (Kind.UNKNOWN, assessment.unknown),
            (Kind.REMARK, assessment.remarks),
        )
        for root, explained in sorted(causes.items(), key=lambda cause: RANK[cause[0]])
    )
    return Diagnosis(facts, profile, verdicts, assessment, findings, _summarize(facts, verdicts))


def _summarize(facts: Facts, verdicts: Mapping[str, Verdict]) -> Summary:
    release, info = known(facts.system.os_release), known(facts.cpu.cpuinfo)
    hypervisor, container = known(facts.system.hypervisor), known(facts.system.container)
    sgx = enumeration(facts)
    return Summary(
        host=known(facts.system.hostname),
        operating_system=None if release is None else release.pretty_name or release.id,
        kernel=known(facts.kernel.release),
        processor=None if info is None else info.model_name,
        virtual_machine=None if hypervisor is None else hypervisor.present,
        container=None if container is None else container.kind,
        epc_bytes=None if sgx is None else sum(section.size for section in sgx.epc),
        features=tuple(
            str(check.title)
            for check in CHECKS
            if check.id.startswith("feature.") and verdicts[check.id].status is Status.SUPPORTED
        ),
        captured=captured_at(facts),
    )


def captured_at(facts: Facts) -> datetime | None:
    """When the facts were read, by their host's clock; None where that is not recorded or not a date."""
    if facts.source.time is None:
        return None
    try:
        return datetime.fromtimestamp(facts.source.time, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def requirement(profile: Profile, name: str) -> str:
    """How a profile counts a check: required, watched or none."""
    if name in profile.required:
        return "required"
    return "watched" if name in profile.watched else "none"


def document(diagnosis: Diagnosis, *, version: str) -> dict[str, object]:
    """Return the JSON document: English text beside stable ids and codes."""
    summary, source = diagnosis.summary, diagnosis.facts.source
    return {
        "schema": SCHEMA,
        "sgxkit": version,
        "profile": diagnosis.profile.id,
        "readiness": diagnosis.readiness.name.lower().replace("_", "-"),
        "exit_code": diagnosis.readiness.value,
        "source": {
            "producer": source.producer,
            "version": source.version,
            "captured": None if summary.captured is None else summary.captured.isoformat(timespec="seconds"),
            "network": source.network,
        },
        "host": {
            "name": summary.host,
            "operating_system": summary.operating_system,
            "kernel": summary.kernel,
            "processor": summary.processor,
            "virtual_machine": summary.virtual_machine,
            "container": summary.container,
            "epc_bytes": summary.epc_bytes,
            "features": list(summary.features),
        },
        "findings": [_finding(finding) for finding in diagnosis.findings],
        "checks": [_check(check, diagnosis) for check in CHECKS],
    }


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind.value,
        "check": finding.check.id,
        "code": finding.verdict.code,
        "cause": _text(finding.verdict.cause),
        "explains": list(finding.explains),
        "evidence": [_evidence(entry) for entry in finding.verdict.evidence],
        "remedies": [_remedy(remedy) for remedy in finding.verdict.remedies],
    }


def _check(check: Check, diagnosis: Diagnosis) -> dict[str, object]:
    verdict = diagnosis.verdicts[check.id]
    return {
        "id": check.id,
        "parent": check.parent,
        "title": str(check.title),
        "requirement": requirement(diagnosis.profile, check.id),
        "outcome": verdict.outcome.value,
        "status": verdict.status.value if verdict.outcome is Outcome.JUDGED else None,
        "code": verdict.code,
        "detail": str(verdict.detail),
        "cause": _text(verdict.cause),
        "because": list(verdict.because),
        "evidence": [_evidence(entry) for entry in verdict.evidence],
    }


def _evidence(evidence: Evidence) -> dict[str, object]:
    return {"fact": evidence.fact, "value": evidence.value}


def _remedy(remedy: Remedy) -> dict[str, object]:
    return {
        "id": remedy.id,
        "title": str(remedy.title),
        "commands": list(remedy.commands),
        "root": remedy.root,
        "reboot": remedy.reboot,
        "firmware": remedy.firmware,
        "link": remedy.link,
    }


def _text(message: Message | None) -> str | None:
    return None if message is None else str(message)
