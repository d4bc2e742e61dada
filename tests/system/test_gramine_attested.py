"""From `gramine new` to a secret: a Python project rendered, signed, started, attested, and given its secret.

Where Gramine is not installed its PAL is one of our own making, and where `gramine-sgx` is missing the program is not
started; what speaks for the enclave is then a lab's quote with the measurement and the signer of what was signed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from doubles.gramine import gramine_installation
from doubles.ratls import WRONG, get, https, identity, judge, secrets_server, wrong_peer
from sgxkit.dcap import Policy
from sgxkit.emulator.keys import SecsIdentity
from sgxkit.enclave.signing import generate_key, write_private_key
from sgxkit.enclave_side import EnclaveSideError, fetch_gramine_secret, fetch_secret
from sgxkit.gramine.installation import find_installation
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.lab.authority import Lab
from sgxkit.lab.store import create_lab, seed_from_text
from sgxkit.lab.world import new_world
from sgxkit.verifier.secret_release import Secrets

APP = "service"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("labs")
    return create_lab(new_world("attested", datetime.now(UTC)), seed=seed_from_text("attested"), folder=folder)


def sgxkit(*arguments: str | Path, folder: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "SGXKIT_CACHE_DIR": str(folder / ".cache")}
    done = subprocess.run(
        [sys.executable, "-m", "sgxkit", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of `gramine new --template python`, rendered and signed by the commands."""
    if not Path("/usr/bin/python3").exists() or shutil.which("ldd") is None:
        pytest.skip("the template is about the system's Python, which is not installed")
    base = tmp_path_factory.mktemp("attested")
    write_private_key(base / "key.pem", generate_key())
    found = find_installation()
    gramine = gramine_installation(base / "gramine") if found is None or not found.libpal.is_file() else found.folder
    sgxkit("gramine", "new", APP, "--template", "python", folder=base)
    folder = base / APP
    sgxkit("gramine", "render", f"{APP}.manifest.template", "--gramine", gramine, folder=folder)
    signed = json.loads(
        sgxkit(
            *("--json", "gramine", "sign", f"{APP}.manifest", "--gramine", gramine),
            *("--key", base / "key.pem", "--date", "0000-00-00"),
            folder=folder,
        )
    )
    shown = json.loads(
        sgxkit("--json", "gramine", "inspect", f"{APP}.manifest.sgx", "--gramine", gramine, folder=folder)
    )
    assert shown["mrenclave"] == signed["mrenclave"]
    assert shown["refused"] == []
    return folder


@pytest.fixture(scope="module")
def enclave(project: Path) -> SecsIdentity:
    """What the processor would say of the enclave that was signed."""
    sigstruct = Sigstruct.from_bytes((project / f"{APP}.sig").read_bytes())
    assert sigstruct.signature_holds
    return SecsIdentity(
        mrenclave=sigstruct.enclavehash,
        mrsigner=sigstruct.mrsigner,
        attributes=sigstruct.attributes,
        isvprodid=sigstruct.isvprodid,
        isvsvn=sigstruct.isvsvn,
    )


@pytest.fixture(scope="module")
def policy(enclave: SecsIdentity) -> Policy:
    return Policy(
        mrenclave=frozenset({enclave.mrenclave}),
        mrsigner=frozenset({enclave.mrsigner}),
        isvprodid=enclave.isvprodid,
        minimum_isvsvn=enclave.isvsvn,
    )


def test_the_enclave_runs_as_far_as_the_installed_parts_allow(project: Path) -> None:
    installation = find_installation()
    if shutil.which("gramine-sgx") is None or installation is None or not installation.libpal.is_file():
        pytest.skip("gramine-sgx is not installed: rendered, signed and measured, not started")
    assert "Hello from Python" in sgxkit("gramine", "run", "--emulated", APP, folder=project)


def test_it_is_accepted_as_what_was_signed(lab: Lab, tmp_path: Path, enclave: SecsIdentity, policy: Policy) -> None:
    with https(identity(lab, enclave), tmp_path) as port:
        assert get(port, judge(lab, policy)) == 200


@pytest.mark.parametrize("wrong", WRONG)
def test_eight_wrong_ones_are_refused(
    lab: Lab, tmp_path: Path, enclave: SecsIdentity, policy: Policy, wrong: str
) -> None:
    shown, peers, refusal = wrong_peer(wrong, lab, policy, enclave)
    with https(shown, tmp_path) as port, pytest.raises(refusal):
        get(port, peers)


def test_its_secret_is_released_once_and_only_then(
    lab: Lab, tmp_path: Path, enclave: SecsIdentity, policy: Policy
) -> None:
    record = tmp_path / "releases"
    secrets = Secrets({"disk": b"sixteen bytes..!"}, once=True, record=record)
    with secrets_server(judge(lab, policy), tmp_path, secrets) as served:
        for wrong in (
            replace(enclave, mrenclave=bytes(32)),
            replace(enclave, mrsigner=bytes(32)),
            replace(enclave, isvsvn=enclave.isvsvn - 1),
        ):
            with pytest.raises(EnclaveSideError):
                fetch_gramine_secret(served.address, served.ca_file, identity(lab, wrong))
        with pytest.raises(EnclaveSideError):
            fetch_gramine_secret(served.address, served.ca_file, identity(lab, enclave, debug=True))
        assert not record.exists()
        assert fetch_gramine_secret(served.address, served.ca_file, identity(lab, enclave)) == b"sixteen bytes..!"
        with pytest.raises(EnclaveSideError):
            fetch_gramine_secret(served.address, served.ca_file, identity(lab, enclave))
        with pytest.raises(EnclaveSideError, match="410"):
            fetch_secret("disk", served.address, served.ca_file, identity(lab, enclave))
    (release,) = [json.loads(line) for line in record.read_text().splitlines()]
    assert release["mrenclave"] == enclave.mrenclave.hex()
