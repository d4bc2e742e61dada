"""MRENCLAVE: SHA-256 over the records that ECREATE, EADD and EEXTEND leave (Intel SDM Vol. 3D, 36.4.1, chapter 39).

A record is 64 bytes: ECREATE\\0, SSAFRAMESIZE (4), SIZE (8), zeros. EADD\\0\\0\\0\\0, offset (8), SECINFO (the first
48 bytes). EEXTEND\\0, offset (8), zeros; four blocks of 64 bytes of the page follow it. The same records are an SGXS
file. They are made for many pages at once, and hashed or written in pieces that stay in the processor's cache.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from hashlib import sha256
from types import ModuleType

from sgxkit.enclave.image import ALL_CHUNKS, CHUNK_SIZE, EnclaveImage, PageRun
from sgxkit.errors import InputError
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.messages import msg

RECORD_SIZE = 64
ECREATE, EADD, EEXTEND = b"ECREATE\0", b"EADD\0\0\0\0", b"EEXTEND\0"

_PIECE_BYTES = 192 << 10
_CREATE = struct.Struct("<8sIQ44x")
_WORD = 8
_RECORD_WORDS = RECORD_SIZE // _WORD
_CHUNK_WORDS = CHUNK_SIZE // _WORD
_EXTEND_WORDS = _RECORD_WORDS + _CHUNK_WORDS


def mrenclave(image: EnclaveImage) -> bytes:
    """Return the measurement that the processor would make of `image`.

    Memory is that of some pieces, however large the image is. Raises InputError where NumPy is not installed.
    """
    digest = sha256()
    for piece in records(image):
        digest.update(piece)
    return digest.digest()


def records(image: EnclaveImage) -> Iterator[memoryview]:
    """Make the bytes that are hashed, piece by piece; a piece is good until the next one is asked for."""
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
    """Make the records of a run of pages: a row for each page, of which only the offsets and the contents change."""
    np = load_numpy()
    row_bytes = page_record_size(len(run.measured))
    rows = min(run.count, max(1, _PIECE_BYTES // row_bytes))
    table = np.zeros((rows, row_bytes // _WORD), dtype="<u8")
    extends = table[:, _RECORD_WORDS:].reshape(rows, len(run.measured), _EXTEND_WORDS)
    offsets = np.arange(rows, dtype="<u8") * PAGE_SIZE + np.uint64(run.offset)
    table[:, 0] = int.from_bytes(EADD, "little")
    table[:, 1] = offsets
    table[:, 2] = run.secinfo.word
    extends[:, :, 0] = int.from_bytes(EEXTEND, "little")
    extends[:, :, 1] = offsets[:, None] + np.array(run.measured, dtype="<u8") * CHUNK_SIZE
    contents = extends[:, :, _RECORD_WORDS:]
    chunks = slice(None) if run.measured == ALL_CHUNKS else list(run.measured)
    data = np.frombuffer(run.data, dtype="<u8").reshape(-1, len(ALL_CHUNKS), _CHUNK_WORDS)
    if len(data) == 1:
        contents[:] = data[:, chunks]
    step = np.uint64(rows * PAGE_SIZE)
    whole = memoryview(table).cast("B")
    for first in range(0, run.count, rows):
        now = min(rows, run.count - first)
        if first:
            table[:, 1] += step
            extends[:, :, 1] += step
        if len(data) > 1:
            contents[:now] = data[first : first + now, chunks]
        yield whole[: now * row_bytes]


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
