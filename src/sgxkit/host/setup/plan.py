"""The plan: what stands between a host and a use of it, as ordered steps. A pure function of what was read.

`wanted` lists the steps of the desired state for these facts and options; `make_plan` leaves out those whose state
already holds, and the consequences of steps that are not due. A host in the desired state has an empty plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sgxkit.errors import FormatError, InputError
from sgxkit.host.checks.check import Verdicts
from sgxkit.host.checks.evidence import known
from sgxkit.host.checks.registry import judge
from sgxkit.host.facts import Facts
from sgxkit.host.remedies import surroundings
from sgxkit.host.remedies.distribution import Distribution, distribution
from sgxkit.host.setup.actions import (
    AskPerson,
    EnableUnit,
    InstallPackages,
    Reboot,
    checked,
)
from sgxkit.host.setup.device_steps import device_steps
from sgxkit.host.setup.hardware_steps import kernel_steps, processor_steps
from sgxkit.host.setup.observed import Observed, from_facts, holds
from sgxkit.host.setup.options import Options
from sgxkit.host.setup.software_steps import aesm_steps, pccs_steps, registration_steps
from sgxkit.host.setup.step import Step
from sgxkit.messages import msg

TIME_UNITS = (
    "chrony.service",
    "chronyd.service",
    "systemd-timesyncd.service",
    "ntp.service",
    "ntpd.service",
    "ntpsec.service",
    "openntpd.service",
)
TIME_PACKAGES = ("chrony", "systemd-timesyncd", "ntpsec", "openntpd")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in order.

    held     ids of wanted steps whose state holds already.
    ended    whether the plan stops at a step that only a person or a boot can do, and more may follow.
    """

    options: Options
    distribution: Distribution
    steps: tuple[Step, ...]
    held: tuple[str, ...]
    ended: bool

    @property
    def reboots(self) -> bool:
        """Whether something takes effect only at the next boot."""
        return any(step.reboot or isinstance(step.action, Reboot) for step in self.steps)

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that a program does."""
        return tuple(step for step in self.steps if not step.by_person)


def make_plan(
    facts: Facts, options: Options, seen: Observed | None = None, *, due: frozenset[str] = frozenset()
) -> Plan:
    """Plan for the host that `facts` describe; `seen` is what was looked up for it, by default what facts show.

    `due` names consequences of steps that were done before, in a run that was cut short.
    """
    seen = from_facts(facts) if seen is None else seen
    steps: list[Step] = []
    held: list[str] = []
    for step in wanted(facts, options, seen):
        if step.after:
            needed = step.id in due or any(other.id in step.after for other in steps)
        else:
            needed = step.renews or holds(step.action, seen) is not True
        if isinstance(step.action, Reboot) and step.id not in due and step.after:
            needed = needed or seen.rebooted is False
        if not needed:
            if not step.after:
                held.append(step.id)
            continue
        if isinstance(step.action, Reboot) and not options.reboot:
            continue
        steps.append(step)
        if step.ends:
            break
    ended = bool(steps) and steps[-1].ends
    pending = any(step.reboot for step in steps) or seen.rebooted is False
    if not ended and options.reboot and pending and not _reboots(steps):
        steps.append(
            Step("reboot", Reboot(), msg("Some of these steps take effect at the next boot."), risks=(_INTERRUPTS,))
        )
    return Plan(options, distribution(facts), tuple(steps), tuple(held), ended)


_INTERRUPTS = msg("A reboot ends everything that runs on this host.")


def _reboots(steps: list[Step]) -> bool:
    return any(isinstance(step.action, Reboot) for step in steps)


def wanted(facts: Facts, options: Options, seen: Observed) -> Iterator[Step]:
    """Every step of the desired state, in order; InputError where facts or options hold a name that is none."""
    names: set[str] = set()
    for step in _wanted(facts, options, seen):
        try:
            checked(step.action)
        except FormatError as error:
            raise InputError(msg("step {step}: {problem}", step=step.id, problem=error.message)) from error
        if step.id not in names:  # two purposes may want the same
            names.add(step.id)
            yield step


def _wanted(facts: Facts, options: Options, seen: Observed) -> Iterator[Step]:
    verdicts = judge(facts)
    distro = distribution(facts)
    container = known(facts.system.container)
    if container is not None and container.kind != "none":
        yield Step(
            "container",
            AskPerson("container"),
            msg("This is a container: its devices, groups and AESM are the host's."),
            ends=True,
            todo=(
                msg("Set up the host, and give the container its devices and the folder of AESM's socket."),
                *(remedy.title for remedy in verdicts["container"].remedies),
            ),
        )
        return
    if options.purpose.devices:
        yield from processor_steps(facts, verdicts)
        yield from kernel_steps(facts, verdicts, distro, options)
        yield from device_steps(facts, options)
    if options.purpose.clock:
        yield from clock_steps(facts, distro, seen)
    yield from pccs_steps(facts, verdicts, distro, options, seen)
    yield from aesm_steps(facts, verdicts, distro, options, seen)
    yield from registration_steps(verdicts, distro, options, seen)
    yield from _afterwards(options, verdicts)


def clock_steps(facts: Facts, distro: Distribution, seen: Observed) -> Iterator[Step]:
    """Something that keeps the time: what is there, or else chrony."""
    why = msg("Enclaves and certificates need the right time; more than half a second off stops an Oasis node.")
    if any(seen.enabled.get(unit) and seen.active.get(unit, True) for unit in TIME_UNITS):
        return
    unit = known(facts.services.unit("systemd-timesyncd.service"))
    installed = seen.packages.get("systemd-timesyncd") is not None
    if installed or (unit is not None and unit.load_state == "loaded"):
        yield Step("clock.enable", EnableUnit("systemd-timesyncd.service"), why)
        return
    if distro.packager == "none":
        yield Step(
            "clock.person",
            AskPerson("clock"),
            why,
            todo=(msg("Install and start a time service, and step the clock once."),),
        )
        return
    yield Step(
        "clock.package",
        InstallPackages(distro.packager, ("chrony",)),
        why,
        risks=(msg("Another time service that is installed but does not run is replaced."),),
    )
    yield Step("clock.enable", EnableUnit("chrony.service" if distro.packager == "apt" else "chronyd.service"), why)


def _afterwards(options: Options, verdicts: Verdicts) -> Iterator[Step]:
    if options.profile == "kubernetes-node" and verdicts["kubernetes.resources"].status.value != "supported":
        remedy = surroundings.INSTALL_DEVICE_PLUGIN
        yield Step(
            "kubernetes.plugin",
            AskPerson("kubernetes.plugin"),
            msg("Pods get SGX from a device plug-in, which is installed once for the cluster."),
            todo=(remedy.title, surroundings.LABEL_NODE.title),
            commands=(*remedy.commands, *surroundings.LABEL_NODE.commands),
            link=remedy.link,
        )
    if options.profile == "gramine":
        yield Step(
            "gramine.package",
            AskPerson("gramine.package"),
            msg("Gramine comes from its own repository, whose key you must trust yourself."),
            todo=(msg("Add Gramine's repository for this release as its guide says, and install package gramine."),),
            link="https://gramine.readthedocs.io/en/stable/installation.html",
        )
