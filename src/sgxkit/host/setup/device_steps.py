"""Steps for the devices: their groups and links, who may use them, and the mount that they lie on."""

from __future__ import annotations

from collections.abc import Iterator

from sgxkit.host.checks.evidence import known
from sgxkit.host.facts import Facts
from sgxkit.host.setup.actions import (
    AddGroup,
    AddUserToGroup,
    ReloadUdev,
    Remount,
    SetFstabLine,
    WriteFile,
)
from sgxkit.host.setup.options import Options
from sgxkit.host.setup.step import Step
from sgxkit.messages import msg

UDEV_RULES = "/etc/udev/rules.d/95-sgxkit.rules"
"""After Intel's 91 to 94, so that both agree on the groups."""
_NEW_LOGIN = msg("A membership reaches a user's sessions only after a new login.")


def device_steps(facts: Facts, options: Options) -> Iterator[Step]:
    """Groups sgx and sgx_prv own the devices; the old names are links that survive a reboot."""
    yield Step(
        "group.sgx", AddGroup("sgx"), msg("Group sgx owns the enclave device; systemd 248 and later know it too.")
    )
    yield Step(
        "group.sgx_prv",
        AddGroup("sgx_prv"),
        msg("Group sgx_prv owns the provision device; Intel's packages use it but make it only where the device is."),
    )
    yield from _rules(facts)
    yield from _mount_steps(facts)
    yield Step(
        "udev.reload",
        ReloadUdev(),
        msg("The rules reach the devices that are already there."),
        after=("group.sgx", "group.sgx_prv", "udev.rules"),
    )
    for user in options.users:
        yield Step(
            f"member.{user}.sgx",
            AddUserToGroup(user, "sgx"),
            msg("{user} may run enclaves.", user=user),
            risks=(_NEW_LOGIN,),
        )
        if options.purpose.provision:
            yield Step(
                f"member.{user}.sgx_prv",
                AddUserToGroup(user, "sgx_prv"),
                msg("{user} may make quotes without AESM.", user=user),
                risks=(msg("Whoever may open the provision device can tell this platform apart from others."),),
            )


def _rules(facts: Facts) -> Iterator[Step]:
    owners = {"/dev/sgx/enclave": "sgx", "/dev/sgx/provision": "sgx_prv"}
    statuses = {path: known(facts.devices.node(path).status) for path in owners}
    if all(found is not None and found.group == owners[path] for path, found in statuses.items()):
        return
    rules = (
        'SUBSYSTEM=="misc", KERNEL=="sgx_enclave", GROUP="sgx", MODE="0660", SYMLINK+="sgx/enclave"\n'
        'SUBSYSTEM=="misc", KERNEL=="sgx_provision", GROUP="sgx_prv", MODE="0660", SYMLINK+="sgx/provision"\n'
    )
    yield Step(
        "udev.rules",
        WriteFile(UDEV_RULES, rules),
        msg("udev gives the devices to their groups and links the old names, also after a reboot."),
    )


def _mount_steps(facts: Facts) -> Iterator[Step]:
    mount = next((found for found in known(facts.devices.mounts) or () if found.mount_point == "/dev"), None)
    if mount is None or "noexec" not in mount.options:
        return
    why = msg("/dev is mounted noexec, so no enclave can be mapped.")
    options = ",".join([*(option for option in mount.options if option != "noexec"), "exec"])
    yield Step(
        "dev.fstab",
        SetFstabLine("/dev", f"{mount.type} /dev {mount.type} {options} 0 0"),
        why,
        risks=(msg("A wrong line in /etc/fstab can keep a host from booting; this one has the options of now."),),
    )
    yield Step("dev.remount", Remount("/dev", "exec"), why)
