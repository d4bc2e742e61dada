"""How long an instruction is, and which memory it names: as far as the engine must know before Unicorn executes it.

Intel SDM Vol. 2A, chapter 2 (formats) and Vol. 2D, appendix A (opcode maps). 64-bit mode only. An instruction with a
VEX or EVEX prefix is taken apart as far as its opcode map says; one that does not exist has some length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_LENGTH = 15

_OPERAND, _ADDRESS, _FS, _GS = 0x66, 0x67, 0x64, 0x65
_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
_VEX2, _VEX3, _EVEX = 0xC5, 0xC4, 0x62
_GPRS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))
_RSP, _RBP = 4, 5
_MASK = (1 << 64) - 1

# Opcodes that a ModRM byte follows.
_ONE_BYTE_MODRM = frozenset(
    (
        *(opcode for opcode in range(0x40) if opcode & 7 < 4),
        *(0x63, 0x69, 0x6B, 0xC0, 0xC1, 0xC6, 0xC7, 0xF6, 0xF7, 0xFE, 0xFF),
        *range(0x80, 0x90),
        *range(0xD0, 0xD4),
        *range(0xD8, 0xE0),
    )
)
_TWO_BYTES_NO_MODRM = frozenset(
    (
        *range(0x04, 0x0D),
        *(0x0E, 0x77, 0xA0, 0xA1, 0xA2, 0xA8, 0xA9, 0xAA),
        *range(0x30, 0x40),
        *range(0x80, 0x90),
        *range(0xC8, 0xD0),
    )
)
# Bytes of immediate operands. `_BY_SIZE`: 4, or 2 with an operand-size prefix.
_BY_SIZE = -1
_ONE_BYTE_IMMEDIATE = {
    **dict.fromkeys((opcode for opcode in range(0x40) if opcode & 7 == 4), 1),
    **dict.fromkeys((opcode for opcode in range(0x40) if opcode & 7 == 5), _BY_SIZE),
    **dict.fromkeys((0x6A, 0x6B, *range(0x70, 0x80), 0x80, 0x82, 0x83, 0xA8, *range(0xB0, 0xB8)), 1),
    **dict.fromkeys((0xC0, 0xC1, 0xC6, 0xCD, 0xD4, 0xD5, *range(0xE0, 0xE8), 0xEB), 1),
    **dict.fromkeys((0x68, 0x69, 0x81, 0xA9, *range(0xB8, 0xC0), 0xC7), _BY_SIZE),
    **dict.fromkeys((0xC2, 0xCA), 2),
    0xC8: 3,
    **dict.fromkeys((0xE8, 0xE9), 4),
}
_TWO_BYTES_IMMEDIATE = {
    **dict.fromkeys(range(0x70, 0x74), 1),
    **dict.fromkeys((0x0F, 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6), 1),
    **dict.fromkeys(range(0x80, 0x90), 4),
}
_MOFFS = range(0xA0, 0xA4)
_MOV_IMMEDIATE = range(0xB8, 0xC0)
_TEST = (0xF6, 0xF7)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, in parts.

    length         in bytes.
    prefixes       the legacy prefixes.
    rex            the REX prefix, or what a VEX or EVEX prefix says in its place (without W for these).
    map, opcode    opcode map (0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A) and the opcode in it.
    modrm          the ModRM byte; None where there is none.
    base, index    numbers of registers of the memory operand; None where it has none.
    relative       the operand is relative to the next instruction.
    """

    length: int
    prefixes: bytes
    rex: int
    map: int
    opcode: int
    modrm: int | None = None
    base: int | None = None
    index: int | None = None
    scale: int = 1
    displacement: int = 0
    relative: bool = False

    @property
    def reg(self) -> int:
        """The ModRM byte's reg field, without REX.R; 0 where there is none."""
        return (self.modrm or 0) >> 3 & 7

    @property
    def in_memory(self) -> bool:
        """Whether the ModRM byte names memory."""
        return self.modrm is not None and self.modrm < 0xC0

    def effective_address(self, rip: int, read: Callable[[str], int]) -> int:
        """The linear address of the memory operand; `read` gives registers, `fsbase` and `gsbase` by name."""
        address = self.displacement
        if self.relative:
            address += rip + self.length
        if self.base is not None:
            address += read(_GPRS[self.base])
        if self.index is not None:
            address += read(_GPRS[self.index]) * self.scale
        if _ADDRESS in self.prefixes:
            address &= 0xFFFF_FFFF
        for prefix, register in ((_FS, "fsbase"), (_GS, "gsbase")):
            if prefix in self.prefixes:
                address += read(register)
        return address & _MASK


