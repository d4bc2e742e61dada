"""Signed enclaves of Intel's SDK (``enclave.signed.so``): laid out as its loader does (psw/urts/loader.cpp).

The file is patched, its segments become pages, then the layout table adds heap, threads and the rest. All pages of
segments are measured. A page of a segment that cannot be written becomes writable where relocations change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

from sgxkit.enclave import elf as elf_format
from sgxkit.enclave.elf import Elf, Segment, parse_elf, relocated_addresses
from sgxkit.enclave.image import ALL_CHUNKS, EnclaveImage, PageRun, add_problem
from sgxkit.enclave.sdk_metadata import (
    VERSION_1_5,
    LayoutEntry,
    LayoutGroup,
    Metadata,
    PageAttributes,
    parse_metadata,
)
from sgxkit.errors import FormatError
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo
from sgxkit.messages import msg

MAX_FILE_SIZE = 1 << 30
_MAX_RUNS = 1 << 16
_MAX_REPEATED = 1 << 26
_WORD = 8
# Offsets in a TCS that are relative to the TCS in the template: OSSA, OFSBASE, OGSBASE (Intel SDM Vol. 3D, 35.8).
_TCS_RELATIVE = (16, 48, 56)


def read_sdk_elf(data: bytes, *, edmm: bool = True) -> EnclaveImage:
    """Lay out a signed enclave of Intel's SDK as on a platform with EDMM (SGX2), or without.

    Raises FormatError where the file is malformed, not signed, or names what cannot be loaded.
    """
    if len(data) > MAX_FILE_SIZE:
        raise FormatError("file", msg("{size} bytes, at most {limit} are read", size=len(data), limit=MAX_FILE_SIZE))
    elf = parse_elf(data)
    metadata = choose_metadata(parse_metadata(elf), edmm=edmm)
    runs = [*_segment_runs(elf, metadata), *_layout_runs(metadata)]
    _require_apart(runs, metadata.enclave_size)
    size = metadata.enclave_size
    if metadata.elrange is not None:
        shift = metadata.elrange.image_address - metadata.elrange.start
        size = metadata.elrange.size
        runs = [_moved(run, shift) for run in runs]
    return EnclaveImage(
        size, metadata.ssa_frame_size, tuple(runs), metadata.attributes, metadata.miscselect, metadata.sigstruct
    )


def choose_metadata(versions: Iterable[Metadata], *, edmm: bool) -> Metadata:
    """Choose as the loader does: the highest version that the platform can use, 2.x never."""
    usable = [metadata for metadata in versions if metadata.generation in ((1, 3) if edmm else (1,))]
    if not usable:
        raise FormatError("metadata", msg("the enclave has none for this kind of platform"))
    return max(usable, key=lambda metadata: metadata.version)


def _segment_runs(elf: Elf, metadata: Metadata) -> Iterator[PageRun]:
    content = bytearray(elf.data)
    for patch in metadata.patches:
        if patch.offset + len(patch.content) > len(content):
            raise FormatError("patch", msg("{offset} is not in the file", offset=hex(patch.offset)))
        content[patch.offset : patch.offset + len(patch.content)] = patch.content
    patched = memoryview(content)
    relocated = frozenset(_relocated_pages(elf))
    loads = [segment for segment in elf.segments if segment.type == elf_format.PT_LOAD]
    if sum(segment.filesz for segment in loads) > len(content):
        raise FormatError("program header", msg("the segments name more bytes than the file has"))
    last: Segment | None = None
    highest = 0
    for segment in loads:
        if segment.vaddr + segment.memsz > metadata.enclave_size:
            raise FormatError(
                "program header", msg("the segment at {at} is outside the enclave", at=hex(segment.vaddr))
            )
        if metadata.version == VERSION_1_5 and last is not None and _page(_end(last)) < segment.vaddr // PAGE_SIZE:
            yield from _extra_page(last)
        if segment.vaddr > highest:
            highest, last = segment.vaddr, segment
        raw = bytes(patched[segment.offset : segment.offset + segment.filesz])
        yield from _region(
            raw, segment.vaddr, segment.memsz, _secinfo(segment), name=_name(segment), relocated=relocated
        )
    if metadata.version == VERSION_1_5 and last is not None:
        yield from _extra_page(last)


def _relocated_pages(elf: Elf) -> Iterator[int]:
    """The numbers of pages with relocations, where the file says that also its code has some."""
    if elf_format.DT_TEXTREL not in elf.dynamic:
        return
    for address in relocated_addresses(elf):
        yield address // PAGE_SIZE
        if address % PAGE_SIZE > PAGE_SIZE - _WORD:
            yield address // PAGE_SIZE + 1


def _end(segment: Segment) -> int:
    return segment.vaddr + segment.memsz


def _page(address: int) -> int:
    """The number of the first page from `address` on."""
    return -(-address // PAGE_SIZE)


def _extra_page(segment: Segment) -> Iterator[PageRun]:
    """Enclaves of SDK 1.5 have one page more where a segment's size, rounded first, reaches over another page."""
    if _page(_end(segment)) < _page(_page(segment.memsz) * PAGE_SIZE + segment.vaddr):
        yield PageRun(_page(_end(segment)) * PAGE_SIZE, 1, _secinfo(segment), name=_name(segment))


def _secinfo(segment: Segment) -> SecInfo:
    flags = PageFlags(0)
    for bit, flag in ((elf_format.PF_R, PageFlags.R), (elf_format.PF_W, PageFlags.W), (elf_format.PF_X, PageFlags.X)):
        if segment.flags & bit:
            flags |= flag
    return SecInfo(flags, PageType.REG)


