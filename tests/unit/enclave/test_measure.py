from __future__ import annotations

import struct
import sys
import tracemalloc
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.enclave import measure
from sgxkit.enclave.image import ALL_CHUNKS, EnclaveImage, PageRun, add_problem, create_problem
from sgxkit.enclave.measure import mrenclave
from sgxkit.errors import InputError
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo

RW = SecInfo(PageFlags.RW, PageType.REG)
RX = SecInfo(PageFlags.RX, PageType.REG)
TCS = SecInfo(PageFlags(0), PageType.TCS)


def by_the_manual(image: EnclaveImage) -> bytes:
    """One leaf function after the other, as chapter 39 has them."""
    digest = sha256(b"ECREATE\0" + struct.pack("<IQ", image.ssaframesize, image.size) + bytes(44))
    for page in image.pages():
        digest.update(b"EADD\0\0\0\0" + struct.pack("<Q", page.offset) + page.secinfo.to_bytes()[:48])
        for chunk in page.measured:
            at = chunk * 256
            digest.update(b"EEXTEND\0" + struct.pack("<Q", page.offset + at) + bytes(48) + page.data[at : at + 256])
    return digest.digest()


chunk_lists = st.one_of(
    st.just(ALL_CHUNKS), st.just(()), st.lists(st.sampled_from(ALL_CHUNKS), unique=True).map(tuple)
)


@st.composite
def runs(draw: st.DrawFn) -> tuple[PageRun, ...]:
    """Runs one after the other, with holes, with and without contents."""
    found = []
    at = 0
    for _ in range(draw(st.integers(0, 5))):
        at += draw(st.integers(0, 3))
        count = draw(st.integers(1, 70))
        contents = draw(st.sampled_from(("zeros", "alike", "own")))
        seed = draw(st.binary(min_size=1, max_size=8))
        size = {"zeros": 0, "alike": PAGE_SIZE, "own": count * PAGE_SIZE}[contents]
        data = b"".join(sha256(seed + bytes([n // 128 % 256, n % 256])).digest() for n in range(size // 32))
        found.append(PageRun(at * PAGE_SIZE, count, draw(st.sampled_from((RW, RX, TCS))), draw(chunk_lists), data))
        at += count
    return tuple(found)


@given(runs(), st.integers(1, 4))
def test_measures_as_the_manual_says(made: tuple[PageRun, ...], ssaframesize: int) -> None:
    image = EnclaveImage(1 << 21, ssaframesize, made)
    assert mrenclave(image) == by_the_manual(image)


@pytest.mark.parametrize(
    ("count", "chunks", "data"),
    [
        (900, ALL_CHUNKS, b"".join(bytes([number % 251]) * PAGE_SIZE for number in range(900))),
        (900, (5, 1), b"".join(bytes([number % 251]) * PAGE_SIZE for number in range(900))),
        (900, ALL_CHUNKS, sha256(b"page").digest() * 128),
        (900, ALL_CHUNKS, b""),
        (50_000, (), b""),
    ],
    ids=["own contents", "some chunks", "alike", "zeros", "only added"],
)
def test_runs_of_several_pieces(count: int, chunks: tuple[int, ...], data: bytes) -> None:
    image = EnclaveImage(1 << 40, 1, (PageRun(1 << 33, count, RW, chunks, data), PageRun(1 << 34, 1, RW)))
    assert mrenclave(image) == by_the_manual(image)


def test_an_enclave_without_pages() -> None:
    assert (
        mrenclave(EnclaveImage(8192, 1, ())).hex()
        == sha256(bytes.fromhex("4543524541544500 01000000 0020000000000000") + bytes(44)).hexdigest()
    )


def test_a_run_is_measured_like_its_pages() -> None:
    together = EnclaveImage(1 << 20, 1, (PageRun(4096, 100, RW),))
    alone = EnclaveImage(1 << 20, 1, tuple(PageRun(page.offset, 1, RW) for page in together.pages()))
    assert mrenclave(together) == mrenclave(alone)


def test_memory_does_not_grow_with_the_enclave() -> None:
    def peak(pages: int) -> int:
        tracemalloc.start()
        mrenclave(EnclaveImage(1 << 36, 1, (PageRun(0, pages, RW, ()),)))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    small = peak(1 << 16)
    assert peak(1 << 19) < small + (1 << 18)
    assert small < 8 << 20


def test_without_numpy_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(InputError, match="NumPy") as caught:
        mrenclave(EnclaveImage(8192, 1, (PageRun(0, 1, RW),)))
    assert "sgxkit[emulator]" in str(caught.value.hint)


def test_pages_are_counted() -> None:
    assert measure.measured_pages((PageRun(0, 3, RW), PageRun(0x3000, 5, RW, ()), PageRun(0x8000, 1, RW, (2,)))) == (
        9,
        4,
    )


@pytest.mark.parametrize(
    ("size", "ssaframesize", "fine"),
    [(8192, 1, True), (1 << 36, 4, True), (4096, 1, False), (0, 1, False), (12288, 1, False), (8192, 0, False)],
)
def test_what_ecreate_takes(size: int, ssaframesize: int, fine: bool) -> None:
    assert (create_problem(size, ssaframesize) is None) is fine


@pytest.mark.parametrize(
    ("flags", "page_type", "fine"),
    [
        (PageFlags.RWX, PageType.REG, True),
        (PageFlags(0), PageType.TCS, True),
        (PageFlags(0), PageType.REG, True),
        (PageFlags.RW, PageType.SS_FIRST, True),
        (PageFlags.R, PageType.TCS, False),
        (PageFlags.W, PageType.REG, False),
        (PageFlags.R | PageFlags.PENDING, PageType.REG, False),
        (PageFlags.R, PageType.SECS, False),
        (PageFlags.R, PageType.VA, False),
        (PageFlags.R, 77, False),
    ],
)
def test_what_eadd_takes(flags: PageFlags, page_type: int, fine: bool) -> None:
    assert (add_problem(SecInfo(flags, page_type)) is None) is fine