def decode(code: bytes, at: int = 0) -> Instruction | None:
    """Take apart the instruction at `code[at]`; None where `code` ends in it."""
    try:
        return _decode(code, at)
    except IndexError:
        return None


def _decode(code: bytes, start: int) -> Instruction | None:
    at = start
    while code[at] in _PREFIXES:
        at += 1
    prefixes = code[start:at]
    rex = 0
    if code[at] & 0xF0 == 0x40:
        rex = code[at]
        at += 1
    first = code[at]
    at += 1
    if first in (_VEX2, _VEX3, _EVEX):
        size = {_VEX2: 1, _VEX3: 2, _EVEX: 3}[first]
        number = 1 if first == _VEX2 else code[at] & (0x1F if first == _VEX3 else 7)
        rex = ~code[at] >> 5 & 7 if first != _VEX2 else ~code[at] >> 5 & 4
        opcode = code[at + size]
        at += size + 1
        immediate = 1 if number == 3 else _TWO_BYTES_IMMEDIATE.get(opcode, 0) if number == 1 else 0
        has_modrm = not (number == 1 and opcode == 0x77)
    elif first == 0x0F:
        number, opcode = 1, code[at]
        at += 1
        if opcode in (0x38, 0x3A):
            number, opcode = (2 if opcode == 0x38 else 3), code[at]
            at += 1
        has_modrm = number > 1 or opcode not in _TWO_BYTES_NO_MODRM
        immediate = 1 if number == 3 else _TWO_BYTES_IMMEDIATE.get(opcode, 0) if number == 1 else 0
    else:
        number, opcode = 0, first
        has_modrm, immediate = opcode in _ONE_BYTE_MODRM, _ONE_BYTE_IMMEDIATE.get(opcode, 0)
        if opcode in _MOFFS:
            immediate = 4 if _ADDRESS in prefixes else 8
        elif opcode in _MOV_IMMEDIATE and rex & 8:
            immediate = 8
        elif opcode in _TEST and code[at] >> 3 & 7 < 2:
            immediate = 1 if opcode == _TEST[0] else _BY_SIZE
    if immediate == _BY_SIZE:
        immediate = 2 if _OPERAND in prefixes and not rex & 8 else 4
    if not has_modrm:
        return Instruction(at + immediate - start, prefixes, rex, number, opcode)
    modrm = code[at]
    at += 1
    mode, base, index, scale, displacement, relative = modrm >> 6, modrm & 7, None, 1, 0, False
    if mode == 3:
        return Instruction(at + immediate - start, prefixes, rex, number, opcode, modrm)
    found: int | None = base | (rex & 1) << 3
    size = (0, 1, 4)[mode]
    if base == _RSP:
        sib = code[at]
        at += 1
        scale = 1 << (sib >> 6)
        number_of_index = sib >> 3 & 7 | (rex & 2) << 2
        index = None if number_of_index == _RSP else number_of_index
        base = sib & 7
        found = base | (rex & 1) << 3
        if base == _RBP and mode == 0:
            found, size = None, 4
    elif base == _RBP and mode == 0:
        found, size, relative = None, 4, True
    if at + size > len(code):
        return None
    displacement = int.from_bytes(code[at : at + size], "little", signed=True)
    return Instruction(
        at + size + immediate - start,
        prefixes,
        rex,
        number,
        opcode,
        modrm,
        found,
        index,
        scale,
        displacement,
        relative,
    )
