"""Enclave code in Unicorn: entry, leaf functions, faults, asynchronous exits, limits, memory outside."""

from __future__ import annotations

import builtins
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubles import enclave_code
from doubles.enclave_code import COMPUTE, FAULT, FAULTING, OUTSIDE, SEAL, SPIN, SPINNING
from doubles.enclaves import (
    AEP,
    BASE,
    CODE,
    DATA,
    RBP,
    RSP,
    SSA,
    TCS,
)
from doubles.running import BUFFER, CALLER, EXTRA, OUTSIDE_REGISTERS, SECOND_TCS, Enclave, code
from sgxkit.emulator.encls_sgx2 import emodpr
from sgxkit.emulator.engine import InstructionLimitError, LimitError, TimeLimitError
from sgxkit.emulator.entry import eenter
from sgxkit.emulator.faults import GeneralProtectionFault
from sgxkit.emulator.illegal import exception_of
from sgxkit.emulator.keys import derive_key, verify_report
from sgxkit.emulator.memory import SparseMemory
from sgxkit.enclave.platform import Registers
from sgxkit.errors import InputError
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.keyrequest import KeyName, KeyPolicy, KeyRequest
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.local_report import Report
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo
from sgxkit.isa.ssa import ExInfo, ExitInfo
from sgxkit.isa.status import Status
from sgxkit.isa.targetinfo import TargetInfo


@pytest.mark.skipif(shutil.which("as") is None or shutil.which("objcopy") is None, reason="binutils is not here")
@pytest.mark.skipif(sys.platform != "linux", reason="another assembler")
def test_the_code_is_what_its_source_says(tmp_path: Path) -> None:
    (tmp_path / "e.s").write_text(enclave_code.SOURCE)
    assembled = subprocess.run(["as", "--64", "-o", "e.o", "e.s"], cwd=tmp_path, check=False, capture_output=True)
    if assembled.returncode:
        pytest.skip("this assembler is not for x86-64")
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", "e.o", "e.bin"], cwd=tmp_path, check=True)
    assert (tmp_path / "e.bin").read_bytes() == enclave_code.CODE


def test_an_enclave_computes_and_leaves() -> None:
    enclave = Enclave()
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=COMPUTE, rsi=5, rdx=100))
    assert left.exception is None
    registers = left.registers
    assert (registers.rdx, registers.rip, registers.rcx) == (115, CALLER + 3, AEP)
    assert (registers.rsp, registers.rbp) == (RSP, RBP)
    assert left.instructions == 15
    assert enclave.thread_control().state == 0


def test_sealing_key_and_report_are_the_processors() -> None:
    request = KeyRequest(KeyName.SEAL_KEY, KeyPolicy.MRENCLAVE, keyid=bytes(range(32)))
    enclave = Enclave(data=request.to_bytes())
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=SEAL, rsi=0x1122))
    fuses, identity = enclave.os.processor.fuses, enclave.loaded.identity
    key = derive_key(fuses, identity, request)
    assert enclave.memory(DATA + 0x200, 16) == key
    assert left.registers.rdx.to_bytes(8, "little") == key[:8]
    assert left.registers.r14 == Status.SGX_SUCCESS
    report = Report.from_bytes(enclave.memory(DATA + 0x400, 432))
    assert verify_report(fuses, report, TargetInfo.from_bytes(bytes(512)))
    assert report.body.mrenclave == identity.mrenclave
    assert report.body.reportdata[:8] == (0x1122).to_bytes(8, "little")


def test_a_refused_key_sets_zf() -> None:
    # EGETKEY; RDX = RAX after LAHF
    program = code("f3480faec3 488d8b00020000 b801000000 0f01d7 4989c6 9f 4889c2")
    enclave = Enclave(program, data=KeyRequest(KeyName.SEAL_KEY, isvsvn=0xFFFF).to_bytes())
    left = enclave.engine.enter(TCS, OUTSIDE_REGISTERS)
    assert left.registers.r14 == Status.SGX_INVALID_ISVSVN
    assert left.registers.rdx >> 8 & 0xFF == 0x42