def _name(segment: Segment) -> str:
    if segment.flags & elf_format.PF_X:
        return "code"
    return "data" if segment.flags & elf_format.PF_W else "read-only data"


def _region(
    raw: bytes, rva: int, size: int, secinfo: SecInfo, *, name: str, relocated: frozenset[int] = frozenset()
) -> Iterator[PageRun]:
    """Pages that begin with `raw` at `rva`, zeros around it, and go on with zeros up to `size`; all are measured."""
    if problem := add_problem(secinfo):
        raise FormatError(name, problem)
    first = rva // PAGE_SIZE
    filled = _page(rva + len(raw)) - first if raw else 0
    content = (bytes(rva % PAGE_SIZE) + raw).ljust(filled * PAGE_SIZE, b"\0") if raw else b""
    writable = SecInfo(secinfo.flags | PageFlags.W, secinfo.page_type)
    for changed, numbers in groupby(range(filled), lambda number: first + number in relocated):
        here = list(numbers)
        data = content[here[0] * PAGE_SIZE : (here[-1] + 1) * PAGE_SIZE]
        yield PageRun(
            (first + here[0]) * PAGE_SIZE, len(here), writable if changed else secinfo, ALL_CHUNKS, data, name
        )
    begin = first + filled
    end = _page(rva + size)
    if end > begin:
        yield PageRun(begin * PAGE_SIZE, end - begin, secinfo, name=name)


def _layout_runs(metadata: Metadata) -> Iterator[PageRun]:
    made = 0
    for index, entry in enumerate(metadata.layout):
        if isinstance(entry, LayoutEntry):
            yield from _entry_runs(entry, 0, metadata.enclave_size)
            continue
        repeated = metadata.layout[index - entry.entry_count : index]
        made += _require_sane(entry, repeated, metadata.enclave_size)
        if made > _MAX_RUNS:
            raise FormatError(
                "layout group", msg("{count} of them, at most {limit} are read", count=made, limit=_MAX_RUNS)
            )
        for time in range(1, entry.load_times + 1):
            for again in repeated:
                if isinstance(again, LayoutEntry):
                    yield from _entry_runs(again, time * entry.load_step, metadata.enclave_size)


def _require_sane(group: LayoutGroup, repeated: tuple[LayoutEntry | LayoutGroup, ...], enclave_size: int) -> int:
    """Refuse a group that leaves the enclave or becomes very large; return how many entries it makes."""
    if group.load_times * group.load_step > enclave_size:
        raise FormatError("layout group", msg("it reaches outside the enclave"))
    content = sum(len(entry.content or b"") for entry in repeated if isinstance(entry, LayoutEntry))
    if group.load_times * content > _MAX_REPEATED:
        problem = msg("{size} bytes, at most {limit} are read", size=group.load_times * content, limit=_MAX_REPEATED)
        raise FormatError("layout group", problem)
    return group.load_times * max(1, group.entry_count)


def _entry_runs(entry: LayoutEntry, delta: int, enclave_size: int) -> Iterator[PageRun]:
    rva = entry.rva + delta
    size = entry.page_count * PAGE_SIZE
    if rva % PAGE_SIZE or rva + size > enclave_size:
        raise FormatError(
            "layout entry", msg("the pages at {at} are outside the enclave, or not aligned", at=hex(rva))
        )
    if PageAttributes.EADD not in entry.attributes or not entry.page_count:
        return
    if not entry.si_flags and entry.content is None:
        return
    secinfo = SecInfo.from_bytes(entry.si_flags.to_bytes(64, "little"), field="layout entry.si_flags")
    if entry.content is not None and secinfo.page_type != PageType.TCS:
        if len(entry.content) > size:
            raise FormatError("layout entry", msg("the contents are larger than the pages"))
        yield from _region(entry.content, rva, size, secinfo, name=entry.name)
        return
    if problem := add_problem(secinfo):
        raise FormatError("layout entry.si_flags", problem)
    if entry.content is not None:
        data = _tcs(entry.content, rva)
    else:
        data = entry.fill.to_bytes(4, "little") * (PAGE_SIZE // 4) if entry.fill else b""
    measured = ALL_CHUNKS if PageAttributes.EEXTEND in entry.attributes else ()
    yield PageRun(rva, entry.page_count, secinfo, measured, data, entry.name)


def _tcs(template: bytes, rva: int) -> bytes:
    """A TCS from its template, whose addresses count from the TCS itself."""
    if len(template) > PAGE_SIZE:
        raise FormatError("layout entry", msg("the contents are larger than the pages"))
    page = bytearray(template.ljust(PAGE_SIZE, b"\0"))
    for at in _TCS_RELATIVE:
        value = int.from_bytes(page[at : at + 8], "little") + rva
        page[at : at + 8] = (value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")
    return bytes(page)


def _require_apart(runs: list[PageRun], enclave_size: int) -> None:
    ordered = sorted(runs, key=lambda run: run.offset)
    for before, after in pairwise(ordered):
        if before.end > after.offset:
            raise FormatError("layout", msg("two things are at {offset}", offset=hex(after.offset)))
    if ordered and ordered[-1].end > enclave_size:
        raise FormatError(
            "layout", msg("the page at {offset} is outside the enclave", offset=hex(ordered[-1].offset))
        )


def _moved(run: PageRun, shift: int) -> PageRun:
    return PageRun(run.offset + shift, run.count, run.secinfo, run.measured, run.data, run.name)
