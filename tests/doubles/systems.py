"""Real systems for tests: what debootstrap makes, kept under pytest's cache from run to run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

DEBIAN, UBUNTU = "http://deb.debian.org/debian", "http://archive.ubuntu.com/ubuntu"
SUITES = {"bullseye": DEBIAN, "bookworm": DEBIAN, "trixie": DEBIAN, "jammy": UBUNTU, "noble": UBUNTU}
USUAL = ("bookworm",)
"""The systems of an ordinary run; `make test-all` takes every one."""
EACH = [suite if suite in USUAL else pytest.param(suite, marks=pytest.mark.exhaustive) for suite in SUITES]
SCRIPTS = Path("/usr/share/debootstrap/scripts")
PACKAGES = {"bookworm": "systemd,udev,ca-certificates,python3,openssh-server,sudo"}
"""Of bookworm hosts of a fleet are made too."""


def needs(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("a tree of a system can only be made by root")


def reachable(mirror: str, suite: str) -> bool:
    try:
        return httpx.head(f"{mirror}/dists/{suite}/Release", timeout=10, follow_redirects=True).status_code == 200
    except httpx.HTTPError:
        return False


@dataclass
class Trees:
    """Systems as debootstrap leaves them, all made at the same time, each kept under pytest's cache."""

    folder: Path
    making: dict[str, subprocess.Popen[bytes]]
    unreachable: dict[str, str]

    def system(self, suite: str) -> Path:
        if suite in self.unreachable:
            pytest.skip(self.unreachable[suite])
        made = self.folder / suite
        if suite in self.making:
            status = self.making.pop(suite).wait(timeout=600)
            if status != 0:
                pytest.skip(f"debootstrap of {suite} ended with status {status}; see {made}.log")
            Path(f"{made}.new").rename(made)
        return made


@contextmanager
def made_systems(pytestconfig: pytest.Config) -> Iterator[Trees]:
    needs("debootstrap", "unshare", "mount", "dpkg-deb", "gpg")
    cache = pytestconfig.cache
    assert cache is not None
    found = Trees(cache.mkdir("systems"), {}, {})
    asked = SUITES if pytestconfig.getoption("--exhaustive") else {name: SUITES[name] for name in USUAL}
    for suite, mirror in asked.items():
        if (found.folder / suite).is_dir():
            continue
        if not reachable(mirror, suite):
            found.unreachable[suite] = f"no mirror of {suite} is reached at {mirror}"
        else:
            new = found.folder / f"{suite}.new"
            packages = PACKAGES.get(suite, "systemd,udev,ca-certificates")
            shutil.rmtree(new, ignore_errors=True)
            command = ["debootstrap", "--variant=minbase", f"--include={packages}", suite, str(new), mirror]
            if not (SCRIPTS / suite).exists():  # newer than this debootstrap
                command.append(str(SCRIPTS / ("jammy" if mirror == UBUNTU else "sid")))
            log = (found.folder / f"{suite}.log").open("wb")
            found.making[suite] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            log.close()
    try:
        yield found
    finally:
        for process in found.making.values():
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
