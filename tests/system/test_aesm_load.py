"""A lab's AESM daemon, a process of its own, under many clients of whom some are malformed or never finish."""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sgxkit.aesm.address import UnixAddress, parse_address
from sgxkit.aesm.client import AesmClient
from sgxkit.aesm.key_id import INTEL_ECDSA_P256
from sgxkit.dcap.ecdsa import public_key, raw_signature_verifies
from sgxkit.dcap.quote import parse_quote
from sgxkit.emulator.keys import make_report
from sgxkit.isa.targetinfo import TargetInfo
from sgxkit.lab.daemon import start_server, stop_server
from sgxkit.lab.quoting import SAMPLE_ENCLAVE, report_key_id
from sgxkit.lab.store import create_lab
from sgxkit.lab.world import new_world

CLIENTS = 32
SPOILT = 0.01
KEY = INTEL_ECDSA_P256.to_bytes()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of the daemon")


def memory(pid: int) -> float:
    """Resident, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.parametrize(
    "seconds", [pytest.param(1.5, id="short"), pytest.param(30.0, id="long", marks=pytest.mark.exhaustive)]
)
def test_no_answer_is_wrong_and_nothing_leaks(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGXKIT_STATE_DIR", str(tmp_path))
    lab = create_lab(new_world("load", datetime.now(UTC)))
    served = start_server("load", [])
    try:
        address = parse_address(served.aesm)
        assert isinstance(address, UnixAddress)
        client = AesmClient(address, timeout=60)
        target = TargetInfo.from_bytes(client.initialise(KEY)[0])
        deadline = time.monotonic() + seconds
        before, warm = files(served.pid), threading.Timer(seconds / 3, lambda: sizes.append(memory(served.pid)))
        sizes: list[float] = []
        warm.start()

        def ask(seed: int) -> tuple[int, int]:
            chance = random.Random(seed)
            right, spoilt = 0, 0
            held: list[socket.socket] = []
            while time.monotonic() < deadline or not right:
                if chance.random() < SPOILT * 2:
                    connection = socket.socket(socket.AF_UNIX)
                    connection.connect(str(address.path))
                    # A whole frame of nonsense, or the beginning of one and then nothing.
                    connection.sendall(struct.pack("<I", 20) + chance.randbytes(chance.choice((20, 7))))
                    held.append(connection)
                    spoilt += 1
                    continue
                data = chance.randbytes(64)
                body = SAMPLE_ENCLAVE.report_body(lab.fuses.cpusvn, data)
                report = make_report(lab.fuses, body, target, report_key_id(lab))
                quote = client.quote(report.to_bytes(), KEY)
                parsed, signed = parse_quote(quote), quote[:432]
                assert signed[48:] == body.to_bytes()
                assert raw_signature_verifies(public_key(parsed.attestation_key), parsed.signature, signed)
                right += 1
            for connection in held:
                connection.close()
            return right, spoilt

        with ThreadPoolExecutor(CLIENTS) as pool:
            outcomes = list(pool.map(ask, range(CLIENTS)))
        warm.join()
        assert all(right for right, _ in outcomes)
        assert sum(spoilt for _, spoilt in outcomes) > 0
        limit = time.monotonic() + 30
        while files(served.pid) > before and time.monotonic() < limit:
            time.sleep(0.1)
        assert files(served.pid) <= before
        assert memory(served.pid) < sizes[0] + 8
        assert client.quote_size(KEY) > 4000
    finally:
        stop_server("load")
