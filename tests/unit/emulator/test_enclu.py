"""EREPORT and EGETKEY from inside an enclave, and the checks of their operands."""

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
    RBP,
    RSP,
    SIZE,
    TCS,
    Os,
    built,
    initialized,
    sigstruct_for,
)
from sgxkit.emulator.access import read_enclave, write_enclave
from sgxkit.emulator.enclu import egetkey, ereport
from sgxkit.emulator.entry import eenter
from sgxkit.emulator.faults import GeneralProtectionFault, PageFault, PageFaultCode
from sgxkit.emulator.keys import cmac, derive_key, verify_report
from sgxkit.emulator.processor import LogicalProcessor
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.keyrequest import KeyName, KeyPolicy, KeyRequest
from sgxkit.isa.local_report import REPORT_SIZE, Report
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType
from sgxkit.isa.status import Status
from sgxkit.isa.targetinfo import TargetInfo

REQUEST, TARGET, REPORTDATA, KEY, REPORT = DATA, DATA, DATA + 0x200, DATA + 0x300, DATA + 0x400
OUTSIDE_EPC = EPC_BASE + 64 * PAGE_SIZE


@pytest.fixture
def system() -> Os:
    return initialized()


@pytest.fixture
def thread(system: Os) -> LogicalProcessor:
    return system.inside()


def report(thread: LogicalProcessor, target: TargetInfo, reportdata: bytes) -> Report:
    write_enclave(thread, TARGET, target.to_bytes())
    write_enclave(thread, REPORTDATA, reportdata)
    ereport(thread, TARGET, REPORTDATA, REPORT)
    return Report.from_bytes(read_enclave(thread, REPORT, REPORT_SIZE))


def key(thread: LogicalProcessor, request: KeyRequest) -> bytes:
    write_enclave(thread, REQUEST, request.to_bytes())
    assert egetkey(thread, REQUEST, KEY) is Status.SGX_SUCCESS
    return read_enclave(thread, KEY, 16)


def another_enclave(system: Os) -> LogicalProcessor:
    """A second enclave of the same platform, at the same linear addresses in another address space."""
    other = Os(system.processor, taken=system.taken)
    other.create()
    other.fill()
    other.add(BASE + 0x6000)
    assert other.init(sigstruct_for(other.measurement)) is Status.SGX_SUCCESS
    return other.inside()


def test_a_report_says_who_the_enclave_is(system: Os, thread: LogicalProcessor) -> None:
    identity = system.processor.enclaves[system.secs].identity
    made = report(thread, identity.target_info, bytes(range(64)))
    assert made.body == identity.report_body(system.processor.fuses.cpusvn, bytes(range(64)))
    assert made.body.attributes.flags & AttributeFlags.INIT
    assert made.keyid == system.processor.report_keyid


def test_local_attestation_between_two_enclaves(system: Os, thread: LogicalProcessor) -> None:
    verifier = another_enclave(system)
    assert verifier.active_secs is not None
    theirs = system.processor.enclaves[verifier.active_secs].identity
    made = report(thread, theirs.target_info, bytes(64))
    report_key = key(verifier, KeyRequest(KeyName.REPORT_KEY, keyid=made.keyid))
    assert cmac(report_key, made.to_bytes()[:384]) == made.mac
    assert verify_report(system.processor.fuses, made, theirs.target_info)
    own_key = key(thread, KeyRequest(KeyName.REPORT_KEY, keyid=made.keyid))
    assert cmac(own_key, made.to_bytes()[:384]) != made.mac


def test_reserved_bytes_of_targetinfo_are_not_looked_at(system: Os, thread: LogicalProcessor) -> None:
    target = system.processor.enclaves[system.secs].identity.target_info
    clean = report(thread, target, bytes(64))
    write_enclave(thread, TARGET + 511, b"\x01")
    ereport(thread, TARGET, REPORTDATA, REPORT)
    assert Report.from_bytes(read_enclave(thread, REPORT, REPORT_SIZE)) == clean


