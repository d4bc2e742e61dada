"""An image is loaded as a driver does it, and its measurement is the one computed without a processor."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubles.enclaves import (
    AEP,
    EPC_BASE,
    FLAGS,
    RBP,
    REG_RW,
    REG_RX,
    RSP,
    SECS,
    TCS_PAGE,
    THREAD,
    Os,
    new_processor,
    sigstruct_for,
)
from sgxkit.emulator.access import read_enclave
from sgxkit.emulator.encls import eextend
from sgxkit.emulator.entry import eenter, eexit
from sgxkit.emulator.epc import FREE
from sgxkit.emulator.faults import Fault, GeneralProtectionFault
from sgxkit.emulator.loading import load
from sgxkit.emulator.processor import Processor
from sgxkit.enclave.image import EnclaveImage, PageRun
from sgxkit.enclave.measure import mrenclave
from sgxkit.errors import InputError
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.isa.status import SgxError, Status
from sgxkit.isa.tcs import Tcs

RW = SecInfo(PageFlags.RW, PageType.REG)
RX = SecInfo(PageFlags.RX, PageType.REG)
TCS = Tcs(ossa=0x1000, nssa=1, oentry=0x2000)
IMAGE = EnclaveImage(
    size=0x10000,
    ssaframesize=1,
    runs=(
        PageRun(0, 1, SecInfo(PageFlags(0), PageType.TCS), data=TCS.to_bytes()),
        PageRun(0x1000, 1, RW),
        PageRun(0x2000, 2, RX, data=bytes([1]) * PAGE_SIZE + bytes([2]) * PAGE_SIZE),
        PageRun(0x8000, 3, RW, measured=()),
    ),
)


def certificate(image: EnclaveImage, **fields: object) -> Sigstruct:
    return sigstruct_for(mrenclave(image), **fields)


def used(processor: Processor) -> int:
    return sum(processor.epc.entry(EPC_BASE + n * PAGE_SIZE) != FREE for n in range(64))


def test_a_loaded_enclave_is_the_image() -> None:
    enclave = load(new_processor(), IMAGE, certificate(IMAGE))
    assert enclave.identity.mrenclave == mrenclave(IMAGE)
    assert enclave.tcs == (0x10000,)
    thread = enclave.thread()
    assert eenter(thread, enclave.tcs[0], AEP, rsp=RSP, rbp=RBP).rip == 0x12000
    assert read_enclave(thread, 0x12FFF, 2) == b"\x01\x02"


RUNS = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from([RW, RX]),
        st.lists(st.integers(0, 15), unique=True).map(tuple),
        st.binary(min_size=1, max_size=8),
    ),
    max_size=4,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(RUNS, st.integers(1, 3))
def test_the_processor_measures_what_was_computed(
    runs: list[tuple[int, SecInfo, tuple[int, ...], bytes]], ssaframesize: int
) -> None:
    placed, offset = [], 0
    for count, secinfo, measured, seed in runs:
        data = (seed * 3 * PAGE_SIZE)[: count * PAGE_SIZE]
        placed.append(PageRun(offset, count, secinfo, measured, data))
        offset += count * PAGE_SIZE
    image = EnclaveImage(size=0x10000, ssaframesize=ssaframesize, runs=tuple(placed))
    assert load(new_processor(), image, certificate(image)).identity.mrenclave == mrenclave(image)


def test_enclaves_live_side_by_side_and_their_pages_come_back() -> None:
    processor = new_processor()
    enclaves = [load(processor, IMAGE, certificate(IMAGE), base=base) for base in (0x10000, 0x20000)]
    assert used(processor) == 16
    assert enclaves[0].identity == enclaves[1].identity
    for enclave in enclaves:
        enclave.remove()
    assert used(processor) == 0


def test_an_enclave_is_not_removed_under_a_thread() -> None:
    enclave = load(new_processor(), IMAGE, certificate(IMAGE))
    thread = enclave.thread()
    eenter(thread, enclave.tcs[0], AEP, rsp=RSP, rbp=RBP)
    with pytest.raises(SgxError, match="SGX_ENCLAVE_ACT"):
        enclave.remove()
    eexit(thread, 0)
    enclave.remove()


def test_debug_is_up_to_the_loader_where_the_mask_lets_it() -> None:
    mask = Attributes(~2 & (1 << 64) - 1, (1 << 64) - 1)
    processor = new_processor()
    assert load(processor, IMAGE, certificate(IMAGE, attributemask=mask), debug=True).identity.attributes.debug
    assert not load(processor, IMAGE, certificate(IMAGE, attributemask=mask)).identity.attributes.debug
    with pytest.raises(SgxError) as refused:
        load(processor, IMAGE, certificate(IMAGE), debug=True)
    assert refused.value.status is Status.SGX_INVALID_ATTRIBUTE


def test_nothing_is_left_of_an_enclave_that_cannot_be_loaded() -> None:
    processor = new_processor()
    wrong = sigstruct_for(bytes(32))
    with pytest.raises(SgxError, match="EINIT failed with SGX_INVALID_MEASUREMENT"):
        load(processor, IMAGE, wrong)
    unreadable = replace(IMAGE, runs=(PageRun(0, 2, RW), PageRun(0x2000, 1, SecInfo(PageFlags.W, PageType.REG))))
    with pytest.raises(Fault):
        load(processor, unreadable, wrong)
    large = replace(IMAGE, size=0x100000, runs=(PageRun(0, 64, RW, measured=()),))
    with pytest.raises(InputError, match="the EPC is full"):
        load(processor, large, wrong)
    assert used(processor) == 0
    assert processor.enclaves == {}


def test_sigstruct_decides_the_attributes() -> None:
    enclave = load(new_processor(), IMAGE, certificate(IMAGE, attributes=Attributes(FLAGS, 7)))
    assert enclave.identity.attributes.xfrm == 7
    assert enclave.thread().xcr0 == 7


def test_a_run_is_added_as_its_pages_would_be_one_by_one() -> None:
    told: list[int] = []
    data = bytes(range(256)) * 32
    runs = (
        PageRun(0x0000, 1, TCS_PAGE, data=THREAD.to_bytes()),
        PageRun(0x1000, 2, REG_RW, measured=(3, 1), data=data),
        PageRun(0x4000, 3, REG_RX, data=b"\x90" * PAGE_SIZE),
        PageRun(0x8000, 2, REG_RW, measured=()),
    )
    image = EnclaveImage(size=0x1_0000, ssaframesize=1, runs=runs)
    system = Os()
    system.create(replace(SECS, baseaddr=0x10_0000))
    for page in image.pages():
        system.add(0x10_0000 + page.offset, page.secinfo, page.data, measure=False)
        for chunk in page.measured:
            eextend(system.processor, system.secs, system.pages[0x10_0000 + page.offset] + chunk * 256)
    processor = new_processor()
    loaded = load(processor, image, sigstruct_for(system.measurement), base=0x10_0000, progress=told.append)
    assert told == [1, 2, 3, 2]
    assert loaded.pages.keys() == system.pages.keys()
    for linear, page_address in loaded.pages.items():
        ours, theirs = processor.epc.entry(page_address), system.processor.epc.entry(system.pages[linear])
        assert replace(ours, secs=None) == replace(theirs, secs=None)
        assert ours.secs == loaded.secs
        assert processor.epc.read(page_address, PAGE_SIZE) == system.processor.epc.read(
            system.pages[linear], PAGE_SIZE
        )


@pytest.mark.parametrize(
    "run",
    [
        PageRun(0x1000, 1, SecInfo(PageFlags.W, PageType.REG)),
        PageRun(0xF000, 2, REG_RW),
    ],
)
def test_a_run_is_refused_as_its_pages_would_be(run: PageRun) -> None:
    processor = new_processor()
    image = EnclaveImage(size=0x1_0000, ssaframesize=1, runs=(run,))
    with pytest.raises(GeneralProtectionFault):
        load(processor, image, sigstruct_for(bytes(32)))
    assert not processor.enclaves
