"""The commands fit the distribution that /etc/os-release names."""

from __future__ import annotations

import pytest

from doubles.hosts import changed, old_psw
from sgxkit.host.facts import OsRelease
from sgxkit.host.profiles import PROFILES
from sgxkit.host.remedies import software
from sgxkit.host.remedies.distribution import from_os_release
from sgxkit.host.report import diagnose

RELEASES = [
    (OsRelease("ubuntu", ("debian",), "24.04", "noble", "Ubuntu"), "apt", None, True),
    (OsRelease("ubuntu", ("debian",), "20.04", "focal", "Ubuntu"), "apt", None, False),
    (OsRelease("linuxmint", ("ubuntu", "debian"), "22", "noble", "Mint"), "apt", None, True),
    (OsRelease("debian", (), "12", "bookworm", "Debian"), "apt", "Debian12", False),
    (OsRelease("debian", (), "13", "trixie", "Debian"), "apt", "Debian13", False),
    (OsRelease("rhel", ("fedora",), "9.6", "", "RHEL"), "dnf", "rhel9.6-server", False),
    (OsRelease("rhel", ("fedora",), "9.8", "", "RHEL"), "dnf", "rhel9.8-server", False),
    (OsRelease("centos", ("rhel", "fedora"), "9", "", "CentOS Stream"), "dnf", "centos-stream9", False),
    (OsRelease("rocky", ("rhel", "centos", "fedora"), "9.4", "", "Rocky"), "dnf", "centos-stream9", False),
    (OsRelease("fedora", (), "42", "", "Fedora"), "dnf", None, False),
    (OsRelease("anolis", ("rhel", "fedora", "centos"), "8.10", "", "Anolis"), "dnf", None, False),
    (OsRelease("azurelinux", (), "3.0", "", "Azure Linux"), "dnf", None, False),
    (OsRelease("sles", ("suse",), "15.7", "", "SLES"), "zypper", "suse15.7-server", False),
    (OsRelease("opensuse-leap", ("suse", "opensuse"), "15.6", "", "Leap"), "zypper", "suse15.7-server", False),
    (OsRelease("arch", (), "", "", "Arch"), "none", None, False),
]
PROGRAMS = {"apt": "apt-get", "dnf": "dnf", "zypper": "zypper"}


@pytest.mark.parametrize(("release", "packager", "archive", "online"), RELEASES)
def test_a_release_is_known(release: OsRelease, packager: str, archive: str | None, online: bool) -> None:
    found = from_os_release(release)
    assert (found.packager, found.archive, found.online) == (packager, archive, online)


@pytest.mark.parametrize("release", [release for release, *_ in RELEASES])
def test_no_other_distributions_commands_are_shown(release: OsRelease) -> None:
    facts = changed(old_psw(), "system", os_release=release)
    packager = from_os_release(release).packager
    others = {program for name, program in PROGRAMS.items() if name != packager}
    for profile in PROFILES.values():
        for finding in diagnose(facts, profile).findings:
            for line in (line for remedy in finding.verdict.remedies for line in remedy.commands):
                assert not others & set(line.split()), line


def test_the_repositories_are_trusted_by_their_own_key_only() -> None:
    for release, *_ in RELEASES:
        commands = "\n".join(software.install_quoting(changed(old_psw(), "system", os_release=release)).commands)
        assert "apt-key" not in commands
        assert ("signed-by=" in commands) == ("sources.list.d" in commands)
        assert "epid" not in commands
        assert "http://" not in commands