def test_a_fault_leaves_the_synthetic_state_and_eresume_goes_on() -> None:
    enclave = Enclave()
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=BUFFER, r9=9))
    assert left.exception is not None
    assert (left.exception.vector, left.exception.address) == (14, BUFFER)
    assert left.exception.error_code == 4
    assert left.registers == Registers(
        rax=Enclu.ERESUME, rbx=TCS, rcx=AEP, rsp=RSP, rbp=RBP, rip=AEP, rflags=left.registers.rflags
    )
    assert left.registers.rflags & 0x8D5 == 0
    saved = enclave.saved()
    assert (saved.rip, saved.rsi, saved.r9, saved.rdi) == (CODE + FAULTING, BUFFER, 9, FAULT)
    assert (saved.ursp, saved.urbp, saved.fsbase, saved.gsbase) == (RSP, RBP, DATA, DATA)
    assert saved.exitinfo == ExitInfo()
    assert enclave.memory(SSA + 160 + 3 * 16, 8) == BUFFER.to_bytes(8, "little")  # XMM3
    assert enclave.thread_control().cssa == 1

    enclave.engine.memory.write(BUFFER, (77).to_bytes(8, "little"))
    resumed = enclave.engine.resume(TCS, OUTSIDE_REGISTERS)
    assert resumed.exception is None
    assert (resumed.registers.rdx, resumed.registers.r9) == (77, 9)
    assert enclave.thread_control().cssa == 0


def test_a_page_fault_is_reported_where_miscselect_has_it() -> None:
    enclave = Enclave(miscselect=1)
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=BASE + 0xF123))
    assert left.exception is not None
    assert left.exception.address == BASE + 0xF000
    assert enclave.saved().exitinfo == ExitInfo(14, 3, True)
    assert ExInfo.from_bytes(enclave.exinfo()) == ExInfo(BASE + 0xF123, 4)


def test_the_epcm_decides_what_code_may_do() -> None:
    # Write to the code page
    enclave = Enclave(code("48891e"), miscselect=1)
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=CODE + 0x800))
    assert left.exception is not None
    assert (left.exception.vector, left.exception.error_code) == (14, 0x8007)
    # Read of the TCS
    enclave = Enclave(code("488b16"))
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=TCS))
    assert left.exception is not None
    assert (left.exception.vector, left.exception.error_code) == (14, 0x8005)
    # Jump into data
    enclave = Enclave(code("ffe6"))
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=DATA))
    assert left.exception is not None
    assert (left.exception.vector, left.exception.error_code) == (14, 0x8015)
    assert enclave.saved().rip == DATA


def test_code_outside_the_enclave_is_not_executed() -> None:
    enclave = Enclave(code("ffe6"), miscselect=1)
    enclave.engine.memory.write(BUFFER, b"\x90" * 16)
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=BUFFER))
    assert left.exception is not None
    assert left.exception.vector == 13
    assert enclave.saved().exitinfo == ExitInfo(13, 3, True)


@pytest.mark.parametrize(
    ("instruction", "vector"),
    [
        ("0fa2", 6),  # CPUID
        ("0f05", 6),  # SYSCALL
        ("0f34", 6),  # SYSENTER
        ("cd80", 6),  # INT
        ("48cf", 6),  # IRETQ
        ("48cb", 6),  # far RET
        ("48ff2e", 6),  # far JMP
        ("e410", 6),  # IN
        ("66ed", 6),  # IN
        ("ee", 6),  # OUT
        ("f36c", 6),  # REP INS
        ("6f", 6),  # OUTS
        ("8ed8", 6),  # MOV DS
        ("0fa1", 6),  # POP FS
        ("480fb216", 6),  # LSS
        ("0f0106", 6),  # SGDT
        ("0f01e0", 6),  # SMSW
        ("0f00c0", 6),  # SLDT
        ("0f01c1", 6),  # VMCALL
        ("0f33", 6),  # RDPMC
        ("0f0b", 6),  # UD2
        ("c5fc77", 6),  # VZEROALL: no AVX here
        ("c4e27d58c0", 6),  # VPBROADCASTD
        ("62f17c4828c0", 6),  # VMOVAPS of AVX-512
        ("f4", 13),  # HLT
        ("fa", 13),  # CLI
        ("0f32", 13),  # RDMSR
        ("0f20c0", 13),  # MOV from CR0
        ("0f01d1", 13),  # XSETBV
        ("0f013e", 13),  # INVLPG
        ("0f01cf", 13),  # ENCLS
        ("cc", 3),  # INT3
        ("31c9f7f1", 0),  # DIV by zero
    ],
)
def test_what_an_enclave_may_not_execute(instruction: str, vector: int) -> None:
    enclave = Enclave(code(instruction))
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=DATA, rdx=1))
    assert left.exception is not None
    assert left.exception.vector == vector
    reported = ExitInfo() if vector == 13 else ExitInfo(vector, 6 if vector == 3 else 3, True)
    saved = enclave.saved()
    assert saved.exitinfo == reported
    assert saved.rip == CODE + (5 if vector == 0 else 3)


