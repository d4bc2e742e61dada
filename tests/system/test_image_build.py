"""The image of the programs, built without a network from a base tar and wheels, and run with no right at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MATERIAL = Path(os.environ.get("SGXKIT_IMAGE_MATERIAL", ROOT / ".tools" / "images"))
IMAGE = "localhost/sgxkit:test"

if shutil.which("podman") is None:
    pytest.skip("podman is not installed", allow_module_level=True)
if os.geteuid() != 0:
    pytest.skip("building with podman in a folder of its own needs root here", allow_module_level=True)
if not (MATERIAL / "base.tar").exists():
    pytest.skip(f"{MATERIAL} has no base.tar: run scripts/image_base.sh", allow_module_level=True)
RUNC = shutil.which("runc") or os.environ.get("SGXKIT_RUNC")
if RUNC is None:
    pytest.skip("runc is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    folder = tmp_path_factory.mktemp("podman")
    assert RUNC is not None
    command = ["podman", "--root", str(folder / "store"), "--runroot", str(folder / "run"), "--runtime", RUNC]
    yield command
    subprocess.run([*command, "rmi", "--all", "--force"], capture_output=True, check=False)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_built_offline_and_runs_with_nothing(podman: list[str]) -> None:
    run(*podman, "import", "--quiet", str(MATERIAL / "base.tar"), "localhost/base:test")
    # Without isolation by containers there is the host's network: here one with nothing in it.
    run(
        "unshare", "--net", *podman, "build", "--isolation", "chroot", "--network", "host",
        "--build-arg", "BASE=localhost/base:test",
        "--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/wheels",
        "--volume", f"{MATERIAL / 'wheels'}:/wheels:ro", "--file", "images/sgxkit/Containerfile", "--tag", IMAGE, ".",
    )  # fmt: skip
    start = [
        *podman, "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL",
        "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000",
    ]  # fmt: skip
    assert run(*start, IMAGE, "--version").startswith("sgxkit ")
    assert "uid=65532" in run(*start, "--entrypoint", "id", IMAGE)
    document = json.loads(run(*start, "--entrypoint", "cat", IMAGE, "/opt/sgxkit/sbom.cdx.json"))
    names = {one["name"].lower() for one in document["components"]}
    assert {"sgxkit", "grpcio", "cryptography", "libc6"} <= names
    assert "pytest" not in names
