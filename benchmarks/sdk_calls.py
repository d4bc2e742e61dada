"""ECALLs and OCALLs of an enclave of Intel's SDK from Python, beside the bare entries into it that they need.

The difference is what proxies and handlers cost: arguments put into memory and taken back.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.timing import best_times
from doubles.compiled_enclave import EDL, compiled_enclave, platform
from sgxkit.enclave.platform import Registers
from sgxkit.sdk.sdk_enclave import SdkEnclave

ADD, NO_OCALL = 0, 0xFFFF_FFFF_FFFF_FFFF
ENTRIES_WITH_TWO_OCALLS = 3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        image = compiled_enclave(Path(folder))
        with SdkEnclave.load(platform(), image, EDL) as enclave:
            enclave.ocall("say")(len)
            enclave.add(1, 2)
            thread = enclave.enclave.tcs[0]
            stack = enclave.memory.allocate(1 << 16)
            struct = enclave.memory.allocate(12)
            registers = Registers(rdi=ADD, rsi=struct, rsp=stack + 0xFF00, rbp=stack + 0xFF00)

            def entry() -> None:
                assert enclave.enclave.enter(thread, registers).registers.rdi == NO_OCALL

            best = best_times(
                {"entry": entry, "ecall": lambda: enclave.add(1, 2), "ocalls": lambda: enclave.greet("world")}
            )
    bare, ecall, ocalls = (best[name] for name in ("entry", "ecall", "ocalls"))
    print(f"a bare entry:          {bare * 1e3:.3f} ms")
    print(f"an ECALL:              {ecall * 1e3:.3f} ms, {ecall / bare:.2f} of it")
    ratio = ocalls / (ENTRIES_WITH_TWO_OCALLS * bare)
    print(f"an ECALL, two OCALLs:  {ocalls * 1e3:.3f} ms, {ratio:.2f} of the {ENTRIES_WITH_TWO_OCALLS} entries")