@pytest.mark.parametrize(
    "instruction",
    [
        "0f31",  # RDTSC: the processor has SGX2
        "0f01f9",  # RDTSCP
        "480fc7f0",  # RDRAND
        "480fc7f8",  # RDSEED
        "31c9 0f01d0",  # XGETBV
        "480fae06",  # FXSAVE64
        "0f28c1",  # MOVAPS
        "f30f1efa",  # ENDBR64
        "c4e2f8f2c0",  # ANDN
        "c4e3fbf0c007",  # RORX
        "f3480faec3",  # RDFSBASE
    ],
)
def test_what_it_may(instruction: str) -> None:
    left = Enclave(code(instruction)).engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=DATA))
    assert (left.exception, left.registers.rip) == (None, CALLER + 3)


def test_the_time_stamp_counter_needs_sgx2() -> None:
    assert exception_of(b"\x0f\x31", sgx2=False) == exception_of(b"\x0f\x01\xf9", sgx2=False) == 6


@pytest.mark.parametrize("leaf", [Enclu.EENTER, Enclu.ERESUME, 0x77])
def test_leaves_that_are_not_for_inside(leaf: int) -> None:
    enclave = Enclave(code(f"b8{leaf:02x}000000", "0f01d7"))
    left = enclave.engine.enter(TCS, OUTSIDE_REGISTERS)
    assert left.exception is not None
    assert left.exception.vector == 13
    assert enclave.saved().rip == CODE + 8


def test_a_leaf_functions_fault_is_the_instructions() -> None:
    enclave = Enclave(code("31db", "b801000000", "0f01d7"))
    left = enclave.engine.enter(TCS, OUTSIDE_REGISTERS)
    assert left.exception is not None
    assert left.exception.vector == 13
    assert enclave.saved().rip == CODE + 10


@pytest.mark.parametrize(
    ("address", "vector", "told"),
    [(1 << 47, 13, None), ((1 << 64) - 8, 14, (1 << 64) - PAGE_SIZE), (0, 14, 0)],
)
def test_addresses_that_nobody_has(address: int, vector: int, told: int | None) -> None:
    left = Enclave().engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=address))
    assert left.exception is not None
    assert (left.exception.vector, left.exception.address) == (vector, told)


def test_an_access_to_two_pages_needs_both() -> None:
    enclave = Enclave()
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=CODE - 4))
    assert left.registers.rdx == int.from_bytes(bytes(4) + enclave_code.CODE[:4], "little")
    enclave = Enclave(code("48891e"), miscselect=1)
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=CODE - 4))
    assert left.exception is not None
    assert (left.exception.vector, left.exception.error_code) == (14, 0x8007)
    assert ExInfo.from_bytes(enclave.exinfo()).maddr == CODE


def test_an_instruction_across_two_pages() -> None:
    # JMP to the last byte: F4 F4 is HLT there; with a 66 prefix it goes over the border
    program = code("ffe6").ljust(PAGE_SIZE - 1, b"\x90") + b"\x66"
    enclave = Enclave(program)
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=CODE + PAGE_SIZE - 1))
    assert left.exception is not None
    assert left.exception.vector == 13
    assert enclave.saved().rip == CODE + PAGE_SIZE - 1


