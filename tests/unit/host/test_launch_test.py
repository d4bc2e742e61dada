"""The launch test over a kernel that launches, and over those that refuse, hang or crash."""

from __future__ import annotations

import errno
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from doubles.hosts import HOSTS
from doubles.sgx_kernel import FakeKernel, failure
from sgxkit.driver import abi
from sgxkit.driver.platform import KernelPlatform
from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.platform import EmulatedPlatform
from sgxkit.emulator.profile import SKYLAKE_CLIENT
from sgxkit.host import launch_probe, launch_test
from sgxkit.host.document import Unread
from sgxkit.host.facts import Facts, Launch, LaunchFacts
from sgxkit.host.launch_probe import launch
from sgxkit.host.launch_test import with_launch_test


def platform_of(kernel: FakeKernel) -> KernelPlatform:
    return KernelPlatform(kernel, kernel.door)


@pytest.mark.parametrize("debug", [True, False])
def test_an_enclave_is_launched_and_called(debug: bool) -> None:
    assert launch(platform_of(FakeKernel()), debug=debug).outcome == "launched"


def test_a_refusal_says_at_which_step_and_how() -> None:
    def refuse(request: int) -> None:
        if request == abi.INIT:
            raise failure(errno.EPERM)

    for kernel, expected in (
        (FakeKernel(interrupt=refuse), ("failed", "EINIT", errno.EPERM)),
        (FakeKernel(noexec=True), ("failed", "mmap", errno.EPERM)),
        (FakeKernel(refusals={"/dev/sgx_enclave": errno.EACCES}), ("failed", "open", errno.EACCES)),
        (FakeKernel(devices=()), ("no_device", None, None)),
    ):
        found = launch(platform_of(kernel), debug=True)
        assert (found.outcome, found.step, found.errno) == expected
    without_flc = EmulatedPlatform.of(Fuses.from_seed(b"old", profile=SKYLAKE_CLIENT))
    found = launch(without_flc, debug=True)
    assert (found.outcome, found.step, found.status) == ("failed", "EINIT", 16)


def not_attempted() -> Facts:
    facts = HOSTS["dev-noexec"]()
    reading = Launch("not_attempted", "the probe brings no enclave loader")
    return replace(facts, launch=LaunchFacts(reading, reading))


def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    """Have the launch test run this instead."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_what_the_child_says_becomes_facts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    debug = '{"outcome": "launched", "text": "", "step": null, "errno": null, "status": null}'
    production = '{"outcome": "failed", "text": "no", "step": "EINIT", "errno": null, "status": 8}'
    child(monkeypatch, tmp_path, f'echo \'{{"debug": {debug}, "production": {production}}}\'')
    found = with_launch_test(not_attempted()).launch
    assert found == LaunchFacts(Launch("launched", ""), Launch("failed", "no", "EINIT", None, 8))


@pytest.mark.parametrize(
    ("code", "kind"), [("sleep 60", "timeout"), ("kill -SEGV $$", "error"), ("echo oh >&2; exit 1", "error")]
)
def test_a_child_that_hangs_or_dies_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, kind: str
) -> None:
    child(monkeypatch, tmp_path, f"exec {code}" if kind == "timeout" else code)
    found = with_launch_test(not_attempted(), 0.2 if kind == "timeout" else 30).launch.debug
    assert isinstance(found, Unread)
    assert found.kind == kind


def test_without_a_device_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_test, "_tried", lambda _: pytest.fail("it was tried"))
    for facts in (
        replace(not_attempted(), launch=LaunchFacts(*[Launch("no_device", "")] * 2)),
        HOSTS["ordinary-guest"](),
    ):
        assert with_launch_test(facts) is facts


def test_the_child_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/sgx_enclave").exists():
        pytest.skip("this machine has SGX")
    launch_probe.main()
    assert '"outcome": "no_device"' in capsys.readouterr().out
