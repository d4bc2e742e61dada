"""Sign the suite's enclave: `python sign.py CODE SIGSTRUCT`, with a new key; needs sgxkit."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from sgxkit.enclave.image import EnclaveImage, PageRun
from sgxkit.enclave.measure import mrenclave
from sgxkit.enclave.signing import generate_key, sign, unsigned_sigstruct
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo
from sgxkit.isa.tcs import Tcs

# As in conformance.h.
SIZE = 0x40000
CODE_PAGES = 2
THREADS = ((0x2000, 0x4000, 0xA000), (0x3000, 0x10000, 0x16000))
READ_ONLY = 0x20000


def image(code: bytes) -> EnclaveImage:
    writable = SecInfo(PageFlags.RW, PageType.REG)
    runs = [
        PageRun(0, CODE_PAGES, SecInfo(PageFlags.RX, PageType.REG), data=code.ljust(CODE_PAGES * PAGE_SIZE, b"\0"))
    ]
    for at, ssa, data in THREADS:
        tcs = Tcs(ossa=ssa, nssa=3, oentry=0, ofsbase=data, ogsbase=data, fslimit=0xFFF, gslimit=0xFFF)
        runs.append(PageRun(at, 1, SecInfo(PageFlags(0), PageType.TCS), data=tcs.to_bytes()))
    for _, ssa, data in THREADS:
        runs += [PageRun(ssa, 3, writable), PageRun(data, 2, writable)]
    runs.append(PageRun(READ_ONLY, 1, SecInfo(PageFlags.R, PageType.REG), measured=()))
    return EnclaveImage(size=SIZE, ssaframesize=1, runs=runs)


def main(code: str, output: str) -> None:
    unsigned = unsigned_sigstruct(mrenclave(image(Path(code).read_bytes())))
    mask = unsigned.attributemask
    either = replace(unsigned, miscselect=1, attributemask=replace(mask, flags=mask.flags & ~AttributeFlags.DEBUG))
    Path(output).write_bytes(sign(either, generate_key()).to_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
