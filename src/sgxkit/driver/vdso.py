"""The code that the kernel maps into every process (vDSO), and where its function for entering enclaves is.

ELF64, System V ABI; getauxval(3), AT_SYSINFO_EHDR.
"""

from __future__ import annotations

import ctypes
import struct

AT_SYSINFO_EHDR = 33
ENTER = b"__vdso_sgx_enter_enclave"

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ = 4, 5, 6, 10
_SYMBOL = struct.Struct("<IBBHQQ")
_SIZE = 1 << 16
"""A vDSO is a few pages; none is larger."""


def find_enter_function() -> int:
    """The address of __vdso_sgx_enter_enclave in this process; 0 where the kernel has none (no CONFIG_X86_SGX)."""
    library = ctypes.CDLL(None)
    library.getauxval.restype = ctypes.c_ulong
    library.getauxval.argtypes = [ctypes.c_ulong]
    base = int(library.getauxval(AT_SYSINFO_EHDR))
    if base == 0:
        return 0
    offset = symbol(_Mapped(base), ENTER)
    return base + offset if offset else 0


class _Mapped:
    """Bytes at an address, as far as headers say that they are there."""

    def __init__(self, base: int) -> None:
        self._base = base

    def __getitem__(self, where: slice) -> bytes:
        return ctypes.string_at(self._base + where.start, where.stop - where.start)


def symbol(image: _Mapped | bytes, name: bytes) -> int:
    """The offset of an exported symbol in a vDSO's image, 0 where it has none."""
    phoff, phentsize, phnum = struct.unpack("<Q", image[32:40])[0], *struct.unpack("<HH", image[54:58])
    first, dynamic = None, None
    for number in range(phnum):
        at = phoff + number * phentsize
        kind, _, offset, address, _, size = struct.unpack("<IIQQQQ", image[at : at + 40])
        if kind == _PT_LOAD and first is None:
            first = address - offset
        elif kind == _PT_DYNAMIC:
            dynamic = (offset, size)
    if first is None or dynamic is None:
        return 0
    entries = dict(struct.iter_unpack("<QQ", image[dynamic[0] : dynamic[0] + dynamic[1] // 16 * 16]))
    if not {_DT_STRTAB, _DT_SYMTAB, _DT_STRSZ} <= entries.keys():
        return 0
    strings_at, symbols_at = entries[_DT_STRTAB] - first, entries[_DT_SYMTAB] - first
    strings = image[strings_at : strings_at + min(entries[_DT_STRSZ], _SIZE)]
    # The string table follows the symbols in every vDSO; DT_HASH would count them, but need not be there.
    count = (strings_at - symbols_at) // _SYMBOL.size if strings_at > symbols_at else 0
    for number in range(min(count, _SIZE // _SYMBOL.size)):
        at = symbols_at + number * _SYMBOL.size
        string, _, _, section, value, _ = _SYMBOL.unpack(image[at : at + _SYMBOL.size])
        if section and strings[string:].startswith(name + b"\0"):
            return int(value - first)
    return 0
