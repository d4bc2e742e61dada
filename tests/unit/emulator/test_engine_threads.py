"""Several Python threads in enclaves at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from doubles.enclave_code import COMPUTE, SPIN
from doubles.enclaves import DATA, TCS
from doubles.running import BUFFER, OUTSIDE_REGISTERS, SECOND_TCS, Enclave, code
from sgxkit.emulator.encls_sgx2 import eaug
from sgxkit.emulator.engine import TimeLimitError
from sgxkit.emulator.faults import GeneralProtectionFault
from sgxkit.emulator.turns import Turns
from sgxkit.isa.page import PageInfo

WAIT = 30
# Until the byte at RSI is RDX: read it again; then write RDI to it.
PING_PONG = code("448a06 4438c2 75f8 40883e".replace("4438c2", "4138d0"))
INCREMENT = code("f0ff06 ffc9 75f9".replace("ffc9", "ffca"))
"""RDX times: LOCK INC dword [RSI]."""


def together(*calls: Callable[[], None]) -> None:
    """Run all in threads of their own; raises what one of them raised."""
    raised: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            raised.append(error)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    if raised:
        raise raised[0]


def test_two_threads_of_one_enclave_talk_through_its_memory() -> None:
    enclave = Enclave(PING_PONG)
    engine = replace(enclave.engine, instructions=None)

    def first() -> None:
        engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=DATA, rdx=0, rdi=1))
        engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=DATA, rdx=2, rdi=3))

    def second() -> None:
        engine.enter(SECOND_TCS, replace(OUTSIDE_REGISTERS, rsi=DATA, rdx=1, rdi=2))

    together(second, first)
    assert enclave.memory(DATA, 1) == b"\3"


@pytest.mark.parametrize("counted", [None, 10_000_000])
def test_locked_instructions_of_threads_lose_nothing(counted: int | None) -> None:
    enclave = Enclave(INCREMENT)
    engine = replace(enclave.engine, instructions=counted)
    rounds = 30_000
    registers = replace(OUTSIDE_REGISTERS, rsi=DATA, rdx=rounds)
    together(lambda: void(engine.enter(TCS, registers)), lambda: void(engine.enter(SECOND_TCS, registers)))
    assert int.from_bytes(enclave.memory(DATA, 4), "little") == 2 * rounds


def test_memory_outside_is_shared_by_threads_too() -> None:
    enclave = Enclave(INCREMENT)
    engine = replace(enclave.engine, instructions=None)
    engine.memory.write(BUFFER, bytes(4))
    registers = replace(OUTSIDE_REGISTERS, rsi=BUFFER, rdx=1000)
    together(lambda: void(engine.enter(TCS, registers)), lambda: void(engine.enter(SECOND_TCS, registers)))
    assert engine.memory.read(BUFFER, 4) == (2000).to_bytes(4, "little")


def test_the_tcs_of_a_running_thread_is_busy() -> None:
    enclave = Enclave()
    engine = replace(enclave.engine, instructions=None, seconds=2.0)
    inside, refused = threading.Event(), threading.Event()

    def spin() -> None:
        observed = replace(engine, observers=(lambda _event: inside.set(),))
        with pytest.raises(TimeLimitError):
            observed.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=SPIN))

    def knock() -> None:
        inside.wait(WAIT)
        with pytest.raises(GeneralProtectionFault, match="in use"):
            engine.enter(TCS, OUTSIDE_REGISTERS)
        assert engine.enter(SECOND_TCS, replace(OUTSIDE_REGISTERS, rdi=COMPUTE)).exception is None
        refused.set()

    together(spin, knock)
    assert refused.is_set()


def test_a_page_that_is_added_reaches_a_running_thread() -> None:
    # until the page at RSI is there, as EACCEPT finds it: EACCEPT with the SECINFO at FS:0; here: read RDX first
    enclave = Enclave(PING_PONG)
    engine = replace(enclave.engine, instructions=None)
    added = DATA - 0x3000 + 0xC000

    def spin() -> None:
        engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=DATA, rdx=1, rdi=2))
        left = engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=added, rdx=0, rdi=1))
        assert left.exception is not None
        assert (left.exception.vector, left.exception.error_code) == (14, 0x8005)

    def grow() -> None:
        system = enclave.os
        with system.processor.turns:
            page = system.take()
            system.memory.write(0x1000, PageInfo(added, 0, 0, system.secs).to_bytes())
            eaug(system.processor, system.memory, 0x1000, page)
            system.pages[added] = page
        engine.enter(SECOND_TCS, replace(OUTSIDE_REGISTERS, rsi=DATA, rdx=0, rdi=1))

    together(spin, grow)


def test_enclaves_of_their_own_processors_do_not_wait_for_each_other() -> None:
    enclaves = [Enclave() for _ in range(3)]
    results: list[int] = []

    def compute(enclave: Enclave) -> None:
        engine = replace(enclave.engine, instructions=None)
        results.extend(
            engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=COMPUTE, rsi=number, rdx=0)).registers.rdx
            for number in range(20)
        )

    together(*(lambda enclave=enclave: compute(enclave) for enclave in enclaves))  # type: ignore[misc]
    assert sorted(results) == sorted(3 * [3 * number for number in range(20)])


def test_turns_are_given_in_order() -> None:
    turns, order = Turns(), []
    turns.acquire()
    threads = []
    for number in range(4):
        started = threading.Event()

        def wait(number: int = number, started: threading.Event = started) -> None:
            started.set()
            with turns:
                order.append(number)

        thread = threading.Thread(target=wait)
        thread.start()
        started.wait(WAIT)
        while len(turns._waiting) <= number:
            pass
        threads.append(thread)
    assert turns.wanted
    turns.release()
    for thread in threads:
        thread.join(WAIT)
    assert order == [0, 1, 2, 3]
    assert not turns.wanted


def void(_value: object) -> None:
    """For calls whose result does not matter."""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
@pytest.mark.parametrize("counted", [None, 1 << 40])
def test_ctrl_c_reaches_the_caller_whatever_the_enclave_does(counted: int | None) -> None:
    enclave = Enclave()
    inside = threading.Event()
    engine = replace(enclave.engine, instructions=counted, observers=(lambda _event: inside.set(),))

    def press() -> None:
        inside.wait(WAIT)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=SPIN))
    presser.join()
    assert (enclave.thread_control().state, enclave.thread_control().cssa) == (0, 1)
