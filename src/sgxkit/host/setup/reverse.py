"""Take one journalled step back, and nothing else."""

from __future__ import annotations

import hashlib

from sgxkit.host.setup import packages, rendered
from sgxkit.host.setup.actions import (
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
from sgxkit.host.setup.journal import Entry, FileBefore, Made
from sgxkit.host.setup.look import installed_packages, members
from sgxkit.host.setup.perform import (
    Session,
    appeared,
    content_of,
    efi_path,
    local_accounts,
    update_boot_loader,
    write_efi,
)
from sgxkit.messages import Message, msg


def reverse(session: Session, entry: Entry) -> tuple[Message, ...]:
    """Undo what the entry's step changed.

    Returns what had to be left because somebody changed it since; then the entry stays in the journal. Raises
    SetupError where a tool refuses.
    """
    target, journal, before, action = session.target, session.journal, entry.before, entry.action
    match action:
        case WriteFile():
            return _files(session, entry, {action.path: action.content.encode()})
        case AddAptRepository():
            return _files(session, entry, {action.sources: rendered.apt_source(action).encode()})
        case AddRpmRepository():
            path = rendered.rpm_repository_path(action)
            return _files(session, entry, {path: rendered.rpm_repository(action).encode()})
        case RemoveFile():
            for file in before.files:
                if target.look(file.path) is None:
                    journal.restore(file)
            return ()
        case SetFstabLine():
            return _fstab(session, entry, action)
        case UnpackRepository():
            if all(file.kind == "absent" for file in before.files):
                target.remove_tree(action.folder)
                target.remove_empty(before.folders)
            return ()
        case InstallPackages() | InstallKernel():
            made = entry.made or appeared(session, entry)
            packages.take_back(target, action.packager, before.packages)
            session.indexed = False
            if made is not None:
                _accounts(session, made)
                _left_in_etc(session, made)
            for folder in before.empty:
                journal.restore_folder(folder)
            return ()
        case RemovePackages():
            there = installed_packages(target) or {}
            gone = [change for change in before.packages if change.name not in there]
            packages.take_back(target, action.packager, gone)
            return ()
        case Remount():
            if not before.held:
                target.run(["mount", "-o", f"remount,no{action.option}", action.mount_point])
            return ()
        case AddGroup():
            if not before.held and members(target, action.name) is not None:
                if others := members(target, action.name):
                    return (
                        msg(
                            "group {group} stays: {users} joined it since",
                            group=action.name,
                            users=", ".join(sorted(others)),
                        ),
                    )
                target.run(["groupdel", action.name])
            return ()
        case AddUserToGroup():
            if not before.held and action.user in (members(target, action.group) or ()):
                target.run(["gpasswd", "--delete", action.user, action.group])
            return ()
        case EnableUnit() | StartUnit():
            if target.booted and not before.active:
                target.run(["systemctl", "stop", action.unit], check=False)
            if not before.held and isinstance(action, EnableUnit):
                target.run(["systemctl", "disable", action.unit])
            return ()
        case DisableUnit():
            if before.held:
                target.run(["systemctl", "enable", action.unit])
            if target.booted and before.active:
                target.run(["systemctl", "start", action.unit])
            return ()
        case WriteEfiVariable():
            file = before.files[0]
            data = b"" if file.content is None else journal.kept(file.content)
            empty = action.attributes.to_bytes(4, "little") + bytes(len(action.data) // 2)
            write_efi(target, efi_path(action), data or empty)
            return ()
        case RemoveKernelArgument():
            if action.tool == "grubby":
                target.run(["grubby", "--update-kernel=ALL", f"--args={action.argument}"])
                return ()
            for file in before.files:
                journal.restore(file)
            update_boot_loader(target, action)
            return ()
        case RestartUnit() | ReloadUdev() | ReloadSystemd() | Reboot() | AskPerson():
            return ()


def _files(session: Session, entry: Entry, ours: dict[str, bytes]) -> tuple[Message, ...]:
    """Put files back, unless one no longer holds what this step wrote."""
    target, journal = session.target, session.journal
    changed = [
        file
        for file in entry.before.files
        if file.path in ours and not _is_ours(session, file, ours[file.path], done=entry.state == "done")
    ]
    if changed:
        return tuple(msg("{path} stays: it was changed since", path=file.path) for file in changed)
    for file in entry.before.files:
        journal.restore(file)
    target.remove_empty(entry.before.folders)
    return ()


def _is_ours(session: Session, file: FileBefore, content: bytes, *, done: bool) -> bool:
    now = session.journal.seen(file.path)
    if now.content == hashlib.sha256(content).hexdigest():
        return True
    untouched = (now.kind, now.content, now.target) == (file.kind, file.content, file.target)
    return untouched or (now.kind == "absent" and not done)


def _fstab(session: Session, entry: Entry, action: SetFstabLine) -> tuple[Message, ...]:
    target, journal = session.target, session.journal
    (file,) = entry.before.files
    was = b"" if file.content is None else journal.kept(file.content)
    now = target.read("/etc/fstab") or b""
    text = was.decode("utf-8", "surrogateescape")
    if now in (was, rendered.fstab_with(text, action).encode("utf-8", "surrogateescape")):
        journal.restore(file)
        return ()
    # Others edited it since: only our line is taken out, and the one that it replaced comes back.
    lines = now.decode("utf-8", "surrogateescape").splitlines()
    if action.line in lines:
        at = lines.index(action.line)
        lines[at : at + 1] = rendered.fstab_lines_for(text, action.mount_point)
        target.write("/etc/fstab", ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"), 0o644)
    return ()


def _accounts(session: Session, made: Made) -> None:
    """Remove the accounts that the packages made and left behind when they were purged."""
    target = session.target
    for user in sorted({*made.users} & {*local_accounts(target).users}):
        target.run(["userdel", user])
    for group in sorted({*made.groups} & {*local_accounts(target).groups}):
        target.run(["groupdel", group])


def _left_in_etc(session: Session, made: Made) -> None:
    """Remove files that maintainer scripts made below /etc and purging left, unless somebody changed them since."""
    target = session.target
    for file in reversed(made.files):
        if file.content is None:
            target.remove_empty([file.path])
        elif content_of(target, file.path) == file.content:
            target.remove(file.path)
