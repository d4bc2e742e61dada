"""Many pages at once: the same state and measurement as page by page."""

import struct
from dataclasses import replace

import pytest

from sgxkit.emulator.encls import add_regular_pages, eadd, ecreate, eextend, eremove, remove_enclave
from sgxkit.emulator.epc import FREE, Epc
from sgxkit.emulator.faults import GeneralProtectionFault
from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.memory import SparseMemory
from sgxkit.emulator.processor import Processor
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageInfo, PageType, SecInfo
from sgxkit.isa.secs import Secs

EPC, BASE, SIZE = 0x8000_0000, 0x10_0000, 0x4_0000
REGULAR = SecInfo(PageFlags.RW, PageType.REG)


def enclave() -> Processor:
    processor = Processor(Fuses.from_seed(b"pages"), Epc(EPC, 1 << 20))
    memory = SparseMemory()
    secs = Secs(SIZE, BASE, 1, 0, Attributes(AttributeFlags.MODE64BIT, 3))
    memory.write(0x2000, secs.to_bytes())
    memory.write(0x3000, bytes(64))
    memory.write(0x1000, PageInfo(0, 0x2000, 0x3000, 0).to_bytes())
    ecreate(processor, memory, 0x1000, EPC)
    return processor


def one_by_one(contents: bytes, *, measure: bool) -> Processor:
    processor, memory = enclave(), SparseMemory()
    for number in range(len(contents) // PAGE_SIZE):
        page = EPC + (number + 1) * PAGE_SIZE
        memory.write(0x2000, contents[number * PAGE_SIZE : (number + 1) * PAGE_SIZE])
        memory.write(0x3000, REGULAR.to_bytes())
        memory.write(0x1000, PageInfo(BASE + number * PAGE_SIZE, 0x2000, 0x3000, EPC).to_bytes())
        eadd(processor, memory, 0x1000, page)
        if measure:
            for chunk in range(0, PAGE_SIZE, 256):
                eextend(processor, EPC, page + chunk)
    return processor


@pytest.mark.parametrize("measure", [True, False])
@pytest.mark.parametrize("zeros", [True, False])
def test_a_run_is_what_its_pages_are_one_by_one(measure: bool, zeros: bool) -> None:
    contents = bytes(3 * PAGE_SIZE) if zeros else b"".join(struct.pack("<Q", n) for n in range(3 * PAGE_SIZE // 8))
    single, run = one_by_one(contents, measure=measure), enclave()
    add_regular_pages(
        run, EPC, EPC + PAGE_SIZE, BASE, secinfo=REGULAR, contents=3 if zeros else contents, measure=measure
    )
    assert run.enclaves[EPC].measurement.copy().digest() == single.enclaves[EPC].measurement.copy().digest()
    assert run.enclaves[EPC].children == 3
    for number in range(5):
        page = EPC + number * PAGE_SIZE
        assert run.epc.entry(page) == single.epc.entry(page)
        assert run.epc.read(page, PAGE_SIZE) == single.epc.read(page, PAGE_SIZE)


def test_a_run_outside_the_enclave_is_refused() -> None:
    with pytest.raises(GeneralProtectionFault):
        add_regular_pages(
            enclave(), EPC, EPC + PAGE_SIZE, BASE + SIZE - PAGE_SIZE, secinfo=REGULAR, contents=2, measure=False
        )


def test_pages_of_a_run_are_changed_and_freed_alone() -> None:
    processor = enclave()
    add_regular_pages(processor, EPC, EPC + PAGE_SIZE, BASE, secinfo=REGULAR, contents=4, measure=False)
    second = EPC + 2 * PAGE_SIZE
    entry = processor.epc.entry(second)
    assert entry.address == BASE + PAGE_SIZE
    processor.epc.set_entry(second, replace(entry, blocked=True))
    assert processor.epc.entry(second).blocked
    assert not processor.epc.entry(second + PAGE_SIZE).blocked
    eremove(processor, second)
    assert processor.epc.entry(second) == FREE
    assert processor.epc.entry(second + PAGE_SIZE).valid


def test_an_enclave_is_removed_whole_and_its_pages_serve_another() -> None:
    processor = enclave()
    add_regular_pages(processor, EPC, EPC + PAGE_SIZE, BASE, secinfo=REGULAR, contents=4, measure=False)
    processor.epc.write(EPC + PAGE_SIZE, b"left behind")
    remove_enclave(processor, EPC, [(EPC + PAGE_SIZE, 4)])
    assert processor.enclaves == {}
    assert all(processor.epc.entry(EPC + number * PAGE_SIZE) == FREE for number in range(6))
    assert processor.epc.read(EPC + PAGE_SIZE, 16) == bytes(16)
