"""How checks depend on one another."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError

import pytest

from doubles.hosts import HOSTS, healthy
from sgxkit.host.checks.check import (
    Check,
    Outcome,
    Verdict,
    Verdicts,
    alternative,
    blamed_on,
    conjunction,
    evaluate,
    fatal,
    hidden,
    not_applicable,
    root_causes,
    supported,
    unknown,
    unsupported,
)
from sgxkit.host.checks.registry import BY_ID, CHECKS, children, judge
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import Facts
from sgxkit.host.profiles import PROFILES
from sgxkit.messages import msg

GOOD = supported()
BAD = fatal("bad", msg("x"))
LACKING = unsupported("lacking", msg("x"))
OPEN = unknown("open", msg("x"))
MOOT = not_applicable(msg("x"))


def check(name: str, verdict: Verdict, **fields: object) -> Check:
    return Check(name, msg("x"), lambda facts, verdicts: verdict, **fields)  # type: ignore[arg-type]


def run(*checks: Check) -> Mapping[str, Verdict]:
    return evaluate(healthy(), checks)


@pytest.mark.parametrize("failed", [BAD, LACKING])
def test_a_check_whose_need_failed_is_not_judged(failed: Verdict) -> None:
    def explode(facts: Facts, verdicts: Verdicts) -> Verdict:
        raise AssertionError("judged")

    verdicts = run(check("a", failed), Check("b", msg("x"), explode, needs=("a",)), check("c", GOOD, needs=("b",)))
    assert verdicts["b"].outcome is Outcome.NOT_REACHED
    assert verdicts["c"].outcome is Outcome.NOT_REACHED
    assert verdicts["b"].status is Status.UNKNOWN
    assert root_causes("c", verdicts) == ("a",)


@pytest.mark.parametrize("passed", [GOOD, OPEN, MOOT])
def test_a_check_is_judged_when_its_need_did_not_fail(passed: Verdict) -> None:
    assert run(check("a", passed), check("b", GOOD, needs=("a",)))["b"] is GOOD


def test_a_used_verdict_may_have_failed() -> None:
    assert run(check("a", BAD), check("b", GOOD, uses=("a",)))["b"] is GOOD


def test_a_check_sees_only_the_verdicts_that_it_declares() -> None:
    seen: list[set[str]] = []

    def look(facts: Facts, verdicts: Verdicts) -> Verdict:
        seen.append(set(verdicts))
        return GOOD

    run(check("a", GOOD), check("b", GOOD), check("c", GOOD), Check("d", msg("x"), look, needs=("a",), uses=("b",)))
    assert seen == [{"a", "b"}]


def test_order_of_declaration_does_not_matter_and_is_kept() -> None:
    assert list(run(check("b", GOOD, needs=("a",)), check("a", GOOD))) == ["b", "a"]


def test_a_cycle_is_refused() -> None:
    with pytest.raises(CycleError):
        run(check("a", GOOD, needs=("b",)), check("b", GOOD, uses=("a",)))


def test_only_a_need_controls_visibility() -> None:
    with pytest.raises(AssertionError):
        check("a", GOOD, hidden_by=frozenset({"b"}))
    verdicts = run(
        check("a", BAD), check("b", GOOD, needs=("a",), hidden_by=frozenset({"a"})), check("c", GOOD, needs=("a",))
    )
    assert hidden(check("b", GOOD, needs=("a",), hidden_by=frozenset({"a"})), verdicts)
    assert not hidden(check("c", GOOD, needs=("a",)), verdicts)


def test_a_conjunction_names_what_decided_it_and_skips_what_does_not_apply() -> None:
    verdicts = {"good": GOOD, "bad": BAD, "lacking": LACKING, "open": OPEN, "moot": MOOT}
    assert conjunction(verdicts, ("good", "moot")).status is Status.SUPPORTED
    assert conjunction(verdicts, ("good", "lacking")).status is Status.SUPPORTED
    assert conjunction(verdicts, ("good", "bad", "open")).because == ("bad",)
    assert conjunction(verdicts, ("good", "open")).because == ("open",)
    assert conjunction(verdicts, ("moot",)).outcome is Outcome.NOT_APPLICABLE


def test_an_alternative_shows_the_first_way() -> None:
    verdicts = {"good": GOOD, "bad": BAD, "lacking": LACKING, "open": OPEN}
    assert alternative(verdicts, ("bad", "good")).status is Status.SUPPORTED
    assert alternative(verdicts, ("lacking", "bad")).status is Status.FATAL
    assert alternative(verdicts, ("bad", "open")).because == ("open",)
    assert alternative({**verdicts, "worse": BAD}, ("bad", "worse")).because == ("bad",)


def test_blame_goes_to_the_first_suspect_that_failed() -> None:
    verdicts = {"good": GOOD, "bad": BAD, "lacking": LACKING}
    assert blamed_on(BAD, verdicts, "good", "lacking", "bad").because == ("lacking",)
    assert blamed_on(BAD, verdicts, "good").because == ()
    assert blamed_on(GOOD, verdicts, "bad") is GOOD


def test_the_registry_is_sound() -> None:
    assert len(BY_ID) == len(CHECKS)
    for entry in CHECKS:
        assert entry.parent is None or entry.parent in BY_ID
        assert {*entry.needs, *entry.uses} <= set(BY_ID)
    walked = []
    waiting = list(children(None))
    while waiting:
        entry = waiting.pop()
        walked.append(entry.id)
        waiting.extend(children(entry.id))
    assert sorted(walked) == sorted(BY_ID)
    for profile in PROFILES.values():
        assert {*profile.required, *profile.watched} <= set(BY_ID)
        assert not set(profile.required) & set(profile.watched)


def test_all_names_of_sgx_detect_are_there() -> None:
    titles = {str(entry.title) for entry in CHECKS}
    assert titles >= {
        "SGX instruction set", "CPU support", "CPU configuration", "Enclave attributes", "Enclave Page Cache",
        "SGX features", "SGX2", "EXINFO", "ENCLV", "OVERSUB", "KSS", "Total EPC size", "Flexible launch control",
        "Able to launch production mode enclave", "SGX system software", "SGX kernel device", "libsgx_enclave_common",
        "AESM service", "Able to launch enclaves", "Debug mode", "Production mode",
        "Production mode (Intel whitelisted)", "Any enclave loader", "Any EINITTOKEN provider (or FLC)",
    }  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_every_root_cause_has_a_cause_and_every_failed_one_a_way_out(host: str) -> None:
    verdicts = judge(HOSTS[host]())
    for name in verdicts:
        for root in root_causes(name, verdicts):
            verdict = verdicts[root]
            if verdict.outcome is Outcome.JUDGED and verdict.status is not Status.SUPPORTED:
                assert verdict.cause is not None, root
            if verdict.failed and not root.startswith("feature"):
                assert verdict.remedies or root in ("cpu.fsgsbase",), root
