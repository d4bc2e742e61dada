"""A small apt repository, made and signed anew in each run: packages that stand in for Intel's."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

AESM_FOLDER = "/opt/intel/sgx-aesm-service/aesm"
POSTINST = """#!/bin/sh
set -e
getent passwd aesmd > /dev/null || useradd --system --user-group --home-dir /var/opt/aesmd --no-create-home aesmd
echo made by a maintainer script > /etc/aesmd.made
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
"""
UNIT = f"""[Unit]
Description=Stands in for Intel's AESM
[Service]
RuntimeDirectory=aesmd
ExecStart={AESM_FOLDER}/aesm_service
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Debian:
    """One package: its dependencies, files, configuration files, and its postinst."""

    name: str
    depends: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    conffiles: tuple[str, ...] = ()
    postinst: str = ""


def intel_packages(service: str, *, pause: float = 0) -> tuple[Debian, ...]:
    """The packages that profile `attest` installs; `service` is the text of the program that serves AESM."""
    pausing = f"sleep {pause}\n" if pause else ""
    return (
        Debian("libsgx-urts"),
        Debian("libsgx-quote-ex", ("libsgx-urts",)),
        Debian("libsgx-dcap-ql", ("libsgx-urts",), postinst=f"#!/bin/sh\n{pausing}exit 0\n"),
        Debian(
            "libsgx-dcap-default-qpl",
            files=(
                (
                    "/etc/sgx_default_qcnl.conf",
                    '{\n  "pccs_url": "https://localhost:8081/sgx/certification/v4/"\n}\n',
                ),
            ),
            conffiles=("/etc/sgx_default_qcnl.conf",),
        ),
        Debian(
            "sgx-aesm-service",
            files=(
                ("/lib/systemd/system/aesmd.service", UNIT),
                (f"{AESM_FOLDER}/aesm_service", service),
                ("/etc/aesmd.conf", "# nothing\n"),
            ),
            conffiles=("/etc/aesmd.conf",),
            postinst=POSTINST,
        ),
        Debian("libsgx-aesm-quote-ex-plugin", ("sgx-aesm-service", "libsgx-aesm-ecdsa-plugin")),
        Debian("libsgx-aesm-ecdsa-plugin", ("libsgx-aesm-pce-plugin",)),
        Debian("libsgx-aesm-pce-plugin"),
    )


@dataclass(frozen=True)
class SignedRepository:
    """Where the repository lies, and the fingerprint of the key that signs it; the key is `folder`/key.asc."""

    folder: Path
    fingerprint: str


def make_repository(folder: Path, suites: tuple[str, ...], packages: tuple[Debian, ...]) -> SignedRepository:
    """Build the packages and a repository of them with one key; needs dpkg-deb and gpg."""
    home = folder.parent / f"{folder.name}-gnupg"
    home.mkdir(mode=0o700)
    environment = {**os.environ, "GNUPGHOME": str(home), "LC_ALL": "C"}

    def gpg(*arguments: str) -> str:
        command = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    gpg("--quick-gen-key", "Test repository", "rsa2048", "sign", "1y")
    listed = gpg("--list-keys", "--with-colons")
    fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
    pool = folder / "pool"
    pool.mkdir(parents=True)
    index = "".join(_built(package, pool) for package in packages)
    for suite in suites:
        binary = folder / "dists" / suite / "main" / "binary-amd64"
        binary.mkdir(parents=True)
        (binary / "Packages").write_text(index)
        (binary / "Packages.gz").write_bytes(gzip.compress(index.encode(), mtime=0))
        release = binary.parents[1]
        lines = [f"Suite: {suite}", f"Codename: {suite}", "Components: main", "Architectures: amd64",
                 "Date: Sat, 21 Nov 2026 00:00:00 UTC", "SHA256:"]  # fmt: skip
        for name in ("Packages", "Packages.gz"):
            data = (binary / name).read_bytes()
            lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/{name}")
        (release / "Release").write_text("\n".join(lines) + "\n")
        gpg("--clearsign", "--output", str(release / "InRelease"), str(release / "Release"))
    gpg("--armor", "--output", str(folder / "key.asc"), "--export", fingerprint)
    gpg("--output", str(folder / "key.gpg"), "--export", fingerprint)
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=False)
    return SignedRepository(folder, fingerprint)


def _built(package: Debian, pool: Path) -> str:
    tree = pool / f"{package.name}.tree"
    control = tree / "DEBIAN"
    control.mkdir(parents=True)
    depends = f"Depends: {', '.join(package.depends)}\n" if package.depends else ""
    stanza = (
        f"Package: {package.name}\nVersion: 2.29.100.1\nArchitecture: amd64\nMaintainer: Nobody <nobody@example>\n"
        f"{depends}Description: stands in for Intel's\n"
    )
    (control / "control").write_text(stanza)
    if package.conffiles:
        (control / "conffiles").write_text("".join(f"{path}\n" for path in package.conffiles))
    if package.postinst:
        (control / "postinst").write_text(package.postinst)
        (control / "postinst").chmod(0o755)
    for path, text in package.files:
        file = tree / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if path.startswith("/opt") else 0o644)
    archive = pool / f"{package.name}.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(archive)]
    subprocess.run(command, check=True, capture_output=True)
    data = archive.read_bytes()
    return (
        stanza.rstrip("\n") + f"\nFilename: pool/{archive.name}\nSize: {len(data)}\n"
        f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n"
    )
