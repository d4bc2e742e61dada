"""Reading 200 MB of log: time and memory, beside bare reading, and grep -F for one literal of each signature.

Limits: 10 s and 200 MiB. Each figure is of a process of its own; time is wall time, and processor time of the
process, because a machine that does other things too disturbs the first.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sgxkit.host.catalogue.shelf import shipped_entries
from sgxkit.host.recogniser import CHUNK, Recogniser

SIZE = 200_000_000
SECONDS, MEBIBYTES = 10, 200
CLEAN = Path(__file__).parents[1] / "tests/unit/host/clean_logs"


def unrelated() -> bytes:
    """Lines of healthy hosts, in any order, with times of their own."""
    choose = random.Random(7)
    lines = [line for path in sorted(CLEAN.iterdir()) for line in path.read_bytes().splitlines()]
    return b"".join(b"%d %s\n" % (number, choose.choice(lines)) for number in range(40_000))


def every_signature() -> bytes:
    """An example of each signature, again and again: what no log is, and the most work."""
    return b"".join(f"{line}\n".encode() for entry in shipped_entries() for line in entry.examples)


def one_failure() -> bytes:
    """A daemon that says the same every second."""
    return b"".join(
        b"Nov 21 10:%02d:%02d host aesm_service[9]: [QCNL] Encountered CURL error: (7) Couldn't connect to server\n"
        % (second // 60, second % 60)
        for second in range(3600)
    )


LOGS: dict[str, Callable[[], bytes]] = {
    "unrelated lines": unrelated,
    "one failure, repeated": one_failure,
    "every signature, repeated": every_signature,
}


def write(path: Path, block: bytes) -> None:
    with path.open("wb") as file:
        for _ in range(SIZE // len(block)):
            file.write(block)


def recognise(path: str) -> None:
    """In a process of its own: what `sgxkit diagnose` does with a file, without its start."""
    entries = shipped_entries()
    begin, used = time.perf_counter(), time.process_time()
    recogniser = Recogniser(entries)
    with Path(path).open("rb", buffering=0) as file:
        recogniser.read(path, file)
    print(time.perf_counter() - begin, time.process_time() - used, peak_mib(), len(recogniser.findings))


def bare(path: str) -> None:
    """In a process of its own: the same bytes read and dropped."""
    begin, used = time.perf_counter(), time.process_time()
    with Path(path).open("rb", buffering=0) as file:
        while file.read(CHUNK):
            pass
    print(time.perf_counter() - begin, time.process_time() - used, peak_mib(), 0)


def peak_mib() -> float:
    """This process' own peak; that of getrusage starts with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def in_process(function: str, path: Path) -> tuple[float, float, float, int]:
    code = f"from benchmarks import diagnose; diagnose.{function}({str(path)!r})"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    wall, used, memory, found = output.split()
    return float(wall), float(used), float(memory), int(found)


def grep(path: Path, literals: Path) -> tuple[float, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    # Into a pipe: grep stops at the first line where it sees that nobody reads.
    subprocess.run(["grep", "-c", "-F", "-f", literals, path], check=False, stdout=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - begin, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, literals = Path(folder) / "log", Path(folder) / "literals"
        patterns = [max(pattern.literals, key=len) for entry in shipped_entries() for pattern in entry.patterns]
        literals.write_bytes(b"".join(literal + b"\n" for literal in patterns))
        print(f"  {SIZE // 10**6} MB, {len(patterns)} signatures; limits {SECONDS} s, {MEBIBYTES} MiB")
        for name, make in LOGS.items():
            write(path, make())
            os.sync()
            in_process("bare", path)  # so that both find the file in memory
            wall, used, memory, found = min(in_process("recognise", path) for _ in range(3))
            bare_wall, _, _, _ = min(in_process("bare", path) for _ in range(3))
            print(
                f"  {name:<26} {wall:5.2f} s ({used:5.2f} s of processor), {memory:4.0f} MiB, {found} entries; "
                f"bare reading {bare_wall:5.2f} s, ratio {wall / bare_wall:4.1f}"
            )
            if shutil.which("grep"):
                grep_wall, grep_used = min(grep(path, literals) for _ in range(2))
                print(f"  {'':<26} grep -F -f {grep_wall:5.2f} s ({grep_used:5.2f} s), ratio {wall / grep_wall:4.1f}")
