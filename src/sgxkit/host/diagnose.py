"""What logs say of a host's SGX: recognised lines, explained, ranked, and joined with facts.

`explain` takes what a `Recogniser` found and, where there are some, the host's facts; it returns the explanations in
the order in which a support engineer would look at them: what the facts confirm before what they leave open, causes
before their consequences, what lies nearer the processor before what rests on it, and what the facts speak against
last. `document` is the same as JSON (docs/schema/diagnose.schema.json).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from sgxkit.errors import HostError, SgxkitError
from sgxkit.host.catalogue.entry import STAGES, CheckCondition, Condition, Entry, Severity
from sgxkit.host.catalogue.fact_path import fact_at
from sgxkit.host.checks.check import Outcome, Verdict
from sgxkit.host.checks.evidence import Evidence, shown
from sgxkit.host.checks.registry import judge
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import Facts, Unread
from sgxkit.host.log_source import LogSource, TextLog
from sgxkit.host.recogniser import Finding, Line, LogRead, Recogniser
from sgxkit.host.report import captured_at
from sgxkit.messages import Message

SCHEMA = 1
"""Version of the JSON document."""


class Standing(Enum):
    """What the host's facts say of an explanation; without facts it is possible."""

    CONFIRMED = "confirmed"
    POSSIBLE = "possible"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True)
class Ground:
    """A condition of the entry that holds for this host: for it or against it, with the facts it was told by."""

    condition: Condition
    supports: bool
    cause: Message | None
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """An entry that was recognised.

    follows   ids of recognised entries that explain it: remedy those first.
    """

    entry: Entry
    finding: Finding
    standing: Standing
    grounds: tuple[Ground, ...]
    follows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnreadLog:
    """A log that could not be read, or not to its end."""

    name: str
    reason: SgxkitError


class Result(Enum):
    """What came of it; the value is the exit code."""

    RECOGNISED = 0
    NOTHING = 1
    COULD_NOT_TELL = 2


@dataclass(frozen=True, slots=True)
class LogDiagnosis:
    """What logs say, best explanation first."""

    explanations: tuple[Explanation, ...]
    logs: tuple[LogRead, ...]
    unread: tuple[UnreadLog, ...]
    facts: Facts | None

    @property
    def result(self) -> Result:
        """Whether anything that is wrong was recognised; harmless lines explain nothing."""
        if any(known.entry.severity is not Severity.HARMLESS for known in self.explanations):
            return Result.RECOGNISED
        return Result.COULD_NOT_TELL if self.unread else Result.NOTHING


def diagnose_logs(
    entries: Iterable[Entry],
    logs: Sequence[LogSource],
    facts: Facts | None = None,
    progress: Callable[[LogSource, int], object] = lambda _log, _size: None,
) -> LogDiagnosis:
    """Read logs and explain them.

    A log of this host that cannot be read (a command that fails) is told as such; a file that was named and cannot be
    read is InputError. `progress` is told each log and the bytes read of it since it was told last.
    """
    recogniser = Recogniser(entries)
    unread = []
    for log in logs:
        try:
            with log.open() as stream:
                recogniser.read(log.name, stream, lambda size, log=log: progress(log, size))  # type: ignore[misc]
        except HostError as error:
            unread.append(UnreadLog(log.name, error))
            recogniser.logs = [read for read in recogniser.logs if read.source != log.name]
    explanations = explain(recogniser.findings, facts)
    return LogDiagnosis(explanations, tuple(recogniser.logs), tuple(unread), facts)


def logs_in_facts(facts: Facts, name: str) -> tuple[TextLog, ...]:
    """The logs that a facts document holds: the kernel's lines on SGX, and the registration agent's log."""
    found = []
    if not isinstance(facts.kernel.log, Unread):
        found.append(TextLog(f"{name}:kernel.log", "".join(f"{line}\n" for line in facts.kernel.log.lines).encode()))
    if not isinstance(facts.registration.log, Unread):
        found.append(TextLog(f"{name}:registration.log", facts.registration.log.text.encode()))
    return tuple(found)


def explain(findings: Mapping[str, Finding], facts: Facts | None = None) -> tuple[Explanation, ...]:
    """Join what was recognised with facts, and rank it."""
    verdicts = {} if facts is None else judge(facts)
    unranked = [_explain(finding, findings, facts, verdicts) for finding in findings.values()]
    return tuple(sorted(unranked, key=_rank))


def _explain(
    finding: Finding, findings: Mapping[str, Finding], facts: Facts | None, verdicts: Mapping[str, Verdict]
) -> Explanation:
    entry = finding.entry
    grounds: tuple[Ground, ...] = ()
    if facts is not None:
        grounds = tuple(
            ground
            for supports, conditions in ((True, entry.raised_by), (False, entry.lowered_by))
            for condition in conditions
            if (ground := _ground(condition, facts, verdicts, supports=supports)) is not None
        )
    if any(ground.supports for ground in grounds):
        standing = Standing.CONFIRMED
    else:
        standing = Standing.CONTRADICTED if grounds else Standing.POSSIBLE
    follows = tuple(name for name in entry.consequence_of if name in findings)
    return Explanation(entry, finding, standing, grounds, follows)


