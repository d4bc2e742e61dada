"""A part of the selftest: what is expected, and what happened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sgxkit.messages import Message


class Outcome(StrEnum):
    """How a part ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_INSTALLED = "not-installed"
    """Neither the sample is here, nor what a stand-in needs."""


class PartId(StrEnum):
    """The parts, in their order."""

    SAMPLE_ENCLAVE = "sample-enclave"
    QUOTE_GENERATION = "quote-generation"
    QUOTE_VERIFICATION = "quote-verification"
    GRAMINE = "gramine-helloworld"


@dataclass(frozen=True, slots=True)
class PartResult:
    """How one part went.

    ran           what was run: the sample, or what stood in for it.
    stand_in      whether something of sgxkit's own stood in for the sample.
    expected      what should happen.
    happened      what did.
    missing       why the sample itself was not run, and how to install it; empty where it was.
    output        the end of what it printed, for failures.
    """

    id: PartId
    outcome: Outcome
    ran: str
    stand_in: bool
    expected: Message
    happened: Message
    seconds: float
    missing: tuple[Message, ...] = ()
    output: str = ""
