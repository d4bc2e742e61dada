"""Run the checks of a device plugin, and what they found as a document."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import grpc.aio

from sgxkit.aesm.address import MAX_SOCKET_PATH
from sgxkit.errors import HostError, InputError
from sgxkit.kubernetes.conformance import devices, process, registration
from sgxkit.kubernetes.conformance.stand import (
    ConformanceCheck,
    FailedError,
    Setup,
    SkippedError,
    Stand,
    end_process,
)
from sgxkit.kubernetes.device_plugin_api import KUBELET_SOCKET
from sgxkit.kubernetes.fake_kubelet import FakeKubelet
from sgxkit.messages import Message, msg

CHECKS: tuple[ConformanceCheck, ...] = (*registration.CHECKS, *devices.CHECKS, *process.CHECKS)
Outcome = Literal["passed", "failed", "skipped"]
_NAME_LENGTH = 64


class NoPluginError(HostError):
    """No plugin registered in the folder."""

    code = "no-plugin"


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found; `reason` says why it failed or was skipped."""

    check: ConformanceCheck
    outcome: Outcome
    reason: Message | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Conformance:
    """What all checks found."""

    resources: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; some may have been skipped."""
        return all(result.outcome != "failed" for result in self.results)


def check_setup(setup: Setup) -> None:
    """Raise InputError where a kubelet is at work in the folder, or where it cannot be one."""
    longest = setup.folder / ("x" * _NAME_LENGTH)
    if len(os.fsencode(longest)) > MAX_SOCKET_PATH:
        raise InputError(
            msg("the path of a socket has 1 to {limit} bytes: {path}", limit=MAX_SOCKET_PATH, path=longest),
            hint=msg("choose a shorter one"),
        )
    if (setup.folder / KUBELET_SOCKET).exists():
        raise InputError(
            msg("{path} exists: a kubelet is, or was, at work there", path=setup.folder / KUBELET_SOCKET),
            hint=msg("checks remove everything from that folder; give an empty one"),
        )


@asynccontextmanager
async def _standing(setup: Setup) -> AsyncIterator[Stand]:
    try:
        setup.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            msg("{path} cannot be written: {reason}", path=setup.folder, reason=error.strerror or error)
        ) from error
    stand = Stand(setup, FakeKubelet(setup.folder))
    try:
        await stand.kubelet.start()
        if setup.command:
            stand.process = stand.start_plugin()
        yield stand
    finally:
        await stand.kubelet.stop()
        if stand.process is not None:
            await end_process(stand.process)


async def check_conformance(
    setup: Setup,
    *,
    checks: tuple[ConformanceCheck, ...] = CHECKS,
    found: Callable[[Result], object] = repr,
) -> Conformance:
    """Run `checks` against the plugin that `setup` describes; `found` hears of each result at once.

    Raises InputError for a folder that cannot be used, NoPluginError where no plugin registers in time.
    """
    check_setup(setup)
    async with _standing(setup) as stand:
        kubelet = stand.kubelet
        if not await kubelet.wait_until(lambda: any(map(kubelet.watches, kubelet.endpoints)), setup.wait):
            raise NoPluginError(
                msg(
                    "no plugin registered in {path} within {seconds:g} seconds", path=setup.folder, seconds=setup.wait
                ),
                hint=msg("start the plugin with this folder, or give --plugin-command"),
            )
        await kubelet.wait_until(lambda: False, setup.within)  # its other resources
        stand.resources = tuple(sorted(name for name in kubelet.endpoints if kubelet.watches(name)))
        results = []
        for check in checks:
            result = await _run(check, stand)
            results.append(result)
            found(result)
            await stand.settle()
        return Conformance(stand.resources, tuple(results))


async def _run(check: ConformanceCheck, stand: Stand) -> Result:
    begun = time.monotonic()
    outcome: Outcome = "passed"
    reason = None
    try:
        await check.run(stand)
    except FailedError as error:
        outcome, reason = "failed", error.message
    except grpc.aio.AioRpcError as error:
        outcome = "failed"
        reason = msg("a call fails: {code} {details}", code=error.code().name, details=error.details())
    except SkippedError as error:
        outcome, reason = "skipped", error.message
    return Result(check, outcome, reason, time.monotonic() - begun)


def conformance_document(conformance: Conformance) -> dict[str, object]:
    """The same as JSON."""
    return {
        "resources": list(conformance.resources),
        "passed": conformance.passed,
        "checks": [
            {
                "id": result.check.id,
                "title": str(result.check.title),
                "outcome": result.outcome,
                "reason": None if result.reason is None else str(result.reason),
                "seconds": round(result.seconds, 3),
            }
            for result in conformance.results
        ],
    }
