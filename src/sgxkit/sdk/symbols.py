"""Names of an enclave's functions and data, from the symbol table of its ELF file (System V ABI, "Symbol Table")."""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass

from sgxkit.enclave.elf import Elf, Section

_SYMBOL = struct.Struct("<IBBHQQ")
_FUNCTION, _TYPE_MASK, _UNDEFINED = 2, 0xF, 0
_MAX_SYMBOLS = 1 << 20
_MAX_NAME = 512


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name in the file: `address` counts from the image's beginning; `size` may be 0 where nobody said."""

    name: str
    address: int
    size: int
    function: bool


class Symbols:
    """The symbols of a file, none where it was stripped."""

    def __init__(self, elf: Elf) -> None:
        found = _table(elf, b".symtab", b".strtab") or _table(elf, b".dynsym", b".dynstr")
        self._by_name = {symbol.name: symbol for symbol in found}
        self._functions = sorted((symbol for symbol in found if symbol.function), key=lambda one: one.address)
        self._starts = [symbol.address for symbol in self._functions]

    def named(self, name: str) -> Symbol | None:
        """The symbol of that name."""
        return self._by_name.get(name)

    def function_at(self, address: int) -> Symbol | None:
        """The function that `address` is in."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        symbol = self._functions[index]
        return symbol if not symbol.size or address < symbol.address + symbol.size else None


def _table(elf: Elf, table: bytes, names: bytes) -> list[Symbol]:
    entries, strings = _content(elf, table), _content(elf, names)
    count = min(len(entries) // _SYMBOL.size, _MAX_SYMBOLS)
    found = []
    for name, info, _, section, value, size in _SYMBOL.iter_unpack(entries[: count * _SYMBOL.size]):
        text = strings[name : name + _MAX_NAME].partition(b"\0")[0]
        if text and section != _UNDEFINED:
            decoded = text.decode("utf-8", "backslashreplace")
            found.append(Symbol(decoded, value, size, info & _TYPE_MASK == _FUNCTION))
    return found


def _content(elf: Elf, name: bytes) -> bytes:
    section: Section | None = next((one for one in elf.sections if one.name == name), None)
    return b"" if section is None else elf.data[section.offset : section.offset + section.size]
