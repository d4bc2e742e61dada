"""`sgxkit run`: real programs under the tracer."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sgxkit.dcap.collateral import export_bundle, write_bundle
from sgxkit.lab import publication
from sgxkit.lab.authority import Lab
from sgxkit.lab.store import load_lab, root_certificate

CONFORMANCE = Path(__file__).parent.parent / "conformance"
SECONDS = 240


@pytest.fixture(scope="module", autouse=True)
def a_machine_that_can() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("programs run under the tracer on x86-64 Linux only")
    tried = subprocess.run([sys.executable, "-c", _TRY], capture_output=True, text=True, check=False, timeout=SECONDS)
    if tried.returncode:
        pytest.skip(f"programs cannot be traced here: {tried.stderr.strip().splitlines()[-1]}")


_TRY = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
pid = os.fork()
if not pid:
    signal.pause()
failed = libc.ptrace(0x4206, pid, None, ctypes.c_void_p(0x100000)) < 0
number = ctypes.get_errno()
os.kill(pid, signal.SIGKILL)
if failed:
    sys.exit(f"ptrace: {os.strerror(number)}")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The conformance suite, compiled and signed."""
    for tool in ("gcc", "make", "objcopy"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("conformance")
    command = ["make", "-C", str(CONFORMANCE), f"BUILD={folder}", f"PYTHON={sys.executable}", "CC=gcc"]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "SGXKIT_STATE_DIR": str(tmp_path / "state")}


