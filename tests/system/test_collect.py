"""Collecting facts through the child process, when that process misbehaves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sgxkit.errors import HostError
from sgxkit.host import collect

HANG = 60


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; sys.exit('no luck')", "no luck"),
        ("import os; os._exit(7)", "exit status 7"),
        ("print('hello')", "not JSON"),
        ("print('{}')", "schema"),
        ("", "not JSON"),
    ],
)
def test_a_probe_without_document_is_a_host_error(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "probe.py").write_text(script)
    monkeypatch.setattr(collect, "PROBE", tmp_path / "probe.py")
    with pytest.raises(HostError, match=reason):
        collect.collect_facts(5, network=False)


def test_a_probe_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    (tmp_path / "probe.py").write_text(
        f"import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )
    monkeypatch.setattr(collect, "PROBE", tmp_path / "probe.py")
    monkeypatch.setattr(collect, "GRACE", 1.0)
    with pytest.raises(HostError, match="no answer"):
        collect.collect_facts(0.1, network=False)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_ctrl_c_ends_the_probe_too(tmp_path: Path) -> None:
    """A daemon that hangs holds the probe; the interrupt goes to the caller alone, as from a supervisor."""
    path = tmp_path / "aesm.socket"
    caller = (
        f"from sgxkit.host.collect import collect_facts\ncollect_facts({HANG}, False, aesm_socket={str(path)!r})\n"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(HANG)
        process = subprocess.Popen([sys.executable, "-c", caller], stderr=subprocess.PIPE)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        listener.accept()[0].close()
        started = [int(child) for child in children.read_text().split()]
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=HANG)[1]
    assert b"KeyboardInterrupt" in errors
    assert len(started) == 1
    end = time.monotonic() + HANG
    while Path(f"/proc/{started[0]}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{started[0]}").exists()
