"""`sgxkit k8s node-agent` against an API server, as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from doubles.api_server import FakeApiServer, make_node, serving

SGXKIT = [sys.executable, "-m", "sgxkit", "k8s", "node-agent"]


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with serving(FakeApiServer(nodes={"a": make_node("a")})) as found:
        yield found


@pytest.fixture
def kubeconfig(server: FakeApiServer, tmp_path: Path) -> str:
    path = tmp_path / "config"
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": server.token}}],
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)


def run(*arguments: str) -> tuple[int, str, str]:
    process = subprocess.run([*SGXKIT, *arguments], capture_output=True, text=True, timeout=120, check=False)
    return process.returncode, process.stdout, process.stderr


def test_an_emulated_node_is_listed_and_taken_back(server: FakeApiServer, kubeconfig: str) -> None:
    before = server.nodes["a"]
    common = ["--node", "a", "--kubeconfig", kubeconfig, "--emulated", "128Mi"]
    code, shown, _ = run(*common, "--dry-run", "--json")
    assert code == 0
    assert {one["path"] for one in json.loads(shown)["operations"]} >= {"/status/capacity/sgx.sgxkit.dev~1epc"}
    assert server.nodes["a"] == before, "nothing was changed"
    assert run(*common, "--once")[0] == 0
    assert server.nodes["a"]["status"]["capacity"]["sgx.sgxkit.dev/epc"] == str(128 << 20)
    assert server.nodes["a"]["metadata"]["labels"]["sgx.sgxkit.dev/emulated"] == "true"
    code, shown, _ = run(*common, "--remove", "--json")
    assert (code, json.loads(shown)) == (0, {"removed": True})
    assert server.nodes["a"] == before


def test_it_goes_round_until_it_is_ended(server: FakeApiServer, kubeconfig: str) -> None:
    command = [*SGXKIT, "--node", "a", "--kubeconfig", kubeconfig, "--emulated", "128Mi", "--interval", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while len(server.calls) < 3 and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert [call.verb for call in server.calls[:3]] == ["get", "patch", "get"]
    assert "protects nothing" in errors


def test_the_file_for_node_feature_discovery(tmp_path: Path) -> None:
    code, _, errors = run("--nfd", str(tmp_path / "features.d"), "--emulated", "128Mi", "--once")
    assert code == 0, errors
    text = (tmp_path / "features.d" / "sgxkit").read_text()
    assert "sgx.sgxkit.dev/emulated=true" in text
    assert "sgx.sgxkit.dev/epc=134217728" in text


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--once"], 3, "which node"),
        (["--once", "--node", "a", "--kubeconfig", "absent"], 3, "cannot be read"),
        (["--once", "--node", "a", "--emulated", "much"], 3, "not a size"),
        (["--once", "--node", "a", "--prefix", "kubernetes.io"], 3, "domain"),
    ],
)
def test_wrong_options_are_refused(options: list[str], code: int, text: str) -> None:
    found, _, errors = run(*options)
    assert found == code, errors
    assert text in errors


def test_a_node_that_the_server_does_not_know(kubeconfig: str) -> None:
    code, shown, _ = run("--once", "--node", "b", "--kubeconfig", kubeconfig, "--emulated", "128Mi", "--json")
    assert code == 2
    assert json.loads(shown)["error"]["code"] == "api-server"
