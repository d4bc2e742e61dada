"""One check, its verdict, and the order in which checks are judged.

A check is a pure function of the facts and of the verdicts that it declares. It names the checks that must not have
failed before it makes sense to ask (`needs`); when one of those failed, the check is not judged but *not reached*.
Among them, those in `hidden_by` control visibility: a reader who sees why the need failed learns nothing from its
dependents, so the short tree folds them into one line. `uses` names verdicts that the judgement combines, whatever
they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import reduce
from graphlib import TopologicalSorter
from operator import and_, or_
from typing import TypeAlias

from sgxkit.host.checks.evidence import Evidence
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import Facts
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.messages import Message


class Outcome(Enum):
    """How far a check came."""

    JUDGED = "judged"
    NOT_REACHED = "not-reached"
    NOT_APPLICABLE = "not-applicable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check concluded.

    `code` is stable and names the conclusion for programs; `cause` says it in one sentence; `detail` is a word or
    two for the tree (a path, a size, a version). `because` names the checks that this verdict only repeats: the
    reader is shown theirs.
    """

    status: Status
    code: str
    cause: Message | None = None
    evidence: tuple[Evidence, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    because: tuple[str, ...] = ()
    outcome: Outcome = Outcome.JUDGED
    detail: Message | str = ""

    @property
    def failed(self) -> bool:
        """Whether what the check asks for is known to be absent, by its own judgement or by that of a need."""
        return self.outcome is Outcome.NOT_REACHED or (self.outcome is Outcome.JUDGED and self.status.failed)


Verdicts: TypeAlias = Mapping[str, Verdict]
Judge: TypeAlias = Callable[[Facts, Verdicts], Verdict]


@dataclass(frozen=True, slots=True)
class Check:
    """A question about a host, its place in the tree (`parent`) and in the order of judgement."""

    id: str
    title: Message
    judge: Judge
    parent: str | None = None
    needs: tuple[str, ...] = ()
    hidden_by: frozenset[str] = frozenset()
    uses: tuple[str, ...] = ()
    folds: bool = False
    """Whether the short tree shows its parts only when it is not supported."""
    helper: bool = False
    """Whether it only serves other checks and the short tree leaves it out."""

    def __post_init__(self) -> None:
        assert self.hidden_by <= set(self.needs), f"{self.id}: only a need can control visibility"


def supported(
    evidence: Iterable[Evidence] = (), *, detail: Message | str = "", code: str = "ok", cause: Message | None = None
) -> Verdict:
    """Conclude that it is there."""
    return Verdict(Status.SUPPORTED, code, cause, tuple(evidence), detail=detail)


def fatal(code: str, cause: Message, evidence: Iterable[Evidence] = (), remedies: Iterable[Remedy] = ()) -> Verdict:
    """Conclude that it is absent and nothing that needs it can work."""
    return Verdict(Status.FATAL, code, cause, tuple(evidence), tuple(remedies))


def unsupported(
    code: str, cause: Message, evidence: Iterable[Evidence] = (), remedies: Iterable[Remedy] = ()
) -> Verdict:
    """Conclude that it is absent and can be done without."""
    return Verdict(Status.UNSUPPORTED, code, cause, tuple(evidence), tuple(remedies))


def unknown(code: str, cause: Message, evidence: Iterable[Evidence] = (), remedies: Iterable[Remedy] = ()) -> Verdict:
    """Conclude that it could not be found out."""
    return Verdict(Status.UNKNOWN, code, cause, tuple(evidence), tuple(remedies))


def not_applicable(cause: Message) -> Verdict:
    """Conclude that the question does not arise on this host."""
    return Verdict(Status.UNKNOWN, "not-applicable", cause, outcome=Outcome.NOT_APPLICABLE)


def blamed_on(verdict: Verdict, verdicts: Verdicts, *suspects: str) -> Verdict:
    """The same verdict, as a consequence of those `suspects` that failed; its own where none did."""
    guilty = tuple(name for name in suspects if verdicts[name].failed)
    if verdict.status is Status.SUPPORTED or not guilty:
        return verdict
    return replace(verdict, because=guilty[:1])


def conjunction(verdicts: Verdicts, members: Sequence[str]) -> Verdict:
    """All of `members`, except those that do not apply."""
    return _roll_up(verdicts, members, and_)


def alternative(verdicts: Verdicts, members: Sequence[str]) -> Verdict:
    """Any of `members`; a way that was not reached is none. Of several that fail, the reader is shown the first."""
    closed = {
        name: replace(verdicts[name], status=Status.FATAL)
        for name in members
        if verdicts[name].outcome is Outcome.NOT_REACHED
    }
    verdict = _roll_up({**verdicts, **closed}, members, or_)
    if verdict.status is Status.SUPPORTED or not verdict.because:
        return verdict
    return Verdict(verdict.status, verdict.code, because=verdict.because[:1], outcome=verdict.outcome)


def _roll_up(verdicts: Verdicts, members: Sequence[str], combine: Callable[[Status, Status], Status]) -> Verdict:
    applicable = [name for name in members if verdicts[name].outcome is not Outcome.NOT_APPLICABLE]
    if not applicable:
        return Verdict(Status.UNKNOWN, "not-applicable", outcome=Outcome.NOT_APPLICABLE)
    status = reduce(combine, (verdicts[name].status for name in applicable))
    if status is Status.SUPPORTED:
        return Verdict(status, "ok")
    # A disjunction of unsupported members is fatal: then they all are the reason.
    decisive = [name for name in applicable if verdicts[name].status is status] or [
        name for name in applicable if verdicts[name].status is not Status.SUPPORTED
    ]
    return Verdict(status, "members", because=tuple(decisive))


def evaluate(facts: Facts, checks: Sequence[Check]) -> dict[str, Verdict]:
    """Judge every check after the checks it depends on; verdicts come in the order of `checks`."""
    by_id = {check.id: check for check in checks}
    graph = {check.id: (*check.needs, *check.uses) for check in checks}
    verdicts: dict[str, Verdict] = {}
    for name in TopologicalSorter(graph).static_order():
        check = by_id[name]
        failed = tuple(need for need in check.needs if verdicts[need].failed)
        if failed:
            verdicts[name] = Verdict(Status.UNKNOWN, "not-reached", because=failed, outcome=Outcome.NOT_REACHED)
        else:
            visible = {other: verdicts[other] for other in graph[name]}
            verdicts[name] = check.judge(facts, visible)
    return {check.id: verdicts[check.id] for check in checks}


def hidden(check: Check, verdicts: Verdicts) -> bool:
    """Whether a need that controls visibility failed, so that the short tree folds the check away."""
    return any(verdicts[need].failed for need in check.hidden_by)


def root_causes(name: str, verdicts: Verdicts) -> tuple[str, ...]:
    """Follow a verdict to the judgements that it repeats, each once."""
    verdict = verdicts[name]
    if not verdict.because:
        return (name,)
    found: dict[str, None] = {}
    for cause in verdict.because:
        found.update(dict.fromkeys(root_causes(cause, verdicts)))
    return tuple(found)
