from __future__ import annotations

import struct
from hashlib import sha256
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.enclave.image import ALL_CHUNKS, EnclaveImage, Page, PageRun
from sgxkit.enclave.measure import mrenclave
from sgxkit.enclave.sgxs import read_sgxs, write_sgxs
from sgxkit.errors import FormatError, InputError
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo

RW = SecInfo(PageFlags.RW, PageType.REG)
RX = SecInfo(PageFlags.RX, PageType.REG)
TCS = SecInfo(PageFlags(0), PageType.TCS)
CREATE = b"ECREATE\0" + struct.pack("<IQ", 1, 1 << 20) + bytes(44)


def add(offset: int, word: int = 0x203, reserved: bytes = bytes(40)) -> bytes:
    return b"EADD\0\0\0\0" + struct.pack("<QQ", offset, word) + reserved


def extend(offset: int, fill: int = 0x55, tag: bytes = b"EEXTEND\0", reserved: bytes = bytes(48)) -> bytes:
    return tag + struct.pack("<Q", offset) + reserved + bytes([fill]) * 256


def read(data: bytes) -> EnclaveImage:
    return read_sgxs(lambda: BytesIO(data))


def write(image: EnclaveImage, *, enhanced: bool = False) -> bytes:
    file = BytesIO()
    write_sgxs(image, file, enhanced=enhanced)
    return file.getvalue()


def measured_part(page: Page) -> tuple[object, ...]:
    return page.offset, page.secinfo, page.measured, [page.data[c * 256 : c * 256 + 256] for c in page.measured]


@st.composite
def images(draw: st.DrawFn) -> EnclaveImage:
    """Images whose unmeasured contents are zeros, long enough to take every way through the reader."""
    runs = []
    at = 0
    for _ in range(draw(st.integers(0, 6))):
        at += draw(st.integers(0, 2))
        measured = draw(
            st.one_of(
                st.just(ALL_CHUNKS),
                st.just(()),
                st.permutations(ALL_CHUNKS),
                st.lists(st.sampled_from(ALL_CHUNKS), unique=True),
            ).map(tuple)
        )
        count = draw(st.sampled_from((1, 2, 5, 40)))
        data = b""
        if measured == ALL_CHUNKS:
            seed = draw(st.binary(max_size=4))
            data = b"".join(sha256(seed + n.to_bytes(2, "big")).digest() for n in range(count * 128))
        elif measured:
            data = bytearray(PAGE_SIZE)
            for chunk in measured:
                data[chunk * 256] = chunk + 1
            data = bytes(data)
        runs.append(PageRun(at * PAGE_SIZE, count, draw(st.sampled_from((RW, RX, TCS))), measured, data))
        at += count
    return EnclaveImage(1 << 20, 1, tuple(runs))


@settings(deadline=None)
@given(images())
def test_written_and_read_again_it_is_the_same_enclave(image: EnclaveImage) -> None:
    data = write(image)
    assert sha256(data).digest() == mrenclave(image)
    again = read(data)
    assert (again.size, again.ssaframesize) == (image.size, image.ssaframesize)
    assert [measured_part(page) for page in again.pages()] == [measured_part(page) for page in image.pages()]
    assert mrenclave(again) == mrenclave(image)
    assert write(again) == data


@settings(deadline=None)
@given(images(), st.data())
def test_changed_files_are_refused_or_are_other_enclaves(image: EnclaveImage, draw: st.DataObject) -> None:
    data = bytearray(write(image))
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] ^= draw.draw(st.integers(1, 255))
    try:
        again = read(bytes(data))
        written = write(again, enhanced=True)
    except FormatError as refused:
        error = refused
    else:
        assert written == bytes(data)
        return
    assert error.offset is not None


@settings(deadline=None)
@given(images(), st.data())
def test_a_file_cut_short_is_refused_or_ends_between_records(image: EnclaveImage, draw: st.DataObject) -> None:
    data = write(image)
    cut = data[: draw.draw(st.integers(0, len(data)))]
    try:
        written = write(read(cut))
    except FormatError:
        return
    assert written == cut


@given(st.binary(max_size=700))
def test_any_bytes_after_the_first_record_read_or_are_refused(data: bytes) -> None:
    try:
        assert write(read(CREATE + data), enhanced=True) == CREATE + data
    except FormatError as error:
        assert error.offset is not None  # noqa: PT017 - the alternative is stated above


