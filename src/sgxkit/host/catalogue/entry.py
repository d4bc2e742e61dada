"""What an entry of the catalogue is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, get_args

from sgxkit.host.catalogue.pattern import Pattern
from sgxkit.messages import Language

Stage = Literal[
    "processor",
    "firmware",
    "kernel",
    "device",
    "permission",
    "package",
    "launch",
    "aesm",
    "quoting",
    "provider",
    "service",
    "registration",
    "verification",
    "clock",
    "program",
    "container",
    "kubernetes",
    "virtual-machine",
]
"""Where in the way from the processor to a verified quote it fails; most fundamental first."""

STAGES: tuple[Stage, ...] = get_args(Stage)

State = Literal["failed", "supported", "unknown", "not-applicable"]
"""What a condition may ask of a check of `sgxkit doctor`."""

STATES: tuple[State, ...] = get_args(State)


class Severity(Enum):
    """What an entry's lines mean for whoever reads them."""

    FAULT = "fault"
    WARNING = "warning"
    HARMLESS = "harmless"


@dataclass(frozen=True, slots=True)
class CheckCondition:
    """A check of `sgxkit doctor` is in a state and, where `code` is given, for that reason."""

    check: str
    state: State
    code: str | None = None


@dataclass(frozen=True, slots=True)
class FactCondition:
    """A fact, by its path in the facts document, has a value."""

    fact: str
    value: str | bool | int


Condition = CheckCondition | FactCondition


@dataclass(frozen=True, slots=True)
class Texts:
    """What is said of an entry in one language.

    look_for   where to look, to be sure that it is this and not something else.
    """

    title: str
    cause: str
    look_for: str
    fix: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One explanation of lines in logs.

    id               stable: ``SUBJECT.NAME``.
    patterns         signatures; one is enough.
    examples         lines that it recognises, at least one for each signature.
    counterexamples  lines that look alike and that it does not recognise.
    consequence_of   ids of entries that explain this one where they are recognised too.
    raised_by        facts of the host that speak for it.
    lowered_by       facts of the host that speak against it.
    commands         what to type, as comments and commands of a POSIX shell; shown, never run.
    sources          where this is known from.
    origin           the file that it stands in.
    """

    id: str
    severity: Severity
    stage: Stage
    patterns: tuple[Pattern, ...]
    examples: tuple[str, ...]
    counterexamples: tuple[str, ...]
    consequence_of: tuple[str, ...]
    raised_by: tuple[Condition, ...]
    lowered_by: tuple[Condition, ...]
    english: Texts
    translations: Mapping[Language, Texts]
    commands: tuple[str, ...]
    sources: tuple[str, ...]
    origin: str

    def texts(self, language: Language) -> Texts:
        """What is said of it in `language`, in English where nobody has translated it."""
        return self.translations.get(language, self.english)

    def recognises(self, line: str) -> bool:
        """Whether a line of text has one of the signatures."""
        data = line.encode()
        return any(pattern.regex.search(data) for pattern in self.patterns)
