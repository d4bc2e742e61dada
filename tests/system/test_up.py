"""`sgxkit up`: all of it on an emulated platform, what it leaves behind, and how it ends when something is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sgxkit.aesm.address import parse_address
from sgxkit.aesm.client import AesmClient
from sgxkit.cli import main
from sgxkit.dcap.quote import parse_quote
from sgxkit.isa.report import ReportBody
from sgxkit.sample.images import Sample

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/schema/up.schema.json").read_text())
STEPS = list(SCHEMA["properties"]["steps"]["items"]["properties"]["step"]["enum"])


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that could be left behind is in this folder; its name is short, for sockets are in it."""
    monkeypatch.setenv("SGXKIT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sgxkit", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def document(*arguments: str, code: int = 0) -> dict[str, Any]:
    outcome = run("up", "--json", *arguments)
    assert outcome.returncode == code, outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_all_of_it_works_twice_in_a_row_and_leaves_nothing(surroundings: Path) -> None:
    for _ in range(2):
        found = document("--emulated")
        assert [step["step"] for step in found["steps"]] == STEPS
        assert (found["ok"], found["emulated"], found["tcb_status"]) == (True, True, "UpToDate")
        assert not found["trust_anchor"]["intel"]
        body = parse_quote(bytes.fromhex(found["quote"])).body
        assert isinstance(body, ReportBody)
        assert body.mrenclave == Sample.SAMPLE.sigstruct.enclavehash == bytes.fromhex(found["identity"]["mrenclave"])
        assert not body.attributes.debug
        assert left_in(surroundings) == ["tmp"]


def test_it_says_that_it_is_emulated_and_where_to_go_next() -> None:
    outcome = run("up", "--emulated")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "it protects nothing" in outcome.stdout
    assert "MRENCLAVE  " + Sample.SAMPLE.sigstruct.enclavehash.hex() in outcome.stdout
    assert "sgxkit up --keep" in outcome.stdout
    assert "模拟平台" in run("up", "--emulated", "--lang", "zh").stdout


def test_what_is_kept_serves_other_programs_until_it_is_stopped(surroundings: Path) -> None:
    found = document("--keep")
    try:
        variables = found["environment"]
        client = AesmClient(parse_address(variables["SGXKIT_AESM"]), timeout=10)
        assert client.quote_size(client.select_key()) > 4000
        configuration = json.loads(Path(variables["QCNL_CONF_PATH"]).read_text())
        assert configuration["pccs_url"].endswith("/sgx/certification/v4/")
        assert document("--keep")["environment"] == variables
    finally:
        stopped = run(*found["stop"][1:])
    assert stopped.returncode == 0
    assert run("lab", "rm", "up").returncode == 0
    assert left_in(surroundings / "tmp") == left_in(surroundings / "state" / "labs") == []


def test_a_lab_of_ones_own_is_used_with_all_that_happened_to_it(surroundings: Path) -> None:
    assert run("lab", "create", "mine", "--cpu", "sapphire-rapids").returncode == 0
    before = left_in(surroundings / "state")
    assert document("--lab", "mine")["lab"] == "mine"
    assert set(left_in(surroundings / "state")) - set(before) == {"labs/mine/.serving.lock"}
    assert run("lab", "revoke-pck", "mine").returncode == 0
    found = document("--lab", "mine", code=1)
    assert [step["step"] for step in found["steps"] if not step["ok"]] == ["verify"]
    assert "revoked" in found["steps"][-1]["error"]["message"]
    outcome = run("up", "--lab", "mine")
    assert outcome.returncode == 1
    assert "stopped: " in outcome.stdout
    assert run("up", "--lab", "none").returncode == 3


def test_a_policy_that_is_not_met_stops_it(surroundings: Path) -> None:
    (surroundings / "policy.toml").write_text("minimum_tcb_evaluation_data_number = 1000\n")
    found = document("--emulated", "--policy", str(surroundings / "policy.toml"), code=1)
    assert found["steps"][-1]["error"]["code"] == "policy"


def test_a_signer_that_the_processor_does_not_launch_is_the_first_thing_that_fails() -> None:
    assert run("lab", "create", "old", "--cpu", "skylake-client").returncode == 0
    found = document("--lab", "old", code=1)
    assert [step["ok"] for step in found["steps"]] == [True, True, False]
    error = found["steps"][-1]["error"]
    assert error["code"] == "launch-control"
    assert "FLC" in error["hint"]


@pytest.mark.parametrize("document", ["README.md", "README.zh-CN.md"])
def test_the_run_in_the_readme_is_what_it_prints(document: str) -> None:
    """But for times, for what it says of the computer, and for the length of signatures in certificates."""

    def told(text: str) -> list[str]:
        return [re.sub(r"^(✔|yes) +\d+\.\d\d s |\d{4} bytes", "", line).strip() for line in text.splitlines()]

    printed = told(run("up", "--emulated").stdout)
    (shown,) = (
        block for block in (ROOT / document).read_text().split("```") if "launched the sample enclave" in block
    )
    lines = told(shown.removeprefix("text\n"))
    lines = lines[lines.index("it protects nothing: it is for development and tests") :]
    assert len(lines) > 10
    assert [line for line in lines if line not in printed] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [0.2, 0.5, 0.7, 0.9])