def test_an_instruction_whose_second_page_is_missing() -> None:
    enclave = Enclave(code("ffe6"), miscselect=1, last=b"\x66")
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=CODE + 2 * PAGE_SIZE - 1))
    assert left.exception is not None
    assert (left.exception.vector, left.exception.address) == (14, CODE + 2 * PAGE_SIZE)
    assert left.exception.error_code == 0x14
    assert enclave.saved().rip == CODE + 2 * PAGE_SIZE - 1


def test_emodpe_is_seen_by_the_next_instruction() -> None:
    # EMODPE with the SECINFO at FS:0 on the page RSI; then call it: RET
    program = code("c606c3", "f3480faec3", "4889f1", "b806000000", "0f01d7", "488da300080000", "ffd6")
    secinfo = SecInfo(PageFlags.RWX, PageType.REG).to_bytes()
    enclave = Enclave(program, data=secinfo)
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=EXTRA))
    assert left.exception is None
    assert enclave.memory(EXTRA, 2) == b"\xc3\x55"


def test_eaccept_takes_what_the_system_did() -> None:
    program = code("f3480faec3", "4889f1", "b805000000", "0f01d7", "4889c2")
    accepted = SecInfo(PageFlags.R | PageFlags.PR, PageType.REG).to_bytes()
    enclave = Enclave(program, data=accepted)
    system = enclave.os
    system.memory.write(0x2000, SecInfo(PageFlags.R, PageType.REG).to_bytes())
    emodpr(system.processor, system.memory, 0x2000, system.pages[EXTRA])
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=EXTRA))
    assert left.exception is None
    assert left.registers.rdx == Status.SGX_NOT_TRACKED


def test_memory_is_shared_only_where_the_caller_says() -> None:
    enclave = Enclave()
    memory = enclave.engine.memory
    memory.write(BUFFER, (21).to_bytes(8, "little"))
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=OUTSIDE, rsi=BUFFER))
    assert (left.registers.rdx, left.instructions) == (42, 14)
    assert memory.read(BUFFER + 8, 8) == (42).to_bytes(8, "little")
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=OUTSIDE, rsi=BUFFER + PAGE_SIZE))
    assert left.exception is not None
    assert left.exception.vector == 14


def test_the_epc_reads_as_ones_from_outside() -> None:
    enclave = Enclave()
    enclave.engine.memory.write(BASE - 8, bytes(8))
    assert enclave.engine.read(BASE - 8, 16) == bytes(8) + b"\xff" * 8
    # and from an enclave, where the page is not its own
    enclave.os.pages[BUFFER] = enclave.os.pages[DATA]
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=OUTSIDE, rsi=BUFFER))
    assert left.registers.rdx == (1 << 64) - 2
    assert enclave.memory(DATA, 16) == bytes(16)


def test_an_endless_loop_is_interrupted_and_can_go_on() -> None:
    enclave = Enclave()
    engine = replace(enclave.engine, instructions=1000)
    with pytest.raises(InstructionLimitError) as raised:
        engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=SPIN, rdx=0))
    left = raised.value.exit
    assert (left.instructions, left.exception, left.registers.rip) == (1000, None, AEP)
    rounds = enclave.saved().rdx
    assert 490 <= rounds <= 500
    assert enclave.saved().rip in (CODE + SPINNING, CODE + SPINNING + 3)
    with pytest.raises(InstructionLimitError):
        engine.resume(TCS, OUTSIDE_REGISTERS)
    assert enclave.saved().rdx == rounds + 500


def test_the_callers_trap_flag_is_off_inside_and_on_again_outside() -> None:
    trap = 1 << 8
    enclave = Enclave()
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=BUFFER, rflags=0x202 | trap))
    assert left.registers.rflags & trap
    assert enclave.saved().rflags & trap == 0
    enclave.engine.memory.write(BUFFER, b"\1")
    assert enclave.engine.resume(TCS, OUTSIDE_REGISTERS).registers.rflags & trap == 0


def test_sse_state_survives_an_interruption() -> None:
    # MOVQ XMM7, RDI; read RSI; MOVQ RDX, XMM7
    enclave = Enclave(code("66480f6eff 488b06 66480f7efa"))
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=0x1234567890, rsi=BUFFER))
    assert left.exception is not None
    enclave.engine.memory.write(BUFFER, b"\1")
    assert enclave.engine.resume(TCS, OUTSIDE_REGISTERS).registers.rdx == 0x1234567890


