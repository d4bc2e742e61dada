"""A vDSO that has __vdso_sgx_enter_enclave, whatever the kernel's has.

It is an image of headers and tables only: its own function lies in the agent, all others stay where the kernel's vDSO
has them. A symbol's value is relative to the image, so it can say any address (ELF, gABI 4.1; addresses wrap).
"""

from __future__ import annotations

import struct

ENTER_ENCLAVE = b"__vdso_sgx_enter_enclave"
AT_SYSINFO_EHDR = 33

_SONAME, _VERSION = b"linux-vdso.so.1", b"LINUX_2.6"
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_PAIR = struct.Struct("<qQ")
_PT_LOAD, _PT_DYNAMIC = 1, 2
_HASH, _STRTAB, _SYMTAB, _STRSZ, _SYMENT, _DT_SONAME = 4, 5, 6, 10, 11, 14
_VERSYM, _VERDEF, _VERDEFNUM = 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD
_FUNCTION = 0x12  # global, a function
_MOST_SYMBOLS = 64


def image(at: int, functions: dict[bytes, int], *, size: int) -> bytes:
    """The image for address `at`, with functions by name at absolute addresses; it covers `size` bytes."""
    names = b"\0" + b"\0".join((_SONAME, _VERSION, *functions)) + b"\0"

    def name(text: bytes) -> int:
        return names.index(b"\0" + text + b"\0") + 1

    symbols = _SYMBOL.pack(0, 0, 0, 0, 0, 0) + b"".join(
        _SYMBOL.pack(name(text), _FUNCTION, 0, 1, (address - at) % 2**64, 16) for text, address in functions.items()
    )
    count = len(functions) + 1
    hashed = struct.pack(f"<3I{count}I", 1, count, count - 1, *(index - 1 if index else 0 for index in range(count)))
    versions = struct.pack(f"<{count}H", 0, *[2] * (count - 1))
    definitions = _definition(1, 1, _SONAME, name(_SONAME), last=False) + _definition(
        0, 2, _VERSION, name(_VERSION), last=True
    )
    offset = _HEADER.size + 2 * _PROGRAM_HEADER.size
    places, body = [], b""
    for part in (hashed, symbols, names, versions, definitions):
        body += bytes(-len(body) % 8)
        places.append(offset + len(body))
        body += part
    body += bytes(-len(body) % 8)
    dynamic = b"".join(
        _PAIR.pack(tag, value)
        for tag, value in (
            (_DT_SONAME, name(_SONAME)),
            (_HASH, places[0]),
            (_SYMTAB, places[1]),
            (_STRTAB, places[2]),
            (_STRSZ, len(names)),
            (_SYMENT, _SYMBOL.size),
            (_VERSYM, places[3]),
            (_VERDEF, places[4]),
            (_VERDEFNUM, 2),
            (0, 0),
        )
    )
    at_dynamic = offset + len(body)
    end = at_dynamic + len(dynamic)
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    # Intel's uRTS looks for .dynsym and .dynstr by section headers.
    sections = (
        (b"", 0, 0, 0, 0, 0),
        (b".hash", 5, places[0], len(hashed), 2, 4),
        (b".dynsym", 11, places[1], len(symbols), 3, _SYMBOL.size),
        (b".dynstr", 3, places[2], len(names), 0, 0),
        (b".gnu.version", 0x6FFFFFFF, places[3], len(versions), 2, 2),
        (b".gnu.version_d", 0x6FFFFFFD, places[4], len(definitions), 3, 0),
        (b".dynamic", 6, at_dynamic, len(dynamic), 3, _PAIR.size),
        (b".shstrtab", 3, end, 0, 0, 0),
    )
    section_names = b"\0".join(section[0] for section in sections) + b"\0"
    sections = (*sections[:-1], (b".shstrtab", 3, end, len(section_names), 0, 0))
    at_sections = -(-(end + len(section_names)) // 8) * 8
    table = b""
    for text, kind, start, length, link, entry in sections:
        named = section_names.index(b"\0" + text + b"\0") + 1 if text else 0
        table += _SECTION.pack(
            named, kind, 2 if kind else 0, start, start, length, link, 1 if kind == 11 else 0, 8, entry
        )
    header = _HEADER.pack(
        identity, 3, 62, 1, 0, _HEADER.size, at_sections, 0, _HEADER.size, _PROGRAM_HEADER.size, 2, _SECTION.size,
        len(sections), len(sections) - 1,
    )  # fmt: skip
    rest = section_names.ljust(at_sections - end, b"\0") + table
    load = _PROGRAM_HEADER.pack(_PT_LOAD, 5, 0, 0, 0, size, size, 0x1000)
    dynamic_header = _PROGRAM_HEADER.pack(_PT_DYNAMIC, 4, *[at_dynamic] * 3, len(dynamic), len(dynamic), 8)
    return header + load + dynamic_header + body + dynamic + rest


def functions_of(kernel: bytes, at: int) -> dict[bytes, int]:
    """The functions of the kernel's vDSO, by name at absolute addresses; `kernel` is its first pages, at `at`."""
    fields = _HEADER.unpack_from(kernel)
    tags: dict[int, int] = {}
    for index in range(fields[10]):
        kind, _, offset, *_, size, _, _ = _PROGRAM_HEADER.unpack_from(kernel, fields[5] + index * fields[9])
        if kind == _PT_DYNAMIC:
            tags = dict(_PAIR.iter_unpack(kernel[offset : offset + size]))
    found: dict[bytes, int] = {}
    if _SYMTAB not in tags or _STRTAB not in tags:
        return found
    for index in range(1, _MOST_SYMBOLS):
        start = tags[_SYMTAB] + index * _SYMBOL.size
        if start + _SYMBOL.size > min(tags[_STRTAB] if tags[_STRTAB] > start else len(kernel), len(kernel)):
            break
        name_at, information, _, section, value, _ = _SYMBOL.unpack_from(kernel, start)
        text = kernel[tags[_STRTAB] + name_at :].split(b"\0", 1)[0]
        if section and information & 0xF == 2 and text:
            found[text] = at + value
    return found


def _definition(flags: int, index: int, text: bytes, name: int, *, last: bool) -> bytes:
    """struct Elf64_Verdef with its one Elf64_Verdaux."""
    return struct.pack("<HHHHIII", 1, flags, index, 1, _hash(text), 20, 0 if last else 28) + struct.pack(
        "<II", name, 0
    )


def _hash(text: bytes) -> int:
    value = 0
    for byte in text:
        value = (value << 4) + byte
        high = value & 0xF000_0000
        value = (value ^ high >> 24) & ~high & 0xFFFF_FFFF
    return value