def sgxkit_run(
    environment: dict[str, str], *arguments: str | Path, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sgxkit", "run", *options, "--", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)


def with_signature(environment: dict[str, str], built: Path) -> dict[str, str]:
    return {**environment, "CONFORMANCE_SIGSTRUCT": str(built / "enclave.sigstruct")}


def test_the_conformance_suite_passes(built: Path, environment: dict[str, str]) -> None:
    done = sgxkit_run(with_signature(environment, built), built / "suite")
    assert [line for line in done.stdout.splitlines() if not line.startswith("ok ")][:-1] == []
    assert done.stdout.splitlines()[-1] == f"1..{len(done.stdout.splitlines()) - 1}"
    assert (done.returncode, done.stderr) == (0, "")


def test_a_quote_from_an_unmodified_program_verifies(
    built: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    done = sgxkit_run(with_signature(environment, built), built / "quote", tmp_path / "quote")
    assert done.returncode == 0, done.stderr
    labs = tmp_path / "state" / "labs"
    lab = load_lab("default", folder=labs)
    bundle = publication.collateral(lab, datetime.now(UTC))
    write_bundle(tmp_path / "collateral.json", bundle)
    mrenclave = (built / "enclave.sigstruct").read_bytes()[960:992].hex()
    command = [sys.executable, "-m", "sgxkit", "--json", "quote", "verify", str(tmp_path / "quote")]
    command += ["--trusted-root", str(root_certificate("default", folder=labs)), "--collateral"]
    command += [str(tmp_path / "collateral.json"), "--mrenclave", mrenclave]
    verified = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    _verify_with_dcap_qvl((tmp_path / "quote").read_bytes(), lab)


def _verify_with_dcap_qvl(quote: bytes, lab: Lab) -> None:
    """An independent verifier says the same under the lab's root."""
    dcap_qvl = pytest.importorskip("dcap_qvl", reason="dcap-qvl is not installed")
    bundle = publication.collateral(lab, datetime.now(UTC))
    pieces = dcap_qvl.QuoteCollateralV3.from_json(export_bundle(bundle))
    assert (
        str(dcap_qvl.verify_with_root_ca(quote, pieces, lab.hierarchy.root.der, int(time.time())).status)
        == "UpToDate"
    )


def test_our_own_driver_code_passes(environment: dict[str, str], tmp_path: Path) -> None:
    script = 'url=$(sed -n \'s|.*"pccs_url": "\\(.*\\)/sgx/certification/v4/".*|\\1|p\' /etc/sgx_default_qcnl.conf);'
    script += f' exec "{sys.executable}" -m sgxkit up --hardware --pcs "$url" --trusted-root'
    script += f' "{root_certificate("default", folder=tmp_path / "state" / "labs")}"'
    done = sgxkit_run(environment, "sh", "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "under a root that is not Intel's" in done.stdout


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", -signal.SIGTERM), ("kill -KILL $$", -9)]
)
def test_the_program_ends_as_without_us(script: str, code: int, environment: dict[str, str]) -> None:
    assert sgxkit_run(environment, "sh", "-c", script).returncode == code


def test_what_cannot_be_run(environment: dict[str, str], tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    missing, denied = sgxkit_run(environment, "/no/such/program"), sgxkit_run(environment, text)
    assert (missing.returncode, denied.returncode) == (127, 126)
    assert "Traceback" not in missing.stderr + denied.stderr


def test_the_device_has_another_name_if_that_can_be_a_path(environment: dict[str, str]) -> None:
    done = sgxkit_run(environment, "readlink", "/dev/isgx", options=("--device", "/dev/isgx"))
    assert (done.returncode, done.stdout) == (0, "/dev/sgx_enclave\n")
    relative = sgxkit_run(environment, "true", options=("--device", "isgx"))
    assert (relative.returncode, relative.stderr) == (3, "error: isgx is not absolute\n")


def test_the_machine_looks_like_one_with_sgx(environment: dict[str, str]) -> None:
    script = "ls /dev | grep sgx; readlink /dev/sgx/enclave; grep -c 'flags.* sgx sgx_lc' /proc/cpuinfo; "
    script += (
        "test -c /dev/sgx_provision && grep -o pccs_url /etc/sgx_default_qcnl.conf; cd /dev; stat -c %F sgx_enclave"
    )
    done = sgxkit_run(environment, "sh", "-c", script)
    processors = Path("/proc/cpuinfo").read_text().count("\nflags")
    lines = done.stdout.split("\n")
    assert lines[:3] == ["sgx", "sgx_enclave", "sgx_provision"]
    assert lines[3:5] == ["../sgx_enclave", str(processors)]
    assert lines[5:7] == ["pccs_url", "character special file"]
    assert not Path("/dev/sgx_enclave").exists() or done.returncode == 0


def test_folders_that_the_host_has_not_can_be_listed(environment: dict[str, str]) -> None:
    if Path("/dev/sgx").exists():
        pytest.skip("this machine has /dev/sgx itself")
    script = (
        "ls -l /dev/sgx /dev/sgx_enclave > /dev/null && ls /dev/sgx && ls -d /dev/sgx/* && ls /dev | grep -c sgx$"
    )
    done = sgxkit_run(environment, "sh", "-c", script)
    assert (done.stdout.split(), done.stderr) == (
        ["enclave", "provision", "/dev/sgx/enclave", "/dev/sgx/provision", "1"],
        "",
    )


_LISTINGS = """
import os
folder = os.open("/dev/sgx", os.O_RDONLY)
print(sorted(os.listdir(folder)))  # it duplicates the descriptor
os.close(folder)
first = os.open("/dev", os.O_RDONLY)
print("null" in os.listdir(first))
print(os.stat("sgx/enclave", dir_fd=first).st_rdev == os.stat("/dev/sgx_enclave").st_rdev)
"""


def test_the_folder_above_is_itself_after_the_one_that_the_host_has_not(environment: dict[str, str]) -> None:
    done = sgxkit_run(environment, sys.executable, "-c", _LISTINGS)
    assert (done.stdout.splitlines()[1:], done.stderr) == (["True", "True"], "")
    if not Path("/dev/sgx").exists():
        assert done.stdout.splitlines()[0] == "['enclave', 'provision']"


def test_virtual_files_cannot_be_written(environment: dict[str, str]) -> None:
    done = sgxkit_run(environment, "sh", "-c", "echo x > /etc/sgx_default_qcnl.conf")
    assert done.returncode != 0
    assert "Permission denied" in done.stderr or "cannot create" in done.stderr


def test_signals_are_passed_on(environment: dict[str, str]) -> None:
    script = "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    command = [sys.executable, "-m", "sgxkit", "run", "--", "sh", "-c", script]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "told\n"
    assert process.returncode == 5


def test_the_program_dies_with_the_tracer(environment: dict[str, str]) -> None:
    script = "sleep 1000 & echo $$ $!; wait"
    command = [sys.executable, "-m", "sgxkit", "run", "--", "sh", "-c", script]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        process.kill()
    deadline = time.monotonic() + SECONDS
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_out_of_epc(built: Path, environment: dict[str, str]) -> None:
    plenty = sgxkit_run(with_signature(environment, built), built / "suite", options=("--epc-limit", "1M"))
    assert plenty.returncode == 0, plenty.stdout
    bad = sgxkit_run(environment, "true", options=("--epc-limit", "lots"))
    assert bad.returncode == 3


@pytest.mark.parametrize(("what", "text"), [("create", "Input/output error"), ("init=EACCES", "Permission denied")])
def test_failures_can_be_injected(what: str, text: str, built: Path, environment: dict[str, str]) -> None:
    done = sgxkit_run(with_signature(environment, built), built / "quote", "/dev/null", options=("--inject", what))
    assert done.returncode == 1
    assert text in done.stderr


def test_aesm_can_be_made_to_fail(built: Path, environment: dict[str, str]) -> None:
    done = sgxkit_run(with_signature(environment, built), built / "quote", "/dev/null", options=("--inject", "aesm"))
    assert "Connection refused" in done.stderr
    done = sgxkit_run(with_signature(environment, built), built / "quote", "/dev/null", options=("--inject", "quote"))
    assert "no quote" in done.stderr


def test_statistics(built: Path, environment: dict[str, str], tmp_path: Path) -> None:
    options = ("--stats-output", str(tmp_path / "stats.json"))
    done = sgxkit_run(with_signature(environment, built), built / "quote", "/dev/null", options=options)
    assert done.returncode == 0
    document = json.loads((tmp_path / "stats.json").read_text())
    assert document["emulated"] is True
    assert document["leaf_functions"] == {"EENTER": 1, "EREPORT": 1, "EEXIT": 1}
    assert document["ioctls"]["SGX_IOC_ENCLAVE_INIT"] == 1


def test_a_trace(built: Path, environment: dict[str, str]) -> None:
    done = sgxkit_run(with_signature(environment, built), built / "quote", "/dev/null", options=("--trace",))
    for text in ("open /dev/sgx_enclave", "SGX_IOC_ENCLAVE_CREATE = 0", "EENTER", "EREPORT", "EEXIT"):
        assert text in done.stderr


@pytest.mark.parametrize("runs", [10, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_nothing_is_left_behind(runs: int, built: Path, environment: dict[str, str], tmp_path: Path) -> None:
    environment = {**with_signature(environment, built), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    assert sgxkit_run(environment, built / "quote", "/dev/null").returncode == 0
    before = _world(tmp_path)
    for _ in range(runs):
        assert sgxkit_run(environment, built / "quote", "/dev/null").returncode == 0
    assert _world(tmp_path) == before


def _world(folder: Path) -> object:
    files = sorted(str(path) for path in folder.rglob("*"))
    return files, [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "sgx" in line]


@pytest.mark.parametrize("times", [6, pytest.param(200, marks=pytest.mark.exhaustive)])
def test_whoever_is_killed_nothing_lives_on(times: int, built: Path, environment: dict[str, str]) -> None:
    environment = with_signature(environment, built)
    for number in range(times):
        command = [sys.executable, "-m", "sgxkit", "run", "--", str(built / "suite")]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 * (number % 7))
        victims = _descendants(process.pid) if number % 2 else [process.pid]
        for pid in victims[:1]:
            os.kill(pid, signal.SIGKILL)
        process.stdout.read()
        process.stdout.close()
        process.wait(timeout=SECONDS)
        deadline = time.monotonic() + SECONDS
        while any(_lives(pid) for pid in _session(process.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _session(leader: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == leader:
                found.append(int(folder.name))
    return found


def _descendants(pid: int) -> list[int]:
    return [other for other in _session(pid) if other != pid]
