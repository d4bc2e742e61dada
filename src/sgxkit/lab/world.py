"""A lab's world: the state of a platform and of what Intel says about it, and the events that change it.

A world is plain data. Everything that a lab publishes or signs follows from its world, its seed and the time
(`sgxkit.lab.authority`, `sgxkit.lab.publication`); the functions here make another world of one and touch nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal

from sgxkit.dcap.json_fields import array, as_object, date, integer, member, string
from sgxkit.dcap.signed_json import parse_strict_json
from sgxkit.dcap.tcb import TcbStatus
from sgxkit.errors import FormatError, InputError
from sgxkit.lab.profiles import DEFAULT_PROFILE, PAGE, features, find_profile
from sgxkit.messages import msg

FIRST_NUMBER = 20
"""The TCB evaluation data number of a new lab."""
LIFETIME = timedelta(days=30)
"""How long what Intel publishes is in force."""
FORMAT = "sgxkit-lab"
VERSION = 1

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_MAX_EVENTS = 200
_MAX_EPC = 1 << 40
_MAX_OFFSET = 100 * 365 * 86400
# X.509 could say more; a lab's clock cannot.
_YEARS = (1900, 2400)


class InitialTcb(StrEnum):
    """What a new lab's platform can be rated as."""

    UP_TO_DATE = "up-to-date"
    SW_HARDENING_NEEDED = "sw-hardening-needed"
    CONFIGURATION_NEEDED = "configuration-needed"
    OUT_OF_DATE = "out-of-date"
    REVOKED = "revoked"


STATUS_OF = {
    InitialTcb.UP_TO_DATE: TcbStatus.UP_TO_DATE,
    InitialTcb.SW_HARDENING_NEEDED: TcbStatus.SW_HARDENING_NEEDED,
    InitialTcb.CONFIGURATION_NEEDED: TcbStatus.CONFIGURATION_NEEDED,
    InitialTcb.OUT_OF_DATE: TcbStatus.OUT_OF_DATE,
    InitialTcb.REVOKED: TcbStatus.REVOKED,
}
# The generation of its microcode, 0 being the first one that is up to date, and how well it is configured, 3 at best.
_BEGINNINGS = {
    InitialTcb.UP_TO_DATE: (0, 3),
    InitialTcb.SW_HARDENING_NEEDED: (0, 2),
    InitialTcb.CONFIGURATION_NEEDED: (0, 1),
    InitialTcb.OUT_OF_DATE: (-1, 3),
    InitialTcb.REVOKED: (-2, 3),
}


@dataclass(frozen=True, slots=True)
class Event:
    """Intel raises what it asks for: of platforms, or of quoting enclaves. `early` until it is due for everyone."""

    kind: Literal["platform", "qe"]
    number: int
    at: datetime
    early: bool = False


@dataclass(frozen=True, slots=True)
class Revocation:
    """The PCK certificate of one generation of the platform's TCB, and when it was revoked."""

    generation: int
    at: datetime


@dataclass(frozen=True, slots=True)
class World:
    """The state of a lab.

    generation       of the platform's microcode; `configuration` 0 to 3, 3 being the best.
    qe_generation    of its quoting enclave's version, key_generation of the attestation key.
    expired_at       when it was decided that nothing is published any more: all of it had expired by then.
    clock_offset     seconds that the lab's clock is ahead of the computer's.
    """

    name: str
    created: datetime
    cpu: str = DEFAULT_PROFILE
    epc_size: int = 0
    flc: bool = True
    sgx2: bool = True
    generation: int = 0
    configuration: int = 3
    qe_generation: int = 0
    key_generation: int = 0
    events: tuple[Event, ...] = ()
    revocations: tuple[Revocation, ...] = ()
    expired_at: datetime | None = None
    clock_offset: int = 0

    def now(self, clock: datetime) -> datetime:
        """The lab's time when the computer's is `clock`."""
        return clock + timedelta(seconds=self.clock_offset)

    def number(self, *, early: bool = False) -> int:
        """The evaluation data number that is in force, or the newest."""
        return max((event.number for event in self.events if early or not event.early), default=FIRST_NUMBER)

    def platform_events(self, number: int) -> tuple[Event, ...]:
        """The TCB recoveries of platforms up to an evaluation data number, oldest first."""
        return tuple(event for event in self.events if event.kind == "platform" and event.number <= number)

    def qe_events(self, number: int) -> tuple[Event, ...]:
        """The same of quoting enclaves."""
        return tuple(event for event in self.events if event.kind == "qe" and event.number <= number)

    def published(self, clock: datetime) -> tuple[datetime, datetime]:
        """From when until when what is published is in force: anew each day, or never again."""
        now = self.now(clock)
        if self.expired_at is not None:
            now = min(now, self.expired_at) - LIFETIME - timedelta(days=1)
        issued = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return issued, issued + LIFETIME


