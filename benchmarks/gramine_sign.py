"""Signing a manifest of Gramine with a large enclave and many trusted files: time and memory.

An enclave of 64 GiB and 20,000 trusted files, beside bare hashing of the same bytes in the same run: the files, read
block by block on all processors, and as many bytes as the records of the enclave have. Where `gramine-sgx-sign` is
in PATH, it signs the same manifest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import file_digest, sha256
from pathlib import Path

from benchmarks.measure import bare, peak_mib
from doubles.gramine import LIBOS_URI, pal
from sgxkit.enclave.measure import page_record_size
from sgxkit.enclave.signing import generate_key, load_private_key, sign, write_private_key
from sgxkit.gramine.build import Surroundings, complete, measure
from sgxkit.gramine.layout import PAGES_OF_A_THREAD
from sgxkit.gramine.sigstruct import parse_date
from sgxkit.isa.page import PAGE_SIZE

FILES, FILE_BYTES = 20_000, 64 << 10
ENCLAVE = 64 << 30
THREADS = 4
LIMIT_RATIO, LIMIT_MIB = 1.3, 150

MANIFEST = f"""\
libos.entrypoint = "/app"
loader.entrypoint = {{ uri = "{LIBOS_URI}", sha256 = "{sha256(b"libos").hexdigest()}" }}
fs.mounts = []
sgx.enclave_size = "{ENCLAVE >> 30}G"
sgx.max_threads = {THREADS}
sgx.trusted_files = [ "file:files/" ]
"""


def make_files(folder: Path) -> None:
    block = os.urandom(FILE_BYTES)
    for number in range(FILES):
        path = folder / "files" / f"{number % 100:02}" / f"library-{number:05}.so"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(8, "big") + block[8:])


def ours(key_file: Path) -> int:
    """Sign; in a process of its own, so that its memory can be told. Returned is the size of the manifest."""
    manifest, files, _ = complete(MANIFEST, "app.manifest", Surroundings(Path("/nowhere")))
    measured = measure(manifest, files, pal(), date=parse_date(None))
    Path("app.manifest.sgx").write_bytes(measured.text)
    Path("app.sig").write_bytes(sign(measured.sigstruct, load_private_key(key_file.read_bytes())).to_bytes())
    return len(measured.text)


def report_ours(key_file: str) -> None:
    begin = time.perf_counter()
    size = ours(Path(key_file))
    print(time.perf_counter() - begin, peak_mib(), size)


def bare_hashing(manifest_size: int) -> float:
    """The files as they are, then the records of the enclave, by nothing but SHA-256."""
    begin = time.perf_counter()

    def digest(path: Path) -> bytes:
        with path.open("rb") as file:
            return file_digest(file, "sha256").digest()

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(digest, sorted(Path("files").glob("*/*"))))
    measured = THREADS * PAGES_OF_A_THREAD + -(-manifest_size // PAGE_SIZE)
    added = ENCLAVE // PAGE_SIZE - measured
    bare(measured * page_record_size(16) + added * page_record_size(0))
    return time.perf_counter() - begin


def theirs(key_file: Path) -> float | None:
    if shutil.which("gramine-sgx-sign") is None:
        return None
    Path("app.manifest").write_text(MANIFEST)
    command = ("gramine-sgx-sign", "-q", "-m", "app.manifest", "-o", "theirs.manifest.sgx", "-s", "theirs.sig")
    begin = time.perf_counter()
    done = subprocess.run([*command, "-l", "libpal.so", "-k", key_file], check=False, capture_output=True)
    if done.returncode:
        return None
    taken = time.perf_counter() - begin
    same = Path("theirs.manifest.sgx").read_bytes() == Path("app.manifest.sgx").read_bytes()
    same &= Path("theirs.sig").read_bytes()[960:992] == Path("app.sig").read_bytes()[960:992]
    print(f"  Gramine's own signer made {'the same' if same else 'ANOTHER'} manifest and MRENCLAVE")
    return taken


def main() -> None:
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        write_private_key(folder / "key.pem", generate_key())
        (folder / "libpal.so").write_bytes(pal())
        os.chdir(folder)
        try:
            environment = {**os.environ, "PYTHONPATH": f"{here}:{here / 'tests'}"}
            code = "import sys; from benchmarks import gramine_sign; gramine_sign.report_ours(sys.argv[1])"
            best, bare_best, memory = float("inf"), float("inf"), 0.0
            for _ in range(3):
                done = subprocess.run(
                    [sys.executable, "-c", code, "key.pem"],
                    env=environment,
                    check=True,
                    capture_output=True,
                    text=True,
                )
                taken, peak, size = map(float, done.stdout.split())
                best, memory = min(best, taken), max(memory, peak)
                bare_best = min(bare_best, bare_hashing(int(size)))
            print(
                f"  64 GiB, {FILES} trusted files: {best:.2f} s   bare hashing {bare_best:.2f} s   "
                f"{best / bare_best:.2f} times (limit {LIMIT_RATIO})   "
                f"peak memory {memory:.0f} MiB (limit {LIMIT_MIB})"
            )
            other = theirs(folder / "key.pem")
            if other is None:
                print("  gramine-sgx-sign is not in PATH, or does not run here")
            else:
                print(f"  Gramine's own signer: {other:.2f} s, {other / best:.1f} times ours")
        finally:
            os.chdir(here)
