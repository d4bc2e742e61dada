"""Apply a plan, take it back, and tell how a host has drifted from what was done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from sgxkit.errors import SetupError
from sgxkit.host.setup import bookkeeping, packages
from sgxkit.host.setup.actions import (
    Consequence,
    EnableUnit,
    InstallKernel,
    InstallPackages,
    Reboot,
    ReloadSystemd,
    ReloadUdev,
    RemovePackages,
    RestartUnit,
    StartUnit,
    WriteFile,
)
from sgxkit.host.setup.device_steps import UDEV_RULES
from sgxkit.host.setup.journal import Entry, Journal
from sgxkit.host.setup.look import look
from sgxkit.host.setup.observed import Observed, holds
from sgxkit.host.setup.perform import Session, appeared, do, perform
from sgxkit.host.setup.plan import Plan
from sgxkit.host.setup.reverse import reverse
from sgxkit.host.setup.step import Step
from sgxkit.host.setup.target import Target
from sgxkit.messages import Message, msg


class Progress(Protocol):
    """Who is told of every step."""

    def begin(self, number: int, total: int, step: Step) -> None: ...
    def done(self, seconds: float) -> None: ...
    def held(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Applied:
    """How far a plan came.

    done        ids of the steps that were done.
    person      steps that wait for a person.
    rebooting   whether the host reboots now; the plan goes on afterwards.
    """

    done: tuple[str, ...]
    person: tuple[Step, ...]
    rebooting: bool


def recover(target: Target, journal: Journal) -> None:
    """Tidy up after a run that was killed: a package manager at work is let finish, what holds is written down."""
    unfinished = [entry for entry in journal.entries() if entry.state == "begun"]
    if any(isinstance(entry.action, InstallPackages | InstallKernel | RemovePackages) for entry in unfinished):
        packages.finish_interrupted(target)
    for entry in unfinished:
        complete = holds(entry.action, look(target, (entry.action,), Observed()))
        if complete:
            journal.finish(entry, appeared(Session(target, journal), entry))


def apply(target: Target, journal: Journal, plan: Plan, progress: Progress) -> Applied:
    """Do the steps of `plan` in order; SetupError where one fails, with all before it done and journalled."""
    session = Session(target, journal)
    due = {step.id for step in plan.steps if step.after}
    journal.set_due(journal.due | due)
    done: list[str] = []
    person: list[Step] = []
    try:
        for number, step in enumerate(plan.steps, 1):
            if step.by_person:
                person.append(step)
                if step.ends:
                    break
                continue
            progress.begin(number, len(plan.steps), step)
            begun = time.monotonic()
            if isinstance(step.action, Reboot):
                journal.set_due(journal.due - {step.id})
                do(session, step.action)
                return Applied((*done, step.id), tuple(person), rebooting=True)
            if isinstance(step.action, Consequence):
                do(session, step.action)
                journal.set_due(journal.due - {step.id})
            elif step.renews or holds(step.action, look(target, (step.action,), Observed())) is not True:
                perform(session, step)
            else:  # a step before it brought it about: a package that enables its unit, makes its user's group
                progress.held()
                continue
            done.append(step.id)
            progress.done(time.monotonic() - begun)
        journal.set_due(frozenset())
    finally:
        packages.clean(target)
    return Applied(tuple(done), tuple(person), rebooting=False)


@dataclass(frozen=True, slots=True)
class Undone:
    """What was taken back: ids in the order in which it happened; and what had to stay, by step, with why."""

    steps: tuple[str, ...]
    stayed: tuple[tuple[str, Message], ...]


def undo(target: Target, journal: Journal, progress: Progress | None = None) -> Undone:
    """Take back what the journal holds, the last first.

    A step that cannot be taken back stays in the journal, and those before it are tried all the same. When none is
    left, the tools' own bookkeeping is put back and the journal removed.
    """
    session = Session(target, journal)
    entries = tuple(reversed(journal.entries()))
    if any(entry.state == "begun" and isinstance(entry.action, InstallPackages | InstallKernel) for entry in entries):
        packages.finish_interrupted(target)
    taken: list[Entry] = []
    stayed: list[tuple[str, Message]] = []
    try:
        for number, entry in enumerate(entries, 1):
            step = Step(entry.step, entry.action, msg("It was done by sgxkit."))
            if progress is not None:
                progress.begin(number, len(entries), step)
            begun = time.monotonic()
            try:
                left = reverse(session, entry)
            except SetupError as error:
                hint = error.hint
                left = (error.message, *((hint,) if hint is not None else ()))
            if left:
                stayed.extend((entry.step, sentence) for sentence in left)
                continue
            journal.forget(entry)
            taken.append(entry)
            if progress is not None:
                progress.done(time.monotonic() - begun)
        _settle(session, taken)
    finally:
        packages.clean(target)
    if not stayed:
        journal.set_due(frozenset())
        left_files = bookkeeping.put_back(journal)
        stayed_files = [("bookkeeping", msg("{path} stays: it was changed since", path=path)) for path in left_files]
        journal.discard()
        return Undone(tuple(entry.step for entry in taken), tuple(stayed_files))
    return Undone(tuple(entry.step for entry in taken), tuple(stayed))


def _settle(session: Session, taken: list[Entry]) -> None:
    """Let udev, systemd and services read what was put back."""
    written = [entry.action.path for entry in taken if isinstance(entry.action, WriteFile)]
    if UDEV_RULES in written:
        do(session, ReloadUdev())
    if any(path.startswith(("/etc/systemd/", "/etc/containers/systemd/")) for path in written):
        do(session, ReloadSystemd())
    started = {entry.action.unit for entry in taken if isinstance(entry.action, EnableUnit | StartUnit)}
    if "/etc/sgx_default_qcnl.conf" in written and "aesmd.service" not in started:
        do(session, RestartUnit("aesmd.service"))


@dataclass(frozen=True, slots=True)
class Standing:
    """A journalled step today: ``holds``, ``drifted``, ``unfinished``, or ``unknown`` where it cannot be seen."""

    entry: Entry
    state: str


def status(target: Target, journal: Journal) -> tuple[Standing, ...]:
    """Compare the host with what the journal says was done to it."""
    entries = journal.entries()
    seen = look(target, [entry.action for entry in entries], Observed())
    result = []
    for entry in entries:
        holding = holds(entry.action, seen)
        state = (
            "unfinished" if entry.state == "begun" else {True: "holds", False: "drifted", None: "unknown"}[holding]
        )
        result.append(Standing(entry, state))
    return tuple(result)
