"""The parts of a 64-bit ELF shared object that an enclave's loader reads (System V ABI, generic and x86-64).

Every place that the file names is checked before it is read: the file may be anything.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sgxkit.errors import FormatError
from sgxkit.messages import msg

MAGIC = b"\x7fELF"
PT_LOAD, PT_DYNAMIC, PT_TLS = 1, 2, 7
PF_X, PF_W, PF_R = 1, 2, 4
DT_PLTRELSZ, DT_RELA, DT_RELASZ, DT_TEXTREL, DT_JMPREL = 2, 7, 8, 22, 23

_IDENT = MAGIC + b"\x02\x01\x01"  # ELFCLASS64, ELFDATA2LSB, EV_CURRENT
_ET_DYN, _EM_X86_64 = 3, 62
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_DYNAMIC = struct.Struct("<qQ")
_RELA = struct.Struct("<QQq")
_SHT_NOBITS = 8
_MAX_SEGMENTS = 256


@dataclass(frozen=True, slots=True)
class Segment:
    """A program header; `offset` and `filesz` are within the file, `filesz` is at most `memsz`."""

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section header; what it names is within the file unless it has no bits there."""

    name: bytes
    addr: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Elf:
    """A file's entry point, segments and sections, and the dynamic section by tag (the last of each)."""

    data: bytes
    entry: int
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]
    dynamic: dict[int, int]


def parse_elf(data: bytes) -> Elf:
    """Read an ELF shared object for x86-64; raises FormatError where it is none or names what is not there."""
    if len(data) < _HEADER.size:
        raise FormatError("ELF header", msg("the file ends within it"), offset=0)
    ident, kind, machine, _, entry, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx = (
        _HEADER.unpack_from(data)
    )
    for name, value, expected, at in (
        ("e_ident", ident[:7].hex(), _IDENT.hex(), 0),
        ("e_type", kind, _ET_DYN, 16),
        ("e_machine", machine, _EM_X86_64, 18),
        ("e_phentsize", phentsize, _SEGMENT.size, 54),
        ("e_shentsize", shentsize, _SECTION.size, 58),
    ):
        if value != expected:
            raise FormatError(name, msg("{value}, must be {expected}", value=value, expected=expected), offset=at)
    if phnum > _MAX_SEGMENTS:
        problem = msg("{count} of them, at most {limit} are read", count=phnum, limit=_MAX_SEGMENTS)
        raise FormatError("e_phnum", problem, offset=56)
    segments = tuple(_segment(data, phoff + n * _SEGMENT.size) for n in range(phnum))
    return Elf(data, entry, segments, _sections(data, shoff, shnum, shstrndx), _dynamic(data, segments))


def within(data: bytes, offset: int, size: int, field: str, *, at: int | None = None) -> bytes:
    """Return bytes that the file names; FormatError, about `field` at `at`, where they are not in it."""
    if offset + size > len(data):
        problem = msg("{size} bytes at {offset} are not in the file", size=size, offset=hex(offset))
        raise FormatError(field, problem, offset=at)
    return data[offset : offset + size]


def relocated_addresses(elf: Elf) -> Iterator[int]:
    """Go through the addresses that relocations change: those of DT_RELA and DT_JMPREL, R_X86_64_NONE left out."""
    for table, size in ((DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)):
        if table not in elf.dynamic:
            continue
        address = elf.dynamic[table]
        section = next((section for section in elf.sections if section.addr == address), None)
        if section is None:
            problem = msg("no section is at the address {address} of relocations", address=hex(address))
            raise FormatError("dynamic section", problem)
        count = elf.dynamic.get(size, 0) // _RELA.size
        entries = within(elf.data, section.offset, count * _RELA.size, "relocations")
        for address, info, _ in _RELA.iter_unpack(entries):
            if info & 0xFFFF_FFFF:
                yield address


def _segment(data: bytes, at: int) -> Segment:
    header = within(data, at, _SEGMENT.size, "program header", at=32)
    kind, flags, offset, vaddr, _, filesz, memsz, _ = _SEGMENT.unpack(header)
    within(data, offset, filesz, "program header", at=at)
    if kind == PT_LOAD and filesz > memsz:
        raise FormatError("program header", msg("p_filesz is more than p_memsz"), offset=at)
    return Segment(kind, flags, offset, vaddr, filesz, memsz)


def _sections(data: bytes, shoff: int, shnum: int, shstrndx: int) -> tuple[Section, ...]:
    table = within(data, shoff, shnum * _SECTION.size, "section headers", at=40)
    headers = list(_SECTION.iter_unpack(table))
    names = b""
    if shstrndx < shnum:
        _, _, _, _, offset, size, *_ = headers[shstrndx]
        names = within(data, offset, size, "section names", at=shoff + shstrndx * _SECTION.size)
    found = []
    for number, (name, kind, _, addr, offset, size, *_) in enumerate(headers):
        if kind != _SHT_NOBITS:
            within(data, offset, size, "section header", at=shoff + number * _SECTION.size)
        # A name is a short string; a table without any zero byte must not make this slow.
        found.append(Section(names[name : name + 64].partition(b"\0")[0], addr, offset, size))
    return tuple(found)


def _dynamic(data: bytes, segments: tuple[Segment, ...]) -> dict[int, int]:
    found: dict[int, int] = {}
    for segment in segments:
        if segment.type == PT_DYNAMIC:
            size = segment.filesz // _DYNAMIC.size * _DYNAMIC.size
            for tag, value in _DYNAMIC.iter_unpack(data[segment.offset : segment.offset + size]):
                if not tag:
                    break
                found[tag] = value
            break
    return found
