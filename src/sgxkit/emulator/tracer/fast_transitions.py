"""Entries and exits that need no tracer: which the agent may do by itself, and what they leave to be caught up with.

After an entry by ENCLU the tracer knows that everything about the TCS is as it should be; it tells the agent's table,
and later entries by the same thread through __vdso_sgx_enter_enclave happen there. An exit is there, too, once the
tracer has put a jump before the enclave's ENCLU. Whatever the tracer is to know of a thread it looks up in the table
first (`catch_up`).
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass

from sgxkit.emulator.processor import Processor, SavedFrame
from sgxkit.emulator.tracer import agent, ptrace
from sgxkit.emulator.tracer.agent import Entry, entry_address, gs_slot
from sgxkit.emulator.tracer.device import EnclaveFile
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.syscalls import Syscall
from sgxkit.emulator.tracer.tracee import AddressSpace, Mapped, Thread
from sgxkit.isa.page import PAGE_SIZE

_WORD = struct.Struct("<Q")

LOW_PAGE = 0x010F_0000
"""A jump through memory here ends in 0F 01, so the ENCLU behind stays as it is: FF 24 25, two bytes, 0F 01 (D7)."""

_JUMP = b"\xff\x24\x25"
_NOP = b"\x66\x90"
_SITES = (
    # What stands before the ENCLU of an EEXIT; where the agent goes on with what it did.
    (bytes.fromhex("48c7c004000000"), "exit"),  # mov rax, 4
    (bytes.fromhex("b804000000"), "exit"),  # mov eax, 4
    (bytes.fromhex("4d31ff4801d2fc"), "exit_after_ocall"),  # xor r15, r15; add rdx, rdx; cld
)
_SYMBOLS = ("exit", "exit_after_ocall")


@dataclass(frozen=True, slots=True)
class Published:
    """The TCS by which a thread may enter without the tracer."""

    tcs: int
    tcs_page: int
    secs: int
    frame: SavedFrame
    entry: int


def publish(thread: Thread, mapped: Mapped, registers: Registers) -> None:
    """Let a thread that has just entered with `registers` leave and come again by itself."""
    cpu, space, file = thread.cpu, thread.space, mapped.file
    if not (space.agent and mapped.alias and thread.fs and cpu.frame is not None and cpu.active_secs is not None):
        return
    entry = entry_address(cpu.tcs)
    if any(other.published is not None and other.published.entry == entry for other in space.threads - {thread}):
        return  # another TCS has this place
    withdraw(thread)
    epc = file.driver.epc
    (cssa,) = struct.unpack("<I", epc.read(cpu.tcs_page + 24, 4))
    enclave = cpu.processor.enclaves[cpu.active_secs]
    oentry, _, ofs, ogs = struct.unpack("<4Q", epc.read(cpu.tcs_page + 32, 32))
    base = enclave.secs.baseaddr
    data = Entry(
        tcs=cpu.tcs,
        owner=thread.fs,
        tcs_alias=mapped.alias + cpu.tcs - base,
        gprsgx_alias=mapped.alias + epc.offset_of(cpu.frame.gprsgx),
        rip=base + oentry,
        fs=base + ofs,
        gs=base + ogs,
        outside_gs=thread.gs,
        rax=cssa,
        active=1,
    )
    del registers
    try:
        space.memory.write(entry, data.to_bytes())
        space.memory.write(gs_slot(data.gs), _WORD.pack(entry))
    except OSError:
        return
    thread.published = Published(cpu.tcs, cpu.tcs_page, cpu.active_secs, cpu.frame, entry)


def withdraw(thread: Thread) -> None:
    """Take back what was published for a thread, which is outside or is about to be."""
    published, thread.published = thread.published, None
    if published is not None:
        with contextlib.suppress(OSError):
            thread.space.memory.write(published.entry, bytes(80))


def catch_up(thread: Thread, processor: Processor) -> None:
    """See whether a thread has entered or left by itself."""
    published = thread.published
    if published is None:
        return
    cpu = thread.cpu
    try:
        outside_gs, _, active = struct.unpack("<3Q", thread.space.memory.read(published.entry + 56, 24))
    except OSError:
        return
    if active and cpu.active_secs is None:
        cpu.active_secs, cpu.tcs, cpu.tcs_page = published.secs, published.tcs, published.tcs_page
        cpu.frame = published.frame
        cpu.epoch = processor.enclaves[published.secs].epoch
        thread.gs = outside_gs
        processor.inside.add(cpu)
    elif not active and cpu.active_secs is not None:
        cpu.active_secs = cpu.frame = None
        processor.inside.discard(cpu)


def bypass_exit(thread: Thread, mapped: Mapped, at: int, call: object) -> None:
    """Put a jump to the agent before the ENCLU of an EEXIT at `at`, where what stands there is known."""
    file, space = mapped.file, thread.space
    if not mapped.alias or at in file.exits or not file.covers(at - 16) or file.memory is None:
        return
    file.exits.add(at)
    offset = at - file.base
    before = file.memory[offset - 7 : offset]
    for known, symbol in _SITES:
        if before.endswith(known) and _has_low_page(thread, space, call):
            pointer = LOW_PAGE + 8 * _SYMBOLS.index(symbol)
            patch = (_JUMP + struct.pack("<H", pointer & 0xFFFF)).rjust(len(known), b"\0")
            patch = patch if len(known) == 5 else _NOP + patch[2:]
            file.memory[offset - len(known) : offset] = patch
            return


def _has_low_page(thread: Thread, space: AddressSpace, call: object) -> bool:
    if space.low_page is None:
        at = call(thread, Syscall.MMAP, LOW_PAGE, PAGE_SIZE, 3, 0x10_0022, 2**64 - 1, 0)  # type: ignore[operator]
        space.low_page = at == LOW_PAGE
        if space.low_page:
            space.memory.write(LOW_PAGE, b"".join(_WORD.pack(agent.address_of(symbol)) for symbol in _SYMBOLS))
    return space.low_page


def step_out(thread: Thread, registers: Registers) -> bool:
    """Let a thread that a signal has caught between outside and inside finish; says whether it was there."""
    import os  # noqa: PLC0415 - rare

    moved = False
    while agent.in_transition(registers.rip):
        moved = True
        ptrace.resume(thread.tid, ptrace.PTRACE_SINGLESTEP)
        _, status = os.waitpid(thread.tid, ptrace.WALL)
        if not os.WIFSTOPPED(status):
            from sgxkit.emulator.tracer.tracee import EndedError  # noqa: PLC0415

            raise EndedError(thread.tid, status)
        if os.WSTOPSIG(status) != 5:
            thread.postponed.append(os.WSTOPSIG(status))
        ptrace.get_registers(thread.tid, registers)
    return moved


def withdraw_all(file: EnclaveFile, threads: list[Thread], processor: Processor) -> None:
    """Something about an enclave's pages changes: every thread is to enter by ENCLU again."""
    for thread in threads:
        catch_up(thread, processor)
        if thread.published is not None and thread.published.secs == file.secs:
            forbid(thread)


def forbid(thread: Thread) -> None:
    """Let a thread's next entry be by ENCLU; if it is inside now, it may still leave by itself."""
    if thread.published is not None:
        with contextlib.suppress(OSError):
            thread.space.memory.write(thread.published.entry, bytes(8))
