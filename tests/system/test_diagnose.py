"""`sgxkit diagnose` and `sgxkit support-bundle` as commands: pipes, terminals, signals, rights, wrong use."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from doubles.hosts import HOSTS
from sgxkit.cli import main

QE3 = "Nov 21 10:00:01 host aesm_service[901]: Failed to load QE3: 0x4004\n"
OURS = """format = 1
subject = "Ours"
[[entry]]
id = "ours.full"
severity = "fault"
stage = "program"
patterns = ['the enclave store is full']
examples = ['the enclave store is full']
title = "Our store is full"
cause = "c"
look_for = "l"
fix = "f"
sources = ["s"]
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own, and a journalctl and a dmesg that print what a test wants."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("journalctl", "Failed to load QE3: 0x4004"), ("dmesg", "x86/cpu: SGX disabled by BIOS.")):
        (programs / name).write_text(f"#!/bin/sh\necho '{text}'\n")
        (programs / name).chmod(0o755)
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "XDG_"))},
        "HOME": str(tmp_path),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
    }


def run(environment: dict[str, str], *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sgxkit", *arguments]
    source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    result = subprocess.run(command, check=False, env=environment, capture_output=True, timeout=60, **source)  # type: ignore[call-overload]
    return subprocess.CompletedProcess(command, result.returncode, result.stdout.decode(), result.stderr.decode())


def test_a_file_is_explained(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x\n" + QE3)
    result = run(environment, "diagnose", str(tmp_path / "a.log"))
    assert result.returncode == 0
    assert f"{tmp_path}/a.log:2: " in result.stdout
    assert "(aesm.qe3-no-privilege)" in result.stdout
    assert "usermod -aG sgx_prv aesmd" in result.stdout
    assert result.stderr == ""


def test_what_is_piped_in_is_explained(environment: dict[str, str]) -> None:
    for arguments in (("diagnose",), ("diagnose", "-"), ("diagnose", "logs"), ("diagnose", "logs", "-")):
        result = run(environment, *arguments, stdin=QE3.encode())
        assert result.returncode == 0, result.stderr
        assert "-:1: " in result.stdout


def test_without_anything_this_host_is_diagnosed(environment: dict[str, str]) -> None:
    result = run(environment, "diagnose", "--no-network", "--json")
    assert result.returncode == 0
    document = json.loads(result.stdout)
    assert [log["name"] for log in document["logs"]] == ["journal", "dmesg"]
    assert {known["id"] for known in document["explanations"]} == {"aesm.qe3-no-privilege", "firmware.sgx-disabled"}
    assert document["facts"] is not None


def test_journal_and_kernel_log_are_read_alone(environment: dict[str, str]) -> None:
    for option, name in (("--journal", "journal"), ("--dmesg", "dmesg")):
        document = json.loads(run(environment, "diagnose", option, "--no-network", "--json").stdout)
        assert [log["name"] for log in document["logs"]] == [name]


def test_a_log_that_cannot_be_read_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    for name in ("journalctl", "dmesg"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho 'no permission to see messages' >&2\nexit 1\n")
    result = run(environment, "diagnose", "--no-network")
    assert result.returncode == 2
    assert "journal: not read: journalctl failed: no permission to see messages" in result.stdout


def test_facts_are_joined(environment: dict[str, str], tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps(HOSTS["bios-off"]().to_json()))
    result = run(environment, "diagnose", "--facts", str(facts), "--json")
    (known,) = json.loads(result.stdout)["explanations"]
    assert (known["id"], known["standing"]) == ("firmware.sgx-disabled", "confirmed")
    assert known["evidence"][0]["log"] == f"{facts}:kernel.log"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("diagnose", "none.log"), "cannot be read: No such file or directory"),
        (("diagnose", "/"), "cannot be read: Is a directory"),
        (("diagnose", "--facts", "none.json"), "cannot be read"),
        (("diagnose", "a.log", "a.log"), "named twice"),
        (("diagnose", "show", "aesm.eror-30"), "there is no entry aesm.eror-30"),
        (("diagnose", "show"), "Missing argument"),
        (("diagnose", "lint", "none.toml"), "cannot be read"),
        (("diagnose", "--nonsense"), "No such option"),
        (("support-bundle",), "Missing argument"),
        (("support-bundle", "/none/x.tar", "--no-network"), "cannot be written"),
        (("support-bundle", "/dev/null", "--no-network"), "is no file"),
        (("support-bundle", "x.tar", "--include", "none"), "is no file"),
    ],
)
def test_wrong_use_is_told(
    arguments: tuple[str, ...],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert main.run(list(arguments)) == 3
    assert problem in " ".join(capsys.readouterr().err.split())
    assert main.run([*arguments, "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert problem in error["message"]
    assert not list(tmp_path.iterdir())


def test_an_archive_and_json_do_not_share_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["support-bundle", "-", "--json"]) == 3
    assert "both write to standard output" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_list_show_and_lint(environment: dict[str, str], tmp_path: Path) -> None:
    listed = json.loads(run(environment, "diagnose", "list", "--json").stdout)["entries"]
    assert len(listed) > 80
    shown = json.loads(run(environment, "diagnose", "show", listed[0]["id"], "--json").stdout)
    assert shown["title"] == listed[0]["title"]
    assert "SGX" in run(environment, "diagnose", "list").stdout
    assert "处理" in run(environment, "diagnose", "show", "aesm.error-30", "--lang", "zh").stdout
    ours = tmp_path / "ours.toml"
    ours.write_text(OURS)
    assert run(environment, "diagnose", "lint", str(ours)).returncode == 0
    ours.write_text(OURS.replace("fix", "fixes"))
    result = run(environment, "diagnose", "lint", str(ours))
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        f"{ours}:12: entry.1.fixes: is not a key of this format",
        f"{ours}:3: entry.1.fix: is missing",
    ]
    problems = json.loads(run(environment, "diagnose", "lint", str(ours), "--json").stdout)["problems"]
    assert problems[0] == {
        "file": str(ours),
        "line": 12,
        "key": "entry.1.fixes",
        "problem": "is not a key of this format",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root's own entries are in /etc")
def test_own_entries_are_used_as_a_user(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / ".config/sgxkit/catalogue.d"
    folder.mkdir(parents=True)
    (folder / "ours.toml").write_text(OURS)
    assert "Our store is full" in run(environment, "diagnose", stdin=b"the enclave store is full\n").stdout


def test_a_line_cannot_steer_the_terminal(environment: dict[str, str]) -> None:
    evil = b"\x1b]0;owned\x07 \x9b31m \x08\x08 Failed to load QE3: 0x4004 \x1b[2J \xe2\x80\xae\n"
    result = run(environment, "diagnose", "-", stdin=evil)
    assert result.returncode == 0
    shown = result.stdout.replace("\n", "")
    assert shown.isprintable()


def test_the_reader_of_a_pipe_may_go_away(environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m sgxkit diagnose list | head -1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], check=False, env=environment, capture_output=True, timeout=60)
    assert result.returncode in (0, 141)
    assert b"Traceback" not in result.stderr


def start(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "sgxkit", *arguments],
        env=environment,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def interrupted(process: subprocess.Popen[bytes]) -> bool:
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    return process.returncode == 130 and b"Traceback" not in errors


def test_ctrl_c_ends_reading(environment: dict[str, str], tmp_path: Path) -> None:
    process = start(environment, tmp_path, "diagnose", "-")
    assert process.stdin is not None
    process.stdin.write(b"a line\n" * 200_000)  # more than a pipe holds: when it is written, somebody reads
    process.stdin.flush()
    assert interrupted(process)


def test_ctrl_c_leaves_no_half_a_bundle(environment: dict[str, str], tmp_path: Path) -> None:
    marker = tmp_path / "asked"
    (tmp_path / "bin/journalctl").write_text(f"#!/bin/sh\ntouch {marker}\nexec sleep 30\n")
    process = start(environment, tmp_path, "support-bundle", "x.tar", "--no-network")
    deadline = time.monotonic() + 30
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert interrupted(process)
    assert not list(tmp_path.glob("*x.tar*"))


def test_progress_is_shown_on_a_terminal_and_taken_away(environment: dict[str, str]) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sgxkit", "diagnose", "-"],
        env={**environment, "TERM": "xterm"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=follower,
    )
    os.close(follower)
    seen = b""
    assert process.stdin is not None
    deadline = time.monotonic() + 60
    while b"Reading logs" not in seen and time.monotonic() < deadline:  # as long as the log goes on
        process.stdin.write(b"nothing of interest stands here\n" * 20_000)
        process.stdin.flush()
        if select.select([leader], [], [], 0.05)[0]:
            seen += os.read(leader, 4096)
    output, _ = process.communicate(timeout=60)
    with suppress(OSError):  # the terminal's other end is closed: Linux says EIO
        while data := os.read(leader, 4096):
            seen += data
    os.close(leader)
    assert process.returncode == 1
    assert b"Reading logs" in seen
    assert b"lines, 0 recognised" in output


def test_a_bundle_is_made_and_read(environment: dict[str, str], tmp_path: Path) -> None:
    target, included = tmp_path / "b.tar", tmp_path / "app.log"
    included.write_text("password=hunter2\nFailed to load QE3: 0x2006\n")
    for _ in range(2):  # a second one takes the first one's place
        result = run(environment, "support-bundle", str(target), "--no-network", "--include", str(included))
        assert result.returncode == 0, result.stderr
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "included/01-app.log" in result.stdout
    assert "1 secrets removed" in result.stdout
    assert b"hunter2" not in target.read_bytes()
    with tarfile.open(target) as archive:
        assert {"bundle.json", "facts.json", "doctor.json", "logs/journal.txt"} <= set(archive.getnames())
    document = json.loads(run(environment, "diagnose", str(target), "--json").stdout)
    assert {known["id"] for known in document["explanations"]} == {
        "aesm.qe3-no-privilege", "aesm.qe3-no-device", "firmware.sgx-disabled",
    }  # fmt: skip
    assert run(environment, "doctor", "--facts", str(target)).returncode in (0, 1, 2)
    assert run(environment, "diagnose", str(target), "--this-host").returncode == 3


def test_a_bundle_goes_to_standard_output(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "sgxkit", "support-bundle", "-", "--no-network"]
    result = subprocess.run(
        command, check=True, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert result.stdout[257:262] == b"ustar"
    assert b"facts.json" in result.stderr
