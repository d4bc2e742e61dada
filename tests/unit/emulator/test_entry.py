"""Into an enclave and out of it: EENTER, EEXIT, the asynchronous exit, ERESUME."""

from __future__ import annotations

from dataclasses import replace

import pytest

from doubles.enclaves import (
    AEP,
    BASE,
    CODE,
    DATA,
    RBP,
    RSP,
    SECS,
    SSA,
    TCS,
    TCS_PAGE,
    THREAD,
    Os,
    initialized,
    sigstruct_for,
)
from sgxkit.emulator.entry import ACTIVE, AsynchronousExit, Entered, asynchronous_exit, eenter, eexit, eresume
from sgxkit.emulator.faults import GeneralProtectionFault, PageFault
from sgxkit.emulator.processor import LogicalProcessor
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType
from sgxkit.isa.ssa import ExInfo, ExitInfo, GprSgx
from sgxkit.isa.status import Status
from sgxkit.isa.tcs import Tcs

REGISTERS = GprSgx(rax=1, r15=2, rip=CODE + 5, exitinfo=ExitInfo(6, 3, True), fsbase=DATA, gsbase=DATA)
XSAVE = bytes(range(1, 65))


def enter(thread: LogicalProcessor, tcs: int = TCS, aep: int = AEP) -> Entered:
    return eenter(thread, tcs, aep, rsp=RSP, rbp=RBP)


def tcs_of(system: Os) -> Tcs:
    return Tcs.from_bytes(system.processor.epc.read(system.pages[TCS], PAGE_SIZE))


def set_tcs(system: Os, **changes: int) -> None:
    system.processor.epc.write(system.pages[TCS], replace(tcs_of(system), **changes).to_bytes())  # type: ignore[arg-type]


@pytest.fixture
def system() -> Os:
    return initialized()


def test_entry_and_exit(system: Os) -> None:
    thread = system.thread()
    assert enter(thread) == Entered(rip=CODE, rax=0, fsbase=DATA, gsbase=DATA)
    assert (thread.active_secs, thread.tcs) == (system.secs, TCS)
    assert (tcs_of(system).state, tcs_of(system).aep) == (ACTIVE, AEP)
    saved = GprSgx.from_bytes(system.processor.epc.read(system.pages[SSA] + PAGE_SIZE - 184, 184))
    assert (saved.ursp, saved.urbp) == (RSP, RBP)
    assert eexit(thread, 0x1234) == AEP
    assert thread.active_secs is None
    assert tcs_of(system).state != ACTIVE
    enter(thread)


def test_one_thread_by_one_tcs(system: Os) -> None:
    enter(system.thread())
    with pytest.raises(GeneralProtectionFault, match="in use by another thread"):
        enter(system.thread())


def test_nobody_enters_twice(system: Os) -> None:
    thread = system.inside()
    with pytest.raises(GeneralProtectionFault, match="EENTER inside an enclave"):
        enter(thread)
    with pytest.raises(GeneralProtectionFault, match="ERESUME inside an enclave"):
        eresume(thread, TCS, AEP)


def test_an_interrupted_thread_goes_on_where_it_was(system: Os) -> None:
    thread = system.inside()
    left = asynchronous_exit(thread, REGISTERS, XSAVE)
    assert left == AsynchronousExit(rax=Enclu.ERESUME, rbx=TCS, rcx=AEP, rsp=RSP, rbp=RBP)
    assert (thread.active_secs, tcs_of(system).cssa) == (None, 1)
    registers, xsave = eresume(thread, TCS, AEP + 8)
    assert registers == replace(REGISTERS, ursp=RSP, urbp=RBP)
    assert xsave == XSAVE + bytes(512)
    assert (tcs_of(system).cssa, tcs_of(system).aep, tcs_of(system).state) == (0, AEP + 8, ACTIVE)


