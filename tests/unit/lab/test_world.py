"""Worlds: what events make of them, and that they go to JSON and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.errors import FormatError, InputError
from sgxkit.isa.cpuid import SGX_LEAF, STRUCTURED_FEATURES_LEAF
from sgxkit.lab.profiles import PROFILES, features
from sgxkit.lab.world import (
    FIRST_NUMBER,
    InitialTcb,
    World,
    expire,
    new_world,
    revoke_pck,
    rotate_qe,
    shift_time,
    tcb_recovery,
    world_from_json,
    world_to_json,
)

NOW = datetime(2026, 6, 15, 12, 30, tzinfo=UTC)

EVENTS = [
    lambda world: tcb_recovery(world, NOW),
    lambda world: tcb_recovery(world, NOW, early=True),
    lambda world: tcb_recovery(world, NOW, patched=True),
    lambda world: rotate_qe(world, NOW),
    lambda world: rotate_qe(world, NOW, identity_only=True),
    lambda world: expire(world, NOW),
    lambda world: expire(world, NOW, renew=True),
    lambda world: shift_time(world, timedelta(days=-3)),
    lambda world: world if world.revocations else revoke_pck(world, NOW),
]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = new_world(
        draw(st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True)),
        NOW,
        cpu=draw(st.sampled_from(sorted(PROFILES))),
        tcb=draw(st.sampled_from(InitialTcb)),
    )
    for event in draw(st.lists(st.sampled_from(EVENTS), max_size=8)):
        world = event(world)
    return world


@given(worlds())
def test_worlds_come_back_from_json(world: World) -> None:
    assert world_from_json(world_to_json(world)) == world


@given(worlds(), st.data())
def test_changed_files_are_worlds_or_format_errors(world: World, data: st.DataObject) -> None:
    text = world_to_json(world)
    where = data.draw(st.integers(0, len(text) - 1))
    broken = text[:where] + data.draw(st.sampled_from('0-9a{}[]",:x')) + text[where + 1 :]
    try:
        read = world_from_json(broken)
    except (FormatError, InputError):
        return
    assert isinstance(read, World)


def test_what_is_published_is_in_force_today() -> None:
    issued, until = new_world("a", NOW).published(NOW)
    assert issued <= NOW < until
    assert until - issued == timedelta(days=30)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)))
def test_after_expiry_nothing_is_in_force_any_more(later: timedelta) -> None:
    world = expire(new_world("a", NOW), NOW)
    assert world.published(NOW + later)[1] < NOW
    renewed = expire(world, NOW, renew=True)
    assert renewed.published(NOW + later)[1] > NOW + later


def test_the_clock_can_be_shifted() -> None:
    world = shift_time(new_world("a", NOW), timedelta(days=60))
    assert world.published(NOW)[0] > NOW
    assert shift_time(world, timedelta(days=-60)) == new_world("a", NOW)
    with pytest.raises(InputError, match="hundred years"):
        shift_time(world, timedelta(days=40_000))


def test_a_recovery_raises_the_number_and_leaves_the_platform_behind() -> None:
    world = tcb_recovery(new_world("a", NOW), NOW)
    assert (world.number(), world.generation) == (FIRST_NUMBER + 1, 0)
    assert tcb_recovery(world, NOW, patched=True).generation == 2


def test_an_early_recovery_is_due_when_the_next_one_is() -> None:
    world = tcb_recovery(new_world("a", NOW), NOW, early=True)
    assert (world.number(), world.number(early=True)) == (FIRST_NUMBER, FIRST_NUMBER + 1)
    assert rotate_qe(world, NOW).number() == FIRST_NUMBER + 2


def test_a_certificate_is_revoked_once() -> None:
    world = revoke_pck(new_world("a", NOW), NOW)
    with pytest.raises(InputError, match="revoked already"):
        revoke_pck(world, NOW)
    assert len(revoke_pck(tcb_recovery(world, NOW, patched=True), NOW).revocations) == 2


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "-a", "a" * 32, "a\n"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(InputError):
        new_world(name, NOW)


@pytest.mark.parametrize(
    "options", [{"cpu": "pentium"}, {"epc_size": 1}, {"epc_size": 0}, {"cpu": "skylake-client", "sgx2": True}]
)
def test_what_no_processor_has_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        new_world("a", NOW, **options)  # type: ignore[arg-type]


def test_profiles_say_what_they_have() -> None:
    icelake, skylake = PROFILES["icelake-sp"], PROFILES["skylake-client"]
    table = icelake.cpuid(features(icelake, flc=True, sgx2=False), 1 << 30)
    assert table[STRUCTURED_FEATURES_LEAF, 0].ecx >> 30 & 1
    assert table[SGX_LEAF, 0].eax & 3 == 1
    assert table[SGX_LEAF, 2].ecx & 0xFFFFF000 == 1 << 30
    table = skylake.cpuid(features(skylake, flc=False, sgx2=False), 93 << 20)
    assert not table[STRUCTURED_FEATURES_LEAF, 0].ecx >> 30 & 1
    assert len({profile.fmspc for profile in PROFILES.values()}) == len(PROFILES)
