"""`sgxkit k8s device-plugin` under `sgxkit k8s conformance`, and plugins that fail it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from doubles.sgx_devices import make_host
from sgxkit.aesm.address import UnixAddress
from sgxkit.aesm.client import AesmClient
from sgxkit.lab.store import load_lab

pytest.importorskip("grpc", reason="grpcio is not installed")
SGXKIT = [sys.executable, "-m", "sgxkit"]


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path leaves room for the name of a socket."""
    return tmp_path_factory.mktemp("e")


def run_conformance(folder: Path, command: list[str], *more: str) -> tuple[int, dict[str, str], str]:
    process = subprocess.run(
        [
            *SGXKIT,
            "k8s",
            "conformance",
            "--json",
            "--plugin-dir",
            str(folder),
            "--plugin-command",
            shlex.join(command),
            *more,
        ],
        capture_output=True,
        check=False,
        text=True,
        timeout=280,
    )
    if process.returncode not in (0, 1):
        return process.returncode, {}, process.stdout + process.stderr
    document = json.loads(process.stdout)
    return process.returncode, {one["id"]: one["outcome"] for one in document["checks"]}, json.dumps(document)


def test_our_plugin_keeps_everything(short: Path) -> None:
    view = make_host(short)
    folder, cdi = short / "k", short / "cdi"
    command = [
        *SGXKIT, "k8s", "device-plugin", "--plugin-dir", str(folder), "--dev", str(view.dev), "--sys", str(view.sys),
        "--interval", "0.1", "--http", "127.0.0.1:19417", "--cdi-dir", str(cdi),
    ]  # fmt: skip
    code, outcomes, shown = run_conformance(
        folder, command, "--device-dir", str(view.dev), "--http", "127.0.0.1:19417", "--cdi-dir", str(cdi),
        "--restarts", "200",
    )  # fmt: skip
    assert code == 0, shown
    assert {name for name, outcome in outcomes.items() if outcome != "passed"} == {"pre-start"}, shown


BAD = """
import asyncio, sys
from pathlib import Path
import sgxkit.kubernetes.plugin_service as service
from sgxkit.kubernetes.allocation import allocate
from sgxkit.kubernetes.device_plugin import DevicePlugin, PluginSettings
from sgxkit.kubernetes.devices import HostView, Limits, sgx_resources
folder, dev, sys_folder = map(Path, sys.argv[1:])
service.allocate = lambda resource, ids, unhealthy, cdi: allocate(resource, resource.device_ids[:1], None)
service.prefer = lambda request, numa: request.available[:1]
asyncio.run(DevicePlugin(sgx_resources(Limits(4, 0)), PluginSettings(folder, HostView(dev, sys_folder), 0.1)).run())
"""


def test_a_plugin_that_takes_any_identifier_is_found_out(short: Path) -> None:
    view = make_host(short)
    script = short / "bad.py"
    script.write_text(BAD)
    code, outcomes, shown = run_conformance(
        short / "k",
        [sys.executable, str(script), str(short / "k"), str(view.dev), str(view.sys)],
        "--device-dir", str(view.dev), "--only", "refuses-unknown", "--only", "health", "--only", "preference",
        "--only", "ends", "--only", "grants",
    )  # fmt: skip
    assert code == 1, shown
    assert outcomes == {
        "refuses-unknown": "failed",
        "health": "failed",
        "preference": "failed",
        "ends": "failed",  # SIGTERM kills it
        "grants": "passed",
    }, shown


def test_where_no_plugin_registers_that_is_said(short: Path) -> None:
    code, _, shown = run_conformance(short / "k", [sys.executable, "-c", "pass"], "--wait", "1")
    assert code == 2
    assert "no plugin registered" in shown


def test_a_folder_in_use_is_not_emptied(short: Path) -> None:
    (short / "kubelet.sock").write_text("")
    (short / "kept").write_text("")
    code, _, shown = run_conformance(short, ["true"])
    assert code == 3
    assert "kubelet" in shown
    assert (short / "kept").exists()


def test_the_emulated_platform_quotes_for_pods(short: Path) -> None:
    environment = os.environ | {"SGXKIT_STATE_DIR": str(short / "state")}
    command = [
        *SGXKIT,
        "k8s",
        "device-plugin",
        "--json",
        "--plugin-dir",
        str(short / "k"),
        "--emulated",
        str(short / "l"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            printed = "".join(iter(process.stdout.readline, "}\n"))
            assert AesmClient(UnixAddress(short / "l" / "aesm.socket")).count_keys() > 0
            assert (short / "l" / "root.pem").stat().st_mode & 0o777 == 0o644
            assert json.loads((short / "l" / "collateral.json").read_text())
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
    assert process.returncode == 0
    document = json.loads(printed + "}")
    assert document["emulated"] is True
    assert load_lab("default", folder=short / "l" / "labs") == load_lab("default", folder=short / "state" / "labs")
    assert {one["name"] for one in document["resources"]} == {"sgx.sgxkit.dev/enclave", "sgx.sgxkit.dev/provision"}


@pytest.mark.parametrize(
    "options",
    [
        ["--enclave-limit", "0", "--provision-limit", "0"],
        ["--prefix", "kubernetes.io"],
        ["--enclave-limit", "10001"],
        ["--http", "here"],
        ["--emulated", "x", "--qe"],
        ["--cdi-gid", "7"],
    ],
)
def test_wrong_options_are_refused(options: list[str], tmp_path: Path) -> None:
    command = [*SGXKIT, "k8s", "device-plugin", "--plugin-dir", str(tmp_path), *options]
    process = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    assert process.returncode == 3, process.stderr
    assert "error:" in process.stderr
