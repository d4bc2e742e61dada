"""Measuring an enclave: against bare SHA-256 of as many bytes in the same run, and what memory it takes.

The bytes are those of the records: 5184 for a page that is measured whole, 64 for one that is only added. Bare
SHA-256 reads one block again and again, which no cache has to give up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

from benchmarks.timing import best_times
from sgxkit.enclave.image import EnclaveImage, PageRun
from sgxkit.enclave.measure import mrenclave, page_record_size
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo

RW = SecInfo(PageFlags.RW, PageType.REG)
PAGES = 16384
HUGE = 64 << 30
BLOCK = bytes(1 << 16)
LIMIT_MIB = 64


def image(pages: int, *, chunks: tuple[int, ...] | None = None, data: bytes = b"") -> EnclaveImage:
    run = PageRun(0, pages, RW, data=data) if chunks is None else PageRun(0, pages, RW, chunks, data)
    return EnclaveImage(max(pages * PAGE_SIZE, 8192), 1, (run,))


def bare(size: int) -> None:
    digest = sha256()
    for _ in range(size // len(BLOCK)):
        digest.update(BLOCK)
    digest.update(BLOCK[: size % len(BLOCK)])


def peak_mib() -> float:
    """This process' own peak; that of getrusage starts with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure_huge() -> None:
    """In a process of its own: what 64 GiB of pages that are only added cost."""
    mrenclave(image(1))
    before = peak_mib()
    huge = image(HUGE // PAGE_SIZE, chunks=())
    ours, hashing = float("inf"), float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        mrenclave(huge)
        middle = time.perf_counter()
        bare(HUGE // PAGE_SIZE * page_record_size(0))
        ours, hashing = min(ours, middle - begin), min(hashing, time.perf_counter() - middle)
    print(
        f"  64 GiB only added: {ours:.2f} s, {hashing / ours:.2f} of bare SHA-256; "
        f"peak memory {peak_mib():.0f} MiB in all (limit {LIMIT_MIB}), "
        f"{peak_mib() - before:.1f} MiB more than for one page"
    )


def main() -> None:
    contents = os.urandom(PAGES * PAGE_SIZE)
    whole, added = PAGES * page_record_size(16), 64 * PAGES * page_record_size(0)
    cases = {
        "contents, each page its own": (image(PAGES, data=contents), whole),
        "zeros": (image(PAGES), whole),
        "only added": (image(64 * PAGES, chunks=()), added),
    }
    for name, (candidate, size) in cases.items():
        times = best_times({"measure": lambda c=candidate: mrenclave(c), "bare": lambda s=size: bare(s)})
        print(
            f"  {name:<28} {size / times['measure'] / 1e9:5.2f} GB/s   "
            f"bare SHA-256 {size / times['bare'] / 1e9:5.2f} GB/s   {times['bare'] / times['measure']:4.2f} of it"
        )
    sys.stdout.flush()
    subprocess.run([sys.executable, "-c", "from benchmarks import measure; measure.measure_huge()"], check=True)
