"""Text of the files that actions amount to: one place for what is applied, compared and exported."""

from __future__ import annotations

from sgxkit.host.setup.actions import AddAptRepository, AddRpmRepository, SetFstabLine


def apt_source(action: AddAptRepository) -> str:
    """A deb822 source (sources.list(5), apt 1.1 and later)."""
    return (
        "Types: deb\n"
        f"URIs: {action.uri}\n"
        f"Suites: {action.suite}\n"
        f"Components: {' '.join(action.components)}\n"
        "Architectures: amd64\n"
        f"Signed-By: {action.keyring}\n"
    )


def rpm_repository_path(action: AddRpmRepository) -> str:
    """Where dnf or zypper looks for repositories."""
    folder = "/etc/yum.repos.d" if action.packager == "dnf" else "/etc/zypp/repos.d"
    return f"{folder}/{action.name}.repo"


def rpm_repository(action: AddRpmRepository) -> str:
    """A repository file (dnf.conf(5), zypper(8)) whose packages must be signed by the key."""
    return (
        f"[{action.name}]\n"
        f"name={action.name}\n"
        f"baseurl={action.uri}\n"
        "enabled=1\n"
        "gpgcheck=1\n"
        f"gpgkey=file://{action.keyring}\n"
    )


def fstab_lines_for(text: str, mount_point: str) -> list[str]:
    """The lines of an fstab that mount something at `mount_point`."""
    return [line for line in text.splitlines() if _mounts(line, mount_point)]


def fstab_with(text: str, action: SetFstabLine) -> str:
    """The fstab with `action`'s line in the place of the first for its mount point, or at the end."""
    lines, done = [], False
    for line in text.splitlines():
        if not _mounts(line, action.mount_point):
            lines.append(line)
        elif not done:
            lines.append(action.line)
            done = True
    return "\n".join([*lines, *(() if done else (action.line,))]) + "\n"


def _mounts(line: str, mount_point: str) -> bool:
    return not line.lstrip().startswith("#") and line.split()[1:2] == [mount_point]
