"""What observers are told, and coverage of instructions and pages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from doubles.enclave_code import COMPUTE, FAULT, FAULTING, OUTSIDE, SEAL, SPIN
from doubles.enclaves import BASE, CODE, DATA, SIZE, TCS
from doubles.running import BUFFER, CALLER, OUTSIDE_REGISTERS, Enclave, code
from sgxkit.emulator.coverage import Coverage
from sgxkit.emulator.engine import InstructionLimitError
from sgxkit.emulator.events import EngineEvent, Entered, Interrupted, LeafCalled, Left
from sgxkit.isa.keyrequest import KeyName, KeyRequest
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.page import PageFlags
from sgxkit.isa.status import Status


def test_entries_leaf_functions_and_exits_are_told() -> None:
    told: list[EngineEvent] = []
    enclave = Enclave(data=KeyRequest(KeyName.SEAL_KEY).to_bytes())
    engine = replace(enclave.engine, observers=(told.append,))
    left = engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=SEAL))
    entered, key, report, exited = told
    assert isinstance(entered, Entered)
    assert (entered.tcs, entered.leaf, entered.registers.rip) == (TCS, Enclu.EENTER, CODE)
    assert entered.registers.rcx == CALLER + 3
    assert isinstance(key, LeafCalled)
    assert isinstance(report, LeafCalled)
    assert (key.leaf, key.rbx, key.rcx, key.status) == (Enclu.EGETKEY, DATA, DATA + 0x200, Status.SGX_SUCCESS)
    assert (report.leaf, report.rdx, report.status, report.fault) == (Enclu.EREPORT, DATA + 0x400, None, None)
    assert exited == Left(TCS, exited.rip, left.registers)  # type: ignore[union-attr]


def test_interruptions_and_faults_of_leaf_functions_are_told() -> None:
    told: list[EngineEvent] = []
    enclave = Enclave()
    engine = replace(enclave.engine, observers=(told.append,))
    left = engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=BUFFER, r9=9))
    interrupted = told[-1]
    assert isinstance(interrupted, Interrupted)
    assert (interrupted.rip, interrupted.registers.r9) == (CODE + FAULTING, 9)
    assert interrupted.exception == left.exception
    told.clear()
    engine.resume(TCS, OUTSIDE_REGISTERS)
    assert [type(event) for event in told] == [Entered, Interrupted]
    assert told[0].leaf is Enclu.ERESUME  # type: ignore[union-attr]
    told.clear()
    enclave = Enclave(code("31db", "b801000000", "0f01d7"))
    replace(enclave.engine, observers=(told.append,)).enter(TCS, OUTSIDE_REGISTERS)
    called = told[1]
    assert isinstance(called, LeafCalled)
    assert called.fault is not None
    assert called.fault.vector == 13
    assert isinstance(told[2], Interrupted)


def test_what_an_observer_raises_reaches_the_caller_and_the_tcs_is_free() -> None:
    def strict(event: EngineEvent) -> None:
        if isinstance(event, LeafCalled):
            raise ZeroDivisionError

    enclave = Enclave(data=KeyRequest(KeyName.SEAL_KEY).to_bytes())
    with pytest.raises(ZeroDivisionError):
        replace(enclave.engine, observers=(strict,)).enter(TCS, replace(OUTSIDE_REGISTERS, rdi=SEAL))
    assert enclave.thread_control().state == 0


def test_instructions_are_covered_exactly() -> None:
    enclave = Enclave()
    coverage = Coverage(BASE, SIZE)
    engine = replace(enclave.engine, coverage=coverage)
    left = engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=COMPUTE, rsi=1))
    assert sum(coverage.instructions.values()) == left.instructions == 15
    assert set(coverage.instructions.values()) == {1}
    assert min(coverage.instructions) == CODE - BASE
    engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=BUFFER))
    assert coverage.instructions[CODE - BASE] == 2
    assert max(coverage.instructions) > CODE - BASE + FAULTING
    after_fault = CODE - BASE + FAULTING + 3
    assert coverage.instructions[CODE - BASE + FAULTING] == 1
    assert coverage.instructions[after_fault] == 0


def test_counts_are_the_same_however_blocks_are_cut() -> None:
    enclave = Enclave()
    coverage = Coverage(BASE, SIZE)
    engine = replace(enclave.engine, instructions=100, coverage=coverage)
    with pytest.raises(InstructionLimitError) as raised:
        engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=SPIN))
    assert raised.value.exit.instructions == sum(coverage.instructions.values()) == 100
    without = replace(enclave.engine, instructions=None)
    assert without.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=COMPUTE)).instructions is None


def test_pages_are_covered_by_what_is_done_with_them() -> None:
    enclave = Enclave()
    enclave.engine.memory.write(BUFFER, bytes(16))
    coverage = Coverage(BASE, SIZE)
    engine = replace(enclave.engine, coverage=coverage)
    engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=OUTSIDE, rsi=BUFFER))
    assert coverage.pages == {CODE - BASE: PageFlags.X}
    assert coverage.outside == {BUFFER: PageFlags.RW}
    engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=FAULT, rsi=DATA))
    assert coverage.pages == {CODE - BASE: PageFlags.X, DATA - BASE: PageFlags.R}
