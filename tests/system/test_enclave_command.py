"""`sgxkit enclave` as people run it: from a signed SDK enclave to SGXS, a key, a signature and a comparison."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from doubles.sdk_enclave import elf, metadata, note
from real_quotes import SHARED
from sgxkit.cli.main import run
from sgxkit.enclave.image import EnclaveImage, PageRun
from sgxkit.enclave.sgxs import write_sgxs
from sgxkit.isa.page import PageFlags, PageType, SecInfo
from sgxkit.isa.sigstruct import Sigstruct

SGXKIT = Path(sys.executable).with_name("sgxkit")
RW = SecInfo(PageFlags.RW, PageType.REG)
TEST_ENCLAVE = SHARED / "fixtures" / "sigstruct" / "test_enclave.sig"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a signed SDK enclave in it, where the commands run."""
    (tmp_path / "enclave.signed.so").write_bytes(elf(note(metadata())))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    return tmp_path


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SGXKIT, "enclave", *arguments], capture_output=True, text=True, check=False)


def succeeds(*arguments: str) -> str:
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run(["enclave", *arguments, "--json"])
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, parsed


def test_from_an_sdk_enclave_to_a_verified_signature(folder: Path) -> None:
    measured = succeeds("measure", "enclave.signed.so").strip()
    succeeds("convert", "enclave.signed.so", "enclave.sgxs")
    assert sha256((folder / "enclave.sgxs").read_bytes()).hexdigest() == measured
    assert succeeds("measure", "enclave.sgxs").strip() == measured
    assert succeeds("diff", "enclave.signed.so", "enclave.sgxs").strip() == "the same MRENCLAVE"

    made = command("generate-key", "key.pem")
    assert made.returncode == 0
    assert "not encrypted" in made.stderr
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    succeeds("sign", "enclave.sgxs", "--key", "key.pem", "-o", "enclave.sig", "--isvprodid", "3", "--isvsvn", "4")
    assert "VERIFIED" in succeeds("verify", "enclave.sgxs", "enclave.sig")
    sigstruct = Sigstruct.from_bytes((folder / "enclave.sig").read_bytes())
    assert (sigstruct.isvprodid, sigstruct.isvsvn, sigstruct.debug) == (3, 4, False)
    assert sigstruct.mrsigner.hex() in made.stdout
    assert not list(folder.glob(".*"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")
def test_two_steps_with_a_key_kept_elsewhere(folder: Path) -> None:
    succeeds("generate-key", "key.pem")
    succeeds("sign", "enclave.signed.so", "--to-sign", "bytes", "--date", "2026-01-31")
    for arguments in (
        ("dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "bytes"),
        ("pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"),
    ):
        subprocess.run(["openssl", *arguments], check=True)
    succeeds("sign", "bytes", "--signature", "signature", "--public-key", "public.pem", "-o", "two.sig")
    succeeds("sign", "enclave.signed.so", "--key", "key.pem", "-o", "one.sig", "--date", "2026-01-31")
    assert (folder / "one.sig").read_bytes() == (folder / "two.sig").read_bytes()
    assert "VERIFIED" in succeeds("verify", "enclave.signed.so", "two.sig")


def test_a_locked_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "password").write_text("secret\n")
    code, made = document(capsys, "generate-key", "key.pem", "--password-file", "password")
    assert code == 0
    assert not any("encrypted" in warning for warning in made["warnings"])
    code, failed = document(capsys, "sign", "enclave.signed.so", "--key", "key.pem", "-o", "x.sig")
    assert (code, failed["error"]["code"]) == (3, "input")
    arguments = ("sign", "enclave.signed.so", "--key", "key.pem", "-o", "x.sig", "--debug-enclave")
    code, signed = document(capsys, *arguments, "--password-file", "password")
    assert (code, signed["mrsigner"]) == (0, made["mrsigner"])
    code, shown = document(capsys, "inspect", "x.sig")
    assert code == 0
    assert shown["sigstruct"]["signature_holds"] is True
    assert "DEBUG" in shown["sigstruct"]["attributes"]["names"]


def test_inspect_shows_identity_layout_and_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["enclave", "inspect", "enclave.signed.so", "--svg", "map.svg"]) == 0
    text = capsys.readouterr().out
    for words in (
        "MRENCLAVE",
        "REG r-x code, 1 pages, measured",
        "heap (min), 4 pages, not measured",
        "does NOT hold",
    ):
        assert words in text
    assert ElementTree.fromstring((folder / "map.svg").read_text()).tag.endswith("svg")
    code, shown = document(capsys, "inspect", "enclave.signed.so")
    assert code == 0
    assert shown["size"] == 1 << 20
    assert shown["pages"] == sum(region["pages"] for region in shown["regions"])
    assert {region["name"] for region in shown["regions"]} >= {"code", "TCS", "SSA"}
    assert shown["sigstruct"]["signature_holds"] is False


def test_verify_refuses_an_unsigned_and_another_enclave(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = document(capsys, "verify", "enclave.signed.so")
    assert (code, said["verified"]) == (1, False)
    assert len(said["reasons"]) == 2
    succeeds("convert", "enclave.signed.so", "enclave.sgxs")
    code, said = document(capsys, "verify", "enclave.sgxs")
    assert (code, said["error"]["code"]) == (3, "input")


def test_diff_names_what_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = bytearray((folder / "enclave.signed.so").read_bytes())
    changed[changed.index(bytes(range(1, 50))) + 5] = 0xAA
    (folder / "other.so").write_bytes(changed)
    code, said = document(capsys, "diff", "enclave.signed.so", "other.so")
    assert code == 1
    assert said["difference"]["what"] == "contents"
    assert (said["difference"]["offset"], said["difference"]["name"]) == (0x1005, "code")
    assert said["difference"]["second"].startswith("aa07")
    assert run(["enclave", "diff", "enclave.signed.so", "other.so"]) == 1
    assert "the contents at 0x1005 (code) differ" in capsys.readouterr().out


def test_contents_that_sgxs_cannot_hold_are_written_as_esgxs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = BytesIO()
    write_sgxs(EnclaveImage(8192, 1, (PageRun(0, 1, RW, (0,), b"x" * 4096),)), file, enhanced=True)
    (folder / "a.esgxs").write_bytes(file.getvalue())
    code, said = document(capsys, "convert", "a.esgxs", "b.sgxs")
    assert (code, said["error"]["hint"]) == (3, "ESGXS can hold them")
    assert not (folder / "b.sgxs").exists()
    code, said = document(capsys, "convert", "a.esgxs", "b.esgxs", "--esgxs")
    assert code == 0
    assert (folder / "b.esgxs").read_bytes() == file.getvalue()


@pytest.mark.parametrize(
    "arguments",
    [
        ("measure", "absent"),
        ("measure", "garbage"),
        ("inspect", "garbage"),
        ("inspect", "enclave.signed.so", "--svg", "absent/map.svg"),
        ("verify", "enclave.signed.so", "garbage"),
        ("convert", "garbage", "out"),
        ("convert", "enclave.signed.so", "absent/out"),
        ("diff", "enclave.signed.so", "garbage"),
        ("sign", "enclave.signed.so"),
        ("sign", "enclave.signed.so", "--key", "garbage"),
        ("sign", "enclave.signed.so", "--key", "garbage", "-o", "out"),
        ("sign", "garbage", "--signature", "garbage", "-o", "out"),
        ("sign", "garbage", "--signature", "garbage", "--public-key", "garbage", "-o", "out"),
        ("sign", "enclave.signed.so", "--to-sign", "out", "--date", "tomorrow"),
        ("generate-key", "garbage"),
    ],
)
def test_bad_input_is_said_and_leaves_nothing(
    arguments: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "garbage").write_bytes(b"garbage" * 100)
    before = sorted(folder.iterdir())
    code, said = document(capsys, *arguments)
    assert code == 3
    assert said["error"]["code"] in ("input", "format")
    assert sorted(folder.iterdir()) == before


@pytest.mark.skipif(not TEST_ENCLAVE.exists(), reason="the real SIGSTRUCTs (../shared/fixtures) are not here")
def test_inspect_shows_a_real_signature(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = document(capsys, "inspect", str(TEST_ENCLAVE))
    assert code == 0
    assert shown["sigstruct"]["signature_holds"] is True
    assert run(["enclave", "inspect", str(TEST_ENCLAVE), "--lang", "zh"]) == 0
    assert "成立" in capsys.readouterr().out
