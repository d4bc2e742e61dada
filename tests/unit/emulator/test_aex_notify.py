"""AEX notification and EDECCSSA: ERESUME enters an interrupted thread's handler, which takes the frame back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from doubles.enclaves import AEP, CODE, RBP, RSP, TCS, THREAD
from doubles.running import BUFFER, CALLER, OUTSIDE_REGISTERS, Enclave, code
from sgxkit.emulator.entry import edeccssa, eenter, eexit, wants_notification
from sgxkit.emulator.faults import GeneralProtectionFault
from sgxkit.emulator.profile import ICELAKE_SP, SAPPHIRE_RAPIDS
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.tcs import TcsFlags

NOTIFIED = replace(THREAD, flags=TcsFlags.AEXNOTIFY)
PROGRAM = bytes.fromhex(
    "4989cf"  # mov r15, rcx
    "4889c2"  # mov rdx, rax: CSSA
    "85c0 7511"  # test eax, eax; jnz handler
    "f3480faec3 c683efefffff01"  # rdfsbase rbx; mov byte [rbx - 0x1011], 1: AEXNOTIFY of the first SSA frame
    "488b06 eb17"  # mov rax, [rsi]; jmp leave
    "f3480faec3 c683efefffff00"  # handler: the same, 0
    "b809000000 0f01d7"  # mov eax, EDECCSSA; enclu
    "4c8b36"  # mov r14, [rsi]
    "4c89fb b804000000 0f01d7"  # leave: mov rbx, r15; mov eax, EEXIT; enclu
)
READS, READS_IN_HANDLER = 0x16, 0x2F


def notifying(thread: object = NOTIFIED) -> Enclave:
    return Enclave(PROGRAM, flags=AttributeFlags.AEXNOTIFY, thread=thread, profile=SAPPHIRE_RAPIDS)  # type: ignore[arg-type]


def test_eresume_enters_the_handler_which_gives_the_frame_back() -> None:
    enclave = notifying()
    left = enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=BUFFER))
    assert left.exception is not None
    saved = enclave.saved()
    assert (saved.rip, saved.aexnotify, enclave.thread_control().cssa) == (CODE + READS, 1, 1)
    assert wants_notification(enclave.loaded.thread(), TCS)

    enclave.engine.memory.write(BUFFER, (6).to_bytes(8, "little"))
    resumed = enclave.engine.resume(TCS, replace(OUTSIDE_REGISTERS, rsi=BUFFER))
    assert resumed.exception is None
    assert (resumed.registers.rdx, resumed.registers.r14) == (1, 6)
    assert resumed.registers.rip == CALLER + 3
    assert (enclave.thread_control().cssa, enclave.thread_control().state) == (0, 0)
    assert not wants_notification(enclave.loaded.thread(), TCS)


def test_after_edeccssa_an_exception_is_saved_in_the_frame_before() -> None:
    enclave = notifying()
    enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=BUFFER))
    left = enclave.engine.resume(TCS, replace(OUTSIDE_REGISTERS, rsi=BUFFER))
    assert left.exception is not None
    saved = enclave.saved()
    assert (saved.rip, saved.aexnotify) == (CODE + READS_IN_HANDLER, 0)
    assert enclave.thread_control().cssa == 1


def test_the_handler_needs_a_frame() -> None:
    enclave = notifying(replace(NOTIFIED, nssa=1))
    enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=BUFFER))
    with pytest.raises(GeneralProtectionFault, match="CSSA"):
        enclave.engine.resume(TCS, replace(OUTSIDE_REGISTERS, rsi=BUFFER))


@pytest.mark.parametrize("attribute", [True, False])
def test_tcs_and_secs_must_agree_but_for_debuggers(attribute: bool) -> None:
    flags = AttributeFlags.AEXNOTIFY if attribute else AttributeFlags(0)
    thread = THREAD if attribute else NOTIFIED
    enclave = Enclave(PROGRAM, flags=flags, thread=thread, profile=SAPPHIRE_RAPIDS)
    with pytest.raises(GeneralProtectionFault, match=r"TCS\.FLAGS"):
        enclave.engine.enter(TCS, OUTSIDE_REGISTERS)
    page = enclave.os.pages[TCS]
    enclave.os.processor.epc.write(page + 8, bytes([thread.flags | TcsFlags.DBGOPTIN]))
    enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rsi=BUFFER))


def test_a_processor_without_it_refuses_it() -> None:
    with pytest.raises(GeneralProtectionFault, match=r"TCS\.FLAGS"):
        Enclave(PROGRAM, thread=NOTIFIED, profile=ICELAKE_SP)
    with pytest.raises(GeneralProtectionFault, match="ATTRIBUTES"):
        Enclave(PROGRAM, flags=AttributeFlags.AEXNOTIFY, profile=ICELAKE_SP)
    left = Enclave(code("b809000000", "0f01d7")).engine.enter(TCS, OUTSIDE_REGISTERS)
    assert left.exception is not None
    assert left.exception.vector == 13


def test_edeccssa_is_for_inside_and_needs_an_interrupted_frame() -> None:
    thread = notifying().loaded.thread()
    with pytest.raises(GeneralProtectionFault, match="outside"):
        edeccssa(thread)
    eenter(thread, TCS, AEP, rsp=RSP, rbp=RBP)
    with pytest.raises(GeneralProtectionFault, match="CSSA"):
        edeccssa(thread)
    eexit(thread, 0)
