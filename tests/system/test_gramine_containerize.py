"""`sgxkit gramine containerize` as people run it: from an image to what is signed, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from doubles.gramine import gramine_installation
from doubles.images import BASE, docker_save, file, layer, oci_layout
from sgxkit.enclave.signing import generate_key, write_private_key


@pytest.fixture
def here(tmp_path: Path) -> Path:
    oci_layout(tmp_path / "image")
    return tmp_path


def sgxkit(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sgxkit", *arguments],
        cwd=folder,
        env={**os.environ, "LC_ALL": "C.UTF-8", "SGXKIT_CACHE_DIR": str(folder / ".cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_is_made_can_be_rendered_and_signed(here: Path) -> None:
    said = sgxkit("gramine", "containerize", "image", "--json", folder=here)
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    assert document["program"] == "/usr/bin/program"
    assert "web-gramine/Containerfile" in document["made"]
    gramine = gramine_installation(here / "gramine")
    write_private_key(here / "key.pem", generate_key())
    project = here / "web-gramine"
    done = sgxkit("gramine", "render", "web-gramine.manifest.template", "--gramine", gramine, folder=project)
    assert done.returncode == 0, done.stderr
    done = sgxkit(
        *("gramine", "sign", "web-gramine.manifest", "--gramine", gramine, "--key", here / "key.pem", "--json"),
        folder=project,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trusted_files"] == document["trusted_files"] + 1


def test_twice_and_refusals(here: Path) -> None:
    docker_save(here / "saved.tar")
    assert sgxkit("gramine", "containerize", "saved.tar", "-o", "web", folder=here).returncode == 0
    again = sgxkit("gramine", "containerize", "saved.tar", "-o", "web", folder=here)
    assert (again.returncode, "is there already" in again.stderr) == (3, True)
    oci_layout(here / "hostile", (BASE, layer(file("../../\x1b[31mevil", b"x"))))
    refused = sgxkit("gramine", "containerize", "hostile", "-o", "other", folder=here)
    assert refused.returncode == 3
    assert "leads out of the image" in refused.stderr
    assert "\x1b" not in refused.stderr
    assert not (here / "other").exists()
    chinese = sgxkit("--lang", "zh", "gramine", "containerize", "hostile", "-o", "other", folder=here)
    assert "通向镜像之外" in chinese.stderr
    assert sgxkit("gramine", "containerize", "nothing", folder=here).returncode == 3
