"""What a step may do to a host, as typed data: nothing here is a line for a shell.

An action names a state that is wanted ("this file holds this text", "this user is in this group"), so that it can be
compared with a host, applied, taken back, and written down as a playbook or a script, each by its own module.
Paths are absolute and as the host sees them, whatever folder it is mounted at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

from sgxkit.errors import FormatError
from sgxkit.host.document import decode, encode
from sgxkit.messages import msg

Packager = Literal["apt", "dnf", "zypper"]

MAX_CONTENT = 60 * 1024
"""Longest text of a file that is written, in characters."""


@dataclass(frozen=True, slots=True)
class RepositoryKey:
    """The key that signs a repository: where it is fetched (https, http or file) and its whole fingerprint."""

    url: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class AddAptRepository:
    """A deb822 source with its own keyring (sources.list(5)); `key` None when the keyring is already on the host."""

    kind: ClassVar = "add-apt-repository"
    uri: str
    suite: str
    components: tuple[str, ...]
    sources: str
    keyring: str
    key: RepositoryKey | None


@dataclass(frozen=True, slots=True)
class AddRpmRepository:
    """A file for dnf or zypper, and the key that its packages are checked against."""

    kind: ClassVar = "add-rpm-repository"
    packager: Literal["dnf", "zypper"]
    name: str
    uri: str
    keyring: str
    key: RepositoryKey


@dataclass(frozen=True, slots=True)
class UnpackRepository:
    """A repository that Intel publishes as an archive, unpacked to `folder`; its own signatures vouch for it."""

    kind: ClassVar = "unpack-repository"
    url: str
    folder: str


@dataclass(frozen=True, slots=True)
class InstallPackages:
    """Packages with what they depend on and recommend; `release` chooses one of apt's target releases."""

    kind: ClassVar = "install-packages"
    packager: Packager
    names: tuple[str, ...]
    release: str | None = None


@dataclass(frozen=True, slots=True)
class InstallKernel:
    """A kernel of at least version `minimum`, beside the one that runs."""

    kind: ClassVar = "install-kernel"
    packager: Packager
    names: tuple[str, ...]
    release: str | None
    minimum: str


@dataclass(frozen=True, slots=True)
class RemovePackages:
    """Packages that must not be there; their configuration files stay."""

    kind: ClassVar = "remove-packages"
    packager: Packager
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WriteFile:
    """A file with exactly this text, owned by root."""

    kind: ClassVar = "write-file"
    path: str
    content: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """A file that must not be there."""

    kind: ClassVar = "remove-file"
    path: str


@dataclass(frozen=True, slots=True)
class SetFstabLine:
    """The one line of /etc/fstab for `mount_point` (fstab(5))."""

    kind: ClassVar = "set-fstab-line"
    mount_point: str
    line: str


@dataclass(frozen=True, slots=True)
class Remount:
    """A mount that carries `option` now."""

    kind: ClassVar = "remount"
    mount_point: str
    option: Literal["exec"]


@dataclass(frozen=True, slots=True)
class AddGroup:
    """A system group."""

    kind: ClassVar = "add-group"
    name: str


@dataclass(frozen=True, slots=True)
class AddUserToGroup:
    """A user who is a member of a group."""

    kind: ClassVar = "add-user-to-group"
    user: str
    group: str


@dataclass(frozen=True, slots=True)
class EnableUnit:
    """A systemd unit that starts at boot and runs now."""

    kind: ClassVar = "enable-unit"
    unit: str


@dataclass(frozen=True, slots=True)
class StartUnit:
    """A systemd unit that runs now and that a generator enables by itself (Quadlet)."""

    kind: ClassVar = "start-unit"
    unit: str


@dataclass(frozen=True, slots=True)
class DisableUnit:
    """A systemd unit that does not start at boot and does not run."""

    kind: ClassVar = "disable-unit"
    unit: str


@dataclass(frozen=True, slots=True)
class RestartUnit:
    """A running unit reads its configuration again."""

    kind: ClassVar = "restart-unit"
    unit: str


@dataclass(frozen=True, slots=True)
class ReloadUdev:
    """udev reads its rules again and applies them to the devices that are there."""

    kind: ClassVar = "reload-udev"


@dataclass(frozen=True, slots=True)
class ReloadSystemd:
    """systemd reads unit files again."""

    kind: ClassVar = "reload-systemd"


@dataclass(frozen=True, slots=True)
class WriteEfiVariable:
    """An EFI variable with these attributes and these bytes (hexadecimal)."""

    kind: ClassVar = "write-efi-variable"
    name: str
    guid: str
    attributes: int
    data: str


@dataclass(frozen=True, slots=True)
class RemoveKernelArgument:
    """A word that is not on the kernel's command line from the next boot on."""

    kind: ClassVar = "remove-kernel-argument"
    argument: str
    tool: Literal["grubby", "update-grub", "grub2-mkconfig"]


