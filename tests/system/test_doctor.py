"""`sgxkit doctor` as a program: on this machine, on captured facts, with every output."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from sgxkit.cli.doctor import ProfileName, printable
from sgxkit.host.checks.drivers import PATHS
from sgxkit.host.profiles import DEFAULT, PROFILES

ROOT = Path(__file__).parents[2]
SGXKIT = Path(sys.executable).with_name("sgxkit")
SCHEMA = json.loads((ROOT / "docs/schema/doctor.schema.json").read_text(encoding="utf-8"))
HAS_DEVICE = any(Path(path).exists() for path, _ in PATHS)
WITHOUT_SGX = pytest.mark.skipif(HAS_DEVICE, reason="this machine has an SGX device")


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "NO_COLOR"))}
    return subprocess.run(
        [SGXKIT, "doctor", "--no-network", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env={**clean, "LC_ALL": "C.UTF-8", **environment},
    )


def diagnosis(*arguments: str) -> dict[str, Any]:
    done = doctor("--json", *arguments)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
    assert done.returncode == found["exit_code"]
    return found


def exported(path: Path, **sections: dict[str, Any]) -> Path:
    """This machine's facts, with readings of some sections replaced."""
    file = path / "facts.json"
    assert doctor("--export", str(file)).returncode in (0, 1, 2)
    facts = json.loads(file.read_text(encoding="utf-8"))
    for section, readings in sections.items():
        facts[section].update({name: {"value": value} for name, value in readings.items()})
    file.write_text(json.dumps(facts), encoding="utf-8")
    return file


def test_the_profiles_offered_are_the_profiles() -> None:
    assert list(get_args(ProfileName)) == list(PROFILES)
    assert get_args(ProfileName)[0] == DEFAULT


@WITHOUT_SGX
@pytest.mark.parametrize("profile", PROFILES)
def test_this_machine_has_no_sgx_and_the_doctor_says_so(profile: str) -> None:
    found = diagnosis("--for", profile)
    assert (found["readiness"], found["exit_code"], found["profile"]) == ("not-ready", 1, profile)
    checks = {check["id"]: check for check in found["checks"]}
    assert checks["cpu.sgx"]["status"] == "fatal"
    assert checks["device.node"]["status"] == "fatal"
    assert checks["cpu.configuration"]["outcome"] == "not-reached"
    first = found["findings"][0]
    assert first["check"] == "cpu.sgx"
    remedies = {remedy["id"] for remedy in first["remedies"]}
    wanted = {"give-guest-sgx", "use-sgx-instance"} if found["host"]["virtual_machine"] else {"use-sgx-hardware"}
    assert wanted <= remedies


@WITHOUT_SGX
def test_people_read_a_tree_the_cause_and_a_last_line() -> None:
    done = doctor()
    assert (done.returncode, done.stderr) == (1, "")
    output = done.stdout.splitlines()
    assert "no  SGX instruction set" in output
    assert "  no  CPU support" in output
    assert "What is missing" in output
    assert output[-1].startswith("Not ready: this host cannot run enclaves (profile run).")
    assert "\x1b" not in done.stdout


@WITHOUT_SGX
def test_chinese_readers_read_chinese() -> None:
    for done in (doctor("--lang", "zh"), doctor(LC_ALL="zh_CN.UTF-8")):
        assert "SGX 指令集" in done.stdout
        assert done.stdout.splitlines()[-1].startswith("未就绪：本机不能运行 Enclave")
    assert diagnosis("--lang", "zh")["findings"] == diagnosis()["findings"]


def test_verbose_shows_evidence() -> None:
    shown = doctor("--verbose").stdout
    assert "kernel.release = " in shown
    assert len(shown.splitlines()) > len(doctor().stdout.splitlines())


