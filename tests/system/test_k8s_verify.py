"""`sgxkit k8s verify`: a pod's RA-TLS server, reached through kubectl; here one that forwards to this computer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sgxkit.dcap.collateral import export_bundle
from sgxkit.lab import publication
from sgxkit.lab.store import create_lab, root_certificate
from sgxkit.lab.world import new_world

SGXKIT = [sys.executable, "-m", "sgxkit"]
# What `kubectl port-forward` prints, with the port where the server of the test is.
KUBECTL = """#!{python}
import os, sys, time
assert "pod/app-1" in sys.argv and "apps" in sys.argv, sys.argv
print("Forwarding from 127.0.0.1:" + os.environ["TEST_PORT"] + " -> 8443", flush=True)
time.sleep(600)
"""
"""A relying party reads nothing else of it."""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SGXKIT_STATE_DIR", str(tmp_path / "state"))
    lab = create_lab(new_world("v", datetime.now(UTC)))
    (tmp_path / "collateral.json").write_text(export_bundle(publication.collateral(lab, datetime.now(UTC))))
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(KUBECTL.format(python=sys.executable))
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    command = [*SGXKIT, "ratls", "serve", "--listen", "127.0.0.1:0", "--lab", "v", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        timer = threading.Timer(60, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            text = ""
            while not text.endswith("}\n"):
                line = process.stdout.readline()
                assert line, text
                text += line
            port = str(json.loads(text)["listening"]).rpartition(":")[2]
            yield environment | {"TEST_PORT": port}
        finally:
            timer.cancel()
            process.terminate()


def verify(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SGXKIT, "k8s", "verify", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )


def test_a_pods_enclave_is_verified_under_the_root_that_is_named(server: dict[str, str], tmp_path: Path) -> None:
    expected = ("--collateral", str(tmp_path / "collateral.json"), "--trusted-root", str(root_certificate("v")))
    done = verify(server, "apps/app-1", *expected, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["verdict"] == "verified"
    done = verify(server, "apps/app-1", *expected, "--mrenclave", "00" * 32)
    assert done.returncode == 1, done.stdout + done.stderr
    done = verify(server, "apps/app-1", *expected[:2])
    assert done.returncode == 1, "a lab's quote is not Intel's"


@pytest.mark.parametrize("pod", ["", "-n", "a/b/c", "Pod", "apps/--context"])
def test_what_is_no_pod_is_refused(environment: dict[str, str], pod: str) -> None:
    assert verify(environment, "--", pod).returncode == 3


def test_a_pod_that_cannot_be_reached(environment: dict[str, str]) -> None:
    done = verify(environment, "apps/other")
    assert done.returncode == 2, done.stderr
    assert "kubectl cannot forward" in done.stderr
