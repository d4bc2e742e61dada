from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.enclave.difference import Difference, first_difference
from sgxkit.enclave.image import ALL_CHUNKS, EnclaveImage, PageRun
from sgxkit.enclave.measure import mrenclave
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo

RW = SecInfo(PageFlags.RW, PageType.REG)
RX = SecInfo(PageFlags.RX, PageType.REG)
CODE = bytes(range(256)) * 16
BASE = EnclaveImage(
    1 << 20, 1, (PageRun(0, 2, RX, ALL_CHUNKS, CODE * 2, "code"), PageRun(0x4000, 10, RW, (), name="heap"))
)


def changed(number: int, **fields: object) -> EnclaveImage:
    runs = list(BASE.runs)
    runs[number] = replace(runs[number], **fields)  # type: ignore[arg-type]
    return replace(BASE, runs=tuple(runs))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (replace(BASE, size=1 << 21), Difference("size", None, "0x100000", "0x200000")),
        (replace(BASE, ssaframesize=2), Difference("ssaframesize", None, "1", "2")),
        (changed(0, secinfo=RW), Difference("secinfo", 0, "0x205", "0x203", "code")),
        (changed(1, measured=(0, 2)), Difference("measured chunks", 0x4000, "none", "0 2", "heap")),
        (changed(1, offset=0x5000), Difference("page", 0x4000, "0x203", None, "heap")),
        (changed(1, count=9), Difference("page", 0xD000, "0x203", None, "heap")),
        (changed(1, count=11), Difference("page", 0xE000, None, "0x203", "heap")),
        (
            changed(0, data=CODE + CODE[:300] + b"\xff" + CODE[301:]),
            Difference("contents", 0x112C, CODE[44:60].hex(), "ff" + CODE[45:60].hex(), "code"),
        ),
        (changed(0, data=b""), Difference("contents", 1, CODE[1:17].hex(), "00" * 16, "code")),
    ],
)
def test_the_first_difference_is_named(other: EnclaveImage, expected: Difference) -> None:
    assert first_difference(BASE, other) == expected
    assert mrenclave(BASE) != mrenclave(other)


def test_what_is_not_measured_makes_no_difference() -> None:
    other = changed(1, data=CODE)
    assert first_difference(BASE, other) is None
    assert mrenclave(BASE) == mrenclave(other)


def test_how_pages_are_grouped_makes_no_difference() -> None:
    alone = tuple(PageRun(page.offset, 1, page.secinfo, page.measured, page.data) for page in BASE.pages())
    assert first_difference(BASE, replace(BASE, runs=alone)) is None
    assert first_difference(replace(BASE, runs=alone), BASE) is None


pages = st.builds(
    PageRun,
    offset=st.sampled_from((0, PAGE_SIZE, 2 * PAGE_SIZE)),
    count=st.integers(1, 3),
    secinfo=st.sampled_from((RW, RX)),
    measured=st.sampled_from((ALL_CHUNKS, (), (1, 0), (0, 1))),
    data=st.sampled_from((b"", bytes(PAGE_SIZE), CODE, bytes(256) + CODE[256:])),
)
some_images = st.builds(EnclaveImage, st.just(1 << 20), st.just(1), st.lists(pages, max_size=3).map(tuple))


@given(some_images, some_images)
def test_there_is_a_difference_exactly_when_the_measurements_differ(one: EnclaveImage, other: EnclaveImage) -> None:
    assert (first_difference(one, other) is None) == (mrenclave(one) == mrenclave(other))