def test_time_is_limited() -> None:
    with pytest.raises(TimeLimitError):
        replace(Enclave().engine, seconds=0.0).enter(TCS, replace(OUTSIDE_REGISTERS, rdi=SPIN))


def test_ctrl_c_interrupts_the_enclave_too() -> None:
    class Impatient(SparseMemory):
        def frame(self, page: int) -> int:
            raise KeyboardInterrupt

    enclave = Enclave()
    with pytest.raises(KeyboardInterrupt):
        replace(enclave.engine, memory=Impatient()).enter(
            TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=BUFFER, r9=9)
        )
    assert (enclave.thread_control().state, enclave.thread_control().cssa) == (0, 1)
    assert (enclave.saved().rip, enclave.saved().r9) == (CODE + FAULTING, 9)
    enclave.engine.memory.write(BUFFER, (5).to_bytes(8, "little"))
    assert enclave.engine.resume(TCS, OUTSIDE_REGISTERS).registers.rdx == 5


def test_a_handler_enters_on_the_next_frame_and_another_thread_by_its_own_tcs() -> None:
    enclave = Enclave()
    enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=BUFFER))
    again = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=BUFFER))
    assert again.exception is not None
    assert enclave.saved(SSA + PAGE_SIZE).rax == 1  # EENTER gave it CSSA
    with pytest.raises(GeneralProtectionFault, match="CSSA"):
        enclave.engine.enter(TCS, OUTSIDE_REGISTERS)
    other = enclave.engine.enter(SECOND_TCS, replace(OUTSIDE_REGISTERS, rdi=COMPUTE, rsi=1, rdx=0))
    assert other.registers.rdx == 3


def test_a_busy_tcs_is_refused() -> None:
    enclave = Enclave()
    eenter(enclave.loaded.thread(), TCS, AEP, rsp=RSP, rbp=RBP)
    with pytest.raises(GeneralProtectionFault, match="in use"):
        enclave.engine.enter(TCS, OUTSIDE_REGISTERS)
    assert enclave.engine.enter(SECOND_TCS, replace(OUTSIDE_REGISTERS, rdi=COMPUTE)).exception is None


def test_a_spoilt_xsave_area_is_refused_and_nothing_changes() -> None:
    enclave = Enclave()
    enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=BUFFER))
    page = enclave.os.pages[SSA]
    enclave.os.processor.epc.write(page + 512, b"\x07")
    with pytest.raises(GeneralProtectionFault, match="XSTATE_BV"):
        enclave.engine.resume(TCS, OUTSIDE_REGISTERS)
    assert (enclave.thread_control().cssa, enclave.thread_control().state) == (1, 0)
    enclave.os.processor.epc.write(page + 512, b"\x01")
    enclave.engine.resume(TCS, OUTSIDE_REGISTERS)
    assert enclave.memory(SSA + 160 + 3 * 16, 8) == bytes(8)  # XMM3 was initial
    assert enclave.memory(SSA, 2) == b"\x7f\x03"
    enclave.os.processor.epc.write(page, b"\x7f\x02")
    enclave.engine.resume(TCS, OUTSIDE_REGISTERS)
    assert enclave.memory(SSA, 2) == b"\x7f\x02"
    enclave.os.processor.epc.write(page + 512, b"\x02")
    enclave.engine.resume(TCS, OUTSIDE_REGISTERS)
    assert enclave.memory(SSA, 2) == b"\x7f\x03"  # and FCW, now


def test_code_that_writes_itself_is_looked_at_again() -> None:
    # NOP twice at RSI, executed; then CPUID in its place, executed again
    program = code("f3480faec3 488da300080000 66c7069090 c64602c3 ffd6 66c7060fa2 ffd6")
    enclave = Enclave(program, code_page=SecInfo(PageFlags.RWX, PageType.REG))
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=CODE + 0x800))
    assert left.exception is not None
    assert left.exception.vector == 6
    assert enclave.saved().rip == CODE + 0x800