def test_interrupted_at_any_moment_it_leaves_nothing(surroundings: Path, number: int, moment: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sgxkit", "up", "--emulated"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(moment)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    assert left_in(surroundings) == ["tmp"]


@pytest.mark.parametrize("moment", [0.6, 1.0, 1.2])
def test_interrupted_while_keeping_it_keeps_all_or_nothing(surroundings: Path, moment: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sgxkit", "up", "--keep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    status = run("lab", "status", "up")
    if process.returncode == 0:
        assert status.returncode == 0
        assert run("lab", "stop", "up").returncode == 0
    else:
        assert status.returncode == 3, "there is no such lab"
        assert [path for path in left_in(surroundings) if "labs/" in path] == []


def test_two_at_the_same_time_keep_the_same_lab() -> None:
    command = [sys.executable, "-m", "sgxkit", "up", "--keep", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0] for process in both]
    try:
        assert [process.returncode for process in both] == [0, 0]
        first, second = (json.loads(text)["environment"] for text in printed)
        assert first == second
    finally:
        assert run("lab", "stop", "up").returncode == 0


def test_options_for_hardware_are_not_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["up", "--emulated", "--pcs", "http://localhost:1"]) == 3
    assert main.run(["up", "--lab", "mine", "--trusted-root", "root.pem"]) == 3
    assert capsys.readouterr().err.count("--pcs, --pccs and --trusted-root go with none of") == 2


def test_a_home_that_cannot_be_written_does_not_matter(surroundings: Path) -> None:
    nowhere = surroundings / "file"
    nowhere.write_text("")
    found = run("up", "--emulated", HOME=str(nowhere), XDG_STATE_HOME=str(nowhere), SGXKIT_STATE_DIR=str(nowhere))
    assert (found.returncode, found.stderr) == (0, "")
    kept = run("up", "--keep", SGXKIT_STATE_DIR=str(nowhere))
    assert kept.returncode == 3
    assert "cannot be written" in kept.stderr
    without = run("up", "--emulated", TMPDIR=str(nowhere))
    assert without.returncode in (0, 3)  # Python looks for another folder


def test_hardware_is_insisted_on(capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/sgx_enclave").exists():
        pytest.skip("this machine has SGX")
    assert main.run(["up", "--hardware"]) in (1, 2)
    printed = capsys.readouterr()
    assert "What is missing" in printed.out
    assert "sgxkit up --emulated" in printed.err
    assert main.run(["up", "--hardware", "--keep"]) == 3
