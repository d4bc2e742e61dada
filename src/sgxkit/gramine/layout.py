"""An enclave as Gramine lays it out: which pages are added where, with what in them (PAL and signer of 1.5 to 1.9).

Addresses are offsets from the enclave's base, which is 0. From the top down lie the manifest, the SSA frames, the
TCS, a page of thread-local storage for each thread, the stacks, the signal stacks and the PAL; what is below is heap.
The order of EADD is the same, and the heap comes last, lowest page first; with EDMM it is not added at all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sgxkit.enclave.elf import PF_R, PF_W, PF_X, PT_LOAD, Elf, Segment, parse_elf
from sgxkit.enclave.image import EnclaveImage, PageRun
from sgxkit.errors import FormatError, InputError
from sgxkit.gramine.sizes import size_for_both, written
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo
from sgxkit.isa.tcs import Tcs
from sgxkit.messages import msg

MAX_LIBPAL_SIZE = 64 << 20

SSA_FRAMES = 2
SSA_FRAME_PAGES = 4
STACK_PAGES = 64
SIGNAL_STACK_PAGES = 16
PAGES_OF_A_THREAD = SSA_FRAMES * SSA_FRAME_PAGES + 1 + 1 + STACK_PAGES + SIGNAL_STACK_PAGES

HEAP_BEGIN = 0x10000
"""vm.mmap_min_addr of Linux: no mapping can lie below it."""

GPRSGX_SIZE = 184
_CANARY = 0xBADBADBADBAD
_LIMIT = 0xFFF

_READ = SecInfo(PageFlags.R, PageType.REG)
_READ_WRITE = SecInfo(PageFlags.RW, PageType.REG)
_HEAP = SecInfo(PageFlags.RWX, PageType.REG)
_ENTRY = SecInfo(PageFlags(0), PageType.TCS)

# struct pal_enclave_tcb: self 0, canary 8 | enclave_size 272, tcs_offset, initial_stack_addr 288 | sig_stack_low 304,
# sig_stack_high 312 | ssa 328, gpr 336 | manifest_size 416, heap_min, heap_max 432
_TLS_PAGE = struct.Struct("<QQ256xQQQ8xQQ8xQQ72xQQQ")


@dataclass(frozen=True, slots=True)
class EnclaveSettings:
    """What of a manifest shapes the enclave: SECS.SIZE in bytes, the number of TCS, whether the heap is added."""

    size: int
    threads: int
    edmm: bool


def enclave_settings(manifest: dict[str, Any]) -> EnclaveSettings:
    """Read the settings from a manifest that has been checked and rendered."""
    sgx = manifest["sgx"]
    size = size_for_both(sgx["enclave_size"])
    assert size is not None, "the manifest has been checked"
    return EnclaveSettings(size, sgx["max_threads"], sgx["edmm_enable"])


def enclave_image(settings: EnclaveSettings, manifest: bytes, libpal: bytes) -> EnclaveImage:
    """Lay an enclave out.

    manifest  the bytes of the ``.manifest.sgx``; a zero byte is put after them.
    libpal    the bytes of Gramine's ``sgx/libpal.so``.

    Raises FormatError where `libpal` is none, InputError where the enclave is too small.
    """
    pal = parse_elf(libpal)
    places = _places(settings, len(manifest) + 1, pal)
    runs = tuple(_runs(settings, places, manifest, pal))
    return EnclaveImage(settings.size, SSA_FRAME_PAGES, runs)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where each area begins; stacks and signal stacks have one address a thread."""

    manifest: int
    manifest_size: int
    ssa: int
    tcs: int
    tls: int
    stacks: tuple[int, ...]
    signal_stacks: tuple[int, ...]
    pal: int


def _places(settings: EnclaveSettings, manifest_size: int, pal: Elf) -> _Places:
    top = settings.size

    def take(pages: int) -> int:
        nonlocal top
        top -= pages * PAGE_SIZE
        return top

    threads = settings.threads
    places = _Places(
        manifest=take(_pages(manifest_size)),
        manifest_size=manifest_size,
        ssa=take(threads * SSA_FRAMES * SSA_FRAME_PAGES),
        tcs=take(threads),
        tls=take(threads),
        stacks=tuple(take(STACK_PAGES) for _ in range(threads)),
        signal_stacks=tuple(take(SIGNAL_STACK_PAGES) for _ in range(threads)),
        pal=take(_span(pal)),
    )
    if top < HEAP_BEGIN:
        needed = settings.size - top + HEAP_BEGIN
        raise InputError(
            msg("the enclave is too small: {threads} threads and the PAL do not fit", threads=threads),
            hint=msg(
                'write sgx.enclave_size = "{size}" or more, and more still for the heap',
                size=written(1 << (needed - 1).bit_length()),
            ),
        )
    return places


