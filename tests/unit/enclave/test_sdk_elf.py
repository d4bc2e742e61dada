from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles import sdk_enclave as made
from doubles.sdk_enclave import CODE, DATA, blank_sigstruct, elf, entry, group, metadata, note
from sgxkit.enclave.elf import parse_elf
from sgxkit.enclave.image import ALL_CHUNKS, PageRun
from sgxkit.enclave.measure import mrenclave
from sgxkit.enclave.sdk_elf import read_sdk_elf
from sgxkit.enclave.sdk_metadata import parse_metadata
from sgxkit.errors import FormatError
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo

R = SecInfo(PageFlags.R, PageType.REG)
RW = SecInfo(PageFlags.RW, PageType.REG)
RX = SecInfo(PageFlags.RX, PageType.REG)
TCS = SecInfo(PageFlags(0), PageType.TCS)
SIMPLE = elf(note(metadata()))


def page(content: bytes, before: int = 0) -> bytes:
    return (bytes(before) + content).ljust(PAGE_SIZE, b"\0")


def tcs(at: int) -> bytes:
    template = bytearray(page(made.tcs_template()))
    for field, value in ((16, 0x1000), (48, 0x4000), (56, 0x5000)):
        template[field : field + 8] = (value + at).to_bytes(8, "little")
    return bytes(template)


def thread(at: int) -> list[PageRun]:
    return [
        PageRun(at, 2, RW, ALL_CHUNKS, b"\xcc" * PAGE_SIZE),
        PageRun(at + 0x2000, 1, TCS, ALL_CHUNKS, tcs(at + 0x2000)),
        PageRun(at + 0x3000, 2, RW),
    ]


EXPECTED = [
    PageRun(0x1000, 1, RX, ALL_CHUNKS, page(CODE)),
    PageRun(0x3000, 1, RW, ALL_CHUNKS, page(DATA, 0x10)),
    PageRun(0x4000, 2, RW),
    PageRun(0x10000, 4, RW, ()),
    *thread(0x15000),
    *thread(0x1B000),
    *thread(0x21000),
]


def test_pages_are_laid_out_as_the_loader_does() -> None:
    image = read_sdk_elf(SIMPLE)
    assert (image.size, image.ssaframesize) == (1 << 20, 1)
    assert list(image.runs) == EXPECTED
    assert {run.name for run in image.runs} == {"code", "data", "heap (min)", "stack (min)", "TCS", "SSA"}
    assert image.sigstruct == blank_sigstruct()


def test_the_file_is_patched_first() -> None:
    at = parse_elf(SIMPLE).segments[0].offset
    image = read_sdk_elf(elf(note(metadata(patches=((at + 2, b"PATCH"),)))))
    assert next(iter(image.runs)).data == page(CODE[:2] + b"PATCH" + CODE[7:])


def relocations(*addresses: int, kind: int = 8) -> bytes:
    return b"".join(struct.pack("<QQq", address, kind, 0) for address in addresses)


def secinfos(image_of: bytes) -> dict[int, SecInfo]:
    return {one.offset: one.secinfo for one in read_sdk_elf(image_of).pages() if one.offset < 0x10000}


def test_pages_with_text_relocations_become_writable() -> None:
    table = relocations(0x1008)
    tags = ((7, 0x500), (8, len(table)))
    assert secinfos(elf(note(metadata()), dynamic=tags, relocations=table))[0x1000] == RX
    marked = elf(note(metadata()), dynamic=(*tags, (22, 0)), relocations=table)
    assert secinfos(marked)[0x1000] == SecInfo(PageFlags.RWX, PageType.REG)
    none = relocations(0x1008, kind=0)
    assert secinfos(elf(note(metadata()), dynamic=(*tags, (22, 0)), relocations=none))[0x1000] == RX


def test_a_relocation_over_the_end_of_a_page_reaches_the_next() -> None:
    table = relocations(0xFFC)
    marked = elf(note(metadata()), dynamic=((7, 0x500), (8, len(table)), (22, 0)), relocations=table)
    assert secinfos(marked)[0x1000].flags == PageFlags.RWX


def test_the_platform_decides_which_metadata_is_used() -> None:
    both = elf(note(metadata(version=(3, 3), size=1 << 21), metadata(version=(2, 3), size=1 << 22), metadata()))
    assert read_sdk_elf(both).size == 1 << 21
    assert read_sdk_elf(both, edmm=False).size == 1 << 20
    with pytest.raises(FormatError, match="none for this kind of platform"):
        read_sdk_elf(elf(note(metadata(version=(3, 3)))), edmm=False)


def test_an_enclave_with_a_range_of_its_own() -> None:
    image = read_sdk_elf(elf(note(metadata(version=(13, 3), elrange=(0x300000, 0x200000, 0x200000)))))
    assert image.size == 0x200000
    assert [run.offset for run in image.runs] == [run.offset + 0x100000 for run in EXPECTED]


def test_sdk_1_5_adds_a_page_where_sizes_are_rounded_first() -> None:
    # The data ends at 0x5010: rounding its 0x2000 bytes first gives 0x5010 too, so no page is added there.
    assert mrenclave(read_sdk_elf(elf(note(metadata(version=(1, 3)))))) == mrenclave(read_sdk_elf(SIMPLE))
    grown = bytearray(elf(note(metadata(version=(1, 3)))))
    at = 64 + 56 + 40
    assert struct.unpack_from("<Q", grown, at) == (0x2000,)
    struct.pack_into("<Q", grown, at, 0x1FF0 - 0x10)
    assert PageRun(0x5000, 1, RW) in list(read_sdk_elf(bytes(grown)).runs)


