"""The functions that were active in an enclave when it stopped: from its registers, its stack and its ELF file.

Callers are found by the call frame information that C compilers leave in ``.eh_frame`` (DWARF 5, 6.4; System V ABI
for x86-64, 3.6 and 4.2.4), which needs pyelftools, and without it by frame pointers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

from sgxkit.enclave.elf import PF_X, PT_LOAD, Elf
from sgxkit.errors import SgxkitError
from sgxkit.isa.ssa import GprSgx
from sgxkit.sdk.symbols import Symbols

MAX_FRAMES = 64
_WORD = 8
_RSP, _RBP, _RETURN = 7, 6, 16
# DWARF's numbers of the registers that a function keeps for its caller: RBX, RBP, R12 to R15.
_KEPT = {3: "rbx", 6: "rbp", 12: "r12", 13: "r13", 14: "r14", 15: "r15"}

_Function = tuple[int, int, Callable[[], list[Mapping[Any, Any]]]]
"""A function's range, and how to get its rules."""
ReadStack = Callable[[int], int]
"""Read the 8 bytes at an address; raises SgxkitError where there are none."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One active function: the instruction's address, its offset in the image, and the function that it is in."""

    address: int
    offset: int
    function: str | None
    displacement: int

    def __str__(self) -> str:
        where = f"{self.function}+{self.displacement:#x}" if self.function else "?"
        return f"{self.offset:#x} {where}"


class Unwinder:
    """Finds the callers in one enclave; `base` is the address at which its image begins."""

    def __init__(self, elf: Elf, base: int, symbols: Symbols) -> None:
        self._code = [
            range(one.vaddr, one.vaddr + one.memsz)
            for one in elf.segments
            if one.type == PT_LOAD and one.flags & PF_X
        ]
        self._base = base
        self._symbols = symbols
        self._data = elf.data

    @cached_property
    def _rows(self) -> list[_Function]:
        """Read when the first enclave crashes: most never do, and large files have tens of thousands."""
        return _call_frame_rows(self._data)

    def frames(self, registers: GprSgx, read: ReadStack) -> tuple[Frame, ...]:
        """The active functions, innermost first; as many as can be found."""
        return tuple(frame for frame, _ in zip(self._walk(registers, read), range(MAX_FRAMES), strict=False))

    def _walk(self, registers: GprSgx, read: ReadStack) -> Iterator[Frame]:
        values = {number: getattr(registers, name) for number, name in _KEPT.items()} | {_RSP: registers.rsp}
        address = registers.rip
        innermost = True
        while self._is_code(address - self._base):
            yield self._frame(address, innermost=innermost)
            # A return address is behind the call, which may be the last instruction of a function.
            offset = address - self._base - (0 if innermost else 1)
            try:
                found = self._caller(offset, values, read)
            except SgxkitError:
                return
            if found is None or found[1][_RSP] <= values[_RSP]:
                return
            address, values = found
            innermost = False

    def _is_code(self, offset: int) -> bool:
        return any(offset in segment for segment in self._code)

    def _frame(self, address: int, *, innermost: bool) -> Frame:
        offset = address - self._base
        symbol = self._symbols.function_at(offset - (0 if innermost else 1))
        if symbol is None:
            return Frame(address, offset, None, 0)
        return Frame(address, offset, symbol.name, offset - symbol.address)

    def _caller(self, offset: int, values: Mapping[int, int], read: ReadStack) -> tuple[int, dict[int, int]] | None:
        row = self._row(offset)
        if row is None:
            frame = values[_RBP]
            return read(frame + _WORD), {**values, _RBP: read(frame), _RSP: frame + 2 * _WORD}
        rule = row["cfa"]
        if rule.reg is None or rule.reg not in values:
            return None
        cfa = values[rule.reg] + rule.offset
        before = dict(values)
        for number in _KEPT:
            saved = row.get(number)
            if saved is not None and saved.type == "OFFSET":
                before[number] = read(cfa + saved.arg)
        back = row.get(_RETURN)
        if back is None or back.type != "OFFSET":
            return None
        return read(cfa + back.arg), {**before, _RSP: cfa}

    def _row(self, offset: int) -> Mapping[Any, Any] | None:
        for start, end, decode in self._rows:
            if start <= offset < end:
                rows = [row for row in decode() if row["pc"] <= offset]
                return rows[-1] if rows else None
        return None


def _call_frame_rows(data: bytes) -> list[_Function]:
    """For each function its range and how to get its rules; nothing without pyelftools, or where they are broken."""
    try:
        elffile = importlib.import_module("elftools.elf.elffile")
        descriptions = importlib.import_module("elftools.dwarf.callframe")
    except ImportError:
        return []
    try:
        dwarf = elffile.ELFFile(BytesIO(data)).get_dwarf_info(relocate_dwarf_sections=False)
        if not dwarf.has_EH_CFI():
            return []
        entries = [entry for entry in dwarf.EH_CFI_entries() if isinstance(entry, descriptions.FDE)]
        return [
            (
                entry["initial_location"],
                entry["initial_location"] + entry["address_range"],
                lambda entry=entry: entry.get_decoded().table,  # type: ignore[misc]
            )
            for entry in entries
        ]
    except Exception:  # noqa: BLE001 - the library's own errors are many, and a backtrace is not worth one
        return []
