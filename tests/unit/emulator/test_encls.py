"""ECREATE, EADD, EEXTEND, EREMOVE, EBLOCK, ETRACK: what they do, and each check of the manual's pseudo-code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest

from doubles.enclaves import (
    AEP,
    BASE,
    CODE,
    DATA,
    EPC_BASE,
    FLAGS,
    FRESH,
    INFO,
    RBP,
    REG_RW,
    RSP,
    SECINFO,
    SECS,
    SIZE,
    SOURCE,
    SSA,
    TCS,
    TCS_PAGE,
    THREAD,
    Os,
    built,
    created,
    initialized,
    new_processor,
)
from sgxkit.emulator.encls import eadd, eblock, ecreate, eextend, eremove, etrack, is_tracked
from sgxkit.emulator.entry import eenter, eexit
from sgxkit.emulator.epc import FREE, Epc, EpcmEntry
from sgxkit.emulator.faults import Fault, GeneralProtectionFault, PageFault
from sgxkit.emulator.processor import Processor
from sgxkit.emulator.profile import SAPPHIRE_RAPIDS, SKYLAKE_CLIENT
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.cpuid import decode_sgx
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageInfo, PageType, SecInfo
from sgxkit.isa.secs import Secs
from sgxkit.isa.status import Status
from sgxkit.isa.tcs import Tcs, TcsFlags

OUTSIDE = EPC_BASE + 64 * PAGE_SIZE
SECS_INFO = SecInfo(PageFlags(0), PageType.SECS)


def fault(call: Callable[[], object]) -> Fault:
    with pytest.raises(Fault) as raised:
        call()
    return raised.value


def gp(call: Callable[[], object]) -> str:
    raised = fault(call)
    assert isinstance(raised, GeneralProtectionFault)
    assert (raised.vector, raised.error_code) == (13, 0)
    return str(raised.problem)


def pf(call: Callable[[], object]) -> tuple[int, str]:
    raised = fault(call)
    assert isinstance(raised, PageFault)
    assert raised.vector == 14
    return raised.address, str(raised.problem)


# ECREATE


def create(secs: Secs | bytes = SECS, **changes: object) -> Os:
    system = Os(new_processor(**changes))
    system.put(PageInfo(0, SOURCE, SECINFO, 0), SECS_INFO, secs if isinstance(secs, bytes) else secs.to_bytes())
    ecreate(system.processor, system.memory, INFO, EPC_BASE)
    return system


def with_flags(flags: int) -> Secs:
    return replace(SECS, attributes=Attributes(flags, 3))


def with_xfrm(xfrm: int, pages: int = 8) -> Secs:
    return replace(SECS, ssaframesize=pages, attributes=Attributes(FLAGS, xfrm))


def test_ecreate_makes_a_secs() -> None:
    system = create()
    assert system.processor.epc.entry(EPC_BASE) == EpcmEntry(valid=True, page_type=PageType.SECS)
    enclave = system.processor.enclaves[EPC_BASE]
    assert (enclave.initialized, enclave.eid, enclave.children) == (False, 0, 0)
    record = b"ECREATE\0" + (1).to_bytes(4, "little") + SIZE.to_bytes(8, "little") + bytes(44)
    assert enclave.measurement.digest() == sha256(record).digest()


def test_ecreate_clears_what_einit_sets() -> None:
    filled = replace(SECS, mrenclave=bytes([1] * 32), mrsigner=bytes([1] * 32), isvprodid=1, isvsvn=1)
    assert create(filled).processor.enclaves[EPC_BASE].secs == SECS


def test_each_enclave_has_its_own_eid() -> None:
    system = created()
    other = system.create()
    assert system.processor.enclaves[other].eid == 1


@pytest.mark.parametrize(
    ("secs", "field"),
    [
        (with_xfrm(0x1), "SECS.ATTRIBUTES.XFRM"),
        (with_xfrm(0x2), "SECS.ATTRIBUTES.XFRM"),
        (with_xfrm(0x3 | 1 << 9 | 1 << 17), "SECS.ATTRIBUTES.XFRM"),
        (with_xfrm(0x3 | 0x18), "SECS.ATTRIBUTES.XFRM"),
        (with_xfrm(0x3 | 1 << 63), "SECS.ATTRIBUTES.XFRM"),
        (with_xfrm(0x3 | 0xE0), "SECS.ATTRIBUTES.XFRM"),
        (with_xfrm(0x7 | 0x20), "SECS.ATTRIBUTES.XFRM"),
        (replace(SECS, miscselect=2), "SECS.MISCSELECT"),
        (replace(SECS, ssaframesize=0), "SECS.SSAFRAMESIZE"),
        (replace(SECS, baseaddr=1 << 47), "SECS.BASEADDR"),
        (replace(with_flags(AttributeFlags.KSS), baseaddr=1 << 32), "SECS.BASEADDR"),
        (replace(SECS, size=1 << 56, baseaddr=0), "SECS.SIZE"),
        (replace(with_flags(AttributeFlags.KSS), size=1 << 31, baseaddr=0), "SECS.SIZE"),
        (replace(SECS, size=0x1000), "SECS.SIZE"),
        (replace(SECS, size=0), "SECS.SIZE"),
        (replace(SECS, size=0x3000), "SECS.SIZE"),
        (replace(SECS, baseaddr=BASE + 0x8000), "SECS.BASEADDR"),
        (with_flags(FLAGS | AttributeFlags.INIT), "SECS.ATTRIBUTES.FLAGS"),
        (with_flags(FLAGS | AttributeFlags.CET), "SECS.ATTRIBUTES.FLAGS"),
        (with_flags(FLAGS | 1 << 3), "SECS.ATTRIBUTES.FLAGS"),
        (replace(with_flags(AttributeFlags.MODE64BIT), configid=bytes([1] * 64)), "SECS.CONFIGID, CONFIGSVN"),
        (replace(with_flags(AttributeFlags.MODE64BIT), configsvn=1), "SECS.CONFIGID, CONFIGSVN"),
    ],
)
def test_ecreate_refuses_a_field_of_secs(secs: Secs, field: str) -> None:
    assert gp(lambda: create(secs)).startswith(f"{field} cannot be")


@pytest.mark.parametrize(
    "secs",
    [
        with_xfrm(0x2E7, 1),
        replace(SECS, miscselect=1),
        replace(SECS, configid=bytes([1] * 64), configsvn=1),
        replace(with_flags(FLAGS | AttributeFlags.DEBUG | AttributeFlags.PROVISIONKEY), size=0x2000),
        replace(with_flags(AttributeFlags.KSS), size=1 << 30, baseaddr=1 << 31),
        replace(SECS, size=1 << 55, baseaddr=0),
        replace(SECS, baseaddr=0xFFFF_8000_0000_0000),
    ],
)
def test_ecreate_takes_what_the_processor_has(secs: Secs) -> None:
    assert create(secs).processor.enclaves[EPC_BASE].secs == secs


def test_an_ssa_frame_must_hold_everything() -> None:
    amx = with_xfrm(0x602E7, 3)
    create(amx, profile=SAPPHIRE_RAPIDS)
    assert "SSAFRAMESIZE" in gp(lambda: create(replace(amx, ssaframesize=2), profile=SAPPHIRE_RAPIDS))
    assert "XFRM" in gp(lambda: create(with_xfrm(0x20003), profile=SAPPHIRE_RAPIDS))


@pytest.mark.parametrize("at", [24, 32, 33, 96, 160, 262, 4095])
def test_ecreate_refuses_reserved_bytes(at: int) -> None:
    raw = bytearray(SECS.to_bytes())
    raw[at] = 1
    assert gp(lambda: create(bytes(raw))) == "reserved bytes of SECS are not zero"


def test_what_an_older_processor_lacks() -> None:
    assert "FLAGS" in gp(lambda: create(SECS, profile=SKYLAKE_CLIENT))
    assert "MISCSELECT" in gp(lambda: create(replace(SECS, miscselect=1), profile=SKYLAKE_CLIENT))


@pytest.mark.parametrize(
    ("rbx", "rcx", "info", "secinfo", "expected"),
    [
        (INFO + 16, EPC_BASE, None, SECS_INFO, "RBX is 0x1010, not a multiple of 32"),
        (INFO, EPC_BASE + 1, None, SECS_INFO, "RCX is 0x7000000001, not a multiple of 4096"),
        (INFO, EPC_BASE, PageInfo(0, SOURCE + 8, SECINFO, 0), SECS_INFO, "PAGEINFO.SRCPGE is 0x3008"),
        (INFO, EPC_BASE, PageInfo(0, SOURCE, SECINFO + 8, 0), SECS_INFO, "PAGEINFO.SECINFO is 0x2008"),
        (INFO, EPC_BASE, PageInfo(0x1000, SOURCE, SECINFO, 0), SECS_INFO, "PAGEINFO.LINADDR, SECS cannot be"),
        (INFO, EPC_BASE, PageInfo(0, SOURCE, SECINFO, EPC_BASE), SECS_INFO, "PAGEINFO.LINADDR, SECS cannot be"),
        (INFO, EPC_BASE, None, b"\x40" + bytes(63), "SECINFO.FLAGS at offset 0: reserved bits"),
        (INFO, EPC_BASE, None, bytes(63) + b"\x01", "SECINFO.reserved1"),
        (INFO, EPC_BASE, None, REG_RW, "SECINFO.FLAGS.PT cannot be 2 here"),
    ],
)
def test_ecreate_checks_its_operands(
    rbx: int, rcx: int, info: PageInfo | None, secinfo: SecInfo | bytes, expected: str
) -> None:
    system = Os()
    system.put(info or PageInfo(0, SOURCE, SECINFO, 0), secinfo, SECS.to_bytes())
    assert gp(lambda: ecreate(system.processor, system.memory, rbx, rcx)).startswith(expected)
    assert system.processor.enclaves == {}


def test_ecreate_needs_a_free_epc_page() -> None:
    system = created()
    system.put(PageInfo(0, SOURCE, SECINFO, 0), SECS_INFO, SECS.to_bytes())
    for rcx, problem in ((OUTSIDE, "not an EPC page"), (system.secs, "the EPC page is in use")):
        assert pf(lambda rcx=rcx: ecreate(system.processor, system.memory, INFO, rcx)) == (rcx, problem)  # type: ignore[misc]


def test_operands_must_be_mapped() -> None:
    system = Os()
    assert pf(lambda: ecreate(system.processor, system.memory, 0x9000, EPC_BASE)) == (
        0x9000,
        "nothing is mapped there",
    )


# EADD


def test_eadd_binds_the_page_to_its_enclave_and_place() -> None:
    system = created()
    page = system.add(DATA, SecInfo(PageFlags.RX, PageType.REG), bytes([5]) * PAGE_SIZE, measure=False)
    assert system.processor.epc.entry(page) == EpcmEntry(
        valid=True, page_type=PageType.REG, secs=system.secs, address=DATA, permissions=PageFlags.RX
    )
    assert system.processor.epc.read(page, PAGE_SIZE) == bytes([5]) * PAGE_SIZE
    assert system.processor.enclaves[system.secs].children == 1


def test_a_tcs_has_no_permissions_and_starts_clean() -> None:
    system = created()
    dirty = replace(THREAD, flags=TcsFlags.DBGOPTIN, cssa=1, aep=AEP, state=1)
    page = system.add(TCS, SecInfo(PageFlags.RWX, PageType.TCS), dirty.to_bytes())
    clean = created()
    clean.add(TCS, TCS_PAGE, THREAD.to_bytes())
    assert system.processor.epc.entry(page).permissions == PageFlags(0)
    assert Tcs.from_bytes(system.processor.epc.read(page, PAGE_SIZE)) == THREAD
    assert system.measurement == clean.measurement


@pytest.mark.parametrize(
    ("rbx", "rcx", "change", "expected"),
    [
        (INFO + 8, EPC_BASE + 0x1000, {}, "RBX is 0x1008, not a multiple of 32"),
        (INFO, EPC_BASE + 0x1008, {}, "RCX is 0x7000001008, not a multiple of 4096"),
        (INFO, EPC_BASE + 0x1000, {"srcpge": SOURCE + 8}, "PAGEINFO.SRCPGE is 0x3008, not"),
        (INFO, EPC_BASE + 0x1000, {"secs": EPC_BASE + 8}, "PAGEINFO.SECS is 0x7000000008, not"),
        (INFO, EPC_BASE + 0x1000, {"secinfo": SECINFO + 8}, "PAGEINFO.SECINFO is 0x2008, not"),
        (INFO, EPC_BASE + 0x1000, {"linaddr": DATA + 8}, "PAGEINFO.LINADDR is 0x103008, not"),
        (INFO, EPC_BASE + 0x1000, {"linaddr": BASE - PAGE_SIZE}, "PAGEINFO.LINADDR cannot be 0xff000 here"),
        (INFO, EPC_BASE + 0x1000, {"linaddr": BASE + SIZE}, "PAGEINFO.LINADDR cannot be 0x110000 here"),
    ],
)
def test_eadd_checks_its_operands(rbx: int, rcx: int, change: dict[str, int], expected: str) -> None:
    system = created()
    system.put(replace(PageInfo(DATA, SOURCE, SECINFO, system.secs), **change), REG_RW)
    before = system.measurement
    assert gp(lambda: eadd(system.processor, system.memory, rbx, rcx)).startswith(expected)
    assert system.measurement == before
    assert system.processor.epc.entry(EPC_BASE + 0x1000) == FREE


@pytest.mark.parametrize(
    ("secinfo", "expected"),
    [
        (SecInfo(PageFlags.W, PageType.REG), "SECINFO.FLAGS cannot be 0x202 here"),
        (SecInfo(PageFlags.R, PageType.SECS), "SECINFO.FLAGS.PT cannot be 0 here"),
        (SecInfo(PageFlags.R, PageType.VA), "SECINFO.FLAGS.PT cannot be 3 here"),
        (SecInfo(PageFlags.R, PageType.TRIM), "SECINFO.FLAGS.PT cannot be 4 here"),
        (SecInfo(PageFlags.R, 0x99), "SECINFO.FLAGS.PT cannot be 153 here"),
        (b"\x80\x02" + bytes(62), "SECINFO.FLAGS at offset 0: reserved bits must be zero: 0x80"),
        (b"\x01\x02" + bytes(61) + b"\x01", "SECINFO.reserved1"),
    ],
)
def test_eadd_checks_the_secinfo(secinfo: SecInfo | bytes, expected: str) -> None:
    system = created()
    system.put(PageInfo(DATA, SOURCE, SECINFO, system.secs), secinfo)
    assert gp(lambda: eadd(system.processor, system.memory, INFO, system.take())).startswith(expected)


def test_eadd_needs_a_free_page_and_a_secs() -> None:
    system = built()
    used, free, not_secs = system.pages[DATA], system.take(), system.pages[CODE]
    for rcx, secs, expected in (
        (OUTSIDE, system.secs, (OUTSIDE, "not an EPC page")),
        (free, OUTSIDE, (OUTSIDE, "not an EPC page")),
        (used, system.secs, (used, "the EPC page is in use")),
        (free, free + PAGE_SIZE, (free + PAGE_SIZE, "not a SECS")),
        (free, not_secs, (not_secs, "not a SECS")),
    ):
        system.put(PageInfo(FRESH, SOURCE, SECINFO, secs), REG_RW)
        assert pf(lambda rcx=rcx: eadd(system.processor, system.memory, INFO, rcx)) == expected  # type: ignore[misc]


def test_eadd_is_over_after_einit() -> None:
    system = initialized()
    assert gp(lambda: system.add(FRESH, measure=False)) == "the enclave is initialized already"


@pytest.mark.parametrize(
    ("tcs", "expected"),
    [
        (replace(THREAD, ocetssa=1), "TCS.OCETSSA, PREVSSP"),
        (replace(THREAD, prevssp=1), "TCS.OCETSSA, PREVSSP"),
        (replace(THREAD, flags=TcsFlags.AEXNOTIFY), "TCS.FLAGS"),
    ],
)
def test_a_tcs_uses_nothing_that_the_processor_lacks(tcs: Tcs, expected: str) -> None:
    system = created()
    assert gp(lambda: system.add(TCS, TCS_PAGE, tcs.to_bytes())).startswith(expected)


@pytest.mark.parametrize("at", [8, 15, 88, 4095])
def test_a_tcs_has_no_reserved_bits(at: int) -> None:
    raw = bytearray(THREAD.to_bytes())
    raw[at] |= 0x80
    system = created()
    assert gp(lambda: system.add(TCS, TCS_PAGE, bytes(raw))).startswith("TCS.")


def test_segment_limits_outside_64_bit_mode() -> None:
    system = Os()
    system.create(with_flags(AttributeFlags.KSS))
    for limits in ({"fslimit": 0xFFF}, {"gslimit": 0xFFF}, {}):
        tcs = replace(THREAD, **limits)
        assert gp(lambda tcs=tcs: system.add(TCS, TCS_PAGE, tcs.to_bytes())).startswith("TCS.FSLIMIT")  # type: ignore[misc]
    system.add(TCS, TCS_PAGE, replace(THREAD, fslimit=0x1FFF, gslimit=0xFFF).to_bytes())


# EEXTEND, and the measurement


def test_the_measurement_is_the_manuals() -> None:
    """Written out with hashlib alone: chapter 39's strings and fields."""
    system = built()
    digest = sha256(b"ECREATE\0" + (1).to_bytes(4, "little") + SIZE.to_bytes(8, "little") + bytes(44))
    for linear, flags, contents in (
        (TCS, 0x100, THREAD.to_bytes()),
        (SSA, 0x203, bytes(PAGE_SIZE)),
        (SSA + PAGE_SIZE, 0x203, bytes(PAGE_SIZE)),
        (DATA, 0x203, bytes([7]) * PAGE_SIZE),
        (CODE, 0x205, bytes([0x90]) * PAGE_SIZE),
    ):
        offset = linear - BASE
        digest.update(b"EADD\0\0\0\0" + offset.to_bytes(8, "little") + flags.to_bytes(8, "little") + bytes(40))
        for chunk in range(0, PAGE_SIZE, 256):
            digest.update(b"EEXTEND\0" + (offset + chunk).to_bytes(8, "little") + bytes(48))
            digest.update(contents[chunk : chunk + 256])
    assert system.measurement == digest.digest()