def new_world(
    name: str,
    created: datetime,
    *,
    cpu: str = DEFAULT_PROFILE,
    epc_size: int | None = None,
    flc: bool | None = None,
    sgx2: bool | None = None,
    tcb: InitialTcb = InitialTcb.UP_TO_DATE,
) -> World:
    """Make the world of a new lab; raises InputError. What is None is as the processor has it."""
    if not _NAME.fullmatch(name):
        raise InputError(
            msg("{name} is not a name for a lab", name=json.dumps(name)),
            hint=msg("1 to 31 small letters, digits and hyphens; the first is no hyphen"),
        )
    profile = find_profile(cpu)
    epc_size = profile.epc_size if epc_size is None else epc_size
    if not 0 < epc_size <= _MAX_EPC or epc_size % PAGE:
        raise InputError(msg("the EPC must be whole pages of 4096 bytes, at most 1 TiB"))
    flc = profile.cpu.flexible_launch_control if flc is None else flc
    sgx2 = profile.cpu.sgx2 if sgx2 is None else sgx2
    features(profile, flc=flc, sgx2=sgx2)
    generation, configuration = _BEGINNINGS[tcb]
    return World(
        name=name,
        created=created.replace(microsecond=0),
        cpu=cpu,
        epc_size=epc_size,
        flc=flc,
        sgx2=sgx2,
        generation=generation,
        configuration=configuration,
    )


def tcb_recovery(world: World, clock: datetime, *, early: bool = False, patched: bool = False) -> World:
    """Intel rates the platform's microcode as out of date and asks for the next; `patched` platforms have it.

    With `early` only those see it who ask for early updates; another recovery, or the same without `early`, makes
    it due.
    """
    after = _with_event(world, "platform", clock, early=early)
    return replace(after, generation=len(after.platform_events(after.number(early=True)))) if patched else after


def rotate_qe(world: World, clock: datetime, *, identity_only: bool = False) -> World:
    """A new version of the quoting enclave, with a new attestation key; Intel no longer rates the old one up to date.

    With `identity_only` Intel publishes that, and the platform keeps its old quoting enclave.
    """
    after = _with_event(world, "qe", clock, early=False)
    if identity_only:
        return after
    return replace(
        after,
        qe_generation=len(after.qe_events(after.number(early=True))),
        key_generation=after.key_generation + 1,
    )


def revoke_pck(world: World, clock: datetime) -> World:
    """Intel revokes the PCK certificate that the platform's quotes carry now; raises InputError the second time."""
    if any(revocation.generation == world.generation for revocation in world.revocations):
        raise InputError(
            msg("the PCK certificate of lab {name} is revoked already", name=world.name),
            hint=msg("a TCB recovery that the platform takes part in (--patched) gives it a new one"),
        )
    revocation = Revocation(world.generation, world.now(clock).replace(microsecond=0))
    return replace(world, revocations=(*world.revocations, revocation))


def expire(world: World, clock: datetime, *, renew: bool = False) -> World:
    """Nothing is published any more, and what was has just expired; `renew` publishes again, anew each day."""
    return replace(world, expired_at=None if renew else world.now(clock).replace(microsecond=0))


def shift_time(world: World, by: timedelta) -> World:
    """Set the lab's clock ahead (or back) by some more; raises InputError beyond a century."""
    offset = world.clock_offset + int(by.total_seconds())
    if abs(offset) > _MAX_OFFSET:
        raise InputError(msg("a lab's clock may be at most a hundred years off"))
    return replace(world, clock_offset=offset)


