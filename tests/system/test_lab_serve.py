"""A lab at work: real sockets and processes, our commands and dcap-qvl as its clients, events while it serves."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sgxkit.aesm.address import TcpAddress
from sgxkit.aesm.client import AesmClient
from sgxkit.aesm.codes import AesmError
from sgxkit.aesm.key_id import INTEL_ECDSA_P256
from sgxkit.cli import main
from sgxkit.dcap import CollateralError, TeeType, Verifier, anchor_from_pem
from sgxkit.dcap.pcs import (
    fetch_collateral,
    fetch_pck_certificate,
    fmspcs,
    pccs,
    pcs,
    tcb_evaluation_data_numbers,
)
from sgxkit.dcap.transport import NotFoundError, RetiredError, Trust
from sgxkit.emulator.keys import make_report
from sgxkit.isa.targetinfo import TargetInfo
from sgxkit.lab import web
from sgxkit.lab.authority import Lab
from sgxkit.lab.pcs_api import Reply
from sgxkit.lab.quoting import SAMPLE_ENCLAVE, report_key_id
from sgxkit.lab.serve import Serving, serving
from sgxkit.lab.store import change_lab, create_lab, labs_folder, load_lab, remove_lab
from sgxkit.lab.world import new_world, revoke_pck, rotate_qe, tcb_recovery

KEY = INTEL_ECDSA_P256.to_bytes()


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SGXKIT_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("SGXKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    return tmp_path


@pytest.fixture
def lab() -> Lab:
    return create_lab(new_world("test", datetime.now(UTC)))


@pytest.fixture
def served(lab: Lab) -> Iterator[Serving]:
    with serving("test") as found:
        yield found


def quote_through_aesm(lab: Lab, served: Serving) -> bytes:
    client = AesmClient(served.aesm, timeout=10)
    target, _ = client.target_info(client.select_key())
    body = SAMPLE_ENCLAVE.report_body(lab.fuses.cpusvn, b"d" * 64)
    return client.quote(make_report(lab.fuses, body, TargetInfo.from_bytes(target), report_key_id(lab)).to_bytes())


def test_a_quote_of_its_daemon_verifies_with_collateral_of_its_service(lab: Lab, served: Serving) -> None:
    quote = quote_through_aesm(lab, served)
    verifier = Verifier(trust_anchor=anchor_from_pem(served.root_certificate.read_text(), "root"))
    profile = lab.profile
    for source in (
        pcs(served.pcs, root_crl_url=served.root_crl),
        pccs(served.pcs),
        pccs(f"{served.pcs}/sgx/certification/v3/"),
    ):
        fetched = fetch_collateral(TeeType.SGX, profile.fmspc, profile.ca, source=source)
        assert verifier.verify(quote, fetched).verified
    with pytest.raises(Exception, match="trust anchor"):
        Verifier().verify(quote, fetched)


def peer_status(quote: bytes, served: Serving) -> str:
    """What dcap-qvl finds by itself, collateral included; ValueError where it refuses."""

    async def fetch() -> Any:
        return await dcap_qvl.get_collateral(served.pcs, quote)

    root = x509.load_pem_x509_certificate(served.root_certificate.read_bytes()).public_bytes(Encoding.DER)
    return str(dcap_qvl.verify_with_root_ca(quote, asyncio.run(fetch()), root, int(time.time())).status)


def test_another_verifier_sees_events_while_it_serves(lab: Lab, served: Serving) -> None:
    quote = quote_through_aesm(lab, served)
    assert peer_status(quote, served) == "UpToDate"
    now = datetime.now(UTC)
    change_lab("test", lambda world: tcb_recovery(world, now))
    assert peer_status(quote, served) == "OutOfDate"
    change_lab("test", lambda world: revoke_pck(world, now))
    with pytest.raises(ValueError, match="CertRevoked"):
        peer_status(quote, served)
    assert main.run(["lab", "expire", "test"]) == 0
    with pytest.raises(ValueError, match="Expired"):
        peer_status(quote, served)


def test_our_client_gets_everything_else(lab: Lab, served: Serving) -> None:
    source = pcs(served.pcs, root_crl_url=served.root_crl)
    assert [one.fmspc for one in fmspcs(source=source)] == [lab.profile.fmspc]
    assert [one.number for one in tcb_evaluation_data_numbers(TeeType.SGX, source=source).numbers] == [20]
    for _ in range(5):
        change_lab("test", lambda world: tcb_recovery(world, datetime.now(UTC)))
    for number, error in ((20, RetiredError), (26, NotFoundError)):
        with pytest.raises(error):
            fetch_collateral(
                TeeType.SGX, lab.profile.fmspc, lab.profile.ca, source=source, tcb_evaluation_data_number=number
            )
    with pytest.raises(CollateralError):
        fetch_collateral(TeeType.TDX, lab.profile.fmspc, lab.profile.ca, source=source)
    certificate = fetch_pck_certificate(
        lab.encrypted_ppid, lab.fuses.cpusvn, 13, bytes(2), lab.qe_id, source=pccs(served.pcs)
    )
    assert certificate.chain == lab.pck_chain(0)
    assert (certificate.tcbm, certificate.fmspc, certificate.ca) == (lab.tcbm(0), lab.profile.fmspc, lab.profile.ca)


def test_over_tls_with_the_labs_certificate(lab: Lab) -> None:
    with serving("test", tls=True) as served:
        assert served.tls_certificate is not None
        trusted = pccs(served.pcs, trust=Trust(ca_file=served.tls_certificate))
        assert fetch_collateral(TeeType.SGX, lab.profile.fmspc, lab.profile.ca, source=trusted)
        with pytest.raises(CollateralError):
            fetch_collateral(TeeType.SGX, lab.profile.fmspc, lab.profile.ca, source=pccs(served.pcs))
        for file in (labs_folder() / "test").glob("*.pem"):
            assert "PRIVATE" not in file.read_text()


def test_a_rotated_quoting_enclave_needs_a_new_key(lab: Lab, served: Serving) -> None:
    client = AesmClient(served.aesm, timeout=10)
    first = client.initialise(KEY)
    change_lab("test", lambda world: tcb_recovery(world, datetime.now(UTC)))
    assert client.quote_size(KEY) > 0
    change_lab("test", lambda world: rotate_qe(world, datetime.now(UTC)))
    with pytest.raises(AesmError, match="ATT_KEY_NOT_INITIALIZED"):
        client.quote_size(KEY)
    assert client.initialise(KEY) != first


def test_a_removed_lab_is_said_to_be_gone(lab: Lab) -> None:
    with serving("test", address=TcpAddress(0)) as served:
        client = AesmClient(served.aesm, timeout=10)
        assert client.select_key() == KEY
        remove_lab("test")
        with pytest.raises(AesmError, match="SERVICE_STOPPED"):
            client.select_key()
        connection = http.client.HTTPConnection("127.0.0.1", int(served.pcs.rpartition(":")[2]), timeout=5)
        connection.request("GET", "/sgx/certification/v4/qe/identity")
        assert connection.getresponse().status == 503
        connection.close()


def raw(served_at: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(served_at.rpartition(":")[2])), timeout=10)


@pytest.fixture
def echo() -> Iterator[str]:
    limits = web.Limits(wait=0.3, connection=1.0, connections=8)
    with web.serving(lambda target: Reply(200, target.encode()), 0, "echo", limits=limits) as url:
        yield url


@pytest.mark.parametrize("beginning", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_slow_clients_are_cut_off(echo: str, beginning: bytes) -> None:
    with raw(echo) as connection:
        connection.sendall(beginning)
        assert connection.recv(100) == b""


def test_clients_that_keep_the_line_busy_are_cut_off(echo: str) -> None:
    deadline = time.monotonic() + 20
    with raw(echo) as connection:
        while time.monotonic() < deadline:
            try:
                connection.sendall(b"GET / HTTP/1.1\r\nX: y\r\n\r\n")
                answered = connection.recv(10_000)
            except (BrokenPipeError, ConnectionResetError):
                answered = b""
            if not answered:
                break
            time.sleep(0.1)
    assert time.monotonic() < deadline


def test_clients_beyond_the_limit_are_turned_away_until_others_leave() -> None:
    limits = web.Limits(wait=30, connection=60, connections=8)
    with web.serving(lambda target: Reply(200, target.encode()), 0, "echo", limits=limits) as url:
        _fill_and_leave(url)


def _fill_and_leave(echo: str) -> None:
    held = [raw(echo) for _ in range(8)]
    try:
        with raw(echo) as connection:
            assert connection.recv(1) == b""
    except ConnectionResetError:
        pass
    for connection in held:
        connection.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            client = http.client.HTTPConnection("127.0.0.1", int(echo.rpartition(":")[2]), timeout=5)
            client.request("GET", "/path?query")
            reply = client.getresponse()
            assert (reply.read(), reply.headers["SGXKIT-Emulated-Lab"]) == (b"/path?query", "echo")
            client.close()
            break
        except (ConnectionError, http.client.HTTPException):
            assert time.monotonic() < deadline


def test_garbage_and_other_methods_are_refused(echo: str) -> None:
    for data in (b"\0\1\2\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"GET " + b"a" * 70_000):
        with raw(echo) as connection:
            try:
                connection.sendall(data)
                assert b" 200 " not in connection.recv(10_000)
            except ConnectionResetError:
                continue


def test_it_ends_with_clients_connected() -> None:
    threads = threading.active_count()
    with web.serving(lambda _: Reply(200), 0, "echo") as url:
        connection = raw(url)
        time.sleep(0.2)
    with connection:
        assert connection.recv(1) == b""
    assert threading.active_count() == threads


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    capsys.readouterr()
    code = main.run([*arguments, "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else None


def test_the_commands(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--cpu", "skylake-client", "--epc", "64M", "--tcb", "out-of-date", "--seed", "agreed"]
    code, document = run("lab", "create", "one", *options, capsys=capsys)
    assert code == 0
    assert (document["emulated"], document["cpu"], document["epc_size"]) == (True, "skylake-client", 64 << 20)
    assert (document["flc"], document["sgx2"], document["tcb_status"]) == (False, False, "OutOfDate")
    assert load_lab("one").seed.hex() not in json.dumps(document)
    assert run("lab", "create", "one", capsys=capsys)[0] == 3
    assert run("lab", "create", "x", "--epc", "many", capsys=capsys)[0] == 3
    assert run("lab", "create", "x", "--cpu", "skylake-client", "--sgx2", capsys=capsys)[0] == 3
    assert run("lab", "list", capsys=capsys) == (0, {"labs": ["one"]})
    assert run("lab", "tcb-recovery", "one", "--patched", capsys=capsys)[1]["tcb_status"] == "UpToDate"
    assert run("lab", "revoke-pck", "one", capsys=capsys)[1]["reason"] == "certificate.revoked"
    assert run("lab", "revoke-pck", "one", capsys=capsys)[0] == 3
    assert run("lab", "rotate-qe", "one", capsys=capsys)[1]["qe_isvsvn"] == 9
    assert run("lab", "time", "one", "--ahead", "-2.5", capsys=capsys)[1]["clock_offset"] == -216_000
    assert run("lab", "expire", "one", capsys=capsys)[1]["expired_at"] is not None
    assert run("lab", "expire", "one", "--renew", capsys=capsys)[1]["expired_at"] is None
    assert run("lab", "show", "one", capsys=capsys)[1]["verified"] is False
    assert main.run(["lab", "show", "one"]) == 0
    assert "emulated: it protects nothing" in capsys.readouterr().out
    for lab_command in ("show", "rm", "serve", "status", "stop", "expire"):
        assert run("lab", lab_command, "none", capsys=capsys)[0] == 3
    assert run("lab", "rm", "one", capsys=capsys)[0] == 0
    assert run("lab", "list", capsys=capsys) == (0, {"labs": []})


def test_a_relying_party_can_make_quotes(lab: Lab, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quote, bundle = state / "quote.bin", state / "collateral.json"
    arguments = ["--user-data", "hex:0102", "--mrenclave", "ab" * 32, "--isvsvn", "7", "--collateral", str(bundle)]
    code, document = run("lab", "quote", "test", "-o", str(quote), *arguments, capsys=capsys)
    assert (code, document["emulated"], bytes.fromhex(document["quote"])) == (0, True, quote.read_bytes())
    verify = ["quote", "verify", str(quote), "--collateral", str(bundle)]
    assert main.run([*verify, "--trusted-root", document["trusted_root"], "--mrenclave", "ab" * 32]) == 0
    assert main.run(verify) == 1
    for wrong in ("hex:0", "x" * 65):
        assert main.run(["lab", "quote", "test", "-o", str(quote), "--user-data", wrong]) == 3
    assert main.run(["lab", "quote", "test", "-o", str(quote), "--mrsigner", "ab"]) == 3
    assert main.run(["lab", "quote", "test", "-o", str(quote)]) == 0
    assert "emulated" in capsys.readouterr().out


def test_the_example_of_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "lab.md").read_text()
    exec(guide.split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out == "OutOfDate\n"


def test_in_the_background_it_is_found_used_and_stopped(
    lab: Lab, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lab", "status", "test", capsys=capsys)[0] == 1
    code, started = run("lab", "serve", "test", "--detach", capsys=capsys)
    try:
        assert code == 0
        assert run("lab", "status", "test", capsys=capsys) == (0, started)
        assert run("lab", "serve", "test", "--detach", capsys=capsys)[0] == 3
        assert run("lab", "serve", "test", capsys=capsys)[0] == 3
        assert run("aesm", "info", "--aesm", started["aesm"], capsys=capsys)[0] == 0
        quote = state / "quote.bin"
        assert main.run(["lab", "quote", "test", "-o", str(quote)]) == 0
        root = str(labs_folder() / "test" / "root.pem")
        verify = ["quote", "verify", str(quote), "--pccs", started["pcs"], "--trusted-root", root]
        assert main.run(verify) == 0
        fetch = ["collateral", "fetch", "--quote", str(quote), "--pcs", started["pcs"], "--no-cache"]
        bundle = str(state / "bundle.json")
        assert main.run([*fetch, "--root-crl", started["root_crl"], "-o", bundle]) == 0
        assert main.run(["lab", "tcb-recovery", "test"]) == 0
        assert main.run([*fetch, "--root-crl", started["root_crl"], "-o", bundle]) == 0
        assert main.run([*verify[:3], "--collateral", bundle, "--trusted-root", root]) == 1
    finally:
        assert run("lab", "stop", "test", capsys=capsys)[0] == 0
    assert run("lab", "stop", "test", capsys=capsys)[0] == 1
    assert not (labs_folder() / "test" / "serving.json").exists()


def test_a_killed_server_leaves_nothing_that_hinders(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    _, started = run("lab", "serve", "test", "--detach", capsys=capsys)
    os.kill(started["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while run("lab", "status", "test", capsys=capsys)[0] == 0:
        assert time.monotonic() < deadline
    assert (labs_folder() / "test" / "serving.json").exists()
    assert run("lab", "stop", "test", capsys=capsys)[0] == 1
    code, again = run("lab", "serve", "test", "--detach", capsys=capsys)
    assert code == 0
    assert again["pid"] != started["pid"]
    assert run("lab", "rm", "test", capsys=capsys)[0] == 0
    assert list(labs_folder().iterdir()) == []


def test_in_the_foreground_it_ends_when_it_is_told_to(lab: Lab) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-m", "sgxkit", "lab", "serve", "test"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            assert "emulated" in process.stdout.readline()
            while "Ctrl-C" not in process.stdout.readline():
                continue
            process.send_signal(number)
            assert process.wait(20) == 0
