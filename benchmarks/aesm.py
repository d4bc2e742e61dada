"""Quotes a second of a lab's AESM daemon, with clients at their worst, beside the ECDSA signatures that they need.

32 clients ask for half a minute; one request in a hundred is malformed, one connection in a hundred stays half open.
Every quote must be over the report that was asked about and bear a signature of the attestation key; the daemon's
memory and open files must end where they were once it was warm. A quote costs one ECDSA P-256 signature.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.timing import best_times
from sgxkit.aesm.address import UnixAddress, parse_address
from sgxkit.aesm.client import AesmClient
from sgxkit.aesm.key_id import INTEL_ECDSA_P256
from sgxkit.dcap.ecdsa import public_key, raw_signature_verifies
from sgxkit.dcap.quote import parse_quote
from sgxkit.emulator.keys import make_report
from sgxkit.isa.targetinfo import TargetInfo
from sgxkit.lab.quoting import SAMPLE_ENCLAVE, report_key_id
from sgxkit.lab.store import create_lab, load_lab
from sgxkit.lab.world import new_world

CLIENTS = 32
PROCESSES = 2
SECONDS = 30
WARM_SECONDS = 10
SPOILT = 0.01
KEY = INTEL_ECDSA_P256.to_bytes()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SGXKIT_STATE_DIR"] = folder
        create_lab(new_world("bench", datetime.now(UTC)))
        command = [sys.executable, "-m", "sgxkit", "lab", "serve", "bench", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
            try:
                assert daemon.stdout is not None
                _measure(daemon.pid, _announcement(daemon)["aesm"])
            finally:
                daemon.terminate()
    _report_signatures()


def _announcement(daemon: subprocess.Popen[str]) -> dict[str, str]:
    assert daemon.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        text += daemon.stdout.readline()
    found: dict[str, str] = json.loads(text)
    return found


def _measure(pid: int, address: str) -> None:
    AesmClient(parse_address(address)).initialise(KEY)
    with get_context("spawn").Pool(PROCESSES) as pool:
        running = pool.starmap_async(_clients, [(address, number) for number in range(PROCESSES)])
        time.sleep(WARM_SECONDS)
        memory, files = _memory(pid), _files(pid)
        outcomes = running.get()
    time.sleep(6)  # the last half-open connections are cut off after 5
    quotes, wrong, spoilt = (sum(one[index] for one in outcomes) for index in range(3))
    print(f"{CLIENTS} clients for {SECONDS} s: {quotes} quotes, {quotes / SECONDS:.0f} a second, {wrong} wrong")
    print(f"malformed or half-open: {spoilt}")
    print(f"memory of the daemon: {memory:.1f} MiB warm, {_memory(pid):.1f} MiB in the end")
    print(f"open files of the daemon: {files} under load, {_files(pid)} in the end")


def _clients(address: str, process: int) -> tuple[int, int, int]:
    """Run a share of the clients; returns quotes, wrong answers and spoilt requests."""
    lab = load_lab("bench")
    where = parse_address(address)
    assert isinstance(where, UnixAddress)
    client = AesmClient(where, timeout=30)
    target = TargetInfo.from_bytes(client.target_info(KEY)[0])
    totals = [0, 0, 0]
    lock = threading.Lock()
    deadline = time.monotonic() + SECONDS

    def run(seed: int) -> None:
        chance = random.Random(seed)
        held: list[socket.socket] = []
        while time.monotonic() < deadline:
            if (roll := chance.random()) < 2 * SPOILT:
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(str(where.path))
                connection.sendall(struct.pack("<I", 20) + chance.randbytes(20 if roll < SPOILT else 7))
                held.append(connection)
                if len(held) > 20:
                    held.pop(0).close()
                with lock:
                    totals[2] += 1
                continue
            data = chance.randbytes(64)
            body = SAMPLE_ENCLAVE.report_body(lab.fuses.cpusvn, data)
            report = make_report(lab.fuses, body, target, report_key_id(lab))
            right = _is_right(client.quote(report.to_bytes(), KEY), report.body.to_bytes())
            with lock:
                totals[0] += 1
                totals[1] += not right
        for connection in held:
            connection.close()

    share = CLIENTS // PROCESSES
    threads = [threading.Thread(target=run, args=(process * share + number,)) for number in range(share)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return totals[0], totals[1], totals[2]


def _is_right(data: bytes, body: bytes) -> bool:
    quote = parse_quote(data)
    signed = data[:432]
    return signed[48:] == body and raw_signature_verifies(public_key(quote.attestation_key), quote.signature, signed)


def _memory(pid: int) -> float:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _report_signatures() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm = ec.ECDSA(hashes.SHA256())
    seconds = best_times({"sign": lambda: key.sign(b"x" * 432, algorithm)})["sign"]
    print(f"bare ECDSA signatures, one a quote: {1 / seconds:.0f} a second on one core, idle")