def _with_event(world: World, kind: Literal["platform", "qe"], clock: datetime, *, early: bool) -> World:
    if len(world.events) >= _MAX_EVENTS:
        raise InputError(msg("lab {name} has seen enough: make a new one", name=world.name))
    number = world.number(early=True) + 1
    event = Event(kind, number, world.now(clock).replace(microsecond=0), early)
    past = world.events if early else tuple(replace(one, early=False) for one in world.events)
    return replace(world, events=(*past, event))


def world_to_json(world: World) -> str:
    """Write a world as JSON text; `world_from_json` reads it back."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "name": world.name,
        "created": _time(world.created),
        "cpu": world.cpu,
        "epcSize": world.epc_size,
        "flc": world.flc,
        "sgx2": world.sgx2,
        # Counted from -2, the oldest microcode that is rated at all.
        "generation": world.generation + 2,
        "configuration": world.configuration,
        "qeGeneration": world.qe_generation,
        "keyGeneration": world.key_generation,
        "events": [
            {"kind": event.kind, "number": event.number, "at": _time(event.at), "early": event.early}
            for event in world.events
        ],
        "revocations": [{"generation": one.generation + 2, "at": _time(one.at)} for one in world.revocations],
        "expiredAt": None if world.expired_at is None else _time(world.expired_at),
        "clockOffset": str(world.clock_offset),
    }
    return json.dumps(document, indent=2) + "\n"


def world_from_json(text: str) -> World:
    """Read a world; raises FormatError."""
    name = "world.json"
    document = as_object(parse_strict_json(text, name), name)
    if string(document, "format", name) != FORMAT or integer(document, "version", name, limit=0xFFFF) != VERSION:
        raise FormatError(
            name,
            msg("not the state of a lab that this sgxkit reads"),
            hint=msg("a newer sgxkit wrote it, or it was changed by hand"),
        )
    offset = string(document, "clockOffset", name)
    if not re.fullmatch(r"-?\d{1,10}", offset):
        raise FormatError(f"{name}.clockOffset", msg("not a number of seconds"))
    expired = member(document, "expiredAt", name)
    world = World(
        name=string(document, "name", name),
        created=date(document, "created", name),
        cpu=string(document, "cpu", name),
        epc_size=integer(document, "epcSize", name, limit=_MAX_EPC),
        flc=_flag(document, "flc", name),
        sgx2=_flag(document, "sgx2", name),
        generation=integer(document, "generation", name, limit=_MAX_EVENTS + 2) - 2,
        configuration=integer(document, "configuration", name, limit=3),
        qe_generation=integer(document, "qeGeneration", name, limit=_MAX_EVENTS),
        key_generation=integer(document, "keyGeneration", name, limit=_MAX_EVENTS),
        events=tuple(_event(item) for item in array(document, "events", name, limit=_MAX_EVENTS)),
        revocations=tuple(_revocation(item) for item in array(document, "revocations", name, limit=_MAX_EVENTS)),
        expired_at=None if expired is None else date(document, "expiredAt", name),
        clock_offset=int(offset),
    )
    moments = [world.created, *(one.at for one in world.events), *(one.at for one in world.revocations)]
    if world.expired_at is not None:
        moments.append(world.expired_at)
    if (
        not _NAME.fullmatch(world.name)
        or abs(world.clock_offset) > _MAX_OFFSET
        or not all(_YEARS[0] <= moment.year <= _YEARS[1] for moment in moments)
    ):
        raise FormatError(name, msg("not the state of a lab that this sgxkit reads"))
    features(find_profile(world.cpu), flc=world.flc, sgx2=world.sgx2)
    return world


def _event(item: object) -> Event:
    name = "world.json.events"
    event = as_object(item, name)
    kind = string(event, "kind", name)
    if kind not in ("platform", "qe"):
        raise FormatError(f"{name}.kind", msg("neither platform nor qe"))
    return Event(
        "platform" if kind == "platform" else "qe",
        integer(event, "number", name, limit=0xFFFF),
        date(event, "at", name),
        _flag(event, "early", name),
    )


def _revocation(item: object) -> Revocation:
    name = "world.json.revocations"
    document = as_object(item, name)
    return Revocation(integer(document, "generation", name, limit=_MAX_EVENTS + 2) - 2, date(document, "at", name))


def _flag(document: dict[str, object], key: str, name: str) -> bool:
    value = member(document, key, name)
    if not isinstance(value, bool):
        raise FormatError(f"{name}.{key}", msg("neither true nor false"))
    return value


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