def test_eextend_checks_its_operands() -> None:
    system = built()
    other = system.create()
    secs, page = EPC_BASE, system.pages[DATA]

    def extend(rbx: int, rcx: int) -> Callable[[], None]:
        return lambda: eextend(system.processor, rbx, rcx)

    free = system.take()
    assert gp(extend(secs + 1, page)).startswith("RBX is 0x7000000001, not a multiple of 4096")
    assert pf(extend(OUTSIDE, page)) == (OUTSIDE, "not an EPC page")
    assert gp(extend(secs, page + 128)).endswith("not a multiple of 256")
    assert pf(extend(secs, OUTSIDE)) == (OUTSIDE, "not an EPC page")
    assert pf(extend(secs, free)) == (free, "the EPC page is free")
    assert pf(extend(secs, secs)) == (secs, "EPCM.PT is SECS")
    assert gp(extend(other, page)).startswith("RBX cannot be")
    system.processor.epc.set_entry(page, replace(system.processor.epc.entry(page), page_type=PageType.TRIM))
    assert pf(extend(secs, page)) == (page, "EPCM.PT is TRIM")


def test_eextend_is_over_after_einit() -> None:
    system = initialized()
    assert gp(lambda: eextend(system.processor, system.secs, system.pages[DATA])) == (
        "the enclave is initialized already"
    )


