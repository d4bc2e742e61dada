"""See of a host what the actions of a plan concern. Nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from sgxkit.host.facts import Facts
from sgxkit.host.remedies.distribution import distribution
from sgxkit.host.setup import rendered
from sgxkit.host.setup.actions import (
    Action,
    AddAptRepository,
    AddGroup,
    AddRpmRepository,
    AddUserToGroup,
    DisableUnit,
    EnableUnit,
    InstallKernel,
    InstallPackages,
    Remount,
    RemoveFile,
    RemovePackages,
    SetFstabLine,
    StartUnit,
    UnpackRepository,
    WriteEfiVariable,
    WriteFile,
)
from sgxkit.host.setup.observed import Observed, from_facts
from sgxkit.host.setup.options import Options
from sgxkit.host.setup.plan import TIME_PACKAGES, TIME_UNITS, wanted
from sgxkit.host.setup.software_steps import QCNL
from sgxkit.host.setup.target import Target

EFI_FOLDER = "/sys/firmware/efi/efivars"


def observe(target: Target, facts: Facts, options: Options, *, rebooted: bool | None = None) -> Observed:
    """See what planning for `options` needs to know; a second look adds what the first one's steps concern."""
    seen = look(target, (), replace(from_facts(facts), rebooted=rebooted), whole=True)
    steps = list(wanted(facts, options, seen))
    seen = look(target, [step.action for step in steps], seen)
    names = [name for step in steps if isinstance(step.action, InstallPackages) for name in step.action.names]
    missing = [name for name in names if seen.packages.get(name) is None]
    return replace(seen, candidates=MappingProxyType(candidates(target, facts, missing)))


def look(target: Target, actions: Iterable[Action], before: Observed, *, whole: bool = False) -> Observed:
    """See what `actions` concern, on top of what was seen before; `whole`: also what planning asks of every host."""
    actions = tuple(actions)
    wanted_files = {path for action in actions for path in paths(action)} | ({QCNL} if whole else set())
    files = {**before.files, **{path: target.look(path) for path in sorted(wanted_files)}}
    units = {action.unit for action in actions if isinstance(action, EnableUnit | StartUnit | DisableUnit)}
    units |= set(TIME_UNITS) if whole else set()
    links = enabled_units(target) if units else frozenset()
    named = [action for action in actions if isinstance(action, InstallPackages | InstallKernel | RemovePackages)]
    packages = dict(before.packages)
    installed = installed_packages(target) if named or whole else None
    if installed is not None:
        names = {name for action in named for name in action.names}
        packages = {name: installed.get(name) for name in {*names, *packages, *TIME_PACKAGES}}
    groups = dict(before.groups)
    for action in actions:
        if isinstance(action, AddGroup | AddUserToGroup):
            name = action.name if isinstance(action, AddGroup) else action.group
            groups[name] = members(target, name)
    efi = {action.name: efi_variable(target, action) for action in actions if isinstance(action, WriteEfiVariable)}
    booted = target.booted if units else before.booted
    mounting = whole or any(isinstance(action, Remount) for action in actions)
    return replace(
        before,
        files=MappingProxyType(files),
        packages=MappingProxyType(packages),
        groups=MappingProxyType(groups),
        enabled=MappingProxyType({**before.enabled, **{unit: unit in links for unit in sorted(units)}}),
        active=MappingProxyType(
            {**before.active, **{unit: is_active(target, unit) for unit in sorted(units)}} if booted else {}
        ),
        booted=booted,
        mounts=MappingProxyType(mounts(target) if mounting else before.mounts),
        kernels=kernels(target)
        if whole or any(isinstance(action, InstallKernel) for action in actions)
        else before.kernels,
        efi=MappingProxyType(efi),
    )


def paths(action: Action) -> tuple[str, ...]:
    """The files and folders that an action is about."""
    match action:
        case WriteFile() | RemoveFile():
            return (action.path,)
        case AddAptRepository():
            return (action.sources, action.keyring)
        case AddRpmRepository():
            return (rendered.rpm_repository_path(action), action.keyring)
        case UnpackRepository():
            return (action.folder,)
        case SetFstabLine():
            return ("/etc/fstab",)
        case _:
            return ()


