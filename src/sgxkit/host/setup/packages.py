"""Package managers: their argument lists, what they would do, and what they did.

apt works with an index and a cache of its own folder (`CACHE`), removed afterwards: the host's index, which its owner
refreshes when they see fit, stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sgxkit.errors import SetupError
from sgxkit.host.setup.actions import InstallKernel, InstallPackages, Packager
from sgxkit.host.setup.journal import PackageChange
from sgxkit.host.setup.look import installed_packages
from sgxkit.host.setup.target import Target
from sgxkit.messages import msg

CACHE = "/var/cache/sgxkit"
_APT_FOLDERS = (f"{CACHE}/apt/lists/partial", f"{CACHE}/apt/archives/partial")
_APT = (
    "apt-get",
    "-q",
    "-y",
    "-o",
    f"Dir::State::Lists={CACHE}/apt/lists",
    "-o",
    f"Dir::Cache={CACHE}/apt",
    "-o",
    "Dpkg::Use-Pty=0",
    "-o",
    "Dpkg::Options::=--force-confold",
)


def install_arguments(
    action: InstallPackages | InstallKernel, *, apt: Sequence[str] = ("apt-get", "-y")
) -> list[str]:
    """The argument list that installs packages."""
    match action.packager:
        case "apt":
            target = ("-t", action.release) if action.release is not None else ()
            return [*apt, *target, "install", "--", *action.names]
        case "dnf":
            return ["dnf", "-y", "install", *action.names]
        case "zypper":
            return ["zypper", "--non-interactive", "install", *action.names]


def remove_arguments(packager: Packager, names: Iterable[str]) -> list[str]:
    """The argument list that removes packages and leaves their configuration."""
    match packager:
        case "apt":
            return ["apt-get", "-y", "remove", "--", *names]
        case "dnf":
            return ["dnf", "-y", "remove", *names]
        case "zypper":
            return ["zypper", "--non-interactive", "remove", *names]


def refresh(target: Target) -> None:
    """Fetch apt's index into our own folder."""
    for folder in _APT_FOLDERS:
        target.make_folders(folder)
    target.run([*_APT, "update"], timeout=900)


def finish_interrupted(target: Target) -> None:
    """Let dpkg finish what a run that was killed left half done."""
    if target.has("dpkg"):
        target.run(["dpkg", "--force-confold", "--configure", "-a"])


def clean(target: Target) -> None:
    """Remove our index and cache."""
    target.remove_tree(f"{CACHE}/apt")
    target.remove_empty([CACHE])


def changes(target: Target, action: InstallPackages | InstallKernel) -> tuple[PackageChange, ...]:
    """What installing would change; SetupError where it would remove something, for nobody asked for that.

    Only apt is asked beforehand; of others it is found out afterwards (`difference`).
    """
    if action.packager != "apt":
        return ()
    output = target.run(install_arguments(action, apt=(*_APT, "-s")), timeout=300).output
    removed = re.findall(r"^Remv (\S+)", output, re.M)
    if removed:
        raise SetupError(
            msg(
                "installing {names} would remove {removed}", names=", ".join(action.names), removed=", ".join(removed)
            ),
            hint=msg("remove them yourself first if that is what you want"),
        )
    return tuple(
        PackageChange(name, old or None, new)
        for name, old, new in re.findall(r"^Inst (\S+)(?: \[(\S+)\])? \((\S+) ", output, re.M)
    )


def install(target: Target, action: InstallPackages | InstallKernel) -> None:
    """Install packages."""
    target.run(install_arguments(action, apt=_APT), timeout=3600)


def remove(target: Target, packager: Packager, names: Sequence[str]) -> None:
    """Remove those of the packages that are installed."""
    there = installed_packages(target) or {}
    present = [name for name in names if name in there]
    if present:
        target.run(remove_arguments(packager, present), timeout=1800)


def difference(before: dict[str, str], after: dict[str, str]) -> tuple[PackageChange, ...]:
    """What changed between two lists of packages."""
    names = sorted({*before, *after})
    return tuple(
        PackageChange(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    )


def take_back(target: Target, packager: Packager, made: Sequence[PackageChange]) -> None:
    """Undo changes of packages: purge what was installed, put back the versions that were replaced or removed.

    Never removes what was not there through this change: dpkg and rpm refuse where something else needs it.
    """
    there = installed_packages(target) or {}
    fresh = [change.name for change in made if change.old is None and _present(target, packager, change.name, there)]
    replaced = [change for change in made if change.old is not None and there.get(change.name) != change.old]
    if fresh:
        command = ["dpkg", "--purge", *fresh] if packager == "apt" else ["rpm", "--erase", *fresh]
        target.run(command)
    if not replaced:
        return
    if packager == "apt":
        refresh(target)
        versions = [f"{change.name}={change.old}" for change in replaced]
        target.run([*_APT, "--allow-downgrades", "install", "--", *versions], timeout=1800)
        return
    versions = [f"{change.name}-{change.old}" for change in replaced]
    known_there = [change.name for change in replaced if change.name in there]
    verb = "downgrade" if known_there else "install"
    command = ["dnf", "-y", verb, *versions]
    if packager == "zypper":
        command = ["zypper", "--non-interactive", "install", "--oldpackage", *versions]
    target.run(command, timeout=1800)


def _present(target: Target, packager: Packager, name: str, there: dict[str, str]) -> bool:
    if packager != "apt":
        return name in there
    status = (target.read("/var/lib/dpkg/status") or b"").decode("utf-8", "replace")
    return re.search(rf"^Package: {re.escape(name)}$", status, re.M) is not None
