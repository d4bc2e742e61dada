"""The facts that a verdict rests on, shown as they were read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from sgxkit.host.facts import Reading, Unread

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A fact: its path in the facts document, and its value as read."""

    fact: str
    value: str


def known(reading: Reading[T]) -> T | None:
    """Return a fact's value, None when it was not read."""
    return None if isinstance(reading, Unread) else reading


def absent(reading: object) -> bool:
    """Whether it was looked for and is not there, in contrast to unknown."""
    return isinstance(reading, Unread) and reading.kind == "absent"


def refused(reading: object) -> bool:
    """Whether reading it was refused for lack of rights."""
    return isinstance(reading, Unread) and reading.kind == "permission"


def shown(fact: str, reading: object) -> Evidence:
    """Present a fact, or why it was not read."""
    if isinstance(reading, Unread):
        return Evidence(fact, f"{reading.kind}: {reading.text}")
    if isinstance(reading, bool):
        return Evidence(fact, "true" if reading else "false")
    if isinstance(reading, str):
        return Evidence(fact, reading)
    if isinstance(reading, Iterable):
        return Evidence(fact, ", ".join(map(str, reading)) or "none")
    return Evidence(fact, str(reading))


def register(fact: str, value: int, digits: int = 8) -> Evidence:
    """Present a register in hexadecimal."""
    return Evidence(fact, f"0x{value:0{digits}x}")
