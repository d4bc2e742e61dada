"""Do one action on a host: look what it finds, write that down, do it, see that it holds."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from sgxkit.errors import SetupError
from sgxkit.host.document import MAX_ITEMS
from sgxkit.host.setup import packages, rendered
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
from sgxkit.host.setup.bookkeeping import remember
from sgxkit.host.setup.journal import Accounts, Before, Entry, Journal, Made, NewFile, PackageChange
from sgxkit.host.setup.keyring import trusted_key, unpack
from sgxkit.host.setup.look import EFI_FOLDER, enabled_units, installed_packages, is_active, look, members, mounts
from sgxkit.host.setup.observed import Observed, holds
from sgxkit.host.setup.step import Step
from sgxkit.host.setup.target import Target
from sgxkit.messages import msg

GRUB = "/etc/default/grub"
_PACKAGED = ("/etc", "/opt", "/srv", "/usr/local", "/usr/lib", "/usr/share", "/var/lib", "/var/cache", "/var/opt")
_DEPTH = 2
_UNITS = (EnableUnit, StartUnit)


@dataclass(slots=True)
class Session:
    """One run on one host. `indexed`: whether apt's index was fetched since the repositories last changed."""

    target: Target
    journal: Journal
    indexed: bool = False


def perform(session: Session, step: Step) -> None:
    """Do one step, journalled; SetupError where it fails, or where what it wanted does not show afterwards."""
    action = step.action
    before = found(session, action)
    entry = session.journal.begin(step, before)
    installs = isinstance(action, InstallPackages | InstallKernel)
    listed = None
    if isinstance(action, InstallPackages | InstallKernel) and action.packager != "apt":
        listed = installed_packages(session.target)
    do(session, action)
    if holds(action, look(session.target, (action,), Observed())) is False:
        raise SetupError(
            msg("step {step} was done, but its effect does not show", step=step.id),
            hint=msg("`systemctl status` or the log of the unit may say why") if isinstance(action, _UNITS) else None,
        )
    if listed is not None:
        changed = packages.difference(listed, installed_packages(session.target) or {})
        entry = session.journal.add_packages(entry, changed)
    session.journal.finish(entry, appeared(session, entry) if installs else None)


def appeared(session: Session, entry: Entry) -> Made | None:
    """What came with the packages of a step and is not theirs alone: accounts, and files below /etc."""
    before = entry.before
    if before.accounts is None or before.etc is None:
        return None
    now = local_accounts(session.target)
    known = set(session.journal.kept(before.etc).decode("utf-8", "surrogateescape").splitlines())
    return Made(
        tuple(sorted({*now.users} - {*before.accounts.users})),
        tuple(sorted({*now.groups} - {*before.accounts.groups})),
        tuple(
            NewFile(path, content_of(session.target, path))
            for path in sorted(files_of_etc(session.target) - known)
            if path.isprintable()
        ),
    )


def found(session: Session, action: Action) -> Before:
    """What there is to remember before `action`."""
    target, journal = session.target, session.journal
    if isinstance(action, InstallPackages | InstallKernel | RemovePackages | AddGroup | AddUserToGroup):
        remember(journal)
    match action:
        case InstallPackages() | InstallKernel():
            if action.packager == "apt" and not session.indexed:
                packages.refresh(target)
                session.indexed = True
            changes = packages.changes(target, action)
            empty = tuple(journal.file(path) for path in target.empty_folders(_PACKAGED, _DEPTH)[:MAX_ITEMS])
            etc = "\n".join(sorted(files_of_etc(target))).encode("utf-8", "surrogateescape")
            return Before(packages=changes, accounts=local_accounts(target), empty=empty, etc=journal.keep(etc))
        case RemovePackages():
            there = installed_packages(target) or {}
            return Before(
                packages=tuple(PackageChange(name, there[name], None) for name in action.names if name in there)
            )
        case AddAptRepository() | AddRpmRepository() | WriteFile() | RemoveFile() | SetFstabLine():
            paths = touched(action)
            folders = {folder: None for path in paths for folder in target.missing_folders(path)}
            return Before(files=tuple(journal.file(path) for path in paths), folders=tuple(folders))
        case UnpackRepository():
            return Before(files=(journal.file(action.folder),), folders=target.missing_folders(action.folder))
        case Remount():
            return Before(held=f"no{action.option}" not in mounts(target).get(action.mount_point, ()))
        case AddGroup():
            return Before(held=members(target, action.name) is not None)
        case AddUserToGroup():
            return Before(held=action.user in (members(target, action.group) or ()))
        case EnableUnit() | StartUnit() | DisableUnit():
            active = target.booted and is_active(target, action.unit)
            return Before(held=action.unit in enabled_units(target), active=active)
        case WriteEfiVariable():
            return Before(files=(journal.file(efi_path(action)),))
        case RemoveKernelArgument():
            return Before(files=(journal.file(GRUB),) if action.tool != "grubby" else (), held=False)
        case RestartUnit() | ReloadUdev() | ReloadSystemd() | Reboot() | AskPerson():
            return Before()


