"""What is seen of a host as far as actions concern it, and whether an action's state holds there.

`Observed` is plain data. It comes from facts (`from_facts`), which know only part of it, or from looking at a host
or a folder that holds one (`sgxkit.host.setup.target`). `holds` answers yes, no, or None where it was not seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sgxkit.host.checks.evidence import known
from sgxkit.host.facts import Facts
from sgxkit.host.setup import rendered
from sgxkit.host.setup.actions import (
    Action,
    AddAptRepository,
    AddGroup,
    AddRpmRepository,
    AddUserToGroup,
    AskPerson,
    DisableUnit,
    EnableUnit,
    InstallKernel,
    InstallPackages,
    Reboot,
    ReloadSystemd,
    ReloadUdev,
    Remount,
    RemoveFile,
    RemoveKernelArgument,
    RemovePackages,
    RestartUnit,
    SetFstabLine,
    StartUnit,
    UnpackRepository,
    WriteEfiVariable,
    WriteFile,
)


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A regular file's bytes and its permission bits; both None for what is no regular file."""

    content: bytes | None
    mode: int | None


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen. A name that is missing from a mapping was not looked for; None as a file's value: not there.

    packages      version by name of those installed; None as a version: looked for and not installed.
    groups        members by name, with those whose primary group it is; None as members: no such group.
    enabled       whether a unit starts at boot; `active`: whether it runs now.
    mounts        options by mount point; kernels: releases that are installed (folders of /lib/modules).
    candidates    version that the package manager would install, where it could be asked.
    efi           bytes of EFI variables with their four attribute bytes.
    booted        whether systemd runs there, so that it can be asked what is active.
    rebooted      whether this boot is later than the one in which steps were done; None where no step asks for it.
    """

    files: Mapping[str, SeenFile | None] = field(default_factory=lambda: MappingProxyType({}))
    packages: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))
    candidates: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    groups: Mapping[str, frozenset[str] | None] = field(default_factory=lambda: MappingProxyType({}))
    enabled: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    active: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    mounts: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    kernels: tuple[str, ...] | None = None
    efi: Mapping[str, bytes | None] = field(default_factory=lambda: MappingProxyType({}))
    command_line: tuple[str, ...] | None = None
    rebooted: bool | None = None
    booted: bool = True


def from_facts(facts: Facts) -> Observed:
    """What facts alone show; of files they show nothing, so that a plan from captured facts writes them all."""
    packages = known(facts.software.packages)
    groups = known(facts.accounts.groups)
    units = known(facts.services.units)
    mounts = known(facts.devices.mounts)
    release, line = known(facts.kernel.release), known(facts.kernel.command_line)
    seen: dict[str, frozenset[str] | None] = {} if groups is None else {"sgx": None, "sgx_prv": None}
    seen |= {group.name: frozenset(group.members) for group in groups or ()}
    return Observed(
        packages=MappingProxyType(
            {package.name: package.version if package.status == "installed" else None for package in packages or ()}
        ),
        groups=MappingProxyType(seen),
        enabled=MappingProxyType({unit.name: unit.unit_file_state == "enabled" for unit in units or ()}),
        active=MappingProxyType({unit.name: unit.active_state == "active" for unit in units or ()}),
        mounts=MappingProxyType({mount.mount_point: mount.options for mount in mounts or ()}),
        kernels=None if release is None else (release,),
        command_line=None if line is None else tuple(line.split()),
    )


def holds(action: Action, seen: Observed) -> bool | None:
    """Whether what `action` wants is so; None where that was not seen, or cannot be (a restart that was done)."""
    match action:
        case AddAptRepository():
            wanted = _file(WriteFile(action.sources, rendered.apt_source(action)), seen)
            return wanted if action.key is None else _both(wanted, _is_there(action.keyring, seen))
        case AddRpmRepository():
            wanted = _file(WriteFile(rendered.rpm_repository_path(action), rendered.rpm_repository(action)), seen)
            return _both(wanted, _is_there(action.keyring, seen))
        case UnpackRepository():
            return _is_there(action.folder, seen)
        case InstallPackages():
            if any(name in seen.packages and seen.packages[name] is None for name in action.names):
                return False
            return True if all(name in seen.packages for name in action.names) else None
        case RemovePackages():
            if any(seen.packages.get(name) is not None for name in action.names):
                return False
            return True if all(name in seen.packages for name in action.names) else None
        case InstallKernel():
            if seen.kernels is None:
                return None
            return any(version(release) >= version(action.minimum) for release in seen.kernels)
        case WriteFile():
            return _file(action, seen)
        case RemoveFile():
            return None if action.path not in seen.files else seen.files[action.path] is None
        case SetFstabLine():
            found = seen.files.get("/etc/fstab", ...)
            if found is ...:
                return None
            lines = "" if found is None or found.content is None else found.content.decode("utf-8", "replace")
            return rendered.fstab_lines_for(lines, action.mount_point) == [action.line]
        case Remount():
            options = seen.mounts.get(action.mount_point)
            return None if options is None else f"no{action.option}" not in options
        case AddGroup():
            return None if action.name not in seen.groups else seen.groups[action.name] is not None
        case AddUserToGroup():
            return None if action.group not in seen.groups else action.user in (seen.groups[action.group] or ())
        case EnableUnit():
            return _both(seen.enabled.get(action.unit), seen.active.get(action.unit) if seen.booted else True)
        case StartUnit():
            return seen.active.get(action.unit) if seen.booted else True
        case DisableUnit():
            enabled = seen.enabled.get(action.unit)
            active = seen.active.get(action.unit) if seen.booted else False
            return None if enabled is None and active is None else not enabled and not active
        case WriteEfiVariable():
            data = bytes.fromhex(action.data)
            return None if action.name not in seen.efi else (seen.efi[action.name] or b"")[4:] == data
        case RemoveKernelArgument():
            return None if seen.command_line is None else action.argument not in seen.command_line
        case Reboot():
            return seen.rebooted
        case RestartUnit() | ReloadUdev() | ReloadSystemd() | AskPerson():
            return None


def version(release: str) -> tuple[int, int]:
    """The first two numbers of a kernel's release."""
    found = re.match(r"(\d{1,6})\.(\d{1,6})", release)
    return (0, 0) if found is None else (int(found[1]), int(found[2]))


def _file(action: WriteFile, seen: Observed) -> bool | None:
    if action.path not in seen.files:
        return None
    return seen.files[action.path] == SeenFile(action.content.encode(), action.mode)


def _is_there(path: str, seen: Observed) -> bool | None:
    return None if path not in seen.files else seen.files[path] is not None


def _both(first: bool | None, second: bool | None) -> bool | None:
    if first is False or second is False:
        return False
    return True if first and second else None