def _span(pal: Elf) -> int:
    """Count the pages from the first of the PAL to its last."""
    segments = [segment for segment in pal.segments if segment.type == PT_LOAD]
    if not segments:
        raise FormatError("program header", msg("there is nothing to load"))
    for segment in segments:
        if (segment.vaddr - segment.offset) % PAGE_SIZE:
            raise FormatError("program header", msg("p_vaddr and p_offset are not congruent in their page"))
    ends = sorted((_begin(segment), _end(segment)) for segment in segments)
    if ends[0][0]:
        raise FormatError(
            "program header",
            msg("linked to {address}: Gramine's loader takes a PAL that is linked to 0", address=hex(ends[0][0])),
        )
    if any(end > begin for (_, end), (begin, _) in pairwise(ends)):
        raise FormatError("program header", msg("two segments share a page, which can be added once only"))
    return ends[-1][1] // PAGE_SIZE


def _runs(settings: EnclaveSettings, places: _Places, manifest: bytes, pal: Elf) -> Iterator[PageRun]:
    threads = settings.threads
    yield PageRun(
        places.manifest, _pages(places.manifest_size), _READ, data=_padded(manifest + b"\0"), name="manifest"
    )
    yield PageRun(places.ssa, threads * SSA_FRAMES * SSA_FRAME_PAGES, _READ_WRITE, name="ssa")
    tcs = b"".join(_tcs_page(places, pal, thread) for thread in range(threads))
    yield PageRun(places.tcs, threads, _ENTRY, data=tcs, name="tcs")
    tls = b"".join(_tls_page(settings, places, thread) for thread in range(threads))
    yield PageRun(places.tls, threads, _READ_WRITE, data=tls, name="tls")
    for address in places.stacks:
        yield PageRun(address, STACK_PAGES, _READ_WRITE, name="stack")
    for address in places.signal_stacks:
        yield PageRun(address, SIGNAL_STACK_PAGES, _READ_WRITE, name="sig_stack")
    for segment in pal.segments:
        if segment.type == PT_LOAD and _end(segment) > _begin(segment):
            yield _pal_run(pal, segment, places.pal)
    if not settings.edmm and places.pal > HEAP_BEGIN:
        yield PageRun(HEAP_BEGIN, (places.pal - HEAP_BEGIN) // PAGE_SIZE, _HEAP, measured=(), name="free")


def _tcs_page(places: _Places, pal: Elf, thread: int) -> bytes:
    return Tcs(
        ossa=_ssa(places, thread),
        nssa=SSA_FRAMES,
        oentry=places.pal + pal.entry,
        ogsbase=places.tls + thread * PAGE_SIZE,
        fslimit=_LIMIT,
        gslimit=_LIMIT,
    ).to_bytes()


def _tls_page(settings: EnclaveSettings, places: _Places, thread: int) -> bytes:
    ssa = _ssa(places, thread)
    stack, signal_stack = places.stacks[thread], places.signal_stacks[thread]
    page = _TLS_PAGE.pack(
        places.tls + thread * PAGE_SIZE,
        _CANARY,
        settings.size,
        places.tcs + thread * PAGE_SIZE,
        stack + STACK_PAGES * PAGE_SIZE,
        signal_stack,
        signal_stack + SIGNAL_STACK_PAGES * PAGE_SIZE,
        ssa,
        ssa + SSA_FRAME_PAGES * PAGE_SIZE - GPRSGX_SIZE,
        places.manifest_size,
        HEAP_BEGIN,
        places.pal,
    )
    return page.ljust(PAGE_SIZE, b"\0")


def _ssa(places: _Places, thread: int) -> int:
    return places.ssa + thread * SSA_FRAMES * SSA_FRAME_PAGES * PAGE_SIZE


def _pal_run(pal: Elf, segment: Segment, base: int) -> PageRun:
    """The pages of a segment; what of the file lies around it on its first and last page is zeros."""
    flags = PageFlags(0)
    for elf, page in ((PF_R, PageFlags.R), (PF_W, PageFlags.W), (PF_X, PageFlags.X)):
        flags |= page if segment.flags & elf else 0
    size = _end(segment) - _begin(segment)
    contents = pal.data[segment.offset : segment.offset + segment.filesz]
    data = (bytes(segment.vaddr % PAGE_SIZE) + contents).ljust(size, b"\0")
    name = "code" if flags & PageFlags.X else "data"
    return PageRun(
        base + _begin(segment), size // PAGE_SIZE, SecInfo(flags, PageType.REG), data=data, name=f"pal {name}"
    )


def _begin(segment: Segment) -> int:
    return segment.vaddr // PAGE_SIZE * PAGE_SIZE


def _end(segment: Segment) -> int:
    return _pages(segment.vaddr + segment.memsz) * PAGE_SIZE


def _pages(size: int) -> int:
    return -(-size // PAGE_SIZE)


def _padded(data: bytes) -> bytes:
    return data.ljust(_pages(len(data)) * PAGE_SIZE, b"\0")
