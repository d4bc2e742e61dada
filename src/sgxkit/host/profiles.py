"""What a host is wanted for, which checks that requires, and what their verdicts amount to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from sgxkit.host.checks.check import Outcome, Verdicts, root_causes
from sgxkit.host.checks.status import Status
from sgxkit.messages import Message, msg


class Readiness(Enum):
    """Whether a host is ready for a profile; the value is `sgxkit doctor`'s exit code."""

    READY = 0
    NOT_READY = 1
    UNKNOWN = 2


@dataclass(frozen=True, slots=True)
class Profile:
    """A use of a host.

    required   checks that must be supported (or not apply).
    watched    checks that may be unknown or unsupported, but not fatal; what they lack is remarked.
    """

    id: str
    purpose: Message
    required: tuple[str, ...]
    watched: tuple[str, ...]


_PROCESSOR = ("cpu.sgx", "cpu.configuration", "cpu.attributes", "cpu.epc")
_RUN = (*_PROCESSOR, "token_provider", "device")
_SOUND = ("cpu.agreement", "epc.total", "kernel.version", "kernel.driver", "kernel.conflict", "kernel.log")
_PACKAGES = ("psw.removed", "apt.repository", "apt.keys")
_ATTEST = (*_RUN, "provision.node", "registration", "quote.generation")
_QUOTING = (
    "psw.version",
    "aesm.generation",
    "provision.right",
    "quote.library",
    "quote.configuration",
    "quote.service",
    "registration.production",
)

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.id: profile
        for profile in (
            Profile(
                "run",
                msg("run enclaves"),
                required=_RUN,
                watched=(*_SOUND, "launch", *_PACKAGES),
            ),
            Profile(
                "attest",
                msg("run enclaves and make quotes of them"),
                required=_ATTEST,
                watched=(*_SOUND, "launch", *_PACKAGES, *_QUOTING, "clock"),
            ),
            Profile(
                "oasis-node",
                msg("run an Oasis ParaTime node"),
                required=(*_ATTEST, "aesm", "aesm.plugins", "clock"),
                watched=(*_SOUND, "launch", *_PACKAGES, *_QUOTING, "cpu.smt"),
            ),
            Profile(
                "gramine",
                msg("run unmodified programs in Gramine"),
                required=(*_PROCESSOR, "cpu.fsgsbase", "token_provider", "device"),
                watched=(*_SOUND, "kernel.edmm", "launch", *_PACKAGES),
            ),
            Profile(
                "kubernetes-node",
                msg("offer SGX to the pods of a Kubernetes cluster"),
                required=(
                    *_PROCESSOR,
                    "token_provider",
                    "device.node",
                    "device.exec",
                    "provision.node",
                    "kubernetes.node",
                    "kubernetes.resources",
                    "kubernetes.epc",
                ),
                watched=(*_SOUND, "kubernetes.labels", "clock", *_PACKAGES),
            ),
            Profile(
                "vm-host",
                msg("give SGX to virtual machines"),
                required=(*_PROCESSOR, "vm.kvm", "vm.vepc", "vm.qemu"),
                watched=(
                    "cpu.agreement",
                    "epc.total",
                    "flc",
                    "kernel.log",
                    "vm.config",
                    "vm.libvirt",
                    "registration",
                ),
            ),
        )
    }
)
DEFAULT = "run"


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the verdicts amount to for one profile.

    missing, unknown   root causes of required checks that failed or could not be told, and of watched ones that
                       are fatal.
    remarks            root causes of what watched checks lack otherwise.
    Each maps the root cause to the checks of the profile that it explains.
    """

    readiness: Readiness
    missing: Mapping[str, tuple[str, ...]]
    unknown: Mapping[str, tuple[str, ...]]
    remarks: Mapping[str, tuple[str, ...]]


def assess(profile: Profile, verdicts: Verdicts) -> Assessment:
    """Roll the verdicts up: not ready if anything required failed, else unknown if anything required is."""
    missing: dict[str, list[str]] = {}
    unknown: dict[str, list[str]] = {}
    remarks: dict[str, list[str]] = {}
    for name in profile.required:
        verdict = verdicts[name]
        if verdict.outcome is Outcome.NOT_APPLICABLE or verdict.status is Status.SUPPORTED:
            continue
        roots = root_causes(name, verdicts)
        failed = [root for root in roots if verdicts[root].failed]
        if failed or verdict.failed:
            _add(missing, failed or roots, name)
        else:
            _add(unknown, roots, name)
    for name in profile.watched:
        verdict = verdicts[name]
        if verdict.outcome is Outcome.JUDGED and verdict.status.failed:
            failed = [root for root in root_causes(name, verdicts) if verdicts[root].failed]
            _add(missing if verdict.status is Status.FATAL else remarks, failed, name)
    for root in missing:
        remarks.pop(root, None)
    readiness = Readiness.NOT_READY if missing else Readiness.UNKNOWN if unknown else Readiness.READY
    return Assessment(readiness, _frozen(missing), _frozen(unknown), _frozen(remarks))


def _add(causes: dict[str, list[str]], roots: tuple[str, ...] | list[str], name: str) -> None:
    for root in roots:
        causes.setdefault(root, []).append(name)


def _frozen(causes: dict[str, list[str]]) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({root: tuple(names) for root, names in causes.items()})
