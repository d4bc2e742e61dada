"""The emulated processor: loading beside SHA-256 of its records, entries and instructions beside bare Unicorn."""

from __future__ import annotations

import time
from dataclasses import replace
from hashlib import sha256
from typing import Any

import unicorn
from unicorn import x86_const

from benchmarks.timing import best_times
from doubles.enclave_code import COMPUTE
from doubles.enclaves import TCS
from doubles.running import OUTSIDE_REGISTERS, Enclave, code
from sgxkit.emulator.coverage import Coverage
from sgxkit.emulator.engine import Engine
from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.platform import EmulatedPlatform
from sgxkit.enclave.image import EnclaveImage, PageRun
from sgxkit.enclave.measure import mrenclave, page_record_size
from sgxkit.enclave.signing import generate_key, sign, unsigned_sigstruct
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo

MEASURED_PAGES, ADDED_PAGES = 4096, 4096
ROUNDS = 2_000_000
# mov rax, rsi; then RDX times: lea rax, [rax + rax*4 + 1]; dec rdx; jnz
LOOP = "4889f0 488d448001 48ffca 75f6"
AT = 0x10_0000


def load_speed() -> None:
    rw = SecInfo(PageFlags.RW, PageType.REG)
    measured = PageRun(0, MEASURED_PAGES, rw, data=bytes(range(256)) * 16 * MEASURED_PAGES)
    added = PageRun(measured.end, ADDED_PAGES, rw, ())
    image = EnclaveImage(64 << 20, 1, (measured, added))
    sigstruct = sign(unsigned_sigstruct(mrenclave(image)), generate_key())
    platform = EmulatedPlatform.of(Fuses.from_seed(b"benchmark"))
    hashed = bytes(MEASURED_PAGES * page_record_size(16) + ADDED_PAGES * page_record_size(0))

    def load() -> None:
        platform.load(image, sigstruct, debug=False).remove()

    times = best_times({"load": load, "sha256": lambda: sha256(hashed)})
    mib = image_mib = (MEASURED_PAGES + ADDED_PAGES) * PAGE_SIZE / (1 << 20)
    print(
        f"  loading and removing {image_mib:.0f} MiB, half of it measured: {mib / times['load']:.0f} MiB/s; "
        f"{times['sha256'] / times['load']:.2f} of bare SHA-256 of its records ({mib / times['sha256']:.0f} MiB/s)"
    )


def entry_cost() -> None:
    enclave = Enclave()
    native = replace(enclave.engine, instructions=None)
    registers = replace(OUTSIDE_REGISTERS, rdi=COMPUTE, rsi=1)
    times = best_times({"entry": lambda: native.enter(TCS, registers)})
    machine = bare_machine()
    bare = best_times({"bare": lambda: machine.emu_start(AT, AT + 3)})
    print(
        f"  an entry of a few instructions: {times['entry'] * 1e6:.0f} us; "
        f"an emu_start of bare Unicorn: {bare['bare'] * 1e6:.0f} us ({times['entry'] / bare['bare']:.1f} times)"
    )


def bare_machine() -> Any:
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    machine.mem_map(AT, PAGE_SIZE)
    machine.mem_write(AT, bytes.fromhex(LOOP))
    return machine


def execution_speed() -> None:
    enclave = Enclave(code(LOOP))
    executed = 3 * ROUNDS
    machine = bare_machine()
    end = AT + len(bytes.fromhex(LOOP))

    def bare(rounds: int) -> float:
        machine.reg_write(x86_const.UC_X86_REG_RSI, 1)
        machine.reg_write(x86_const.UC_X86_REG_RDX, rounds)
        begin = time.perf_counter()
        machine.emu_start(AT, end)
        return time.perf_counter() - begin

    def ours(engine: Engine, rounds: int) -> float:
        begin = time.perf_counter()
        engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=1, rdx=rounds))
        return time.perf_counter() - begin

    best_bare = min(bare(ROUNDS) for _ in range(5)) / executed
    speed = f"{1e-6 / best_bare:.0f} million/s"
    print(f"  instructions, bare Unicorn: {speed}")
    for name, changes, rounds in (
        ("nobody counts", {"instructions": None}, ROUNDS),
        ("counted", {"instructions": 1 << 40}, ROUNDS // 20),
        ("covered", {"instructions": None, "coverage": Coverage(0, 1 << 47)}, ROUNDS // 40),
    ):
        engine = replace(enclave.engine, **changes)  # type: ignore[arg-type]
        took = min(ours(engine, rounds) for _ in range(3)) / (3 * rounds)
        print(f"  instructions, {name}: {1e-6 / took:.1f} million/s, {best_bare / took:.3f} of bare Unicorn")


def main() -> None:
    load_speed()
    entry_cost()
    execution_speed()