# EREMOVE


def test_pages_are_removed_before_their_secs() -> None:
    system = initialized()
    epc = system.processor.epc
    assert eremove(system.processor, system.secs) is Status.SGX_CHILD_PRESENT
    for page in system.pages.values():
        assert eremove(system.processor, page) is Status.SGX_SUCCESS
        assert epc.entry(page) == FREE
        assert epc.read(page, PAGE_SIZE) == bytes(PAGE_SIZE)
    assert eremove(system.processor, system.secs) is Status.SGX_SUCCESS
    assert system.processor.enclaves == {}
    assert epc.entry(system.secs) == FREE


def test_a_free_page_is_removed_already() -> None:
    system = created()
    assert eremove(system.processor, system.take()) is Status.SGX_SUCCESS


def test_no_page_is_removed_while_a_thread_is_inside() -> None:
    system = initialized()
    thread = system.inside()
    assert eremove(system.processor, system.pages[DATA]) is Status.SGX_ENCLAVE_ACT
    eexit(thread, AEP)
    assert eremove(system.processor, system.pages[DATA]) is Status.SGX_SUCCESS


@pytest.mark.parametrize("leaf", [eremove, eblock, etrack])
def test_the_page_operand_is_checked(leaf: Callable[[Processor, int], Status]) -> None:
    system = created()
    assert gp(lambda: leaf(system.processor, system.secs + 8)).startswith("RCX is 0x7000000008")
    assert pf(lambda: leaf(system.processor, OUTSIDE)) == (OUTSIDE, "not an EPC page")


