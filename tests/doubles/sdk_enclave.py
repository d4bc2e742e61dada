"""Signed enclaves as Intel's sgx_sign makes them, in miniature: an ELF file, metadata, and both put together."""

from __future__ import annotations

import struct

from sgxkit.isa.attributes import Attributes
from sgxkit.isa.sigstruct import Sigstruct

MAGIC = 0x86A80294635D0E4C
TEMPLATE = (72, 64 + 1808 + 32)
"""Size and offset of the TCS template in `metadata`."""
CODE, DATA = bytes(range(1, 201)), b"data" * 30


def blank_sigstruct(**fields: object) -> Sigstruct:
    """A SIGSTRUCT that nobody has signed."""
    values: dict[str, object] = {
        "vendor": 0,
        "date": 0x20260131,
        "swdefined": 0,
        "modulus": bytes(384),
        "signature": bytes(384),
        "miscselect": 0,
        "miscmask": 0xFFFFFFFF,
        "cet_attributes": 0,
        "cet_attributes_mask": 0,
        "isvfamilyid": bytes(16),
        "attributes": Attributes(4, 3),
        "attributemask": Attributes(2**64 - 3, 2**64 - 0xE5),
        "enclavehash": bytes(32),
        "isvextprodid": bytes(16),
        "isvprodid": 0,
        "isvsvn": 0,
        "q1": bytes(384),
        "q2": bytes(384),
    }
    return Sigstruct(**{**values, **fields})  # type: ignore[arg-type]


def entry(
    identifier: int, attributes: int, pages: int, rva: int, content: tuple[int, int] = (0, 0), *, flags: int = 0x203
) -> bytes:
    """A layout entry; `content` is its size (or fill) and its offset in the metadata."""
    return struct.pack("<HHIQIIQ", identifier, attributes, pages, rva, *content, flags)


def group(entries: int, times: int, step: int) -> bytes:
    return struct.pack("<HHIQ16x", 0x1009, entries, times, step)


def tcs_template(oentry: int = 0x123, ofsbase: int = 0x4000, ogsbase: int = 0x5000) -> bytes:
    return struct.pack("<QQQIIQQQQII", 0, 0, 0x1000, 0, 2, oentry, 0, ofsbase, ogsbase, 0xFFF, 0xFFF)


def metadata(
    *,
    version: tuple[int, int] = (1, 4),
    size: int = 1 << 20,
    layout: bytes | None = None,
    patches: tuple[tuple[int, bytes], ...] = (),
    elrange: tuple[int, int, int] | None = None,
    sigstruct: Sigstruct | None = None,
    tcs: bytes | None = None,
    policy: int = 1,
) -> bytes:
    """Metadata of an enclave with a heap, and twice a guard page, a stack, a TCS and an SSA.

    `layout` is another layout; its TCS has the template `tcs` at `TEMPLATE`.
    """
    tail = tcs or tcs_template()
    start = TEMPLATE[1]
    if layout is None:
        layout = b"".join(
            (
                entry(1, 1, 4, 0x10000),
                entry(10, 0, 1, 0x14000, flags=0),
                entry(8, 3, 2, 0x15000, (0xCCCCCCCC, 0)),
                entry(4, 3, 1, 0x17000, (72, start), flags=0x100),
                entry(6, 3, 2, 0x18000),
                group(4, 2, 0x6000),
                entry(3, 8, 16, 0x40000),
            )
        )
    table = b""
    for offset, content in patches:
        table += struct.pack("<QII16x", offset, start + len(tail), len(content))
        tail += content
    directories = []
    for part in (table, layout, struct.pack("<QQQ", *elrange) if elrange else b""):
        directories.append((start + len(tail), len(part)) if part else (0, 0))
        tail += part
    directories.append((0, 0))
    tail += bytes(-len(tail) % 4)
    total = start + len(tail)
    head = struct.pack("<QIIIIIIIIQQQ", MAGIC, version[1], version[0], total, policy, 1, 832, 0, 1, size, 4, 3)
    css = (sigstruct or blank_sigstruct()).to_bytes()
    return head + css + b"".join(struct.pack("<II", *d) for d in directories) + tail


def note(*parts: bytes) -> bytes:
    """The section .note.sgxmeta."""
    content = b"".join(parts)
    return struct.pack("<III", 13, len(content), 1) + b"sgx_metadata\0" + content


def elf(section: bytes, *, dynamic: tuple[tuple[int, int], ...] = (), relocations: bytes = b"") -> bytes:
    """A shared object: code at 0x1000, data with .bss at 0x3010, relocations at the address 0x500 (not loaded)."""
    names = b"\0.note.sgxmeta\0.rela.dyn\0.shstrtab\0"
    tags = b"".join(struct.pack("<qQ", *pair) for pair in (*dynamic, (0, 0)))
    at = 64 + 3 * 56
    places = []
    body = b""
    for part in (CODE, DATA, tags, relocations, section, names):
        places.append((at + len(body), len(part)))
        body += part + bytes(-len(part) % 8)
    code, data, dyn, rela, meta, strings = places
    segments = (
        (1, 5, code[0], 0x1000, 0x1000, code[1], code[1], 0x1000),
        (1, 6, data[0], 0x3010, 0x3010, data[1], 0x2000, 0x1000),
        (2, 6, dyn[0], 0x3010, 0x3010, dyn[1], dyn[1], 8),
    )
    sections = (
        (0,) * 10,
        (1, 7, 0, 0, *meta, 0, 0, 4, 0),
        (15, 4, 2, 0x500, *rela, 0, 0, 8, 24),
        (25, 3, 0, 0, *strings, 0, 0, 1, 0),
    )
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        *(3, 62, 1, 0x1000, 64, at + len(body), 0, 64, 56, len(segments), 64, len(sections), 3),
    )
    return (
        header
        + b"".join(struct.pack("<IIQQQQQQ", *segment) for segment in segments)
        + body
        + b"".join(struct.pack("<IIQQQQIIQQ", *one) for one in sections)
    )
