"""A plan as a POSIX shell script. Every word that is not ours is quoted by `shlex.quote`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

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
    RepositoryKey,
    RestartUnit,
    SetFstabLine,
    StartUnit,
    UnpackRepository,
    WriteEfiVariable,
    WriteFile,
)
from sgxkit.host.setup.change import change
from sgxkit.host.setup.observed import Observed
from sgxkit.host.setup.packages import install_arguments, remove_arguments
from sgxkit.host.setup.plan import Plan

_HEAD = r"""#!/bin/sh
# Run as root; needs curl and gpg where a repository is added. Each step may be run again.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# write_file PATH MODE TEXT: whole or not at all
write_file() {
    mkdir -p "$(dirname "$1")"
    temporary=$(mktemp "$1.XXXXXX")
    printf '%s' "$3" > "$temporary"
    chmod "$2" "$temporary"
    mv -f "$temporary" "$1"
}

# fetch_key URL PATH FINGERPRINT: only the one key with this fingerprint is taken
fetch_key() {
    mkdir -p "$(dirname "$2")"
    temporary=$(mktemp "$2.XXXXXX")
    curl --fail --silent --show-error --location --output "$temporary" "$1"
    found=$(gpg --batch --show-keys --with-colons "$temporary" | awk -F: '$1 == "pub" {primary = 1}
        $1 == "fpr" && primary {print $10; primary = 0}')
    if [ "$found" != "$3" ]; then
        rm -f "$temporary"
        echo "the key at $1 is not the trusted one: $found" >&2
        exit 1
    fi
    if ! grep -q 'BEGIN PGP PUBLIC KEY BLOCK' "$temporary"; then
        gpg --batch --yes --enarmor --output "$temporary.asc" "$temporary"
        sed 's/PGP ARMORED FILE/PGP PUBLIC KEY BLOCK/' "$temporary.asc" > "$temporary"
        rm -f "$temporary.asc"
    fi
    chmod 0644 "$temporary"
    mv -f "$temporary" "$2"
}

# reboot_once NAME: the boot after it goes on behind it
reboot_once() {
    marker="/var/lib/sgxkit-export.$1"
    boot=$(cat /proc/sys/kernel/random/boot_id)
    if [ ! -e "$marker" ] || [ "$(cat "$marker")" = "$boot" ]; then
        echo "$boot" > "$marker"
        echo 'Rebooting; run this script again afterwards.' >&2
        systemctl reboot
        exit 0
    fi
}
"""
_CURL = ("--fail", "--silent", "--show-error", "--location")


def script(plan: Plan) -> str:
    """The whole plan; steps for a person are comments, and end the script where the plan ends."""
    parts = [_HEAD]
    for step in plan.steps:
        title = change(step.action, Observed()) if not step.by_person else step.why
        parts.append(f"\n# {_comment(step.id)}: {_comment(str(title))}\n")
        if step.by_person:
            sentences = [*map(str, step.todo), *step.commands]
            parts.extend(f"#   {_comment(line)}\n" for sentence in sentences for line in sentence.splitlines())
            if step.ends:
                parts.append(f"echo {quote(str(step.why))} >&2\nexit 1\n")
            continue
        if isinstance(step.action, Reboot):
            parts.append(f"{quote('reboot_once', step.id)}\n")
        parts.extend(f"{line}\n" for line in lines(step.action))
    return "".join(parts)


def _comment(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def quote(*words: str) -> str:
    """Words of one command, each quoted."""
    return " ".join(map(shlex.quote, words))


def lines(action: Action) -> Iterator[str]:
    """The commands of one action, each with every word quoted."""
    match action:
        case AddAptRepository():
            if action.key is not None:
                yield _fetch_key(action.key, action.keyring)
            yield quote("write_file", action.sources, "0644", rendered.apt_source(action))
            yield quote("apt-get", "update")
        case AddRpmRepository():
            yield _fetch_key(action.key, action.keyring)
            yield quote("rpm", "--import", action.keyring)
            path = rendered.rpm_repository_path(action)
            yield quote("write_file", path, "0644", rendered.rpm_repository(action))
        case UnpackRepository():
            parent = action.folder.rsplit("/", 1)[0]
            yield f"if ! {quote('test', '-d', action.folder)}; then"
            yield f"    {quote('mkdir', '-p', parent)}"
            archive = f"{action.folder}.tgz"
            yield "    " + quote("curl", *_CURL, "--output", archive, action.url)
            yield "    " + quote("tar", "--extract", "--no-same-owner", "--file", archive, "--directory", parent)
            yield "    " + quote("rm", "-f", archive)
            yield "fi"
        case InstallPackages() | InstallKernel():
            if action.packager == "apt":
                yield quote("apt-get", "update")
            yield quote(*install_arguments(action))
        case RemovePackages():
            yield quote(*remove_arguments(action.packager, action.names))
        case WriteFile():
            yield quote("write_file", action.path, f"{action.mode:04o}", action.content)
        case RemoveFile():
            yield quote("rm", "-f", action.path)
        case SetFstabLine():
            program = "$0 ~ /^[[:space:]]*#/ || $2 != mount {print; next} !done {print line; done = 1}"
            program += " END {if (!done) print line}"
            # awk reads escapes in -v, so the line is handed over in the environment.
            yield "temporary=$(mktemp /etc/fstab.XXXXXX)"
            awk = f'BEGIN {{mount = ENVIRON["MOUNT_POINT"]; line = ENVIRON["FSTAB_LINE"]}} {program}'
            yield (
                f"MOUNT_POINT={quote(action.mount_point)} FSTAB_LINE={quote(action.line)} "
                f'{quote("awk", awk, "/etc/fstab")} > "$temporary"'
            )
            yield 'chmod 0644 "$temporary" && mv -f "$temporary" /etc/fstab'
        case Remount():
            yield quote("mount", "-o", f"remount,{action.option}", action.mount_point)
        case AddGroup():
            add = quote("groupadd", "--system", action.name)
            yield f"{quote('getent', 'group', action.name)} > /dev/null || {add}"
        case AddUserToGroup():
            yield quote("usermod", "--append", "--groups", action.group, action.user)
        case EnableUnit():
            yield quote("systemctl", "enable", "--now", action.unit)
        case StartUnit():
            yield quote("systemctl", "start", action.unit)
        case DisableUnit():
            yield quote("systemctl", "disable", "--now", action.unit)
        case RestartUnit():
            yield quote("systemctl", "try-restart", action.unit)
        case ReloadUdev():
            yield "if [ -e /run/udev/control ]; then"
            yield "    " + quote("udevadm", "control", "--reload")
            yield "    " + quote("udevadm", "trigger", "--subsystem-match=misc")
            yield "fi"
        case ReloadSystemd():
            yield quote("systemctl", "daemon-reload")
        case WriteEfiVariable():
            path = f"/sys/firmware/efi/efivars/{action.name}-{action.guid}"
            octal = "".join(f"\\{byte:03o}" for byte in efi_bytes(action))
            yield f"if {quote('test', '-e', path)}; then {quote('chattr', '-i', path)}; fi"
            yield f"printf {quote(octal)} > {quote(path)}"
        case RemoveKernelArgument():
            if action.tool == "grubby":
                yield quote("grubby", "--update-kernel=ALL", f"--remove-args={action.argument}")
            else:
                word = action.argument.replace(".", "\\.")
                yield quote("sed", "-i", f"/^GRUB_CMDLINE_LINUX/s/\\b{word}\\b *//", "/etc/default/grub")
                yield from (
                    [quote("update-grub")]
                    if action.tool == "update-grub"
                    else [quote("grub2-mkconfig", "-o", "/boot/grub2/grub.cfg")]
                )
        case Reboot() | AskPerson():
            return


def efi_bytes(action: WriteEfiVariable) -> bytes:
    """An EFI variable as efivarfs takes it: attributes, then data."""
    return action.attributes.to_bytes(4, "little") + bytes.fromhex(action.data)


def _fetch_key(key: RepositoryKey, path: str) -> str:
    return quote("fetch_key", key.url, path, key.fingerprint)
