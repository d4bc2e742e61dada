"""Four-valued verdicts and how they combine.

The algebra is that of Fortanix `sgx-detect`, whose users know its roll-ups: a conjunction forgives what is merely
unsupported as long as something is supported, and a disjunction in which nothing is supported is fatal.
"""

from __future__ import annotations

from enum import Enum


class Status(Enum):
    """What is known of one thing that SGX needs or can use."""

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    """Absent, and something can be done without it."""
    FATAL = "fatal"
    """Absent, and nothing that needs it can work."""
    UNKNOWN = "unknown"
    """It could not be found out."""

    def __and__(self, other: Status) -> Status:
        """Both: fatal, then unknown, then supported win; unsupported only if both are."""
        return _first_of((Status.FATAL, Status.UNKNOWN, Status.SUPPORTED), self, other) or Status.UNSUPPORTED

    def __or__(self, other: Status) -> Status:
        """Either: supported, then unknown win; otherwise there is no way left and it is fatal."""
        return _first_of((Status.SUPPORTED, Status.UNKNOWN), self, other) or Status.FATAL

    @property
    def failed(self) -> bool:
        """Whether it is known to be absent."""
        return self in (Status.UNSUPPORTED, Status.FATAL)

    def downgrade_fatal(self) -> Status:
        """The same, of something that can be done without."""
        return Status.UNSUPPORTED if self is Status.FATAL else self


def as_req(present: bool | None) -> Status:
    """Judge something that is required: present, absent, or (None) not known."""
    if present is None:
        return Status.UNKNOWN
    return Status.SUPPORTED if present else Status.FATAL


def as_opt(present: bool | None) -> Status:
    """Judge something that is optional: present, absent, or (None) not known."""
    return as_req(present).downgrade_fatal()


def _first_of(order: tuple[Status, ...], *given: Status) -> Status | None:
    return next((status for status in order if status in given), None)