def touched(action: AddAptRepository | AddRpmRepository | WriteFile | RemoveFile | SetFstabLine) -> tuple[str, ...]:
    """The files that an action writes or removes."""
    match action:
        case AddAptRepository():
            return (action.sources,) if action.key is None else (action.keyring, action.sources)
        case AddRpmRepository():
            return (action.keyring, rendered.rpm_repository_path(action))
        case WriteFile() | RemoveFile():
            return (action.path,)
        case SetFstabLine():
            return ("/etc/fstab",)


def do(session: Session, action: Action) -> None:
    """Do what an action says; doing it again does no harm."""
    target = session.target
    match action:
        case AddAptRepository():
            if action.key is not None:
                target.write(action.keyring, trusted_key(target, action.key), 0o644)
            target.write(action.sources, rendered.apt_source(action).encode(), 0o644)
            session.indexed = False
        case AddRpmRepository():
            target.write(action.keyring, trusted_key(target, action.key), 0o644)
            target.run(["rpm", "--import", action.keyring])
            target.write(rendered.rpm_repository_path(action), rendered.rpm_repository(action).encode(), 0o644)
        case UnpackRepository():
            if target.look(action.folder) is None:
                unpack(target, action.url, action.folder)
        case InstallPackages() | InstallKernel():
            packages.install(target, action)
        case RemovePackages():
            packages.remove(target, action.packager, action.names)
        case WriteFile():
            target.write(action.path, action.content.encode(), action.mode)
        case RemoveFile():
            target.remove(action.path)
        case SetFstabLine():
            text = (target.read("/etc/fstab") or b"").decode("utf-8", "surrogateescape")
            data = rendered.fstab_with(text, action).encode("utf-8", "surrogateescape")
            target.write("/etc/fstab", data, 0o644)
        case Remount():
            target.run(["mount", "-o", f"remount,{action.option}", action.mount_point])
        case AddGroup():
            if members(target, action.name) is None:
                target.run(["groupadd", "--system", action.name])
        case AddUserToGroup():
            target.run(["usermod", "--append", "--groups", action.group, action.user])
        case EnableUnit():
            target.run(["systemctl", "enable", *(("--now",) if target.booted else ()), action.unit])
        case StartUnit():
            if target.booted:
                target.run(["systemctl", "start", action.unit])
        case DisableUnit():
            target.run(["systemctl", "disable", *(("--now",) if target.booted else ()), action.unit])
        case RestartUnit():
            if target.booted:
                target.run(["systemctl", "try-restart", action.unit])
        case ReloadUdev():
            if target.live and target.exists("/run/udev/control"):
                target.run(["udevadm", "control", "--reload"])
                target.run(["udevadm", "trigger", "--subsystem-match=misc"])
        case ReloadSystemd():
            if target.booted:
                target.run(["systemctl", "daemon-reload"])
        case WriteEfiVariable():
            data = action.attributes.to_bytes(4, "little") + bytes.fromhex(action.data)
            write_efi(target, efi_path(action), data)
        case RemoveKernelArgument():
            _without_argument(target, action)
        case Reboot():
            target.run(["systemctl", "reboot"])
        case AskPerson():
            raise SetupError(msg("step {step} is for a person", step=action.topic))


def efi_path(action: WriteEfiVariable) -> str:
    """Where efivarfs has a variable."""
    return f"{EFI_FOLDER}/{action.name}-{action.guid}"


def write_efi(target: Target, path: str, data: bytes) -> None:
    """Write an EFI variable, which must be one write(2); the kernel marks variables immutable (efivarfs)."""
    if target.exists(path):
        target.run(["chattr", "-i", path])
    target.write_once(path, data)


def _without_argument(target: Target, action: RemoveKernelArgument) -> None:
    if action.tool == "grubby":
        target.run(["grubby", "--update-kernel=ALL", f"--remove-args={action.argument}"])
        return
    before = (target.read(GRUB) or b"").decode("utf-8", "surrogateescape")
    word = re.compile(rf"(?<![\w.=-]){re.escape(action.argument)}(?![\w.=-]) ?")
    lines = [
        word.sub("", line) if line.startswith("GRUB_CMDLINE_LINUX") else line
        for line in before.splitlines(keepends=True)
    ]
    status = target.status(GRUB)
    target.write(GRUB, "".join(lines).encode("utf-8", "surrogateescape"), 0o644 if status is None else status.mode)
    update_boot_loader(target, action)


def update_boot_loader(target: Target, action: RemoveKernelArgument) -> None:
    """Write the boot loader's configuration anew."""
    if action.tool == "update-grub":
        target.run(["update-grub"])
    elif action.tool == "grub2-mkconfig":
        target.run(["grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"])


def files_of_etc(target: Target) -> frozenset[str]:
    """Every path below /etc."""
    return frozenset(target.tree("/etc"))


def content_of(target: Target, path: str) -> str | None:
    """SHA-256 of a file's bytes, or of a link's text; None for a folder."""
    found = target.status(path)
    if found is None or found.kind in ("folder", "other"):
        return None
    if found.kind == "link":
        return hashlib.sha256((found.target or "").encode()).hexdigest()
    return target.digest(path)


def local_accounts(target: Target) -> Accounts:
    """Names of the users and groups in the host's own files."""

    def names(path: str) -> tuple[str, ...]:
        lines = (target.read(path) or b"").decode("utf-8", "replace").splitlines()
        return tuple(sorted(line.split(":")[0] for line in lines if ":" in line))

    return Accounts(names("/etc/passwd"), names("/etc/group"))