# EBLOCK, ETRACK


def test_eblock() -> None:
    system = initialized()
    page = system.pages[DATA]
    assert eblock(system.processor, page) is Status.SGX_SUCCESS
    assert system.processor.epc.entry(page).blocked
    assert eblock(system.processor, page) is Status.SGX_BLKSTATE
    assert eblock(system.processor, system.secs) is Status.SGX_PG_IS_SECS
    assert eblock(system.processor, system.take()) is Status.SGX_PG_INVLD


def test_etrack_needs_a_secs() -> None:
    system = built()
    page, free = system.pages[DATA], system.take()
    assert pf(lambda: etrack(system.processor, page)) == (page, "not a SECS")
    assert pf(lambda: etrack(system.processor, free)) == (free, "not a SECS")


def test_etrack_waits_for_the_threads_of_the_epoch_before() -> None:
    system = initialized()
    thread = system.inside()
    assert etrack(system.processor, system.secs) is Status.SGX_SUCCESS
    assert etrack(system.processor, system.secs) is Status.SGX_PREV_TRK_INCMPL
    eexit(thread, AEP)
    assert etrack(system.processor, system.secs) is Status.SGX_SUCCESS
    eenter(thread, TCS, AEP, rsp=RSP, rbp=RBP)
    assert etrack(system.processor, system.secs) is Status.SGX_SUCCESS


