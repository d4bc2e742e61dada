"""The checks as the lines of a tree, in the manner of `sgx-detect`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from sgxkit.host.checks.check import Check, Outcome, Verdict, hidden
from sgxkit.host.checks.registry import BY_ID, children
from sgxkit.host.checks.status import Status
from sgxkit.host.profiles import Profile
from sgxkit.host.report import Diagnosis
from sgxkit.messages import Message, msg

ALWAYS_SHOWN = ("isa", "flc", "psw")
Mark: TypeAlias = str
"""A status by its value, or `not-reached`, or `not-applicable`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One check in a line: its mark, title and detail."""

    mark: Mark
    title: Message
    detail: Message | str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the tree: one entry, several for the features, none for checks that are `folded` away.

    `note` is said after the entries; `check` is the id where the line stands for one check.
    """

    depth: int
    entries: tuple[Entry, ...] = ()
    note: Message | None = None
    check: str | None = None
    folded: tuple[Message, ...] = ()


def mark(verdict: Verdict) -> Mark:
    """The mark that stands for a verdict."""
    if verdict.outcome is Outcome.NOT_REACHED:
        return "not-reached"
    if verdict.outcome is Outcome.NOT_APPLICABLE:
        return "not-applicable"
    return verdict.status.value


def lines(diagnosis: Diagnosis, *, verbose: bool = False) -> Iterator[Line]:
    """Walk the tree: folded and cut to what the profile is about, or whole (`verbose`)."""
    for top in children(None):
        if verbose or top.id in ALWAYS_SHOWN or _concerns(diagnosis.profile, top.id):
            yield from _walk(diagnosis, (top,), 0, verbose=verbose)


def _concerns(profile: Profile, branch: str) -> bool:
    for name in (*profile.required, *profile.watched):
        check: Check | None = BY_ID[name]
        while check is not None:
            if check.id == branch:
                return True
            check = None if check.parent is None else BY_ID[check.parent]
    return False


def _walk(diagnosis: Diagnosis, siblings: tuple[Check, ...], depth: int, *, verbose: bool) -> Iterator[Line]:
    verdicts = diagnosis.verdicts
    folded: list[Message] = []
    for check in siblings:
        verdict = verdicts[check.id]
        if not verbose and (check.helper or verdict.outcome is Outcome.NOT_APPLICABLE):
            continue
        if not verbose and verdict.outcome is Outcome.NOT_REACHED and hidden(check, verdicts):
            folded.append(check.title)
            continue
        yield Line(depth, (_entry(check, verdict),), _note(verdict), check.id)
        if not verbose and (verdict.outcome is Outcome.NOT_REACHED or _complete(check, verdict)):
            continue
        yield from _below(diagnosis, check, depth + 1, verbose=verbose)
    if folded:
        yield Line(depth, folded=tuple(folded))


def _below(diagnosis: Diagnosis, check: Check, depth: int, *, verbose: bool) -> Iterator[Line]:
    below = children(check.id)
    if check.id == "features" and not verbose:
        flags = tuple(part for part in below if part.id.startswith("feature."))
        yield Line(depth, tuple(_entry(part, diagnosis.verdicts[part.id]) for part in flags))
        below = tuple(part for part in below if part not in flags)
    yield from _walk(diagnosis, below, depth, verbose=verbose)


def _complete(check: Check, verdict: Verdict) -> bool:
    return check.folds and verdict.outcome is Outcome.JUDGED and verdict.status is Status.SUPPORTED


def _entry(check: Check, verdict: Verdict) -> Entry:
    return Entry(mark(verdict), check.title, verdict.detail)


def _note(verdict: Verdict) -> Message | None:
    if verdict.outcome is Outcome.NOT_REACHED:
        return msg("not reached: needs “{needs}”", needs=_titles(verdict.because))
    if verdict.outcome is Outcome.NOT_APPLICABLE:
        return msg("does not apply")
    return None


def _titles(names: tuple[str, ...]) -> Message:
    title = BY_ID[names[0]].title
    for name in names[1:]:
        title = msg("{first}”, “{second}", first=title, second=BY_ID[name].title)
    return title
