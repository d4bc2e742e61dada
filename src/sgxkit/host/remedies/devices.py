"""Remedies: device nodes, their mounts, their groups."""

from __future__ import annotations

import shlex

from sgxkit.host.facts import Facts, Unread
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.messages import msg

_KERNEL_DOCS = "https://docs.kernel.org/arch/x86/sgx.html"


def user_name(facts: Facts) -> str:
    """The account that the facts were read as; a placeholder where it has no name."""
    user = facts.accounts.user
    return "USER" if isinstance(user, Unread) or user.name is None else user.name


def join_group(facts: Facts, group: str) -> Remedy:
    """Add the user to the group that owns the device."""
    user = shlex.quote(user_name(facts))
    return Remedy(
        f"join-group-{group}",
        msg("Add the user to group {group}, and log in again.", group=group),
        (f"usermod -aG {shlex.quote(group)} {user}", "# log out and in again, then: id -nG"),
        root=True,
    )


def log_in_again(group: str) -> Remedy:
    """Make a new membership effective."""
    return Remedy(
        "log-in-again",
        msg(
            "Log out and in again: the membership of {group} does not reach sessions that were already open.",
            group=group,
        ),
        (f"newgrp {shlex.quote(group)}   # or only for this shell",),
    )


OWN_BY_GROUP = Remedy(
    "own-device-by-group",
    msg("Let udev give the enclave device to group sgx, as systemd 248 and later does by itself."),
    (
        "groupadd --system sgx",
        'echo \'SUBSYSTEM=="misc", KERNEL=="sgx_enclave", GROUP="sgx", MODE="0660"\' '
        "> /etc/udev/rules.d/90-sgx.rules",
        "udevadm control --reload && udevadm trigger --subsystem-match=misc",
    ),
    root=True,
    link=_KERNEL_DOCS,
)
PROVISION_GROUP = Remedy(
    "provision-group",
    msg("Give the provision device to group sgx_prv and let AESM in; restarting AESM does it, or by hand:"),
    (
        "groupadd --system sgx_prv",
        'echo \'SUBSYSTEM=="misc", KERNEL=="sgx_provision", GROUP="sgx_prv", MODE="0660"\' '
        "> /etc/udev/rules.d/92-sgx-provision.rules",
        "udevadm control --reload && udevadm trigger --subsystem-match=misc",
        "usermod -aG sgx_prv aesmd && systemctl restart aesmd",
    ),
    root=True,
)
REMOUNT_EXEC = Remedy(
    "remount-dev-exec",
    msg("Mount /dev without noexec, now and at every boot."),
    (
        "mount -o remount,exec /dev",
        "echo 'devtmpfs /dev devtmpfs mode=0755,nosuid,exec 0 0' >> /etc/fstab",
        "# or, where Intel's libsgx-enclave-common is installed: systemctl enable --now remount-dev-exec.service",
    ),
    root=True,
)
LINK_OLD_NAMES = Remedy(
    "link-old-device-names",
    msg("If old software needs /dev/sgx/enclave, let udev make the links; links made by hand vanish at reboot."),
    (
        'echo \'SUBSYSTEM=="misc", KERNEL=="sgx_enclave", SYMLINK+="sgx/enclave"\' '
        "> /etc/udev/rules.d/94-sgx-links.rules",
        'echo \'SUBSYSTEM=="misc", KERNEL=="sgx_provision", SYMLINK+="sgx/provision"\' '
        ">> /etc/udev/rules.d/94-sgx-links.rules",
        "udevadm control --reload && udevadm trigger --subsystem-match=misc",
    ),
    root=True,
)
POPULATE_DEV = Remedy(
    "populate-dev",
    msg("The kernel has the device, but /dev does not show it: let udev make the node."),
    ("udevadm trigger --subsystem-match=misc --action=add", "ls -l /dev/sgx*"),
    root=True,
)
CLOSE_OTHER_USER = Remedy(
    "find-other-user",
    msg("Find out who holds the device."),
    ("fuser -v /dev/sgx* /dev/isgx",),
    root=True,
)
