"""The launch test, as it went: a tiny enclave in debug and in production mode.

The structure is that of `sgx-detect`: able to launch = debug and (production or whitelisted production). Whitelisted
launch belongs to Intel's launch enclave, which PSW 2.28 removed, and is not tried here.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from sgxkit.host.checks.check import (
    Check,
    Verdict,
    Verdicts,
    alternative,
    blamed_on,
    fatal,
    not_applicable,
    supported,
    unknown,
)
from sgxkit.host.checks.evidence import Evidence, shown
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import Facts, Launch, Reading, Unread
from sgxkit.host.remedies import aesm as aesm_remedies
from sgxkit.host.remedies import devices, firmware
from sgxkit.host.remedies import kernel as kernel_remedies
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.messages import Message, msg

_EINIT_STATUS: Mapping[int, str] = {
    1: "SGX_INVALID_SIG_STRUCT",
    2: "SGX_INVALID_ATTRIBUTE",
    4: "SGX_INVALID_MEASUREMENT",
    8: "SGX_INVALID_SIGNATURE",
    16: "SGX_INVALID_EINITTOKEN",
    32: "SGX_INVALID_CPUSVN",
    64: "SGX_INVALID_ISVSVN",
    128: "SGX_UNMASKED_EVENT",
    256: "SGX_INVALID_KEYNAME",
}
"""What EINIT returns (Intel SDM Vol. 3D, "EINIT")."""


def _judge_loader(_facts: Facts, verdicts: Verdicts) -> Verdict:
    return alternative(verdicts, ("device", "psw.library"))


def _judge_launch(_facts: Facts, verdicts: Verdicts) -> Verdict:
    production = alternative(verdicts, ("launch.production", "launch.whitelisted"))
    status = verdicts["launch.debug"].status & production.status
    members = ("launch.debug", "launch.production")
    if status is Status.SUPPORTED:
        return supported()
    because = tuple(name for name in members if verdicts[name].status is status)
    return Verdict(status, "members", because=because or members)


def _judge(fact: str, reading: Reading[Launch]) -> Verdict:
    if isinstance(reading, Unread):
        return unknown("not-tried", msg("Launching an enclave was not tried."), (shown(fact, reading),))
    evidence = (Evidence(fact, f"{reading.outcome}: {reading.text}"),)
    if reading.outcome == "launched":
        return supported(evidence)
    if reading.outcome == "failed":
        return _judge_failure(reading, (*evidence, *_details(fact, reading)))
    if reading.outcome == "no_device":
        return unknown("no-device", msg("Launching an enclave was not tried: there is no device."), evidence)
    return unknown("not-tried", msg("Launching an enclave was not tried."), evidence)


def _details(fact: str, reading: Launch) -> tuple[Evidence, ...]:
    details = []
    if reading.step is not None:
        details.append(Evidence(f"{fact}.step", reading.step))
    if reading.errno is not None:
        details.append(Evidence(f"{fact}.errno", f"{reading.errno} ({errno.errorcode.get(reading.errno, '?')})"))
    if reading.status is not None:
        details.append(Evidence(f"{fact}.status", f"{reading.status} ({_EINIT_STATUS.get(reading.status, '?')})"))
    return tuple(details)


def _judge_failure(reading: Launch, evidence: tuple[Evidence, ...]) -> Verdict:
    code, cause, remedies = _explain(reading)
    return fatal(code, cause, evidence, remedies)


def _explain(reading: Launch) -> tuple[str, Message, tuple[Remedy, ...]]:
    step = reading.step or "?"
    if reading.status == 16:
        return (
            "invalid-token",
            msg("EINIT wants a launch token: the processor's launch control is not flexible or not unlocked."),
            (firmware.UNLOCK_FLC,),
        )
    if reading.status is not None:
        name = _EINIT_STATUS.get(reading.status, str(reading.status))
        return "einit-refused", msg("EINIT refused the enclave with {status}.", status=name), (firmware.UPDATE_BIOS,)
    if reading.errno == errno.ENOMEM:
        return (
            "out-of-epc",
            msg("{step} failed: there is no free enclave memory.", step=step),
            (aesm_remedies.FREE_EPC,),
        )
    if reading.errno == errno.EPERM and step == "EINIT":
        return (
            "einit-not-permitted",
            msg("EINIT refused the enclave; the kernel does not say with which status."),
            (firmware.UNLOCK_FLC, kernel_remedies.READ_KERNEL_LOG, firmware.UPDATE_BIOS),
        )
    if reading.errno == errno.EPERM:
        return (
            "mapping-refused",
            msg("{step} failed: enclave pages may not be mapped as executable.", step=step),
            (devices.REMOUNT_EXEC,),
        )
    if reading.errno == errno.EACCES:
        return (
            "launch-refused",
            msg("{step} failed: this user may not launch this enclave.", step=step),
            (devices.OWN_BY_GROUP,),
        )
    if reading.errno in (errno.EIO, errno.EINVAL):
        return (
            "enclave-not-accepted",
            msg("{step} failed: processor or driver does not accept the enclave.", step=step),
            (kernel_remedies.READ_KERNEL_LOG, firmware.UPDATE_BIOS),
        )
    return "launch-failed", msg("{step} failed.", step=step), (kernel_remedies.READ_KERNEL_LOG,)


def _judge_debug(facts: Facts, verdicts: Verdicts) -> Verdict:
    return blamed_on(_judge("launch.debug", facts.launch.debug), verdicts, "device.exec", "device.open")


def _judge_production(facts: Facts, verdicts: Verdicts) -> Verdict:
    verdict = _judge("launch.production", facts.launch.production)
    if verdict.status.failed and verdict.code == verdicts["launch.debug"].code:
        return blamed_on(verdict, verdicts, "launch.debug")
    return verdict


def _judge_whitelisted(_facts: Facts, _verdicts: Verdicts) -> Verdict:
    return not_applicable(msg("Intel's launch whitelist ended with PSW 2.28; it is not tried."))


_NEEDS = ("cpu.configuration", "loader", "token_provider")

CHECKS: tuple[Check, ...] = (
    Check(
        "loader",
        msg("Any enclave loader"),
        _judge_loader,
        parent="psw",
        uses=("device", "psw.library"),
        helper=True,
    ),
    Check(
        "launch",
        msg("Able to launch enclaves"),
        _judge_launch,
        parent="psw",
        needs=("loader", "token_provider"),
        hidden_by=frozenset({"loader", "token_provider"}),
        uses=("launch.debug", "launch.production", "launch.whitelisted"),
    ),
    Check(
        "launch.debug",
        msg("Debug mode"),
        _judge_debug,
        parent="launch",
        needs=_NEEDS,
        hidden_by=frozenset(_NEEDS),
        uses=("device.exec", "device.open"),
    ),
    Check(
        "launch.production",
        msg("Production mode"),
        _judge_production,
        parent="launch",
        needs=(*_NEEDS, "flc.cpu"),
        hidden_by=frozenset((*_NEEDS, "flc.cpu")),
        uses=("launch.debug",),
    ),
    Check(
        "launch.whitelisted",
        msg("Production mode (Intel whitelisted)"),
        _judge_whitelisted,
        parent="launch",
        needs=_NEEDS,
        hidden_by=frozenset(_NEEDS),
    ),
)