def test_a_handler_runs_on_the_next_frame_until_there_is_none(system: Os) -> None:
    thread = system.inside()
    asynchronous_exit(thread, REGISTERS, b"")
    assert enter(thread).rax == 1
    asynchronous_exit(thread, replace(REGISTERS, rax=9), b"")
    with pytest.raises(GeneralProtectionFault, match=r"TCS\.CSSA cannot be 2"):
        enter(thread)
    assert eresume(thread, TCS, AEP)[0].rax == 9
    assert eexit(thread, 0) == AEP
    assert eresume(thread, TCS, AEP)[0].rax == 1


def test_a_fault_is_reported_where_miscselect_has_it() -> None:
    system = Os()
    system.create(replace(SECS, miscselect=1))
    system.fill()
    assert system.init(sigstruct_for(system.measurement, miscselect=1)) is Status.SGX_SUCCESS
    thread = system.inside()
    asynchronous_exit(thread, REGISTERS, b"", ExInfo(0xABCD, 7))
    eresume(thread, TCS, AEP)
    asynchronous_exit(thread, REGISTERS, b"")  # an interrupt has none: what is there stays
    misc = system.processor.epc.read(system.pages[SSA] + PAGE_SIZE - 184 - 16, 16)
    assert ExInfo.from_bytes(misc) == ExInfo(0xABCD, 7)


def test_a_fault_is_not_reported_without_it(system: Os) -> None:
    asynchronous_exit(system.inside(), REGISTERS, b"", ExInfo(0xABCD, 7))
    assert system.processor.epc.read(system.pages[SSA] + PAGE_SIZE - 200, 16) == bytes(16)


def test_the_state_that_does_not_fit_is_a_bug(system: Os) -> None:
    with pytest.raises(ValueError, match="XSAVE"):
        asynchronous_exit(system.inside(), REGISTERS, bytes(577))
    thread = initialized().inside()
    eexit(thread, 0)
    for outside in (system.thread(), thread):
        with pytest.raises(ValueError, match="no enclave"):
            asynchronous_exit(outside, REGISTERS, b"")


def test_exit_needs_an_enclave_and_a_canonical_address(system: Os) -> None:
    with pytest.raises(GeneralProtectionFault, match="EEXIT outside an enclave"):
        eexit(system.thread(), 0)
    thread = system.inside()
    with pytest.raises(GeneralProtectionFault, match="RBX cannot be"):
        eexit(thread, 1 << 47)
    assert thread.active_secs == system.secs


