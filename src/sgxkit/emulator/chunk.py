"""Host memory that stays where it is, so that Unicorn can use it in place: what backs the EPC and memory outside."""

from __future__ import annotations

import ctypes
import mmap

from sgxkit.isa.page import PAGE_SIZE

CHUNK_SIZE = 256 * PAGE_SIZE


class Chunk:
    """`CHUNK_SIZE` bytes of zeros, of which only the pages that are used take memory.

    view     its bytes.
    pointer  the host's address of them; valid as long as the chunk is.
    """

    __slots__ = ("_first", "_map", "pointer", "view")

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, CHUNK_SIZE)
        self.view = memoryview(self._map)
        self._first = ctypes.c_char.from_buffer(self._map)
        self.pointer = ctypes.addressof(self._first)
