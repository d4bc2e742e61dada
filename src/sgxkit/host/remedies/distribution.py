"""Which distribution a host runs, as far as its commands and Intel's repositories differ.

Sources: os-release(5); Intel's installation guide (intel/confidential-computing.tee.docs,
`intel-sgx-sw-installation-guide-linux`), release 2.30.101 of August 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sgxkit.host.facts import Facts, OsRelease, Unread

Packager = Literal["apt", "dnf", "zypper", "none"]


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution and where Intel publishes packages for it.

    archive   folder of the offline repository on download.01.org; None where Intel has none.
    online    whether Intel's online apt repository has this `codename`.
    """

    id: str
    version: str
    codename: str
    packager: Packager
    archive: str | None = None
    online: bool = False
    frozen: bool = False
    """Whether Intel's online repository has this release, but no longer feeds it."""


@dataclass(frozen=True, slots=True)
class NewerKernel:
    """The distribution's own kernel with SGX: its packages, apt's target release, and the suite that has it."""

    packages: tuple[str, ...]
    release: str | None = None
    suite: str | None = None


_ONLINE = frozenset({"resolute", "noble", "jammy"})
"""Releases whose online repository is still fed; that of focal ended with PSW 2.25."""
_FROZEN = frozenset({"focal", "bionic", "xenial"})
_KERNELS: Mapping[tuple[str, str], NewerKernel] = {
    ("ubuntu", "20.04"): NewerKernel(("linux-generic-hwe-20.04",)),
    ("debian", "11"): NewerKernel(("linux-image-amd64",), "bullseye-backports", "bullseye-backports"),
    ("debian", "12"): NewerKernel(("linux-image-amd64",)),
    ("debian", "13"): NewerKernel(("linux-image-amd64",)),
    ("ubuntu", "22.04"): NewerKernel(("linux-generic",)),
    ("ubuntu", "24.04"): NewerKernel(("linux-generic",)),
    ("ubuntu", "26.04"): NewerKernel(("linux-generic",)),
}
"""Where it is more than "the newest kernel"; releases of apt that are not here have none of 5.11 or newer."""
_ARCHIVES: Mapping[tuple[str, str], str] = {
    ("debian", "12"): "Debian12",
    ("debian", "13"): "Debian13",
    ("rhel", "9"): "rhel9.8-server",
    ("rhel", "9.6"): "rhel9.6-server",
    ("rhel", "10"): "rhel10.2-server",
    ("rhel", "10.0"): "rhel10.0-server",
    ("centos", "9"): "centos-stream9",
    ("centos", "10"): "centos-stream10",
    ("almalinux", "9"): "centos-stream9",
    ("almalinux", "10"): "centos-stream10",
    ("rocky", "9"): "centos-stream9",
    ("rocky", "10"): "centos-stream10",
    ("sles", "15"): "suse15.7-server",
    ("sles", "16"): "suse16-server",
    ("opensuse-leap", "15"): "suse15.7-server",
    ("opensuse-leap", "16"): "suse16-server",
}
_PACKAGERS: Mapping[str, Packager] = {
    "debian": "apt",
    "ubuntu": "apt",
    "fedora": "dnf",
    "rhel": "dnf",
    "centos": "dnf",
    "anolis": "dnf",
    "alinux": "dnf",
    "azurelinux": "dnf",
    "mariner": "dnf",
    "tencentos": "dnf",
    "suse": "zypper",
    "sles": "zypper",
    "opensuse": "zypper",
}


def distribution(facts: Facts) -> Distribution:
    """Tell the distribution from /etc/os-release; a derivative is treated as the first of ID_LIKE that is known."""
    release = facts.system.os_release
    if isinstance(release, Unread):
        return Distribution("", "", "", "none")
    return from_os_release(release)


def from_os_release(release: OsRelease) -> Distribution:
    """Tell the distribution from the fields of os-release(5)."""
    names = (release.id, release.id.split("-")[0], *release.id_like)
    packager: Packager = next((_PACKAGERS[name] for name in names if name in _PACKAGERS), "none")
    major = release.version_id.split(".")[0]
    archive = _ARCHIVES.get((release.id, release.version_id)) or _ARCHIVES.get((release.id, major))
    online = "ubuntu" in names and release.version_codename in _ONLINE
    frozen = "ubuntu" in names and release.version_codename in _FROZEN
    return Distribution(release.id, release.version_id, release.version_codename, packager, archive, online, frozen)


def newer_kernel(distro: Distribution) -> NewerKernel | None:
    """The packages of the distribution's newest kernel; None where it has none with SGX and must be upgraded."""
    found = _KERNELS.get((distro.id, distro.version))
    if found is not None or distro.packager in ("apt", "none"):
        return found
    return NewerKernel(("kernel-default",) if distro.packager == "zypper" else ("kernel",))