def installed_packages(target: Target) -> dict[str, str] | None:
    """Versions of all packages that are installed, by name; None where no package manager is known."""
    if target.remote is not None and target.exists("/var/lib/dpkg/status"):
        form = "${Package} ${Version} ${db:Status-Status}\\n"
        rows = target.run(["dpkg-query", "--show", f"--showformat={form}"], timeout=60).output.splitlines()
        return {row.split()[0]: row.split()[1] for row in rows if row.endswith(" installed")}
    status = target.read("/var/lib/dpkg/status")
    if status is not None:
        return dict(dpkg_installed(status.decode("utf-8", "replace")))
    if target.has("rpm"):
        listed = target.run(["rpm", "-qa", "--qf", "%{NAME} %{EVR}\\n"], timeout=60, check=False).output
        return {line.split()[0]: line.split()[1] for line in listed.splitlines() if len(line.split()) == 2}
    return None


def dpkg_installed(text: str) -> Iterable[tuple[str, str]]:
    """Name and version of each installed package of dpkg's status file (deb-control(5))."""
    for stanza in text.split("\n\n"):
        name = re.search(r"^Package: (\S+)$", stanza, re.M)
        version = re.search(r"^Version: (\S+)$", stanza, re.M)
        if name and version and re.search(r"^Status: \S+ \S+ installed$", stanza, re.M):
            yield name[1], version[1]


def candidates(target: Target, facts: Facts, names: list[str]) -> Mapping[str, str]:
    """The versions that apt would install, as far as its index of now tells; its cache is not touched."""
    if not names or distribution(facts).packager != "apt" or not target.has("apt-cache"):
        return {}
    no_cache = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")
    result = target.run(["apt-cache", *no_cache, "policy", *names], timeout=60, check=False)
    found = re.findall(r"^(\S+):\n(?:  .*\n)*?  Candidate: (\S+)$", result.output, re.M)
    return {name: version for name, version in found if name in names and version != "(none)"}


def members(target: Target, group: str) -> frozenset[str] | None:
    """Who is in a local group, also by primary group; None where there is no such group."""
    for line in _lines(target, "/etc/group"):
        name, _, number, listed = (*line.split(":"), "", "", "")[:4]
        if name == group:
            users = (row.split(":") for row in _lines(target, "/etc/passwd"))
            primary = {user[0] for user in users if len(user) > 3 and user[3] == number}
            return frozenset({member for member in listed.split(",") if member} | primary)
    return None


def _lines(target: Target, path: str) -> list[str]:
    return (target.read(path) or b"").decode("utf-8", "replace").splitlines()


def enabled_units(target: Target) -> frozenset[str]:
    """Units that a link in /etc/systemd/system pulls in at boot (systemd.unit(5))."""
    folder = "/etc/systemd/system"
    pulling = [name for name in target.names(folder) if name.endswith((".wants", ".requires"))]
    return frozenset(unit for name in pulling for unit in target.names(f"{folder}/{name}"))


def is_active(target: Target, unit: str) -> bool:
    """Whether systemd says that the unit runs."""
    return target.run(["systemctl", "is-active", "--quiet", unit], timeout=30, check=False).status == 0


def mounts(target: Target) -> dict[str, tuple[str, ...]]:
    """Options by mount point; of several on one mount point the last, which is the one seen."""
    if not target.live:
        return {}
    rows = [line.split() for line in _lines(target, "/proc/self/mounts")]
    return {row[1]: tuple(row[3].split(",")) for row in rows if len(row) >= 4}


def kernels(target: Target) -> tuple[str, ...]:
    """Releases of the kernels that are installed."""
    return tuple(target.names("/lib/modules"))


def efi_variable(target: Target, action: WriteEfiVariable) -> bytes | None:
    """An EFI variable's bytes with its attributes; None where it is not there."""
    return target.read(f"{EFI_FOLDER}/{action.name}-{action.guid}") if target.live else None
