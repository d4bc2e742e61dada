"""Each way in which a pod lacks what its enclaves need, and what is said of it."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from doubles.sgx_devices import make_host, needs_exec_dev
from sgxkit.aesm.address import UnixAddress
from sgxkit.kubernetes.preflight import Finding, Lack, device_lack, preflight, write_termination_log
from sgxkit.lab.serve import serving
from sgxkit.lab.store import create_lab
from sgxkit.lab.world import new_world
from sgxkit.messages import msg

RESOURCE = "sgx.intel.com/enclave"


def lack_of(path: Path) -> str:
    lack = device_lack(path, RESOURCE)
    return "" if lack is None else f"{lack.cause} / {lack.remedy}"


@needs_exec_dev
def test_a_device_that_opens_is_enough(tmp_path: Path) -> None:
    view = make_host(tmp_path)
    assert lack_of(view.dev / "sgx_enclave") == ""


def test_a_device_that_was_not_asked_for(tmp_path: Path) -> None:
    assert RESOURCE in lack_of(tmp_path / "sgx_enclave")
    assert "forgot" in lack_of(tmp_path / "sgx_enclave")


def test_a_folder_or_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "hostPath" in lack_of(tmp_path / "folder")
    (tmp_path / "file").write_text("")
    assert "no character device" in lack_of(tmp_path / "file")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(13, "supplementalGroups"), (1, "came by a hostPath volume"), (19, "no driver"), (5, "Input/output error")],
)
def test_a_device_that_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: str
) -> None:
    view = make_host(tmp_path)

    def refuse(path: object, flags: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    assert expected in lack_of(view.dev / "sgx_enclave")


def findings(tmp_path: Path, *needs: str) -> dict[str, str]:
    found = preflight(
        needs, UnixAddress(tmp_path / "s" / "aesm.socket"), dev=tmp_path, prefix="sgx.intel.com", timeout=5
    )  # type: ignore[arg-type]
    return {one.need: "" if one.lack is None else f"{one.lack.cause} / {one.lack.remedy}" for one in found}


def test_a_socket_that_is_not_mounted_missing_or_dead(tmp_path: Path) -> None:
    assert "read-only" in findings(tmp_path, "aesm")["aesm"]
    (tmp_path / "s").mkdir()
    assert "restart the pod" in findings(tmp_path, "aesm")["aesm"]
    (tmp_path / "s" / "aesm.socket").write_text("")
    assert "no socket" in findings(tmp_path, "aesm")["aesm"]
    (tmp_path / "s" / "aesm.socket").unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s" / "aesm.socket"))
    assert "logs" in findings(tmp_path, "aesm", "quote")["quote"]


def test_a_daemon_that_quotes(tmp_path: Path) -> None:
    create_lab(new_world("p", datetime.now(UTC)), folder=tmp_path / "labs")
    (tmp_path / "s").mkdir()
    with serving("p", address=UnixAddress(tmp_path / "s" / "aesm.socket"), folder=tmp_path / "labs"):
        assert findings(tmp_path, "quote", "aesm") == {"aesm": "", "quote": ""}


def test_the_termination_message_has_the_reason_and_fits(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    found = [Finding("enclave", Lack(msg("{text}", text="x" * 5000), msg("{text}", text="y")))]
    write_termination_log(found, log)
    assert not log.exists(), "only where the kubelet made it"
    log.write_text("")
    write_termination_log([Finding("enclave", None)], log)
    assert log.read_text() == ""
    write_termination_log(found, log)
    assert log.read_text().startswith("enclave: xxx")
    assert len(log.read_bytes()) == 4096
