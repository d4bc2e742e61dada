"""Remedies: install, upgrade and remove Intel's packages, and keep their repository trustworthy.

Source: Intel's installation guide (release 2.30.101, August 2026) and the README of
intel/confidential-computing.sgx 2.29. `libsgx-dcap-default-qpl` is a dependency of nothing, so it is always named.
"""

from __future__ import annotations

from collections.abc import Iterable

from sgxkit.host.facts import Facts
from sgxkit.host.remedies.distribution import Distribution, distribution
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.messages import msg

GUIDE = "https://cc-enabling.trustedservices.intel.com/intel-sgx-sw-installation-guide-linux/02/installation_instructions/"
KEY_URL = "https://download.01.org/intel-sgx/sgx_repo/ubuntu/intel-sgx-deb.key"
KEY_FINGERPRINT = "150434D1488BF80308B69398E5C7F0FA1C6C6C3C"
KEYRING = "/etc/apt/keyrings/intel-sgx-keyring.asc"
DOWNLOADS = "https://download.01.org/intel-sgx/latest"

QUOTING = ("libsgx-quote-ex", "libsgx-dcap-ql", "libsgx-dcap-default-qpl")
AESM = ("sgx-aesm-service", "libsgx-aesm-quote-ex-plugin", "libsgx-aesm-ecdsa-plugin", "libsgx-dcap-default-qpl")


def _install_command(distro: Distribution, packages: Iterable[str]) -> str | None:
    names = " ".join(packages)
    return {
        "apt": f"apt-get install {names}",
        "dnf": f"dnf install {names}",
        "zypper": f"zypper install {names}",
        "none": None,
    }[distro.packager]


def _fetch_key() -> tuple[str, ...]:
    return (
        "install -d -m 0755 /etc/apt/keyrings",
        f"curl -fsSL {KEY_URL} -o {KEYRING}",
        f"gpg --show-keys --with-fingerprint {KEYRING}   # {KEY_FINGERPRINT}",
    )


def _repository(distro: Distribution) -> tuple[str, ...]:
    if distro.packager == "apt" and distro.online:
        return (
            *_fetch_key(),
            f"echo 'deb [signed-by={KEYRING} arch=amd64] https://download.01.org/intel-sgx/sgx_repo/ubuntu "
            f"{distro.codename} main' > /etc/apt/sources.list.d/intel-sgx.list",
            "apt-get update",
        )
    if distro.archive is None:
        return ()
    archive = "sgx_debian_local_repo" if distro.packager == "apt" else "sgx_rpm_local_repo"
    unpacked = f"/opt/intel/{archive}"
    download = (
        f"curl -fsSLO {DOWNLOADS}/linux-latest/distro/{distro.archive}/{archive}.tgz",
        f"sha256sum {archive}.tgz   # compare: SHA256SUM_dcap_*.cfg in {DOWNLOADS}/dcap-latest/linux/",
        f"mkdir -p /opt/intel && tar xzf {archive}.tgz -C /opt/intel",
    )
    if distro.packager == "apt":
        return (
            *download,
            "install -d -m 0755 /etc/apt/keyrings",
            f"install -m 0644 {unpacked}/keys/intel-sgx.key {KEYRING}",
            f"echo 'deb [signed-by={KEYRING} arch=amd64] file://{unpacked} {distro.codename} main' "
            "> /etc/apt/sources.list.d/intel-sgx.list",
            "apt-get update",
        )
    if distro.packager == "zypper":
        return (
            *download,
            f"rpm --import {unpacked}/keys/intel-sgx.key",
            f"zypper addrepo --gpgcheck {unpacked} sgx_rpm_local_repo",
        )
    return (
        *download,
        "dnf install dnf-plugins-core",
        f"rpm --import {unpacked}/keys/intel-sgx.key",
        f"dnf config-manager --add-repo file://{unpacked}",
        f"dnf config-manager --save --setopt='*sgx_rpm_local_repo.gpgkey=file://{unpacked}/keys/intel-sgx.key'",
    )


