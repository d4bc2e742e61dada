from __future__ import annotations

from xml.etree import ElementTree

from doubles.sdk_enclave import elf, metadata, note
from sgxkit.enclave.image import ALL_CHUNKS, EnclaveImage, PageRun
from sgxkit.enclave.regions import MAX_ROWS, memory_map, regions
from sgxkit.enclave.sdk_elf import read_sdk_elf
from sgxkit.isa.page import PageFlags, PageType, SecInfo

RW = SecInfo(PageFlags.RW, PageType.REG)


def test_pages_that_are_alike_and_adjacent_are_one_region() -> None:
    runs = (
        PageRun(0, 2, RW),
        PageRun(0x2000, 3, RW, ALL_CHUNKS, b"x" * 4096),
        PageRun(0x5000, 1, RW, ()),
        PageRun(0x8000, 1, RW, (3,)),
    )
    found = regions(EnclaveImage(1 << 20, 1, runs))
    assert [(one.offset, one.pages, one.measured) for one in found] == [
        (0, 5, "all"),
        (0x5000, 1, "none"),
        (0x8000, 1, "part"),
    ]
    assert {one.kind for one in found} == {"REG rw-"}


def test_the_picture_is_xml_and_names_everything() -> None:
    image = read_sdk_elf(elf(note(metadata())))
    picture = memory_map(image.size, regions(image), "<&> title")
    text = [element.text for element in ElementTree.fromstring(picture).iter() if element.text]
    assert "<&> title" in text
    assert {"TCS --- TCS", "REG r-x code", "measured", "not measured", "0x10000"} <= set(text)


def test_the_picture_of_very_many_regions_stays_small() -> None:
    runs = tuple(PageRun(number * 0x2000, 1, RW) for number in range(MAX_ROWS + 50))
    image = EnclaveImage(1 << 30, 1, runs)
    picture = memory_map(image.size, regions(image), "many")
    assert "50 more regions" in picture
    assert len(picture) < 500_000
