"""The AESM server and client over real sockets: right answers, and clients that do what they should not."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path

import pytest

from sgxkit.aesm.address import Address, TcpAddress, UnixAddress
from sgxkit.aesm.client import AesmClient, exchange
from sgxkit.aesm.codes import AesmCode, AesmConnectionError, AesmError
from sgxkit.aesm.info import read_info
from sgxkit.aesm.key_id import INTEL_ECDSA_P256, AttestationKeyId
from sgxkit.aesm.messages import (
    GetQuoteExRequest,
    GetQuoteSizeExResponse,
    GetSupportedAttKeyIdsRequest,
    InitQuoteExRequest,
    SelectAttKeyIdRequest,
    decode_response,
    encode_request,
    encode_response,
)
from sgxkit.aesm.server import Limits, serving
from sgxkit.aesm.wire import encode_fields, frame
from sgxkit.cli import main
from sgxkit.errors import InputError
from sgxkit.host.probe import read_facts

KEY = INTEL_ECDSA_P256.to_bytes()
REPORT = bytes(range(216)) * 2


class Quoter:
    """A quoting service whose quotes are hashes: what the protocol carries is seen at once."""

    def __init__(self) -> None:
        self.made = False

    def key_ids(self) -> tuple[bytes, ...]:
        return (KEY,)

    def target_info(self, key_id: bytes) -> bytes:
        return b"T" * 512

    def public_key_id(self, key_id: bytes, *, make: bool) -> bytes:
        self.made = self.made or make
        return b"K" * 32

    def quote_size(self, key_id: bytes) -> int:
        if not self.made:
            raise AesmError(AesmCode.ATT_KEY_NOT_INITIALIZED)
        return 32

    def quote(self, report: bytes, key_id: bytes, qe_report_info: bytes | None) -> tuple[bytes, bytes | None]:
        if report == bytes(432):
            raise AesmError(AesmCode.INVALID_REPORT)
        if report == b"\xff" * 432:
            raise RuntimeError("a bug of the service")
        filled = None if qe_report_info is None else qe_report_info[:528] + b"R" * 432
        return sha256(report).digest(), filled


def listening(request: pytest.FixtureRequest, tmp_path: Path, limits: Limits) -> AbstractContextManager[Address]:
    where: Address = TcpAddress(0) if request.param == "tcp" else UnixAddress(tmp_path / "aesm.socket")
    return serving(Quoter(), where, limits=limits)


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Address]:
    with listening(request, tmp_path, Limits(seconds=30, connections=64)) as found:
        yield found


@pytest.fixture(params=["unix", "tcp"])
def impatient(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Address]:
    """One that cuts slow clients off soon."""
    with listening(request, tmp_path, Limits(seconds=0.3)) as found:
        yield found


def connect(address: Address) -> socket.socket:
    if isinstance(address, TcpAddress):
        return socket.create_connection(("127.0.0.1", address.port), timeout=5)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(str(address.path))
    return connection


def closed_without_a_word(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0


def test_a_client_gets_what_it_asks_for(address: Address) -> None:
    client = AesmClient(address, timeout=10)
    assert client.select_key() == KEY
    assert client.count_keys() == 1
    assert client.keys() == (KEY,)
    assert client.target_info(KEY) == (b"T" * 512, 32)
    with pytest.raises(AesmError, match="42"):
        client.quote_size(KEY)
    assert client.quote(REPORT) == sha256(REPORT).digest()  # which has the key made
    assert client.quote_size(KEY) == 32
    quote, report = client.quote_with_qe_report(REPORT, bytes(16), bytes(512))
    assert (quote, report) == (sha256(REPORT).digest(), b"R" * 432)


def test_refusals_come_as_codes(address: Address) -> None:
    client = AesmClient(address, timeout=10)
    client.initialise(KEY)
    other = AttestationKeyId(bytes(32), 1, 2).to_bytes()
    for report, key, code in (
        (bytes(432), KEY, AesmCode.INVALID_REPORT),
        (b"\xff" * 432, KEY, AesmCode.UNEXPECTED_ERROR),
        (REPORT, other, AesmCode.UNSUPPORTED_ATT_KEY_ID),
        (REPORT, b"short", AesmCode.PARAMETER_ERROR),
    ):
        with pytest.raises(AesmError) as raised:
            client.quote(report, key)
        assert raised.value.status == code
    with pytest.raises(InputError):
        client.quote(b"short")
    assert client.quote(REPORT) == sha256(REPORT).digest()


@pytest.mark.parametrize(
    ("request_made", "code"),
    [
        (GetQuoteExRequest(REPORT, 31, KEY), AesmCode.PARAMETER_ERROR),
        (GetQuoteExRequest(REPORT[1:], 99, KEY), AesmCode.PARAMETER_ERROR),
        (GetQuoteExRequest(REPORT, 99, KEY, b"info"), AesmCode.PARAMETER_ERROR),
        (GetQuoteExRequest(REPORT, 99), AesmCode.SUCCESS),
        (GetSupportedAttKeyIdsRequest(255), AesmCode.PARAMETER_ERROR),
        (InitQuoteExRequest(b_pub_key_id=True, buf_size=31), AesmCode.PARAMETER_ERROR),
        (InitQuoteExRequest(b_pub_key_id=True), AesmCode.PARAMETER_ERROR),
        (SelectAttKeyIdRequest(b"no list"), AesmCode.PARAMETER_ERROR),
        (SelectAttKeyIdRequest(struct.pack("<HHH", 0, 0, 1) + KEY), AesmCode.SUCCESS),
        (SelectAttKeyIdRequest(struct.pack("<HHH", 0, 0, 1) + bytes(256)), AesmCode.UNSUPPORTED_ATT_KEY_ID),
    ],
)
def test_parameters_are_checked(address: Address, request_made: object, code: AesmCode) -> None:
    AesmClient(address, timeout=10).initialise(KEY)
    response = decode_response(exchange(address, encode_request(request_made), time.monotonic() + 10))  # type: ignore[arg-type]
    assert not isinstance(response, int)
    assert response.error_code == code


def test_the_probe_of_doctor_takes_it_for_a_daemon_of_today(tmp_path: Path) -> None:
    path = tmp_path / "aesm.socket"
    with serving(Quoter(), UnixAddress(path)):
        aesm = read_facts(10, False, "/", str(path))["aesm"]
    assert "value" in aesm["connect"]
    replies = {
        item["request"]: item["reply"]["value"] for item in aesm["conversation"]["value"] if "value" in item["reply"]
    }
    assert {number: reply["outcome"] for number, reply in replies.items()} == {
        19: "response",
        21: "response",
        15: "response",
        10: "closed",
        12: "closed",
    }
    assert (replies[19]["code"], replies[19]["algorithm"], replies[21]["key_count"]) == (0, 2, 1)
    assert (replies[15]["target_info_size"], replies[15]["public_key_id_size"]) == (512, 32)


@pytest.mark.parametrize(
    "data",
    [
        frame(encode_fields({1: b""})),  # initQuote of EPID, which daemons from 2.28 on do not know
        frame(b"\xff" * 20),
        struct.pack("<I", 0),
        struct.pack("<I", 0xFFFFFFFF) + b"x",
        frame(encode_fields({17: b""})),
    ],
)
def test_malformed_clients_are_cut_off(address: Address, data: bytes) -> None:
    with connect(address) as connection:
        connection.sendall(data)
        assert closed_without_a_word(connection)
    assert AesmClient(address, timeout=10).select_key() == KEY


@pytest.mark.parametrize("beginning", [b"", b"\x05", struct.pack("<I", 100) + b"part"])
def test_slow_clients_are_cut_off(impatient: Address, beginning: bytes) -> None:
    with connect(impatient) as connection:
        connection.sendall(beginning)
        assert closed_without_a_word(connection)


def test_clients_beyond_the_limit_are_turned_away_until_others_leave(address: Address) -> None:
    held = [connect(address) for _ in range(64)]
    deadline = time.monotonic() + 10
    turned_away = False
    while not turned_away and time.monotonic() < deadline:
        try:
            AesmClient(address, timeout=5).select_key()
        except AesmConnectionError:
            turned_away = True
    for connection in held:
        connection.close()
    assert turned_away
    while True:
        try:
            assert AesmClient(address, timeout=5).select_key() == KEY
            break
        except AesmConnectionError:
            assert time.monotonic() < deadline


def test_many_clients_with_malformed_and_half_open_ones_among_them(address: Address) -> None:
    AesmClient(address, timeout=10).initialise(KEY)
    before = open_files()

    def ask(seed: int) -> int:
        chance = random.Random(seed)
        right = 0
        for _ in range(40):
            roll = chance.random()
            if roll < 0.05:
                with connect(address) as connection:
                    connection.sendall(chance.randbytes(chance.randrange(1, 50)))
                continue
            if roll < 0.1:
                connect(address).close()
                continue
            report = chance.randbytes(432)
            assert AesmClient(address, timeout=30).quote(report) == sha256(report).digest()
            right += 1
        return right

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(ask, range(32))) > 32 * 30
    deadline = time.monotonic() + 10
    while open_files() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_files() <= before


def test_it_stops_cleanly_with_clients_connected(tmp_path: Path) -> None:
    path = tmp_path / "aesm.socket"
    threads = threading.active_count()
    with serving(Quoter(), UnixAddress(path), mode=0o600):
        assert path.stat().st_mode & 0o777 == 0o600
        connection = connect(UnixAddress(path))
    with connection:
        assert closed_without_a_word(connection)
    assert not path.exists()
    assert threading.active_count() == threads
    with pytest.raises(AesmConnectionError, match="no AESM daemon"):
        AesmClient(UnixAddress(path), timeout=1).select_key()


def test_a_killed_daemons_socket_is_replaced_and_a_living_ones_is_not(tmp_path: Path) -> None:
    address = UnixAddress(tmp_path / "aesm.socket")
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(address.path))
    left.close()
    with serving(Quoter(), address):
        with pytest.raises(InputError, match="another AESM daemon"), serving(Quoter(), address):
            pass
        assert AesmClient(address, timeout=5).select_key() == KEY
    address.path.write_text("a file")
    with pytest.raises(InputError, match="not a socket"), serving(Quoter(), address):
        pass
    assert address.path.read_text() == "a file"
    nowhere = UnixAddress(tmp_path / "no" / "folder")
    with pytest.raises(InputError, match="cannot listen"), serving(Quoter(), nowhere):
        pass


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b"", "closed the connection"),
        (b"\x01", "malformed"),
        (struct.pack("<I", 1 << 30), "malformed"),
        (frame(b"\xff"), "malformed"),
        (frame(encode_response(GetQuoteSizeExResponse(0, 5))), "malformed"),
        (frame(encode_fields({19: encode_fields({1: 0})})), "it is missing"),
        (frame(encode_fields({19: encode_fields({1: 0, 2: b"k"})})), "1 bytes, must be 256"),
        (None, "did not answer in time"),
    ],
)
def test_daemons_that_answer_wrongly(tmp_path: Path, reply: bytes | None, problem: str) -> None:
    path = tmp_path / "s"
    done = threading.Event()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            if reply is None:
                done.wait(30)
            else:
                connection.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with pytest.raises(AesmConnectionError, match=problem):
            AesmClient(UnixAddress(path), timeout=0.3 if reply is None else 10).select_key()
    finally:
        done.set()
        thread.join()
        listener.close()


def test_an_unsupported_request_is_an_error_with_its_code(tmp_path: Path) -> None:
    class Empty(Quoter):
        def key_ids(self) -> tuple[bytes, ...]:
            return ()

    with (
        serving(Empty(), UnixAddress(tmp_path / "s")) as address,
        pytest.raises(AesmError, match="SERVICE_UNAVAILABLE"),
    ):
        read_info(AesmClient(address, timeout=5))


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    path = tmp_path / "s"
    (tmp_path / "report").write_bytes(REPORT)
    arguments = ["--aesm", str(path), "--timeout", "5"]
    assert main.run(["aesm", "info", *arguments]) == 2
    assert "no AESM daemon" in capsys.readouterr().err
    with serving(Quoter(), UnixAddress(path)):
        assert main.run(["aesm", "info", *arguments]) == 0
        assert "not initialised yet" in capsys.readouterr().out
        assert main.run(["aesm", "quote", str(tmp_path / "report"), "-o", str(tmp_path / "q"), *arguments]) == 0
        assert (tmp_path / "q").read_bytes() == sha256(REPORT).digest()
        assert main.run(["aesm", "info", *arguments, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["quote_size"], document["qe_mrenclave"]) == (32, "54" * 32)
        (tmp_path / "report").write_bytes(bytes(432))
        assert main.run(["aesm", "quote", str(tmp_path / "report"), "-o", "-", *arguments]) == 1
        assert "INVALID_REPORT" in capsys.readouterr().err
    assert main.run(["aesm", "info", "--aesm", "tcp://example.com:1"]) == 3