REFUSED = {
    "no ELF": (b"MZ" + bytes(100), "e_ident"),
    "short": (b"\x7fELF", "ELF header"),
    "not signed": (elf(note(bytes(3000))), "metadata"),
    "note of another name": (elf(note(metadata()).replace(b"sgx_metadata", b"sgx_methdata")), ".note.sgxmeta"),
    "two things at one place": (elf(note(metadata(layout=entry(1, 1, 1, 0x1000)))), "layout"),
    "outside": (elf(note(metadata(layout=entry(1, 1, 2, 0xFF000)))), "layout entry"),
    "not aligned": (elf(note(metadata(layout=entry(1, 1, 1, 0x8010)))), "layout entry"),
    "endless group": (elf(note(metadata(layout=entry(1, 0, 1, 0x8000) + group(1, 2**32 - 1, 0)))), "layout group"),
    "very many threads": (elf(note(metadata(layout=entry(1, 1, 1, 0x8000) + group(1, 1 << 17, 0)))), "layout group"),
    "contents again and again": (
        elf(note(metadata(layout=entry(1, 1, 1, 0x8000, (1000, 64)) + group(1, 1 << 17, 0)))),
        "layout group",
    ),
    "metadata that names much again and again": (
        elf(note(metadata(layout=entry(1, 1, 1, 0x8000, (2000, 64)) * 10_000))),
        "metadata.layout entry",
    ),
    "very many versions": (elf(note(*[metadata()] * 17)), "metadata"),
    "very large metadata": (
        elf(note(metadata(patches=((0x40, bytes(1 << 20)),)))),
        "metadata.size",
    ),
    "group out of the enclave": (
        elf(note(metadata(layout=entry(1, 1, 1, 0x8000) + group(1, 2, 1 << 19)))),
        "layout entry",
    ),
    "group of nothing": (elf(note(metadata(layout=group(1, 1, 4096)))), "metadata.layout group"),
    "reserved flag": (
        elf(note(metadata(layout=entry(1, 1, 1, 0x8000, flags=0x10203)))),
        "layout entry.si_flags.FLAGS",
    ),
    "content that is not there": (
        elf(note(metadata(layout=entry(1, 1, 1, 0x8000, (5000, 0x7FFF0000))))),
        "metadata.layout entry",
    ),
    "patch outside the file": (elf(note(metadata(patches=((1 << 40, b"x"),)))), "patch"),
    "size": (elf(note(metadata(size=0x300000))), "metadata.enclave_size"),
    "range": (elf(note(metadata(version=(11, 4), elrange=(0, 0x200000, 0x200000)))), "metadata.ELRANGE"),
    "no range": (elf(note(metadata(version=(11, 4)))), "metadata.ELRANGE"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_cannot_be_loaded_is_refused(case: str) -> None:
    data, field = REFUSED[case]
    with pytest.raises(FormatError) as caught:
        read_sdk_elf(data)
    assert caught.value.field == field


def test_segments_that_name_the_same_bytes_again_are_refused() -> None:
    data = bytearray(SIMPLE)
    for header in (64, 64 + 56):
        struct.pack_into("<Q", data, header + 8, 0)
        struct.pack_into("<QQ", data, header + 32, len(data), len(data))
    with pytest.raises(FormatError, match="more bytes than the file"):
        read_sdk_elf(bytes(data))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(SIMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_files_raise_nothing_but_format_errors(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SIMPLE)
    for at, value in changes:
        data[at] = value
    try:
        image = read_sdk_elf(bytes(data))
    except FormatError:
        return
    assert all(run.end <= image.size for run in image.runs)


@given(st.integers(0, len(SIMPLE) - 1))
def test_files_cut_short_raise_format_errors(length: int) -> None:
    with pytest.raises(FormatError):
        read_sdk_elf(SIMPLE[:length])


SOURCE = """
__attribute__((section(".note.sgxmeta"), used, aligned(4))) static const char space[8192] = {1};
static const char text[] = "read only";
static int numbers[5000];
const char *pointer = text;
int enclave_entry(int n) { return numbers[n]++ + text[n]; }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not here")
def test_a_shared_object_made_by_gcc_becomes_pages(tmp_path: Path) -> None:
    (tmp_path / "e.c").write_text(SOURCE)
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-Wl,-z,noexecstack", "-o", "e.so", "e.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    data = bytearray((tmp_path / "e.so").read_bytes())
    section = next(one for one in parse_elf(bytes(data)).sections if one.name == b".note.sgxmeta")
    content = note(metadata())
    data[section.offset : section.offset + len(content)] = content
    image = read_sdk_elf(bytes(data))
    pages = {one.offset: one for one in image.pages()}
    for segment in parse_elf(bytes(data)).segments:
        if segment.type != 1:
            continue
        loaded = b"".join(
            pages[at].data for at in range(segment.vaddr & ~0xFFF, segment.vaddr + segment.memsz, PAGE_SIZE)
        )
        inside = loaded[segment.vaddr & 0xFFF :]
        assert inside.startswith(data[segment.offset : segment.offset + segment.filesz])
        assert not any(inside[segment.filesz :])
    assert parse_metadata(parse_elf(bytes(data)))[0].version == (1, 4)
    assert {one.secinfo.flags for one in pages.values()} >= {PageFlags.RX, PageFlags.RW, PageFlags(0)}