def _with_repository(facts: Facts, packages: tuple[str, ...]) -> tuple[str, ...]:
    distro = distribution(facts)
    if distro.id == "fedora":
        return ("dnf list 'sgx-*' 'libsgx-*'   # Fedora 42 and later package SGX themselves",)
    repository = _repository(distro)
    if not repository:
        return ("# Intel has no current packages for this release: upgrade it, or run AESM in a container",)
    rpm = ("libsgx-urts",) if distro.packager in ("dnf", "zypper") else ()
    install = _install_command(distro, (*rpm, *packages))
    return repository if install is None else (*repository, install)


def install_quoting(facts: Facts) -> Remedy:
    """Install everything that makes DCAP quotes: AESM, its plug-ins and the quote provider."""
    return Remedy(
        "install-quoting",
        msg("Install Intel's packages for DCAP quotes: AESM, its quote plug-ins and the quote provider."),
        _with_repository(facts, QUOTING),
        root=True,
        link=GUIDE,
    )


def install_aesm(facts: Facts) -> Remedy:
    """Install AESM with the plug-ins that it has today."""
    return Remedy(
        "install-aesm",
        msg("Install AESM with its quote plug-ins and start it."),
        (*_with_repository(facts, AESM), "systemctl enable --now aesmd"),
        root=True,
        link=GUIDE,
    )


def install_plugins(facts: Facts) -> Remedy:
    """Add the quote plug-ins to an AESM that lacks them."""
    install = _install_command(distribution(facts), AESM[1:])
    return Remedy(
        "install-aesm-plugins",
        msg("Install the quote-ex and ECDSA plug-ins, and restart AESM."),
        (*((install,) if install else ()), "systemctl restart aesmd"),
        root=True,
        link=GUIDE,
    )


def install_quote_provider(facts: Facts) -> Remedy:
    """Install Intel's quote provider library."""
    install = _install_command(distribution(facts), ("libsgx-dcap-default-qpl",))
    return Remedy(
        "install-quote-provider",
        msg("Install the quote provider library; no other package brings it along."),
        (*((install,) if install else ()), "systemctl restart aesmd"),
        root=True,
        link=GUIDE,
    )


def upgrade_psw(facts: Facts, removed: Iterable[str]) -> Remedy:
    """Replace a PSW of the EPID days by the current one."""
    distro = distribution(facts)
    names = " ".join(sorted(removed))
    drop = {
        "apt": f"apt-get remove {names}",
        "dnf": f"dnf remove {names}",
        "zypper": f"zypper remove {names}",
        "none": "",
    }[distro.packager]
    return Remedy(
        "upgrade-psw",
        msg("Remove the packages that no longer exist, and install the current ones for DCAP quotes."),
        (*((drop,) if names and drop else ()), *_with_repository(facts, QUOTING)),
        root=True,
        link="https://github.com/intel/confidential-computing.sgx",
    )


def remove_packages(facts: Facts, names: Iterable[str]) -> Remedy:
    """Remove packages."""
    listed = " ".join(sorted(names))
    command = {
        "apt": f"apt-get remove {listed}",
        "dnf": f"dnf remove {listed}",
        "zypper": f"zypper remove {listed}",
        "none": "",
    }[distribution(facts).packager]
    return Remedy(
        "remove-packages",
        msg("Remove packages that conflict: {names}.", names=listed),
        (command,) if command else (),
        root=True,
    )


def renew_key(path: str) -> Remedy:
    """Fetch the current signing key again."""
    return Remedy(
        "renew-apt-key",
        msg("Fetch the repository's current signing key and compare its fingerprint."),
        (*_fetch_key(), f"# remove the old one if it is another file: {path}", "apt-get update"),
        root=True,
        link=GUIDE,
    )


def correct_repository(facts: Facts, path: str) -> Remedy:
    """Replace a repository entry that does not fit this release."""
    distro = distribution(facts)
    return Remedy(
        "correct-repository",
        msg("Replace the entry by the one for this release."),
        (f"rm {path}", *_repository(distro)),
        root=True,
        link=GUIDE,
    )
