"""The Linux driver for real, on the device that `sgxkit run` gives a program: system calls, machine code, signals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from doubles.compiled_enclave import EDL, compiled_enclave
from sgxkit.lab.daemon import start_server, stop_server
from sgxkit.lab.store import create_lab, root_certificate
from sgxkit.lab.world import new_world
from sgxkit.sample.images import Sample

ROOT = Path(__file__).parents[2]
LAB = "traced"


def traced(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sgxkit", "run", "--lab", LAB, "--", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )


def python(code: str) -> str:
    outcome = traced(sys.executable, "-c", code)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setenv("SGXKIT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SGXKIT_CACHE_DIR", str(tmp_path / "cache"))
    create_lab(new_world(LAB, datetime.now(UTC)))
    tried = traced("true")
    if tried.returncode:
        pytest.skip(f"programs cannot be traced here: {tried.stderr.strip()}")


@pytest.fixture
def pcs() -> Iterator[str]:
    yield start_server(LAB, []).pcs
    stop_server(LAB)


def sgxkit(*arguments: str) -> dict[str, Any]:
    outcome = traced(sys.executable, "-m", "sgxkit", *arguments, "--json")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def test_up_uses_the_hardware_that_it_finds(pcs: str) -> None:
    found = sgxkit("up", "--pcs", pcs, "--trusted-root", str(root_certificate(LAB)))
    jsonschema.validate(found, json.loads((ROOT / "docs/schema/up.schema.json").read_text()))
    assert (found["ok"], found["platform"]["kind"], found["tcb_status"]) == (True, "kernel", "UpToDate")
    assert found["identity"]["mrenclave"] == Sample.SAMPLE.sigstruct.enclavehash.hex()
    assert len(found["steps"]) == 10


def test_another_root_than_intels_must_be_asked_for(pcs: str) -> None:
    outcome = traced(sys.executable, "-m", "sgxkit", "up", "--hardware", "--pcs", pcs, "--json")
    assert outcome.returncode == 1
    assert [step["step"] for step in json.loads(outcome.stdout)["steps"] if not step["ok"]] == ["verify"]


def test_doctor_launches_an_enclave_in_both_modes() -> None:
    outcome = traced(sys.executable, "-m", "sgxkit", "doctor", "--no-network", "--json")
    checks = {check["id"]: check for check in json.loads(outcome.stdout)["checks"]}
    assert {checks[name]["status"] for name in ("launch", "launch.debug", "launch.production")} == {"supported"}


EXCEPTIONS = """
from sgxkit.driver.platform import KernelPlatform
from sgxkit.errors import InputError
from sgxkit.sample.calls import SampleEnclave, SampleError
from sgxkit.sample.images import Sample
for debug in (True, False):
    with KernelPlatform().load(Sample.SAMPLE.image, Sample.SAMPLE.sigstruct, debug=debug) as enclave:
        try:
            SampleEnclave(enclave).fault()
        except SampleError as error:
            print(error.exception.vector)
        try:
            print(enclave.read_debug(enclave.base + 0x3fff, 5)[1:] == Sample.SAMPLE.image.runs[-1].data[:4])
        except InputError as error:
            print(error)
