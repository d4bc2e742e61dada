"""SGXS: an enclave as the very bytes that its measurement covers, and ESGXS, which also holds what is not measured.

"SGX stream format" of Fortanix (SGXS.md of fortanix/rust-sgx). Only canonical streams are read and written: ECREATE
first, EADD by rising offset, each chunk of a page at most once and after its page, reserved bytes zero. EEXTEND may
come in any order within a page, and keeps it. ESGXS adds UNMEASRD (contents that are loaded and not measured) and
UNSIZED (no size yet), which is recognised and refused, as it cannot be measured.

Files of any size are read in pieces; most of one is pages that are all alike, which are checked many at once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from sgxkit.enclave.image import (
    ALL_CHUNKS,
    CHUNK_SIZE,
    EnclaveImage,
    PageRun,
    add_problem,
    create_problem,
)
from sgxkit.enclave.measure import (
    EADD,
    ECREATE,
    EEXTEND,
    RECORD_SIZE,
    create_record,
    load_numpy,
    page_record_size,
    run_records,
)
from sgxkit.errors import FormatError, InputError
from sgxkit.isa.page import PAGE_SIZE, SECINFO_SIZE, SecInfo
from sgxkit.messages import msg

UNSIZED, UNMEASRD = b"UNSIZED\0", b"UNMEASRD"

_CREATE = struct.Struct("<8sIQ44s")
_EXTEND = struct.Struct("<8sQ48s")
_U64 = struct.Struct("<Q")
_SECINFO_AT = 16
_PIECE_BYTES = 1 << 20
_PAGE_RECORD = page_record_size(len(ALL_CHUNKS))
_PAGE_WORDS = _PAGE_RECORD // 8

Opener = Callable[[], BinaryIO]


def read_sgxs(opener: Opener) -> EnclaveImage:
    """Read the first record of an SGXS or ESGXS file; its pages are read, and checked, while they are gone through.

    `opener` opens the file from its start, each time the runs are gone through. Raises FormatError with the offset of
    the record that is wrong, from here or while going through the runs.
    """
    with opener() as file:
        size, ssaframesize = _parse_create(file.read(RECORD_SIZE))
    return EnclaveImage(size, ssaframesize, _Runs(opener, size))


def write_sgxs(image: EnclaveImage, file: IO[bytes], *, enhanced: bool = False) -> None:
    """Write an image as SGXS, or as ESGXS where `enhanced`.

    Raises InputError where the format cannot hold it: pages that are not in rising order, or, in SGXS, contents that
    are not measured.
    """
    file.write(create_record(image))
    end = 0
    for run in image.runs:
        if run.offset < end:
            raise InputError(
                msg("the page at {offset} is not added in rising order: SGXS cannot hold it", offset=hex(run.offset))
            )
        end = run.end
        if _has_unmeasured_contents(run):
            if not enhanced:
                raise InputError(
                    msg("pages from {offset} on have contents that are not measured", offset=hex(run.offset)),
                    hint=msg("ESGXS can hold them"),
                )
            _write_enhanced(run, file)
        else:
            for piece in run_records(run):
                file.write(piece)


def _has_unmeasured_contents(run: PageRun) -> bool:
    if not run.data or run.measured == ALL_CHUNKS:
        return False
    if not run.measured:
        return any(run.data)
    left = [chunk for chunk in ALL_CHUNKS if chunk not in run.measured]
    return any(
        any(run.data[page + chunk * CHUNK_SIZE : page + (chunk + 1) * CHUNK_SIZE])
        for page in range(0, len(run.data), PAGE_SIZE)
        for chunk in left
    )


def _write_enhanced(run: PageRun, file: IO[bytes]) -> None:
    """Write pages with what is not measured of them after what is, zeros left out."""
    for index in range(run.count):
        data = run.page(index)
        offset = run.offset + index * PAGE_SIZE
        for piece in run_records(PageRun(offset, 1, run.secinfo, run.measured, data)):
            file.write(piece)
        for chunk in ALL_CHUNKS:
            content = data[chunk * CHUNK_SIZE : (chunk + 1) * CHUNK_SIZE]
            if chunk not in run.measured and any(content):
                file.write(_EXTEND.pack(UNMEASRD, offset + chunk * CHUNK_SIZE, bytes(48)) + content)


def _parse_create(record: bytes) -> tuple[int, int]:
    if len(record) < RECORD_SIZE:
        raise FormatError("ECREATE", msg("the file ends within the record"), offset=0)
    tag, ssaframesize, size, reserved = _CREATE.unpack(record)
    if tag == UNSIZED:
        raise FormatError("UNSIZED", msg("the enclave has no size yet, so it cannot be loaded or measured"), offset=0)
    if tag != ECREATE:
        raise FormatError("ECREATE", msg("an SGXS file begins with this record"), offset=0)
    if any(reserved):
        raise FormatError("ECREATE", msg("reserved bytes must be zero"), offset=20)
    if problem := create_problem(size, ssaframesize):
        raise FormatError("ECREATE", problem, offset=8)
    return size, ssaframesize


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs of a file, read anew each time."""

    opener: Opener
    size: int

    def __iter__(self) -> Iterator[PageRun]:
        with self.opener() as file:
            file.seek(RECORD_SIZE)
            yield from _Walk(file, self.size).runs()