def test_exported_facts_are_judged_alike(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    here = doctor("--json", "--export", str(file))
    there = diagnosis("--facts", str(file))
    assert there == json.loads(here.stdout)
    assert list(tmp_path.iterdir()) == [file]
    text = doctor("--facts", str(file)).stdout
    assert text.startswith(f"judged from {file}, captured on ")


def test_an_export_of_sgx_detect_is_judged_and_named(tmp_path: Path) -> None:
    file = tmp_path / "detect.yaml"
    file.write_text(
        "Detecting SGX, this may take a minute...\ncpuid_7h:\n  Ok:\n    sgx: false\n    sgx_lc: false\n",
        encoding="utf-8",
    )
    done = doctor("--facts", str(file))
    assert done.returncode == 1
    assert done.stdout.startswith(
        f"judged from {file}, captured on an unnamed host at an unrecorded time by sgx-detect"
    )
    assert diagnosis("--facts", str(file))["findings"][0]["check"] == "cpu.sgx"


def test_facts_can_go_to_standard_output(tmp_path: Path) -> None:
    done = doctor("--export", "-")
    file = tmp_path / "facts.json"
    file.write_text(done.stdout, encoding="utf-8")
    assert json.loads(done.stdout)["source"]["producer"] == "sgxkit-probe"
    assert "SGX instruction set" in done.stderr
    assert diagnosis("--facts", str(file))["exit_code"] == done.returncode
    both = doctor("--json", "--export", "-")
    assert both.returncode == 3
    assert json.loads(both.stdout)["error"]["code"] == "input"


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("old", encoding="utf-8")
    file.chmod(0o640)
    done = doctor("--html", str(file))
    assert done.returncode in (0, 1, 2)
    text = file.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>")
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("option", ["--html", "--export"])
def test_a_place_that_cannot_be_written_is_a_clean_error(option: str, tmp_path: Path) -> None:
    for place in (tmp_path / "no" / "such" / "file", tmp_path):
        done = doctor(option, str(place))
        assert done.returncode == 3
        assert "cannot be written" in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff\xfe", b"[1]", b"- a\n- b\n", b"null", b"\0" * 100])
def test_what_is_not_facts_is_a_clean_error(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "facts"
    file.write_bytes(content)
    for done in (doctor("--facts", str(file)), doctor("--json", "--facts", str(file))):
        assert done.returncode == 3
        assert "Traceback" not in done.stderr + done.stdout
    assert doctor("--facts", str(tmp_path / "none")).returncode == 3


@pytest.mark.parametrize("arguments", [["--for", "other"], ["--timeout", "soon"], ["--timeout", "0"], ["--nonsense"]])
def test_wrong_use_is_exit_3(arguments: list[str]) -> None:
    assert doctor(*arguments).returncode == 3


def test_a_host_cannot_steer_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\n\u202ename\u200b"
    file = exported(tmp_path, system={"hostname": evil}, kernel={"release": evil, "command_line": "nosgx " + evil})
    done = doctor("--verbose", "--facts", str(file))
    assert not set("\x1b\x07\r\u202e\u200b") & set(done.stdout)
    assert "\\x1b]0;owned\\x07" in done.stdout
    assert printable("a\tb\n") == "a\\tb\\n"


def test_a_stream_that_shows_only_ascii_is_no_crash() -> None:
    done = doctor("--lang", "zh", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode in (0, 1, 2)
    assert "bug" not in done.stderr


def on_a_terminal(*arguments: str, **environment: str) -> tuple[int, str]:
    try:
        pid, descriptor = pty.fork()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal here: {error}")
    if pid == 0:
        os.environ.update({"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **environment})
        os.execv(SGXKIT, [str(SGXKIT), "doctor", "--no-network", *arguments])
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and select.select([descriptor], [], [], 60)[0]:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # EIO: the other side has closed
            break
        if not part:
            break
        shown += part
    os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@WITHOUT_SGX
def test_a_terminal_shows_colour_and_glyphs() -> None:
    code, shown = on_a_terminal()
    assert code == 1
    assert "✘" in shown
    assert "\x1b[31m" in shown


@WITHOUT_SGX
def test_plain_is_plain_on_a_terminal_too() -> None:
    for arguments, environment in ((["--no-color"], {}), ([], {"NO_COLOR": "1"})):
        code, shown = on_a_terminal(*arguments, **environment)
        assert code == 1
        assert "✘" not in shown
        assert "no  SGX instruction set" in shown
        assert "\x1b[3" not in shown


def test_an_interrupt_is_clean() -> None:
    process = subprocess.Popen([SGXKIT, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 30
    while process.poll() is None and not children.read_text(encoding="ascii") and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    # It may have been done before the signal came.
    assert process.returncode in (130, 0, 1, 2)