def test_sealing_by_author_and_by_enclave(system: Os, thread: LogicalProcessor) -> None:
    other = another_enclave(system)
    by_author = KeyRequest(KeyName.SEAL_KEY, KeyPolicy.MRSIGNER)
    by_enclave = KeyRequest(KeyName.SEAL_KEY, KeyPolicy.MRENCLAVE)
    assert key(thread, by_author) == key(other, by_author)
    assert key(thread, by_enclave) != key(other, by_enclave)
    identity = system.processor.enclaves[system.secs].identity
    assert key(thread, by_enclave) == derive_key(system.processor.fuses, identity, by_enclave)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (KeyRequest(9), Status.SGX_INVALID_KEYNAME),
        (KeyRequest(KeyName.PROVISION_KEY), Status.SGX_INVALID_ATTRIBUTE),
        (KeyRequest(KeyName.SEAL_KEY, cpusvn=bytes([2] * 16)), Status.SGX_INVALID_CPUSVN),
        (KeyRequest(KeyName.SEAL_KEY, isvsvn=5), Status.SGX_INVALID_ISVSVN),
    ],
)
def test_a_refused_key_writes_nothing(thread: LogicalProcessor, request_: KeyRequest, status: Status) -> None:
    write_enclave(thread, REQUEST, request_.to_bytes())
    before = read_enclave(thread, KEY, 16)
    assert egetkey(thread, REQUEST, KEY) is status
    assert read_enclave(thread, KEY, 16) == before


@pytest.mark.parametrize(("at", "value"), [(2, 0x40), (3, 0x80), (7, 1), (78, 1), (511, 1)])
def test_reserved_bits_of_a_keyrequest(thread: LogicalProcessor, at: int, value: int) -> None:
    write_enclave(thread, REQUEST, KeyRequest(KeyName.SEAL_KEY).to_bytes())
    write_enclave(thread, REQUEST + at, bytes([value]))
    with pytest.raises(GeneralProtectionFault, match="KEYREQUEST"):
        egetkey(thread, REQUEST, KEY)


# Operands


def call_ereport(thread: LogicalProcessor, operand: str, address: int) -> None:
    addresses = {"RBX": TARGET, "RCX": REPORTDATA, "RDX": REPORT, operand: address}
    ereport(thread, addresses["RBX"], addresses["RCX"], addresses["RDX"])


def call_egetkey(thread: LogicalProcessor, operand: str, address: int) -> None:
    addresses = {"RBX": REQUEST, "RCX": KEY, operand: address}
    egetkey(thread, addresses["RBX"], addresses["RCX"])


Call = Callable[[LogicalProcessor, str, int], None]
OPERANDS = [
    (call_ereport, "RBX", 512, PageFlags.R),
    (call_ereport, "RCX", 128, PageFlags.R),
    (call_ereport, "RDX", 512, PageFlags.W),
    (call_egetkey, "RBX", 512, PageFlags.R),
    (call_egetkey, "RCX", 16, PageFlags.W),
]
every_operand = pytest.mark.parametrize(("call", "operand", "alignment", "needs"), OPERANDS)


