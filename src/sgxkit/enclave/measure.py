"""MRENCLAVE: SHA-256 over the records that ECREATE, EADD and EEXTEND leave (Intel SDM Vol. 3D, 36.4.1, chapter 39).

A record is 64 bytes: ECREATE\\0, SSAFRAMESIZE (4), SIZE (8), zeros. EADD\\0\\0\\0\\0, offset (8), SECINFO (the first
48 bytes). EEXTEND\\0, offset (8), zeros; four blocks of 64 bytes of the page follow it. The same records are an SGXS
file. They are made for many pages at once, and hashed or written in pieces that stay in the processor's cache.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from types import ModuleType
from typing import Any

from sgxkit.enclave.image import ALL_CHUNKS, CHUNK_SIZE, EnclaveImage, PageRun
from sgxkit.errors import InputError
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.messages import msg

RECORD_SIZE = 64
ECREATE, EADD, EEXTEND = b"ECREATE\0", b"EADD\0\0\0\0", b"EEXTEND\0"

_PIECE_BYTES = 1 << 20
_WORTH_A_THREAD = 1 << 17
_CREATE = struct.Struct("<8sIQ44x")
_WORD = 8
_RECORD_WORDS = RECORD_SIZE // _WORD
_CHUNK_WORDS = CHUNK_SIZE // _WORD
_EXTEND_WORDS = _RECORD_WORDS + _CHUNK_WORDS


def mrenclave(image: EnclaveImage) -> bytes:
    """Return the measurement that the processor would make of `image`.

    One thread makes records while another hashes those before. Memory is that of some pieces, however large the
    image is. Raises InputError where NumPy is not installed.
    """
    digest = sha256()
    with ThreadPoolExecutor(1) as hasher:
        hashing: Future[None] | None = None
        for piece in records(image):
            if hashing is not None:
                hashing.result()
                hashing = None
            if len(piece) < _WORTH_A_THREAD:
                digest.update(piece)
            else:
                hashing = hasher.submit(digest.update, piece)
    return digest.digest()


def records(image: EnclaveImage) -> Iterator[memoryview]:
    """Make the bytes that are hashed, piece by piece; a piece is good until the second after it is asked for."""
    yield memoryview(create_record(image))
    for run in image.runs:
        yield from run_records(run)


def create_record(image: EnclaveImage) -> bytes:
    """Return the record of ECREATE."""
    return _CREATE.pack(ECREATE, image.ssaframesize, image.size)


def page_record_size(chunks: int) -> int:
    """Return the bytes that a page leaves of which so many chunks are measured."""
    return RECORD_SIZE + chunks * (RECORD_SIZE + CHUNK_SIZE)


def run_records(run: PageRun) -> Iterator[memoryview]:
    """Make the records of a run of pages, in two tables by turns, so that one can be read while the other is made.

    A table has a row for each page, of which only the offsets, and the contents, change.
    """
    np = load_numpy()
    row_bytes = page_record_size(len(run.measured))
    rows = min(run.count, max(1, _PIECE_BYTES // row_bytes))
    chunks = slice(None) if run.measured == ALL_CHUNKS else list(run.measured)
    data = np.frombuffer(run.data, dtype="<u8").reshape(-1, len(ALL_CHUNKS), _CHUNK_WORDS)
    first_offsets = np.arange(rows, dtype="<u8") * PAGE_SIZE + np.uint64(run.offset)
    chunk_offsets = np.array(run.measured, dtype="<u8") * CHUNK_SIZE
    table = np.zeros((rows, row_bytes // _WORD), dtype="<u8")
    table[:, 0] = int.from_bytes(EADD, "little")
    table[:, 2] = run.secinfo.word
    _extends(table)[:, :, 0] = int.from_bytes(EEXTEND, "little")
    if len(data) == 1:
        _extends(table)[:, :, _RECORD_WORDS:] = data[:, chunks]
    tables = [table, table.copy()] if run.count > rows else [table]
    for turn, first in enumerate(range(0, run.count, rows)):
        table = tables[turn % 2]
        now = min(rows, run.count - first)
        offsets = first_offsets + np.uint64(first * PAGE_SIZE)
        table[:, 1] = offsets
        extends = _extends(table)
        extends[:, :, 1] = offsets[:, None] + chunk_offsets
        if len(data) > 1:
            extends[:now, :, _RECORD_WORDS:] = data[first : first + now, chunks]
        yield memoryview(table).cast("B")[: now * row_bytes]


def _extends(table: Any) -> Any:
    """The part of a table after each page's EADD: for each chunk its EEXTEND and its contents."""
    return table[:, _RECORD_WORDS:].reshape(len(table), -1, _EXTEND_WORDS)


def load_numpy() -> ModuleType:
    """Import NumPy, which is not in the smallest installation; InputError says how to get it."""
    try:
        import numpy  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            msg("this needs {package}, which is not installed", package="NumPy"),
            hint=msg("{command} installs it", command="pip install 'sgxkit[emulator]'"),
        ) from error
    return numpy


def measured_pages(runs: Iterable[PageRun]) -> tuple[int, int]:
    """Count the pages, and those of them that are measured in whole or part."""
    pages = measured = 0
    for run in runs:
        pages += run.count
        if run.measured:
            measured += run.count
    return pages, measured
