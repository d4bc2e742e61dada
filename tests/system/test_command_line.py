"""The program as shells and scripts meet it: streams closed or full, options twice, no command at all."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sgxkit.cli.main import run

SGXKIT = Path(sys.executable).with_name("sgxkit")
NOT_A_QUOTE = b"not a quote at all"


def shell(command: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**clean, "PATH": f"{SGXKIT.parent}:{clean['PATH']}", **environment},
    )


@pytest.mark.parametrize("arguments", [[], ["quote"], ["collateral"]])
def test_without_a_command_it_shows_its_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: sgxkit")
    assert "\\n" not in err
    assert "error:" not in err


def test_interrupted_at_any_moment() -> None:
    for delay in (0.02, 0.05, 0.1, 0.2, 0.4):
        process = subprocess.Popen([SGXKIT, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGINT, 0, 1, 2, 130)
        assert "sgxkit/cli" not in said


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "sgxkit", "--version"], check=True, capture_output=True
    )
    assert done.stdout.startswith(b"sgxkit ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["doctor", "--bogus"],
        ["doctor", "--for", "x"],
        ["quote", "verify"],
        ["quote", "verify", "--index", "x"],
    ],
)
def test_wrong_use_is_json_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*arguments, "--json"]) == 3
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == "usage"
    assert "--help" in document["error"]["hint"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["zzz"], "没有命令 'zzz'。"),
        (["quote", "verif"], "没有命令 'verif'。是否想输入 'verify'？"),
        (["doctor", "--bogus"], "没有选项 --bogus（可能是：--verbose）"),
        (["doctor", "--timeout", "x"], "'--timeout' 的值无效：应为数字"),
        (["doctor", "--timeout", "0"], "'--timeout' 的值无效：应大于或等于 0.1"),
        (["doctor", "--timeout", "1000"], "'--timeout' 的值无效：应小于或等于 600"),
        (["doctor", "--for", "x"], "'--for' 的值无效：'x' 不在可选值 'run', "),
        (["doctor", "--for"], "选项 '--for' 需要一个值。"),
        (["doctor", "--verbose=1"], "选项 '--verbose' 不接受值。"),
        (["quote", "verify"], "缺少参数 'quote'。"),
        (["quote", "verify", "a", "b"], "多余的参数（b）"),
        (["quote", "verify", "a", "--index", "x"], "'--index' 的值无效：应为整数"),
    ],
)
def test_wrong_use_in_chinese(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--lang", "zh", *arguments]) == 3
    assert f"错误： {says}" in capsys.readouterr().err


def test_facts_through_a_pipe(tmp_path: Path) -> None:
    command = "sgxkit doctor --no-network --export - 2>/dev/null | sgxkit doctor --facts - --json"
    assert json.loads(shell(command, tmp_path).stdout)["source"]["producer"] == "sgxkit-probe"


def test_two_results_in_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "file")
    assert run(["doctor", "--no-network", "--export", file, "--html", file]) == 3
    assert "the same file" in capsys.readouterr().err
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("option", ["--policy", "--reportdata", "--trusted-root", "--at", "--collateral", "--index"])
def test_of_two_answers_to_one_question_none_counts(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", "verify", "quote.bin", option, "1", f"{option}=2", "--json"]) == 3
    assert "more than once" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_lists_and_switches_may_be_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "quote.bin").write_bytes(NOT_A_QUOTE)
    repeated = ["--mrenclave", "00" * 32, "--mrenclave", "11" * 32, "--allow-debug", "--allow-debug"]
    assert run(["quote", "verify", str(tmp_path / "quote.bin"), *repeated]) == 3
    assert "no quote found" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", ["doctor --no-network", "doctor --no-network --json", "--help", "doctor --help"]
)
def test_a_reader_that_went_away_is_no_verdict(arguments: str, tmp_path: Path) -> None:
    done = shell(f"sgxkit {arguments} | true", tmp_path)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("arguments", ["doctor --no-network", "doctor --no-network --json", "--help"])
def test_output_that_cannot_be_written_is_no_bug_of_ours(arguments: str, tmp_path: Path) -> None:
    done = shell(f"sgxkit {arguments} > /dev/full", tmp_path)
    assert done.returncode == 3
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"


def test_closed_streams(tmp_path: Path) -> None:
    assert shell("sgxkit doctor --no-network 2>&-", tmp_path).returncode in (0, 1, 2)
    assert shell("sgxkit doctor --no-network >&-", tmp_path).returncode in (0, 1, 2)
    done = shell("sgxkit quote verify - <&-", tmp_path)
    assert done.returncode == 3
    assert "no quote found in its 0 bytes" in done.stderr


def test_completion_where_there_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = shell("sgxkit --install-completion bash; exit $?", tmp_path, HOME=str(tmp_path / "file"))
    assert done.returncode == 3
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("option", ["--export", "--html"])
def test_writing_takes_no_device_away(option: str, tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    assert run(["doctor", "--no-network", option, str(link)]) in (0, 1, 2)
    assert link.is_symlink()
    assert target.stat().st_size > 1000
    done = shell(f"mkfifo pipe; sgxkit doctor --no-network {option} pipe > shown & wc -c < pipe; wait $!", tmp_path)
    assert int(done.stdout) > 1000
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_who_watches_a_slow_command_sees_that_it_works(tmp_path: Path) -> None:
    import pty

    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
    terminal, end = pty.openpty()
    command = ["collateral", "fetch", "--fmspc", "00906ED50000", "--ca", "processor", "--pccs", url]
    process = subprocess.Popen(
        [sys.executable, "-m", "sgxkit", *command, "-o", str(tmp_path / "bundle")],
        stdout=subprocess.DEVNULL,
        stderr=end,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(end)
    shown = b""
    try:
        while b"asking" not in shown:
            assert select.select([terminal], [], [], 30)[0], shown
            shown += os.read(terminal, 4096)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        os.close(terminal)
        silent.close()
    assert b"Traceback" not in shown


def test_a_command_that_is_interrupted_says_so() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
    command = ["collateral", "fetch", "--fmspc", "00906ED50000", "--ca", "processor", "--pccs", url, "-o", "-"]
    process = subprocess.Popen([SGXKIT, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    silent.accept()[0].close()  # it is at work
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    silent.close()
    assert (process.returncode, said.splitlines()[-1]) == (130, b"error: interrupted")