@dataclass(frozen=True, slots=True)
class Reboot:
    """A boot later than the one in which the steps before it were done."""

    kind: ClassVar = "reboot"


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Something that no program on this host can do; `topic` names it for programs."""

    kind: ClassVar = "ask-person"
    topic: str


Action: TypeAlias = (
    AddAptRepository
    | AddRpmRepository
    | UnpackRepository
    | InstallPackages
    | InstallKernel
    | RemovePackages
    | WriteFile
    | RemoveFile
    | SetFstabLine
    | Remount
    | AddGroup
    | AddUserToGroup
    | EnableUnit
    | StartUnit
    | DisableUnit
    | RestartUnit
    | ReloadUdev
    | ReloadSystemd
    | WriteEfiVariable
    | RemoveKernelArgument
    | Reboot
    | AskPerson
)

Consequence: TypeAlias = RestartUnit | ReloadUdev | ReloadSystemd
"""Actions that are due once after what they follow, and whose being done cannot be seen on a host."""

KINDS: Mapping[str, Any] = MappingProxyType(
    {
        kind.kind: kind
        for kind in (
            AddAptRepository,
            AddRpmRepository,
            UnpackRepository,
            InstallPackages,
            InstallKernel,
            RemovePackages,
            WriteFile,
            RemoveFile,
            SetFstabLine,
            Remount,
            AddGroup,
            AddUserToGroup,
            EnableUnit,
            StartUnit,
            DisableUnit,
            RestartUnit,
            ReloadUdev,
            ReloadSystemd,
            WriteEfiVariable,
            RemoveKernelArgument,
            Reboot,
            AskPerson,
        )
    }
)


def action_to_json(action: Action) -> dict[str, object]:
    """Return an action as JSON values; `action_from_json` of it equals `action`."""
    fields = encode(KINDS[action.kind], action)
    assert isinstance(fields, dict)
    return {"action": action.kind, **fields}


def action_from_json(value: object, path: str = "$") -> Action:
    """Read an action; FormatError names the JSON path that is wrong, or a name that `checked` refuses."""
    if not isinstance(value, dict):
        raise FormatError(path, msg("is not an object"))
    kind = value.get("action")
    if not isinstance(kind, str) or kind not in KINDS:
        raise FormatError(f"{path}.action", msg("is no action that is known"))
    action: Action = decode(KINDS[kind], value, path)
    return checked(action)


_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.\-_]{0,127}", re.IGNORECASE)
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_\-.]{0,31}\$?", re.IGNORECASE)
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9@:_.\-]{0,127}\.(?:service|timer|socket)")
_RELEASE = re.compile(r"[a-z0-9][a-z0-9.\-/_]{0,63}", re.IGNORECASE)
_URI = re.compile(r"(?:https?|file)://[\x21-\x7e]{1,500}")
_PATH = re.compile(r"/[\x20-\x7e]{1,400}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-/]{0,127}")
FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")


def checked(action: Action) -> Action:
    """Return `action` if every name in it is one; FormatError otherwise.

    Package names, accounts, units, URIs and paths come from facts, options and journals. What is not plainly one of
    them (a leading dash, a space, a quote, a control character) is refused here, before it reaches any program.
    """
    match action:
        case AddAptRepository():
            _require("uri", action.uri, _URI)
            _require("suite", action.suite, _RELEASE)
            for component in action.components:
                _require("component", component, _RELEASE)
            _paths(action.sources, action.keyring)
            _key(action.key)
        case AddRpmRepository():
            _require("uri", action.uri, _URI)
            _require("name", action.name, _WORD)
            _paths(action.keyring)
            _key(action.key)
        case UnpackRepository():
            _require("url", action.url, _URI)
            _paths(action.folder)
        case InstallPackages() | InstallKernel() | RemovePackages():
            for name in action.names:
                _require("package", name, _PACKAGE)
            if not isinstance(action, RemovePackages) and action.release is not None:
                _require("release", action.release, _RELEASE)
        case WriteFile():
            _paths(action.path)
            if len(action.content) > MAX_CONTENT or "\0" in action.content:
                raise FormatError("content", msg("is longer than {limit} characters", limit=MAX_CONTENT))
            if action.mode & ~0o777:
                raise FormatError("mode", msg("has bits beyond the nine of access"))
        case RemoveFile():
            _paths(action.path)
        case SetFstabLine():
            _paths(action.mount_point)
            if not action.line.isprintable() or action.line.split()[1:2] != [action.mount_point]:
                raise FormatError("line", msg("is no line for this mount point"))
        case Remount():
            _paths(action.mount_point)
        case AddGroup():
            _require("group", action.name, _ACCOUNT)
        case AddUserToGroup():
            _require("user", action.user, _ACCOUNT)
            _require("group", action.group, _ACCOUNT)
        case EnableUnit() | StartUnit() | DisableUnit() | RestartUnit():
            _require("unit", action.unit, _UNIT)
        case WriteEfiVariable():
            _require("name", action.name, re.compile(r"[A-Za-z0-9]{1,64}"))
            _require("guid", action.guid, re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"))
            _require("data", action.data, re.compile(r"(?:[0-9a-f]{2}){1,4096}"))
        case RemoveKernelArgument():
            _require("argument", action.argument, re.compile(r"[a-z0-9_.]{1,64}"))
        case AskPerson():
            _require("topic", action.topic, _WORD)
        case ReloadUdev() | ReloadSystemd() | Reboot():
            pass
    return action


def _require(field: str, text: str, form: re.Pattern[str]) -> None:
    if not form.fullmatch(text):
        raise FormatError(field, msg("{text} cannot be used as this", text=repr(text[:80])))


def _paths(*paths: str) -> None:
    for path in paths:
        _require("path", path, _PATH)
        if "//" in path or any(part in (".", "..") for part in path.split("/")):
            raise FormatError("path", msg("{text} cannot be used as this", text=repr(path[:80])))


def _key(key: RepositoryKey | None) -> None:
    if key is not None:
        _require("key", key.url, _URI)
        _require("fingerprint", key.fingerprint, FINGERPRINT)