def test_threads_of_another_enclave_do_not_matter() -> None:
    system = initialized()
    system.inside()
    other = Os(system.processor, taken=system.taken)
    other.create()
    other.fill()
    assert etrack(system.processor, other.secs) is Status.SGX_SUCCESS
    assert etrack(system.processor, other.secs) is Status.SGX_SUCCESS
    entry = replace(system.processor.epc.entry(other.pages[DATA]), changed_in=1)
    assert is_tracked(system.processor, entry)
    assert eremove(system.processor, other.pages[DATA]) is Status.SGX_SUCCESS


def test_a_change_is_tracked_once_an_epoch_began_and_no_thread_is_left_of_the_one_before() -> None:
    system = initialized()
    entry = replace(system.processor.epc.entry(system.pages[DATA]), changed_in=0)
    assert is_tracked(system.processor, replace(entry, changed_in=None))
    assert not is_tracked(system.processor, entry)
    thread = system.inside()
    etrack(system.processor, system.secs)
    assert not is_tracked(system.processor, entry)
    eexit(thread, AEP)
    assert is_tracked(system.processor, entry)
    eenter(thread, TCS, AEP, rsp=RSP, rbp=RBP)
    assert is_tracked(system.processor, entry)


# The processor


def test_cpuid_has_the_epc() -> None:
    read = decode_sgx(new_processor().cpuid())
    assert [(section.base, section.size) for section in read.epc] == [(EPC_BASE, 64 * PAGE_SIZE)]


def test_the_launch_key_hash_can_be_written_with_flc_only() -> None:
    processor = new_processor(profile=SKYLAKE_CLIENT)
    assert gp(lambda: processor.write_launch_key_hash(bytes(32))) == (
        "IA32_SGXLEPUBKEYHASH cannot be written on this processor"
    )
    with pytest.raises(ValueError, match="32 bytes"):
        new_processor().write_launch_key_hash(bytes(31))


@pytest.mark.parametrize(("base", "size"), [(1, 4096), (0, 1), (0, 0)])
def test_an_epc_section_is_whole_pages(base: int, size: int) -> None:
    with pytest.raises(ValueError, match="whole pages"):
        Epc(base, size)


def test_the_epc_is_used_page_by_page() -> None:
    epc = Epc(0x1000, 0x1000)
    for misuse in (lambda: epc.entry(0), lambda: epc.read(0x1FFF, 2), lambda: epc.write(0x1FFF, b"ab")):
        with pytest.raises(ValueError):
            misuse()
