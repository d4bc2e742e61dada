"""EDBGRD and EDBGWR, and the debugger's read of the emulated platform."""

from __future__ import annotations

from dataclasses import replace

import pytest

from doubles.enclaves import CODE, DATA, EPC_BASE, SECS, SSA, TCS, THREAD, Os, initialized, sigstruct_for
from sgxkit.emulator.encls_debug import edbgrd, edbgwr
from sgxkit.emulator.encls_sgx2 import emodt
from sgxkit.emulator.epc import EpcmEntry
from sgxkit.emulator.faults import GeneralProtectionFault, PageFault
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo
from sgxkit.isa.status import Status
from sgxkit.isa.tcs import Tcs, TcsFlags


def debug_enclave() -> Os:
    system = Os()
    attributes = Attributes(SECS.attributes.flags | AttributeFlags.DEBUG, 3)
    system.create(replace(SECS, attributes=attributes))
    system.fill()
    assert system.init(sigstruct_for(system.measurement, attributes=attributes)) is Status.SGX_SUCCESS
    return system


def test_a_debug_enclaves_pages_are_read_and_written_whatever_their_permissions() -> None:
    system = debug_enclave()
    assert edbgrd(system.processor, system.pages[DATA] + 8) == (Status.SGX_SUCCESS, int.from_bytes(bytes([7] * 8)))
    code = system.pages[CODE] + 0x10
    assert edbgwr(system.processor, 0xCC90, code) is Status.SGX_SUCCESS
    assert edbgrd(system.processor, code) == (Status.SGX_SUCCESS, 0xCC90)
    assert edbgrd(system.processor, system.pages[SSA] + PAGE_SIZE - 8) == (Status.SGX_SUCCESS, 0)


def test_a_production_enclave_is_closed() -> None:
    system = initialized()
    with pytest.raises(GeneralProtectionFault):
        edbgrd(system.processor, system.pages[DATA])
    with pytest.raises(GeneralProtectionFault):
        edbgwr(system.processor, 0, system.pages[DATA])


def test_of_a_tcs_the_fields_are_read_and_the_flags_written() -> None:
    system = debug_enclave()
    page = system.pages[TCS]
    words = b"".join(edbgrd(system.processor, page + at)[1].to_bytes(8, "little") for at in range(0, 72, 8))
    assert Tcs.from_bytes(words.ljust(PAGE_SIZE, b"\0")) == THREAD
    for beyond in (72, PAGE_SIZE - 8):
        with pytest.raises(GeneralProtectionFault):
            edbgrd(system.processor, page + beyond)
    assert edbgwr(system.processor, TcsFlags.DBGOPTIN, page + 8) is Status.SGX_SUCCESS
    assert Tcs.from_bytes(system.processor.epc.read(page, PAGE_SIZE)).flags == TcsFlags.DBGOPTIN
    for other in (0, 16, 24):
        with pytest.raises(GeneralProtectionFault):
            edbgwr(system.processor, 0, page + other)


def test_what_is_no_page_to_debug() -> None:
    system = debug_enclave()
    for address in (system.secs, EPC_BASE + 60 * PAGE_SIZE, EPC_BASE - PAGE_SIZE):
        with pytest.raises(PageFault):
            edbgrd(system.processor, address)
        with pytest.raises(PageFault):
            edbgwr(system.processor, 0, address)
    for leaf in (lambda at: edbgrd(system.processor, at), lambda at: edbgwr(system.processor, 0, at)):
        with pytest.raises(GeneralProtectionFault):
            leaf(system.pages[DATA] + 4)


def test_a_page_that_changes_is_not_debuggable() -> None:
    system = debug_enclave()
    system.memory.write(0x2000, SecInfo(PageFlags(0), PageType.TCS).to_bytes())
    assert emodt(system.processor, system.memory, 0x2000, system.pages[DATA]) is Status.SGX_SUCCESS
    assert edbgrd(system.processor, system.pages[DATA]) == (Status.SGX_PAGE_NOT_DEBUGGABLE, 0)
    assert edbgwr(system.processor, 0, system.pages[DATA]) is Status.SGX_PAGE_NOT_DEBUGGABLE


def test_of_a_version_array_only_use_is_seen() -> None:
    system = debug_enclave()
    page = EPC_BASE + 50 * PAGE_SIZE
    system.processor.epc.set_entry(page, EpcmEntry(valid=True, page_type=PageType.VA))
    system.processor.epc.write(page + 8, (0x1234).to_bytes(8, "little"))
    assert edbgrd(system.processor, page) == (Status.SGX_SUCCESS, 0)
    assert edbgrd(system.processor, page + 8) == (Status.SGX_SUCCESS, (1 << 64) - 1)
    with pytest.raises(PageFault):
        edbgwr(system.processor, 0, page)