def test_contents_that_are_not_measured_need_esgxs() -> None:
    page = bytes(range(256)) * 16
    image = EnclaveImage(1 << 20, 1, (PageRun(0, 2, RW, (0, 3), page), PageRun(0x2000, 1, RW, (), page)))
    with pytest.raises(InputError, match="not measured") as caught:
        write(image)
    assert "ESGXS" in str(caught.value.hint)
    again = read(write(image, enhanced=True))
    assert list(again.pages()) == list(image.pages())
    assert mrenclave(again) == mrenclave(image)


def test_pages_in_another_order_are_not_sgxs() -> None:
    image = EnclaveImage(1 << 20, 1, (PageRun(0x2000, 1, RW), PageRun(0, 1, RW)))
    with pytest.raises(InputError, match="0x0 is not added in rising order"):
        write(image)


def test_runs_of_only_added_pages_stay_runs() -> None:
    image = EnclaveImage(1 << 36, 1, (PageRun(0, 100_000, RW, ()),))
    runs = list(read(write(image)).runs)
    assert sum(run.count for run in runs) == 100_000
    assert len(runs) < 20


CASES = {
    "nothing": (b"", "ECREATE", 0, "ends within"),
    "no size yet": (b"UNSIZED\0" + CREATE[8:], "UNSIZED", 0, "no size yet"),
    "not begun": (add(0), "ECREATE", 0, "begins with"),
    "reserved in ECREATE": (CREATE[:-1] + b"x", "ECREATE", 20, "reserved"),
    "size": (b"ECREATE\0" + struct.pack("<IQ", 1, 3 << 12) + bytes(44), "ECREATE", 8, "power of two"),
    "created twice": (CREATE * 2, "EADD", 64, "another record"),
    "chunk before any page": (CREATE + extend(0), "EADD", 64, "another record"),
    "not a page": (CREATE + add(0x800), "EADD", 64, "0x800 is not the offset of a page"),
    "falling": (CREATE + add(0x2000) + add(0x1000), "EADD", 128, "0x1000 is not after"),
    "twice": (CREATE + add(0x2000) + add(0x2000), "EADD", 128, "0x2000 is not after"),
    "outside": (CREATE + add(1 << 20), "EADD", 64, "outside"),
    "run to the outside": (CREATE + b"".join(add(n << 12) for n in range(250, 260)), "EADD", 64 + 6 * 64, "outside"),
    "TCS with permissions": (CREATE + add(0, 0x103), "EADD", 80, "TCS"),
    "reserved flag": (CREATE + add(0, 0x10203), "EADD.FLAGS", 80, "reserved"),
    "reserved in EADD": (CREATE + add(0, reserved=bytes(39) + b"x"), "EADD", 128 - 48, "reserved"),
    "chunk of another page": (CREATE + add(0) + extend(0x1000), "EEXTEND", 128, "not a chunk"),
    "chunk before its page": (CREATE + add(0x1000) + extend(0xF00), "EEXTEND", 128, "not a chunk"),
    "half a chunk": (CREATE + add(0) + extend(0x80), "EEXTEND", 128, "not a chunk"),
    "chunk twice": (CREATE + add(0) + extend(0) + extend(0), "EEXTEND", 128 + 320, "comes twice"),
    "both kinds of one chunk": (
        CREATE + add(0) + extend(0) + extend(0, tag=b"UNMEASRD"),
        "UNMEASRD",
        128 + 320,
        "comes twice",
    ),
    "17th chunk": (
        CREATE + add(0) + b"".join(extend(n * 256) for n in range(16)) + extend(0),
        "EADD",
        64 + 5184,
        "another record",
    ),
    "reserved in EEXTEND": (CREATE + add(0) + extend(0, reserved=b"x" + bytes(47)), "EEXTEND", 144, "reserved"),
    "cut record": (CREATE + add(0)[:-1], "EADD", 64, "ends within"),
    "cut chunk": (CREATE + add(0) + extend(0)[:-1], "EEXTEND", 128, "ends within"),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_what_is_not_canonical_is_refused_where_it_stands(case: str) -> None:
    data, field, offset, words = CASES[case]
    with pytest.raises(FormatError, match=words) as caught:
        list(read(data).runs)
    assert caught.value.field.startswith(field)
    assert caught.value.offset is not None
    assert offset <= caught.value.offset < offset + 64
