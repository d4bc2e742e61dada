"""Words that the diagnosis is told with, in a terminal and in HTML alike."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from sgxkit.host.profiles import Readiness
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.host.report import Diagnosis, Kind
from sgxkit.host.tree import Mark
from sgxkit.messages import Message, msg

HEADINGS: Mapping[Kind, Message] = {
    Kind.MISSING: msg("What is missing"),
    Kind.UNKNOWN: msg("What could not be told"),
    Kind.REMARK: msg("Worth knowing"),
}
MARKS: Mapping[Mark, Message] = {
    "supported": msg("yes"),
    "unsupported": msg("no"),
    "fatal": msg("no"),
    "unknown": msg("unknown"),
    "not-reached": msg("not reached"),
    "not-applicable": msg("does not apply"),
}
REMEDY_TRAITS: Mapping[str, Message] = {
    "root": msg("as root"),
    "reboot": msg("needs a reboot"),
    "firmware": msg("in the BIOS set-up"),
}
"""By the names of `Remedy`'s fields."""


def title_of(remedy: Remedy) -> Message:
    """Return what a remedy is, with what carrying it out takes."""
    traits = [trait for name, trait in REMEDY_TRAITS.items() if getattr(remedy, name)]
    if not traits:
        return remedy.title
    together = reduce(lambda first, second: msg("{first}; {second}", first=first, second=second), traits)
    return msg("{title} ({traits})", title=remedy.title, traits=together)


def conclusion(diagnosis: Diagnosis) -> Message:
    """The last line: whether the host is ready for the profile, and the first reason if not."""
    profile, purpose = diagnosis.profile.id, diagnosis.profile.purpose
    if diagnosis.readiness is Readiness.READY:
        return msg("Ready: this host can {purpose} (profile {profile}).", purpose=purpose, profile=profile)
    if diagnosis.readiness is Readiness.NOT_READY:
        first = diagnosis.of_kind(Kind.MISSING)[0].verdict.cause
        return msg(
            "Not ready: this host cannot {purpose} (profile {profile}). {cause}",
            purpose=purpose,
            profile=profile,
            cause=first or "",
        )
    first = diagnosis.of_kind(Kind.UNKNOWN)[0].verdict.cause
    return msg(
        "Could not tell whether this host can {purpose} (profile {profile}). {cause}",
        purpose=purpose,
        profile=profile,
        cause=first or "",
    )
