"""Hardware or emulated, by what a host is."""

from __future__ import annotations

import sys

import pytest

from doubles.hosts import HOSTS
from sgxkit.host.checks.status import Status
from sgxkit.host.profiles import PROFILES, Readiness
from sgxkit.host.report import Diagnosis, diagnose
from sgxkit.up.choice import NotReadyError, choose, decide


def diagnosis_of(host: str) -> Diagnosis:
    return diagnose(HOSTS[host](), PROFILES["run"])


READY = sorted(host for host in HOSTS if diagnosis_of(host).readiness is Readiness.READY)


def test_a_ready_host_is_used() -> None:
    assert READY
    for host in READY:
        assert decide("either", diagnosis_of(host)).hardware
        assert decide("hardware", diagnosis_of(host)).hardware


@pytest.mark.parametrize("host", sorted(set(HOSTS) - set(READY)))
def test_any_other_is_emulated_or_told_what_it_lacks(host: str) -> None:
    diagnosis = diagnosis_of(host)
    if diagnosis.verdicts["cpu.sgx"].status is Status.SUPPORTED:
        with pytest.raises(NotReadyError) as raised:
            decide("either", diagnosis)
        assert raised.value.diagnosis is diagnosis
    else:
        assert not decide("either", diagnosis).hardware
    with pytest.raises(NotReadyError) as raised:
        decide("hardware", diagnosis)
    assert raised.value.exit_code == diagnosis.readiness.value


def test_a_mount_without_execution_stops_it_with_the_remedy() -> None:
    with pytest.raises(NotReadyError, match="not ready") as raised:
        decide("either", diagnosis_of("dev-noexec"))
    assert raised.value.exit_code == 1
    assert raised.value.hint is not None


def test_emulated_asks_nobody() -> None:
    assert not choose("emulated").hardware


def test_another_system_has_no_hardware_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not choose("either").hardware
    with pytest.raises(NotReadyError):
        choose("hardware")