"""


def test_exceptions_come_out_and_debuggers_look_in() -> None:
    refusal = "the enclave is in production mode: its memory cannot be read"
    assert python(EXCEPTIONS).splitlines() == ["6", "True", "6", refusal]


SIGNALS = """
import os, signal
from sgxkit.driver.platform import KernelPlatform
from sgxkit.sample.calls import SampleEnclave
from sgxkit.sample.images import Sample
came = []
signal.signal(signal.SIGALRM, lambda *_: came.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
with KernelPlatform().load(Sample.SAMPLE.image, Sample.SAMPLE.sigstruct, debug=False) as enclave:
    sample = SampleEnclave(enclave)
    rounds = 0
    while rounds < 50 or len(came) < 100:
        assert sample.add(range(256)) == 32640
        assert sample.unseal(sample.seal(1, bytes(1000))) == bytes(1000)
        rounds += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    if (child := os.fork()) == 0:
        readable = any(line.startswith(f"{enclave.base + 0x1000:x}") for line in open("/proc/self/maps"))
        os._exit(1 if readable else 0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sample.add([1, 2]))
"""


def test_signals_interrupt_and_children_of_fork_have_no_enclave() -> None:
    assert python(SIGNALS) == "0 3\n"


CHANGES = """
from sgxkit.driver.kernel import Linux
from sgxkit.driver.pages import PageChanges
from sgxkit.driver.platform import KernelPlatform
from sgxkit.enclave.image import EnclaveImage, PageRun
from sgxkit.enclave.measure import mrenclave
from sgxkit.enclave.platform import Registers
from sgxkit.enclave.signing import generate_key, sign, unsigned_sigstruct
from sgxkit.isa.page import PageFlags, PageType, SecInfo
from sgxkit.isa.tcs import Tcs

# With R8 = 1: RDI = [RDX]; else EACCEPT of the page at RDX by the SECINFO at RSI, whose flags are RDI; RDI = status.
CODE = bytes.fromhex(
    "4989cf4983f801741648893e4889f34889d1b8050000000f01d74889c7eb03488b3a4c89fbb8040000000f01d7"
)
RW = SecInfo(PageFlags.RW, PageType.REG)
tcs = Tcs(ossa=0x1000, nssa=2, oentry=0x2000).to_bytes()
image = EnclaveImage(size=0x100000, ssaframesize=1, runs=(
    PageRun(0, 1, SecInfo(PageFlags(0), PageType.TCS), data=tcs),
    PageRun(0x2000, 1, SecInfo(PageFlags.RX, PageType.REG), data=CODE.ljust(4096, b"\\0")),
    PageRun(0x1000, 1, RW), PageRun(0x3000, 1, RW), PageRun(0x4000, 20, RW, data=b"\\7" * 4096)))
PR, MODIFIED, REG = 1 << 5, 1 << 4, PageType.REG << 8
with KernelPlatform().load(
    image, sign(unsigned_sigstruct(mrenclave(image)), generate_key()), debug=False
) as enclave:
    changes = PageChanges(Linux(), enclave.made.device)
    def enter(**registers):
        left = enclave.enter(enclave.tcs[0], Registers(**registers))
        return left.exception.vector if left.exception else left.registers.rdi
    def accept(flags, first, count):
        base = enclave.base
        return {enter(rdi=flags, rsi=base + 0x3000, rdx=base + first + page * 4096) for page in range(count)}
    def read(page):
        return hex(enter(r8=1, rdx=enclave.base + page))
    changes.restrict_permissions(0x4000, 0x14000, PageFlags.R)
    print(accept(PageFlags.R | PR | REG, 0x4000, 20), read(0x5000))
    changes.modify_types(0x5000, 0x3000, PageType.TRIM)
    print(accept(MODIFIED | PageType.TRIM << 8, 0x5000, 3))
    changes.remove_pages(0x5000, 0x3000)
    print(read(0x8000), read(0x5000))
"""


def test_pages_of_an_enclave_at_work_change() -> None:
    seven = hex(int.from_bytes(b"\7" * 8, "little"))
    assert python(CHANGES).splitlines() == [f"{{0}} {seven}", "{0}", f"{seven} {hex(14)}"]


SDK = """
import sys
from pathlib import Path
from sgxkit.driver.platform import KernelPlatform
from sgxkit.sdk.sdk_enclave import SdkEnclave
said = []
with SdkEnclave.load(KernelPlatform(), Path(sys.argv[1]), Path(sys.argv[2])) as enclave:
    enclave.ocall("say")(lambda text: said.append(text) or 7)
    enclave.ocall("outside")(lambda depth: enclave.recurse(depth - 1) if depth else enclave.inner(7))
    print(enclave.add(40, 2), enclave.greet("world"), said, enclave.recurse(5), enclave.recurse(0))
"""


def test_enclaves_of_intels_sdk_run(tmp_path: Path) -> None:
    outcome = traced(sys.executable, "-c", SDK, str(compiled_enclave(tmp_path)), str(EDL))
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout == "42 14 ['Hello, world', 'Bye'] 76 71\n"
