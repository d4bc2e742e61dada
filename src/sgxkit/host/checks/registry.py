"""All checks, most fundamental first: CPU, BIOS, kernel, node, noexec, group, PSW, AESM, quotes, clock.

The order serves twice: siblings are shown in it, and of several causes the first in it is the one to remedy first.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sgxkit.host.checks import (
    aesm,
    clock,
    containers,
    devices,
    features,
    kernel,
    kubernetes,
    launch,
    launch_control,
    processor,
    quoting,
    registration,
    software,
    virtualization,
)
from sgxkit.host.checks.check import Check, Verdict, Verdicts, conjunction, evaluate
from sgxkit.host.facts import Facts
from sgxkit.messages import msg

_SYSTEM_SOFTWARE = ("flc", "aesm", "device", "psw.library", "launch")
_HOST = ("apt.repository", "apt.keys", "clock", "container")


def _judge_system_software(_facts: Facts, verdicts: Verdicts) -> Verdict:
    """(FLC or AESM) and (device or library) and able to launch enclaves."""
    token = verdicts["flc"].status | verdicts["aesm"].status
    loader = verdicts["device"].status | verdicts["psw.library"].status
    launching = verdicts["launch"].status
    status = token & loader & launching
    terms = ((loader, "device"), (token, "flc"), (launching, "launch"))
    because = tuple(name for term, name in terms if term is status and term.value != "supported")
    return Verdict(status, "members" if because else "ok", because=because)


def _judge_host(_facts: Facts, verdicts: Verdicts) -> Verdict:
    return conjunction(verdicts, _HOST)


CHECKS: tuple[Check, ...] = (
    *processor.CHECKS,
    *features.CHECKS,
    *launch_control.CHECKS,
    Check("psw", msg("SGX system software"), _judge_system_software, uses=_SYSTEM_SOFTWARE),
    *kernel.CHECKS,
    *containers.CHECKS,
    *devices.CHECKS,
    *software.CHECKS,
    *aesm.CHECKS,
    *launch.CHECKS,
    quoting.GROUP,
    *devices.PROVISION_CHECKS,
    *quoting.CHECKS[:-1],
    *registration.CHECKS,
    *quoting.CHECKS[-1:],
    Check("host", msg("Host"), _judge_host, uses=_HOST),
    *software.HOST_CHECKS,
    *clock.CHECKS,
    *kubernetes.CHECKS,
    *virtualization.CHECKS,
)
BY_ID: Mapping[str, Check] = MappingProxyType({check.id: check for check in CHECKS})
RANK: Mapping[str, int] = MappingProxyType({check.id: rank for rank, check in enumerate(CHECKS)})


def judge(facts: Facts) -> dict[str, Verdict]:
    """Judge every check."""
    return evaluate(facts, CHECKS)


def children(parent: str | None) -> tuple[Check, ...]:
    """The checks below one in the tree; the top ones for None."""
    return tuple(check for check in CHECKS if check.parent == parent)
