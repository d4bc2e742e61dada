"""Pages that change after EINIT: EAUG, EMODPR, EMODT outside; EACCEPT, EMODPE, EACCEPTCOPY inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from doubles.enclaves import (
    AEP,
    BASE,
    CODE,
    DATA,
    EPC_BASE,
    FRESH,
    INFO,
    RBP,
    REG_RW,
    RSP,
    SECINFO,
    SIZE,
    SOURCE,
    SSA,
    TCS,
    THREAD,
    Os,
    built,
    initialized,
    new_processor,
)
from sgxkit.emulator.access import read_enclave, write_enclave
from sgxkit.emulator.encls import eblock, eremove, etrack
from sgxkit.emulator.encls_sgx2 import eaug, emodpr, emodt
from sgxkit.emulator.enclu_sgx2 import eaccept, eacceptcopy, emodpe
from sgxkit.emulator.entry import eenter, eexit
from sgxkit.emulator.epc import EpcmEntry
from sgxkit.emulator.faults import Fault, GeneralProtectionFault, PageFault
from sgxkit.emulator.processor import LogicalProcessor
from sgxkit.emulator.profile import SKYLAKE_CLIENT
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageInfo, PageType, SecInfo
from sgxkit.isa.status import Status
from sgxkit.isa.tcs import TcsFlags

OUTSIDE = EPC_BASE + 64 * PAGE_SIZE
WISH = DATA + 0x100
"""Where the enclave keeps the SECINFO of its ENCLU."""

PENDING = SecInfo(PageFlags.RW | PageFlags.PENDING, PageType.REG)
NOTHING = PageFlags(0)
AS_TCS = SecInfo(NOTHING, PageType.TCS)
AS_TRIM = SecInfo(NOTHING, PageType.TRIM)


@pytest.fixture
def system() -> Os:
    return initialized()


@pytest.fixture
def thread(system: Os) -> LogicalProcessor:
    return system.inside()


def fault(call: Callable[[], object]) -> str:
    with pytest.raises(Fault) as raised:
        call()
    return str(raised.value)


def augment(system: Os, linear: int = FRESH) -> int:
    page = system.take()
    system.memory.write(INFO, PageInfo(linear, 0, 0, system.secs).to_bytes())
    eaug(system.processor, system.memory, INFO, page)
    system.pages[linear] = page
    return page


def modpr(system: Os, linear: int, secinfo: SecInfo | bytes) -> Status:
    system.memory.write(SECINFO, secinfo if isinstance(secinfo, bytes) else secinfo.to_bytes())
    return emodpr(system.processor, system.memory, SECINFO, system.pages[linear])


def modt(system: Os, linear: int, secinfo: SecInfo | bytes) -> Status:
    system.memory.write(SECINFO, secinfo if isinstance(secinfo, bytes) else secinfo.to_bytes())
    return emodt(system.processor, system.memory, SECINFO, system.pages[linear])


def wish(thread: LogicalProcessor, secinfo: SecInfo) -> int:
    write_enclave(thread, WISH, secinfo.to_bytes())
    return WISH


def reenter(system: Os, thread: LogicalProcessor) -> None:
    """What makes a change tracked: a new epoch, and every thread out of the old one."""
    assert etrack(system.processor, system.secs) is Status.SGX_SUCCESS
    eexit(thread, AEP)
    eenter(thread, TCS, AEP, rsp=RSP, rbp=RBP)


# Growing


def test_a_new_page_is_unusable_until_accepted(system: Os, thread: LogicalProcessor) -> None:
    page = augment(system)
    assert system.processor.epc.entry(page) == EpcmEntry(
        valid=True,
        page_type=PageType.REG,
        secs=system.secs,
        address=FRESH,
        permissions=PageFlags.RW,
        pending=True,
    )
    with pytest.raises(PageFault, match="PENDING is True"):
        read_enclave(thread, FRESH, 1)
    assert eaccept(thread, wish(thread, PENDING), FRESH) is Status.SGX_SUCCESS
    assert read_enclave(thread, FRESH, PAGE_SIZE) == bytes(PAGE_SIZE)
    assert eaccept(thread, WISH, FRESH) is Status.SGX_PAGE_ATTRIBUTES_MISMATCH


def test_a_new_page_with_contents(system: Os, thread: LogicalProcessor) -> None:
    augment(system)
    assert eacceptcopy(thread, wish(thread, SecInfo(PageFlags.RX, PageType.REG)), FRESH, CODE) is Status.SGX_SUCCESS
    assert read_enclave(thread, FRESH, PAGE_SIZE) == bytes([0x90]) * PAGE_SIZE
    with pytest.raises(PageFault, match="R, W, X"):
        write_enclave(thread, FRESH, b"\0")


def test_what_eaug_refuses(system: Os) -> None:
    used, not_secs, free = system.pages[DATA], system.pages[CODE], system.take()

    def aug(rbx: int = INFO, rcx: int = free, **info: int) -> str:
        fields = {"linaddr": FRESH, "srcpge": 0, "secinfo": 0, "secs": system.secs} | info
        system.memory.write(INFO, PageInfo(**fields).to_bytes())
        return fault(lambda: eaug(system.processor, system.memory, rbx, rcx))

    assert aug(rbx=INFO + 8).startswith("#GP(0): RBX is")
    assert aug(rcx=free + 8).startswith("#GP(0): RCX is")
    assert aug(rcx=OUTSIDE) == f"#PF at {OUTSIDE:#x}: not an EPC page"
    assert aug(secs=system.secs + 8).startswith("#GP(0): PAGEINFO.SECS is")
    assert aug(linaddr=FRESH + 8).startswith("#GP(0): PAGEINFO.LINADDR is")
    assert aug(srcpge=SOURCE).startswith("#GP(0): PAGEINFO.SRCPGE, SECINFO")
    assert aug(secinfo=SECINFO).startswith("#GP(0): PAGEINFO.SRCPGE, SECINFO")
    assert aug(secs=OUTSIDE) == f"#PF at {OUTSIDE:#x}: not an EPC page"
    assert aug(rcx=used) == f"#PF at {used:#x}: the EPC page is in use"
    assert aug(secs=not_secs) == f"#PF at {not_secs:#x}: not a SECS"
    assert aug(linaddr=BASE - PAGE_SIZE).startswith("#GP(0): PAGEINFO.LINADDR cannot be")
    assert aug(linaddr=BASE + SIZE).startswith("#GP(0): PAGEINFO.LINADDR cannot be")


def test_nothing_changes_before_einit() -> None:
    system = built()
    for change in (
        lambda: augment(system),
        lambda: modpr(system, DATA, SecInfo(PageFlags.R, PageType.REG)),
        lambda: modt(system, DATA, AS_TRIM),
    ):
        assert fault(change) == "#GP(0): the enclave is not initialized"


# Restricting and extending permissions


def test_permissions_are_taken_away_and_accepted(system: Os, thread: LogicalProcessor) -> None:
    page = system.pages[CODE]
    assert modpr(system, CODE, SecInfo(PageFlags.R, PageType.REG)) is Status.SGX_SUCCESS
    entry = system.processor.epc.entry(page)
    assert (entry.permissions, entry.restricting) == (PageFlags.R, True)
    accepted = SecInfo(PageFlags.R | PageFlags.PR, PageType.REG)
    assert eaccept(thread, wish(thread, accepted), CODE) is Status.SGX_NOT_TRACKED
    assert etrack(system.processor, system.secs) is Status.SGX_SUCCESS
    assert eaccept(thread, WISH, CODE) is Status.SGX_NOT_TRACKED, "this thread was inside when it was changed"
    eexit(thread, AEP)
    eenter(thread, TCS, AEP, rsp=RSP, rbp=RBP)
    assert eaccept(thread, WISH, CODE) is Status.SGX_SUCCESS
    entry = system.processor.epc.entry(page)
    assert (entry.permissions, entry.restricting) == (PageFlags.R, False)


def test_emodpr_never_gives(system: Os) -> None:
    modpr(system, CODE, SecInfo(PageFlags.RWX, PageType.REG))
    assert system.processor.epc.entry(system.pages[CODE]).permissions == PageFlags.RX


def test_an_enclave_extends_its_own_permissions(system: Os, thread: LogicalProcessor) -> None:
    emodpe(thread, wish(thread, SecInfo(PageFlags.X, PageType.REG)), SSA)
    assert system.processor.epc.entry(system.pages[SSA]).permissions == PageFlags.RWX
    system.processor.epc.set_entry(
        system.pages[CODE], replace(system.processor.epc.entry(system.pages[CODE]), permissions=PageFlags.X)
    )
    assert fault(lambda: emodpe(thread, wish(thread, SecInfo(PageFlags.W, PageType.REG)), CODE)).startswith(
        "#GP(0): SECINFO.FLAGS"
    )


@pytest.mark.parametrize("leaf", [emodpr, emodt])
def test_what_emodpr_and_emodt_refuse(system: Os, leaf: Callable[..., Status]) -> None:
    good = (SecInfo(PageFlags.R, PageType.REG) if leaf is emodpr else AS_TRIM).to_bytes()
    page, free = system.pages[DATA], system.take()
    system.memory.write(SECINFO, good)

    def call(rbx: int = SECINFO, rcx: int = page) -> str:
        return fault(lambda: leaf(system.processor, system.memory, rbx, rcx))

    assert call(rbx=SECINFO + 32).startswith("#GP(0): RBX is")
    assert call(rcx=page + 64).startswith("#GP(0): RCX is")
    assert call(rcx=OUTSIDE) == f"#PF at {OUTSIDE:#x}: not an EPC page"
    assert call(rcx=free) == f"#PF at {free:#x}: the EPC page is free"
    assert call(rcx=system.secs) == f"#PF at {system.secs:#x}: EPCM.PT is SECS"
    system.memory.write(SECINFO, good[:63] + b"\x01")
    assert call().startswith("#GP(0): SECINFO.reserved1")
    system.memory.write(SECINFO, SecInfo(PageFlags.W, PageType.REG).to_bytes())
    assert call().startswith("#GP(0): SECINFO.FLAGS")


def test_emodpr_is_for_regular_pages(system: Os) -> None:
    page = system.pages[TCS]
    assert (
        fault(lambda: modpr(system, TCS, SecInfo(PageFlags.R, PageType.REG))) == f"#PF at {page:#x}: EPCM.PT is TCS"
    )


def test_emodt_is_for_regular_pages_and_a_tcs_can_only_be_trimmed(system: Os) -> None:
    page = system.pages[TCS]
    assert fault(lambda: modt(system, TCS, AS_TCS)) == f"#PF at {page:#x}: EPCM.PT is TCS"
    assert modt(system, TCS, AS_TRIM) is Status.SGX_SUCCESS


def test_a_page_that_waits_for_its_enclave_is_not_modified(system: Os) -> None:
    augment(system)
    assert modpr(system, FRESH, SecInfo(PageFlags.R, PageType.REG)) is Status.SGX_PAGE_NOT_MODIFIABLE
    assert modt(system, FRESH, AS_TRIM) is Status.SGX_PAGE_NOT_MODIFIABLE
    assert modt(system, DATA, AS_TCS) is Status.SGX_SUCCESS
    assert modt(system, DATA, AS_TRIM) is Status.SGX_PAGE_NOT_MODIFIABLE
    assert modt(system, CODE, AS_TRIM) is Status.SGX_SUCCESS
    assert fault(lambda: modt(system, CODE, AS_TRIM)).endswith("EPCM.PT is TRIM")
    assert modpr(system, DATA, SecInfo(PageFlags.R, PageType.REG)) is Status.SGX_PAGE_NOT_MODIFIABLE


# Changing the type


def test_a_page_is_trimmed_accepted_and_removed(system: Os, thread: LogicalProcessor) -> None:
    assert modt(system, CODE, AS_TRIM) is Status.SGX_SUCCESS
    reenter(system, thread)
    page = system.pages[CODE]
    assert eremove(system.processor, page) is Status.SGX_ENCLAVE_ACT
    trimmed = SecInfo(PageFlags.MODIFIED, PageType.TRIM)
    assert eaccept(thread, wish(thread, trimmed), CODE) is Status.SGX_SUCCESS
    assert eremove(system.processor, page) is Status.SGX_SUCCESS, "even with a thread inside"


def test_a_page_becomes_a_tcs(system: Os, thread: LogicalProcessor) -> None:
    augment(system)
    eaccept(thread, wish(thread, PENDING), FRESH)
    write_enclave(thread, FRESH, THREAD.to_bytes())
    assert modt(system, FRESH, AS_TCS) is Status.SGX_SUCCESS
    reenter(system, thread)
    as_tcs = SecInfo(PageFlags.MODIFIED, PageType.TCS)
    assert eaccept(thread, wish(thread, as_tcs), FRESH) is Status.SGX_SUCCESS
    second = system.thread()
    assert eenter(second, FRESH, AEP, rsp=RSP, rbp=RBP).rip == CODE


@pytest.mark.parametrize(
    "change",
    [
        {"flags": TcsFlags.DBGOPTIN},
        {"flags": TcsFlags.AEXNOTIFY},
        {"cssa": 2},
        {"nssa": 0},
        {"aep": 1},
        {"state": 1},
        {"ocetssa": 1},
    ],
)
def test_what_eaccept_refuses_of_a_tcs(system: Os, thread: LogicalProcessor, change: dict[str, object]) -> None:
    augment(system)
    eaccept(thread, wish(thread, PENDING), FRESH)
    write_enclave(thread, FRESH, replace(THREAD, **change).to_bytes())  # type: ignore[arg-type]
    modt(system, FRESH, AS_TCS)
    reenter(system, thread)
    wish(thread, SecInfo(PageFlags.MODIFIED, PageType.TCS))
    assert fault(lambda: eaccept(thread, WISH, FRESH)).startswith("#GP(0): TCS.")


def test_a_tcs_with_reserved_bytes_is_not_accepted(system: Os, thread: LogicalProcessor) -> None:
    augment(system)
    eaccept(thread, wish(thread, PENDING), FRESH)
    write_enclave(thread, FRESH, THREAD.to_bytes()[:-1] + b"\x01")
    modt(system, FRESH, AS_TCS)
    reenter(system, thread)
    wish(thread, SecInfo(PageFlags.MODIFIED, PageType.TCS))
    assert fault(lambda: eaccept(thread, WISH, FRESH)).startswith("#GP(0): TCS.reserved1")


# Operands of ENCLU


def test_the_operands_of_eaccept(system: Os, thread: LogicalProcessor) -> None:
    augment(system)
    wish(thread, PENDING)

    def call(rbx: int = WISH, rcx: int = FRESH) -> str:
        return fault(lambda: eaccept(thread, rbx, rcx))

    assert call(rbx=WISH + 32).startswith("#GP(0): RBX is")
    assert call(rbx=BASE + SIZE).endswith("outside the enclave")
    assert call(rbx=BASE + 0xC000).endswith("not an EPC page")
    assert "EPCM.PENDING" in call(rbx=FRESH)
    assert call(rcx=FRESH + 64).startswith("#GP(0): RCX is")
    assert call(rcx=BASE - PAGE_SIZE).endswith("outside the enclave")
    assert call(rcx=BASE + 0xC000).endswith("not an EPC page")
    write_enclave(thread, WISH + 63, b"\x01")
    assert call().startswith("#GP(0): SECINFO.reserved1")


@pytest.mark.parametrize(
    "secinfo",
    [
        SecInfo(PageFlags.RW, PageType.REG),
        SecInfo(PageFlags.RW | PageFlags.PENDING | PageFlags.MODIFIED, PageType.REG),
        SecInfo(NOTHING, PageType.TCS),
        SecInfo(PageFlags.MODIFIED | PageFlags.PENDING, PageType.TCS),
        SecInfo(PageFlags.MODIFIED | PageFlags.PR, PageType.TRIM),
        SecInfo(PageFlags.MODIFIED, PageType.VA),
        SecInfo(PageFlags.MODIFIED, PageType.SECS),
    ],
)
def test_what_can_never_be_accepted(system: Os, thread: LogicalProcessor, secinfo: SecInfo) -> None:
    augment(system)
    assert fault(lambda: eaccept(thread, wish(thread, secinfo), FRESH)).startswith("#GP(0): SECINFO.FLAGS")


def test_only_what_was_done_can_be_accepted(system: Os, thread: LogicalProcessor) -> None:
    page = augment(system)
    wish(thread, SecInfo(PageFlags.R | PageFlags.PENDING, PageType.REG))
    assert eaccept(thread, WISH, FRESH) is Status.SGX_PAGE_ATTRIBUTES_MISMATCH
    wish(thread, SecInfo(PageFlags.MODIFIED, PageType.TRIM))
    assert eaccept(thread, WISH, FRESH) is Status.SGX_PAGE_ATTRIBUTES_MISMATCH
    wish(thread, PENDING)
    system.pages[BASE + 0xC000] = page
    assert eaccept(thread, WISH, BASE + 0xC000) is Status.SGX_PAGE_ATTRIBUTES_MISMATCH
    assert eaccept(thread, WISH, CODE) is Status.SGX_PAGE_ATTRIBUTES_MISMATCH


def test_a_change_of_type_is_accepted_as_what_it_is(system: Os, thread: LogicalProcessor) -> None:
    wish(thread, SecInfo(PageFlags.MODIFIED, PageType.TCS))
    assert eaccept(thread, WISH, TCS) is Status.SGX_PAGE_ATTRIBUTES_MISMATCH, "it is a TCS, but was not made one"
    modt(system, CODE, AS_TRIM)
    reenter(system, thread)
    assert eaccept(thread, WISH, CODE) is Status.SGX_PAGE_ATTRIBUTES_MISMATCH
    wish(thread, SecInfo(PageFlags.MODIFIED, PageType.TRIM))
    assert eaccept(thread, WISH, CODE) is Status.SGX_SUCCESS


def test_pages_that_cannot_be_accepted(system: Os, thread: LogicalProcessor) -> None:
    page = augment(system)
    wish(thread, PENDING)
    epc = system.processor.epc
    entry = epc.entry(page)
    for change in ({"valid": False}, {"blocked": True}, {"page_type": PageType.VA}, {"secs": EPC_BASE + 0x3F000}):
        epc.set_entry(page, replace(entry, **change))  # type: ignore[arg-type]
        assert fault(lambda: eaccept(thread, WISH, FRESH)).endswith("not a page of this enclave that can be accepted")
    epc.set_entry(page, entry)
    assert eblock(system.processor, page) is Status.SGX_SUCCESS


def test_the_operands_of_emodpe(system: Os, thread: LogicalProcessor) -> None:
    augment(system)
    wish(thread, SecInfo(PageFlags.X, PageType.REG))

    def call(rbx: int = WISH, rcx: int = CODE) -> str:
        return fault(lambda: emodpe(thread, rbx, rcx))

    assert call(rbx=WISH + 32).startswith("#GP(0): RBX is")
    assert call(rcx=CODE + 64).startswith("#GP(0): RCX is")
    assert call(rbx=BASE + SIZE).endswith("outside the enclave")
    assert call(rcx=BASE + SIZE).endswith("outside the enclave")
    assert call(rbx=BASE + 0xC000).endswith("not an EPC page")
    assert call(rcx=BASE + 0xC000).endswith("not an EPC page")
    assert "EPCM.PT is TCS" in call(rbx=TCS)
    assert "EPCM.PT is TCS" in call(rcx=TCS)
    assert "EPCM.PENDING" in call(rcx=FRESH)
    write_enclave(thread, WISH + 63, b"\x01")
    assert call().startswith("#GP(0): SECINFO.reserved1")


def test_the_operands_of_eacceptcopy(system: Os, thread: LogicalProcessor) -> None:
    page = augment(system)
    wish(thread, REG_RW)

    def call(rbx: int = WISH, rcx: int = FRESH, rdx: int = CODE) -> str:
        return fault(lambda: eacceptcopy(thread, rbx, rcx, rdx))

    for operand, bad in (("rbx", WISH + 32), ("rcx", FRESH + 64), ("rdx", CODE + 64)):
        assert call(**{operand: bad}).startswith(f"#GP(0): {operand.upper()} is")
    for operand in ("rbx", "rcx", "rdx"):
        assert call(**{operand: BASE + SIZE}).endswith("outside the enclave")
        assert call(**{operand: BASE + 0xC000}).endswith("not an EPC page")
    assert "EPCM.PT is TCS" in call(rbx=TCS)
    assert "EPCM.PT is TCS" in call(rdx=TCS)
    for bad_wish in (SecInfo(PageFlags.W, PageType.REG), SecInfo(PageFlags.RW, PageType.TCS)):
        wish(thread, bad_wish)
        assert call().startswith("#GP(0): SECINFO.FLAGS")
    wish(thread, REG_RW)
    for change in ({"modified": True}, {"pending": False}, {"blocked": True}, {"permissions": PageFlags.R}):
        entry = system.processor.epc.entry(page)
        system.processor.epc.set_entry(page, replace(entry, **change))  # type: ignore[arg-type]
        assert eacceptcopy(thread, WISH, FRESH, CODE) is Status.SGX_PAGE_ATTRIBUTES_MISMATCH
        system.processor.epc.set_entry(page, entry)
    assert eacceptcopy(thread, WISH, FRESH, CODE) is Status.SGX_SUCCESS


def test_these_leaf_functions_need_an_enclave(system: Os) -> None:
    outside = system.thread()
    assert fault(lambda: eaccept(outside, WISH, FRESH)) == "#GP(0): EACCEPT outside an enclave"
    assert fault(lambda: emodpe(outside, WISH, FRESH)) == "#GP(0): EMODPE outside an enclave"
    assert fault(lambda: eacceptcopy(outside, WISH, FRESH, CODE)) == "#GP(0): EACCEPTCOPY outside an enclave"


def test_sgx1_has_none_of_them() -> None:
    system = Os(new_processor(profile=SKYLAKE_CLIENT))
    thread = system.thread()
    calls = {
        "EAUG": lambda: eaug(system.processor, system.memory, INFO, EPC_BASE),
        "EMODPR": lambda: emodpr(system.processor, system.memory, SECINFO, EPC_BASE),
        "EMODT": lambda: emodt(system.processor, system.memory, SECINFO, EPC_BASE),
        "EACCEPT": lambda: eaccept(thread, WISH, FRESH),
        "EMODPE": lambda: emodpe(thread, WISH, FRESH),
        "EACCEPTCOPY": lambda: eacceptcopy(thread, WISH, FRESH, CODE),
    }
    for name, call in calls.items():
        with pytest.raises(GeneralProtectionFault, match=f"{name} is not a leaf function of this processor"):
            call()