@every_operand
def test_operands_are_aligned_and_inside(
    thread: LogicalProcessor, call: Call, operand: str, alignment: int, needs: PageFlags
) -> None:
    with pytest.raises(GeneralProtectionFault, match=f"{operand} is .*not a multiple of {alignment}"):
        call(thread, operand, DATA + alignment // 2)
    for outside in (BASE - PAGE_SIZE, BASE + SIZE):
        with pytest.raises(GeneralProtectionFault, match=f"{operand} is .*outside the enclave"):
            call(thread, operand, outside)


@every_operand
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"valid": False}, "VALID"),
        ({"blocked": True}, "BLOCKED"),
        ({"page_type": PageType.TCS}, "PT"),
        ({"secs": EPC_BASE + 0x3F000}, "ENCLAVESECS"),
        ({"pending": True}, "PENDING"),
        ({"modified": True}, "MODIFIED"),
        ({"address": CODE}, "ENCLAVEADDRESS"),
        ({"permissions": PageFlags.X}, "R, W, X"),
    ],
)
def test_the_epcm_is_asked(
    *,
    system: Os,
    thread: LogicalProcessor,
    call: Call,
    operand: str,
    alignment: int,
    needs: PageFlags,
    change: dict[str, object],
    field: str,
) -> None:
    page = BASE + 0x9000
    system.pages[page] = system.take()
    epc = system.processor.epc
    good = replace(epc.entry(system.pages[DATA]), address=page, permissions=needs)
    epc.set_entry(system.pages[page], good)
    write_enclave(thread, DATA, KeyRequest(KeyName.SEAL_KEY).to_bytes())
    epc.write(system.pages[page], KeyRequest(KeyName.SEAL_KEY).to_bytes())
    call(thread, operand, page)
    epc.set_entry(system.pages[page], replace(good, **change))  # type: ignore[arg-type]
    with pytest.raises(PageFault, match=f"EPCM.{field} is") as raised:
        call(thread, operand, page)
    assert raised.value.address == page
    assert raised.value.error_code & PageFaultCode.SGX
    assert bool(raised.value.error_code & PageFaultCode.W) == (needs is PageFlags.W)


@every_operand
def test_an_operand_must_be_an_epc_page(
    *, system: Os, thread: LogicalProcessor, call: Call, operand: str, alignment: int, needs: PageFlags
) -> None:
    for mapped in (None, OUTSIDE_EPC):
        if mapped is not None:
            system.pages[BASE + 0xA000] = mapped
        with pytest.raises(PageFault, match="not an EPC page") as raised:
            call(thread, operand, BASE + 0xA000)
        assert raised.value.address == BASE + 0xA000


def test_leaf_functions_need_an_enclave(system: Os) -> None:
    outside = system.thread()
    with pytest.raises(GeneralProtectionFault, match="EREPORT outside an enclave"):
        ereport(outside, TARGET, REPORTDATA, REPORT)
    with pytest.raises(GeneralProtectionFault, match="EGETKEY outside an enclave"):
        egetkey(outside, REQUEST, KEY)


# Memory


def test_an_enclave_reads_and_writes_its_pages(thread: LogicalProcessor) -> None:
    across = DATA - 3
    write_enclave(thread, across, b"abcdef")
    assert read_enclave(thread, across, 6) == b"abcdef"
    assert read_enclave(thread, DATA, 3) == b"def"


def test_the_epcm_guards_memory(system: Os, thread: LogicalProcessor) -> None:
    with pytest.raises(PageFault, match=r"EPCM\.R, W, X is none$") as raised:
        write_enclave(thread, CODE, b"\xcc")
    assert raised.value.address == CODE
    with pytest.raises(PageFault, match="PT is TCS"):
        read_enclave(thread, TCS, 8)
    system.pages[CODE], system.pages[DATA] = system.pages[DATA], system.pages[CODE]
    with pytest.raises(PageFault, match="ENCLAVEADDRESS"):
        read_enclave(thread, CODE, 1)


def test_no_one_reads_from_outside(system: Os) -> None:
    with pytest.raises(PageFault, match="no enclave is being executed"):
        read_enclave(system.thread(), DATA, 1)


def test_an_enclave_does_not_reach_into_another(system: Os, thread: LogicalProcessor) -> None:
    other = another_enclave(system)
    other_pages = dict(other.page_table)
    system.pages[DATA] = other_pages[DATA]
    with pytest.raises(PageFault, match="ENCLAVESECS"):
        read_enclave(thread, DATA, 1)


def test_nothing_runs_before_einit() -> None:
    system = built()
    with pytest.raises(GeneralProtectionFault, match="the enclave is not initialized"):
        eenter(system.thread(), TCS, AEP, rsp=RSP, rbp=RBP)
