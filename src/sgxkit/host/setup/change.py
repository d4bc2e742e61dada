"""What a step would change, exactly, as lines: the packages, the file as a diff, the unit, the group, the mount."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import unified_diff

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
from sgxkit.host.setup.observed import Observed
from sgxkit.messages import Message, msg


def change(action: Action, seen: Observed) -> Message:
    """One line that names what is changed."""
    match action:
        case AddAptRepository() | AddRpmRepository():
            return msg("add repository {uri}", uri=action.uri)
        case UnpackRepository():
            return msg("unpack {url} to {folder}", url=action.url, folder=action.folder)
        case InstallPackages() | InstallKernel():
            return msg("install {names}", names=", ".join(_with_version(name, seen) for name in action.names))
        case RemovePackages():
            return msg("remove {names}", names=", ".join(_with_version(name, seen) for name in action.names))
        case WriteFile():
            return msg("write {path}, mode {mode}", path=action.path, mode=f"{action.mode:04o}")
        case RemoveFile():
            return msg("delete {path}", path=action.path)
        case SetFstabLine():
            return msg("set the line for {mount} in /etc/fstab", mount=action.mount_point)
        case Remount():
            return msg("remount {mount} with option {option}", mount=action.mount_point, option=action.option)
        case AddGroup():
            return msg("create system group {group}", group=action.name)
        case AddUserToGroup():
            return msg("add user {user} to group {group}", user=action.user, group=action.group)
        case EnableUnit():
            return msg("enable and start {unit}", unit=action.unit)
        case StartUnit():
            return msg("start {unit}", unit=action.unit)
        case DisableUnit():
            return msg("stop and disable {unit}", unit=action.unit)
        case RestartUnit():
            return msg("restart {unit} if it runs", unit=action.unit)
        case ReloadUdev():
            return msg("let udev read its rules again")
        case ReloadSystemd():
            return msg("let systemd read its units again")
        case WriteEfiVariable():
            return msg("write EFI variable {name}: {data}", name=f"{action.name}-{action.guid}", data=action.data)
        case RemoveKernelArgument():
            return msg("take {argument} off the kernel's command line", argument=action.argument)
        case Reboot():
            return msg("reboot")
        case AskPerson():
            return msg("for a person: {topic}", topic=action.topic)


def _with_version(name: str, seen: Observed) -> str:
    version = seen.candidates.get(name)
    return name if version is None else f"{name} ({version})"


def diff(action: Action, seen: Observed) -> tuple[str, ...]:
    """The files that an action changes, each as a unified diff against what was seen; () where it changes none.

    A file that was not looked at is shown as if it were new.
    """
    match action:
        case WriteFile():
            return _diff(action.path, seen, action.content)
        case RemoveFile():
            return _diff(action.path, seen, None)
        case AddAptRepository():
            return _diff(action.sources, seen, rendered.apt_source(action))
        case AddRpmRepository():
            return _diff(rendered.rpm_repository_path(action), seen, rendered.rpm_repository(action))
        case SetFstabLine():
            before = _text("/etc/fstab", seen)
            return _diff("/etc/fstab", seen, rendered.fstab_with(before or "", action))
        case _:
            return ()


def _text(path: str, seen: Observed) -> str | None:
    found = seen.files.get(path)
    if found is None:
        return None
    return "" if found.content is None else found.content.decode("utf-8", "replace")


def _diff(path: str, seen: Observed, after: str | None) -> tuple[str, ...]:
    before = _text(path, seen)
    old, new = ("/dev/null" if text is None else path for text in (before, after))
    lines = unified_diff(_lines(before), _lines(after), old, new, lineterm="")
    return tuple(lines)


def _lines(text: str | None) -> Sequence[str]:
    return () if text is None else text.splitlines()