class _Walk:
    """A position in the file, what was read after it, and where the last page ended."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = size
        self.position = RECORD_SIZE
        self.buffer = b""
        self.start = 0
        self.ended = False
        self.last_end = 0
        self.np = load_numpy()

    def runs(self) -> Iterator[PageRun]:
        while self._fill():
            offset, secinfo = self._parse_add()
            words = self.np.frombuffer(
                self.buffer, dtype="<u8", count=(len(self.buffer) - self.start) // 8, offset=self.start
            )
            limit = (self.size - offset) // PAGE_SIZE
            if count := min(limit, self._whole_pages(words, offset, secinfo)):
                rows = words[: count * _PAGE_WORDS].reshape(count, _PAGE_WORDS)
                data = rows[:, 8:].reshape(count, len(ALL_CHUNKS), 40)[:, :, 8:].tobytes()
                run = PageRun(offset, count, secinfo, ALL_CHUNKS, data)
                used = count * _PAGE_RECORD
            elif count := min(limit, self._bare_pages(words, offset, secinfo)):
                run = PageRun(offset, count, secinfo, ())
                used = count * RECORD_SIZE
            else:
                run, used = self._any_page(offset, secinfo)
            self.start += used
            self.position += used
            self.last_end = run.end
            yield run

    def _fill(self) -> bool:
        """Have the next record, and what may belong to its page, in the buffer; return whether there is any."""
        while len(self.buffer) - self.start < _PAGE_RECORD + RECORD_SIZE and not self.ended:
            more = self.file.read(_PIECE_BYTES)
            self.ended = not more
            self.buffer = self.buffer[self.start :] + more
            self.start = 0
        return self.start < len(self.buffer)

    def _parse_add(self) -> tuple[int, SecInfo]:
        """Read the record of a page that must stand here."""
        header = self.buffer[self.start : self.start + RECORD_SIZE]
        if len(header) < RECORD_SIZE:
            raise FormatError("EADD", msg("the file ends within the record"), offset=self.position)
        if header[:8] != EADD:
            raise FormatError("EADD", msg("another record stands where a page should begin"), offset=self.position)
        (offset,) = _U64.unpack_from(header, 8)
        if offset % PAGE_SIZE:
            raise FormatError(
                "EADD", msg("{offset} is not the offset of a page", offset=hex(offset)), offset=self.position
            )
        if offset < self.last_end:
            raise FormatError(
                "EADD",
                msg("not canonical: the page at {offset} is not after the one before", offset=hex(offset)),
                offset=self.position,
            )
        if offset >= self.size:
            raise FormatError(
                "EADD", msg("the page at {offset} is outside the enclave", offset=hex(offset)), offset=self.position
            )
        secinfo = SecInfo.from_bytes(
            header[_SECINFO_AT:].ljust(SECINFO_SIZE, b"\0"), field="EADD", offset=self.position + _SECINFO_AT
        )
        if problem := add_problem(secinfo):
            raise FormatError("EADD", problem, offset=self.position + _SECINFO_AT)
        return offset, secinfo

    def _whole_pages(self, words: Any, offset: int, secinfo: SecInfo) -> int:
        """Count the pages from here that are like the first, follow each other and are measured whole, in order."""
        np = self.np
        count = len(words) // _PAGE_WORDS

        def good(rows: Any) -> Any:
            extends = rows[:, 8:].reshape(len(rows), len(ALL_CHUNKS), 40)
            expected = np.uint64(offset) + np.arange(extends[:, :, 0].size, dtype="<u8") * np.uint64(CHUNK_SIZE)
            return self._are_adds(rows[:, :8], offset, secinfo) & (
                (extends[:, :, 0] == int.from_bytes(EEXTEND, "little"))
                & (extends[:, :, 1] == expected.reshape(extends.shape[:2]))
                & ~extends[:, :, 2:8].any(axis=2)
            ).all(axis=1)

        return _leading(np, good, words[: count * _PAGE_WORDS].reshape(count, _PAGE_WORDS))

    def _bare_pages(self, words: Any, offset: int, secinfo: SecInfo) -> int:
        """Count the pages from here on that are like the first, follow each other and are only added."""
        count = len(words) // 8
        rows = words[: count * 8].reshape(count, 8)
        found = _leading(self.np, lambda some: self._are_adds(some, offset, secinfo), rows)
        # Chunks may follow the last one: it is only added if the file ends there, or another page begins.
        if found < count:
            following = rows[found, :1].tobytes()
        elif self.ended and len(self.buffer) - self.start == count * RECORD_SIZE:
            following = EADD
        else:
            following = b""
        return found if following == EADD else found - 1

    def _are_adds(self, rows: Any, offset: int, secinfo: SecInfo) -> Any:
        np = self.np
        expected = np.uint64(offset) + np.arange(len(rows), dtype="<u8") * np.uint64(PAGE_SIZE)
        return (
            (rows[:, 0] == int.from_bytes(EADD, "little"))
            & (rows[:, 1] == expected)
            & (rows[:, 2] == secinfo.word)
            & ~rows[:, 3:].any(axis=1)
        )

    def _any_page(self, offset: int, secinfo: SecInfo) -> tuple[PageRun, int]:
        """Read one page record by record; return it and the bytes that it took."""
        at = RECORD_SIZE
        content = bytearray(PAGE_SIZE)
        measured: list[int] = []
        seen: set[int] = set()
        while self.buffer[self.start + at : self.start + at + 8] in (EEXTEND, UNMEASRD):
            place = self.position + at
            record = self.buffer[self.start + at : self.start + at + RECORD_SIZE + CHUNK_SIZE]
            tag = record[:8]
            name = tag.rstrip(b"\0").decode()
            if len(record) < RECORD_SIZE + CHUNK_SIZE:
                raise FormatError(name, msg("the file ends within the record"), offset=place)
            _, chunk_offset, reserved = _EXTEND.unpack_from(record)
            chunk, rest = divmod(chunk_offset - offset, CHUNK_SIZE)
            if rest or chunk not in ALL_CHUNKS:
                raise FormatError(
                    name,
                    msg("not canonical: {offset} is not a chunk of the page before", offset=hex(chunk_offset)),
                    offset=place,
                )
            if chunk in seen:
                raise FormatError(
                    name,
                    msg("not canonical: the chunk at {offset} comes twice", offset=hex(chunk_offset)),
                    offset=place,
                )
            if any(reserved):
                raise FormatError(name, msg("reserved bytes must be zero"), offset=place + 16)
            seen.add(chunk)
            if tag == EEXTEND:
                measured.append(chunk)
            content[chunk * CHUNK_SIZE : (chunk + 1) * CHUNK_SIZE] = record[RECORD_SIZE:]
            at += len(record)
        return PageRun(offset, 1, secinfo, tuple(measured), bytes(content) if seen else b""), at


def _leading(np: Any, good: Callable[[Any], Any], rows: Any) -> int:
    """Count the rows before the first that is not good, looking at not many more than those."""
    look = 4
    while True:
        found = good(rows[:look])
        if not found.all():
            return int(np.argmin(found))
        if look >= len(rows):
            return len(rows)
        look *= 8