@pytest.mark.parametrize("leaf", ["EENTER", "ERESUME"])
class TestTheTcs:
    """What both ways in ask of the TCS."""

    def call(self, system: Os, leaf: str, rbx: int = TCS, rcx: int = AEP) -> object:
        thread = system.thread()
        return enter(thread, rbx, rcx) if leaf == "EENTER" else eresume(thread, rbx, rcx)

    def ready(self, leaf: str) -> Os:
        system = initialized()
        if leaf == "ERESUME":
            asynchronous_exit(system.inside(), REGISTERS, XSAVE)
        return system

    def test_operands(self, leaf: str) -> None:
        system = self.ready(leaf)
        with pytest.raises(GeneralProtectionFault, match="RBX is"):
            self.call(system, leaf, rbx=TCS + 8)
        with pytest.raises(PageFault, match="not an EPC page"):
            self.call(system, leaf, rbx=BASE + 0xC000)
        with pytest.raises(GeneralProtectionFault, match="RCX cannot be"):
            self.call(system, leaf, rcx=1 << 47)
        self.call(system, leaf)

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"valid": False}, "VALID"),
            ({"blocked": True}, "BLOCKED"),
            ({"address": CODE}, "ENCLAVEADDRESS"),
            ({"page_type": PageType.REG}, "PT"),
            ({"pending": True}, "PENDING"),
            ({"modified": True}, "MODIFIED"),
        ],
    )
    def test_epcm(self, leaf: str, change: dict[str, object], field: str) -> None:
        system = self.ready(leaf)
        epc, page = system.processor.epc, system.pages[TCS]
        epc.set_entry(page, replace(epc.entry(page), **change))  # type: ignore[arg-type]
        with pytest.raises(PageFault, match=field) as raised:
            self.call(system, leaf)
        assert raised.value.address == TCS

    @pytest.mark.parametrize("field", ["ossa", "ofsbase", "ogsbase"])
    def test_offsets(self, leaf: str, field: str) -> None:
        system = self.ready(leaf)
        set_tcs(system, **{field: 8})
        with pytest.raises(GeneralProtectionFault, match=f"{field.upper()} is"):
            self.call(system, leaf)

    def test_reserved_flags(self, leaf: str) -> None:
        system = self.ready(leaf)
        system.processor.epc.write(system.pages[TCS] + 8, b"\x04")
        with pytest.raises(GeneralProtectionFault, match="FLAGS"):
            self.call(system, leaf)

    def test_features_that_are_off(self, leaf: str) -> None:
        system = self.ready(leaf)
        state = system.processor.enclaves[system.secs]
        state.secs = replace(state.secs, attributes=Attributes(state.secs.attributes.flags, 7))
        with pytest.raises(GeneralProtectionFault, match="XFRM"):
            self.call(system, leaf)

    @pytest.mark.parametrize("change", [{"pending": True}, {"blocked": True}, {"permissions": PageFlags.R}])
    def test_the_ssa_frame(self, leaf: str, change: dict[str, object]) -> None:
        system = self.ready(leaf)
        epc, page = system.processor.epc, system.pages[SSA]
        epc.set_entry(page, replace(epc.entry(page), **change))  # type: ignore[arg-type]
        with pytest.raises(PageFault) as raised:
            self.call(system, leaf)
        assert raised.value.address == SSA

    def test_in_use(self, leaf: str) -> None:
        system = self.ready(leaf)
        set_tcs(system, state=ACTIVE)
        with pytest.raises(GeneralProtectionFault, match="in use by another thread"):
            self.call(system, leaf)


@pytest.mark.parametrize("field", ["ofsbase", "ogsbase", "oentry"])
def test_eenter_refuses_addresses_that_are_not_canonical(system: Os, field: str) -> None:
    set_tcs(system, **{field: 1 << 47})
    with pytest.raises(GeneralProtectionFault, match=field.upper()):
        enter(system.thread())


def test_eenter_needs_a_free_frame(system: Os) -> None:
    set_tcs(system, cssa=2)
    with pytest.raises(GeneralProtectionFault, match="CSSA"):
        enter(system.thread())


def test_eresume_needs_a_used_frame(system: Os) -> None:
    with pytest.raises(GeneralProtectionFault, match="CSSA"):
        eresume(system.thread(), TCS, AEP)


@pytest.mark.parametrize("field", ["rip", "fsbase", "gsbase"])
def test_eresume_refuses_addresses_that_are_not_canonical(system: Os, field: str) -> None:
    asynchronous_exit(system.inside(), replace(REGISTERS, **{field: 1 << 47}), b"")  # type: ignore[arg-type]
    with pytest.raises(GeneralProtectionFault, match=field.upper()):
        eresume(system.thread(), TCS, AEP)


def test_a_32_bit_enclave_is_not_entered_from_64_bit_mode() -> None:
    attributes = Attributes(AttributeFlags.KSS, 3)
    system = Os()
    system.create(replace(SECS, attributes=attributes))
    system.add(TCS, TCS_PAGE, replace(THREAD, fslimit=0xFFF, gslimit=0xFFF).to_bytes())
    assert system.init(sigstruct_for(system.measurement, attributes=attributes)) is Status.SGX_SUCCESS
    with pytest.raises(GeneralProtectionFault, match="FLAGS"):
        enter(system.thread())