def _ground(condition: Condition, facts: Facts, verdicts: Mapping[str, Verdict], *, supports: bool) -> Ground | None:
    if isinstance(condition, CheckCondition):
        verdict = verdicts[condition.check]
        if _state(verdict) != condition.state or condition.code not in (None, verdict.code):
            return None
        return Ground(condition, supports, verdict.cause, verdict.evidence)
    value = fact_at(facts, condition.fact)
    if isinstance(value, Unread) or value != condition.value:
        return None
    return Ground(condition, supports, None, (shown(condition.fact, value),))


def _state(verdict: Verdict) -> str:
    """A verdict in the words of conditions; what was not reached is unknown, because its own cause is not known."""
    if verdict.outcome is Outcome.NOT_APPLICABLE:
        return "not-applicable"
    if verdict.outcome is Outcome.NOT_REACHED or verdict.status is Status.UNKNOWN:
        return "unknown"
    return "supported" if verdict.status is Status.SUPPORTED else "failed"


_STANDINGS = (Standing.CONFIRMED, Standing.POSSIBLE, Standing.CONTRADICTED)
_SEVERITIES = (Severity.FAULT, Severity.WARNING, Severity.HARMLESS)


def _rank(explanation: Explanation) -> tuple[object, ...]:
    entry = explanation.entry
    return (
        entry.severity is Severity.HARMLESS,
        explanation.standing is Standing.CONTRADICTED,
        bool(explanation.follows),
        _SEVERITIES.index(entry.severity),
        _STANDINGS.index(explanation.standing),
        STAGES.index(entry.stage),
        -explanation.finding.count,
        entry.id,
    )


def document(diagnosis: LogDiagnosis, *, version: str) -> dict[str, object]:
    """Return the JSON document: English text beside stable ids."""
    return {
        "schema": SCHEMA,
        "sgxkit": version,
        "result": diagnosis.result.name.lower().replace("_", "-"),
        "exit_code": diagnosis.result.value,
        "logs": [
            {"name": log.source, "bytes": log.size, "lines": log.lines, "recognised_lines": log.recognised}
            for log in diagnosis.logs
        ],
        "unread": [{"name": log.name, "reason": str(log.reason)} for log in diagnosis.unread],
        "facts": None if diagnosis.facts is None else _facts(diagnosis.facts),
        "explanations": [_explanation(known) for known in diagnosis.explanations],
    }


def entry_document(entry: Entry) -> dict[str, object]:
    """Return an entry as JSON: its texts in English, and in the languages that it is translated into."""
    return {
        "id": entry.id,
        "severity": entry.severity.value,
        "stage": entry.stage,
        "patterns": [pattern.text for pattern in entry.patterns],
        "examples": list(entry.examples),
        "consequence_of": list(entry.consequence_of),
        **_texts(entry),
        "translations": {
            language: {name: getattr(texts, name) for name in ("title", "cause", "look_for", "fix")}
            for language, texts in entry.translations.items()
        },
        "commands": list(entry.commands),
        "sources": list(entry.sources),
        "origin": entry.origin,
    }


def _texts(entry: Entry) -> dict[str, object]:
    texts = entry.english
    return {"title": texts.title, "cause": texts.cause, "look_for": texts.look_for, "fix": texts.fix}


def _explanation(known: Explanation) -> dict[str, object]:
    entry, finding = known.entry, known.finding
    return {
        "id": entry.id,
        "severity": entry.severity.value,
        "stage": entry.stage,
        "standing": known.standing.value,
        "follows": list(known.follows),
        **_texts(entry),
        "commands": list(entry.commands),
        "sources": list(entry.sources),
        "lines": finding.count,
        "lines_complete": finding.complete,
        "evidence": [_line(line) for line in finding.lines],
        "grounds": [
            {
                "supports": ground.supports,
                "condition": condition_text(ground.condition),
                "cause": None if ground.cause is None else str(ground.cause),
                "facts": [{"fact": fact.fact, "value": fact.value} for fact in ground.evidence],
            }
            for ground in known.grounds
        ],
    }


def condition_text(condition: Condition) -> str:
    """A condition in one line, by the names that the catalogue uses."""
    if isinstance(condition, CheckCondition):
        return f"{condition.check} {condition.state}" + (f" ({condition.code})" if condition.code else "")
    return f"{condition.fact} = {shown(condition.fact, condition.value).value}"


def _line(line: Line) -> dict[str, object]:
    return {"log": line.source, "line": line.number, "text": line.text}


def _facts(facts: Facts) -> dict[str, object]:
    captured = captured_at(facts)
    hostname = facts.system.hostname
    return {
        "host": None if isinstance(hostname, Unread) else hostname,
        "captured": None if captured is None else captured.isoformat(timespec="seconds"),
    }