def test_features_that_unicorn_does_not_have_are_refused() -> None:
    enclave = Enclave()
    state = enclave.os.processor.enclaves[enclave.os.secs]
    state.secs = replace(state.secs, attributes=Attributes(state.secs.attributes.flags, 7))
    with pytest.raises(InputError, match="XFRM 0x7"):
        enclave.engine.enter(TCS, OUTSIDE_REGISTERS)


def test_without_unicorn_there_is_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    enclave, real = Enclave(), builtins.__import__

    def absent(name: str, *args: object, **kwargs: object) -> object:
        if name == "unicorn":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match="Unicorn") as raised:
        enclave.engine.enter(TCS, OUTSIDE_REGISTERS)
    assert "sgxkit[emulator]" in str(raised.value.hint)
    assert enclave.thread_control().state == 0


def test_memory_of_a_callers_own() -> None:
    memory = SparseMemory()
    memory.write(BUFFER, (4).to_bytes(8, "little"))
    engine = replace(Enclave().engine, memory=memory)
    assert engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=OUTSIDE, rsi=BUFFER)).registers.rdx == 8


@pytest.mark.parametrize("limit", [None, 1000])
def test_an_instruction_that_is_refused_at_the_start_of_a_page(limit: int | None) -> None:
    # the page before it is data
    enclave = Enclave(bytes.fromhex("0fa2"))
    left = replace(enclave.engine, instructions=limit).enter(TCS, OUTSIDE_REGISTERS)
    assert left.exception is not None
    assert (left.exception.vector, left.exception.rip) == (6, CODE)
    assert enclave.thread_control().state == 0


@pytest.mark.parametrize("address", [0x5A << 56, 0x5A << 56 | 0x1000, 0x5A << 56 | 0x123456789, 1 << 50, 1 << 63])
def test_all_bits_of_an_address_count(address: int) -> None:
    enclave = Enclave()
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=address))
    assert left.exception is not None
    assert left.exception.vector == 13
    enclave = Enclave(code("ffe6"))
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=address))
    assert left.exception is not None
    assert left.exception.vector == 13


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    program=st.lists(
        st.one_of(st.integers(0, 255), st.sampled_from(bytes.fromhex("0f4866c390aec7"))), min_size=64, max_size=64
    ).map(bytes),
    pointer=st.sampled_from((DATA, CODE, BUFFER, 0x5A << 56, (1 << 64) - 8)),
    limit=st.sampled_from((None, 100)),
)
def test_whatever_the_code_is_the_thread_comes_out(program: bytes, pointer: int, limit: int | None) -> None:
    enclave = Enclave(program)
    engine = replace(enclave.engine, instructions=limit, seconds=0.2)
    with suppress(LimitError):
        left = engine.enter(TCS, replace(OUTSIDE_REGISTERS, rax=pointer, rsi=pointer, rdi=pointer, rdx=pointer))
        assert left.exception is None or left.exception.vector in (0, 1, 3, 6, 13, 14, 16, 17, 19)
    assert enclave.thread_control().state == 0


def test_x87_and_sse_come_in_from_the_caller_and_go_out_with_eexit() -> None:
    # MOVQ RDX, XMM0; MOVQ XMM1, RDI
    enclave = Enclave(code("66480f7ec2 66480f6ecf"))
    fresh = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=0x1122))
    assert fresh.registers.rdx == 0
    assert (fresh.fxsave[:2], fresh.fxsave[24:28]) == (b"\x7f\x03", b"\x80\x1f\0\0")
    assert fresh.fxsave[176:184] == (0x1122).to_bytes(8, "little")
    area = bytearray(fresh.fxsave)
    area[160:168] = (0x3344).to_bytes(8, "little")
    left = enclave.engine.enter(TCS, OUTSIDE_REGISTERS, fxsave=bytes(area))
    assert left.registers.rdx == 0x3344


def test_after_an_asynchronous_exit_x87_and_sse_are_as_after_reset() -> None:
    enclave = Enclave(code("66480f6ecf 488b06"))
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=0x1122, rsi=BUFFER))
    assert left.exception is not None
    assert left.fxsave == b""
    assert enclave.memory(SSA + 176, 8) == (0x1122).to_bytes(8, "little")
