"""The metadata that Intel's sgx_sign leaves in a signed enclave (metadata.h and se_page_attr.h of the SDK).

It stands in the note ``.note.sgxmeta``: one after the other for several versions of the loader, each with its own
layout, patches and SIGSTRUCT. A platform without EDMM takes the highest version 1.x, one with it the highest 3.x;
2.x is passed over by today's loaders. A major version of 10 more says that the enclave's range is set (ELRANGE).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag

from sgxkit.enclave.elf import Elf, within
from sgxkit.enclave.image import create_problem
from sgxkit.errors import FormatError
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.isa.sigstruct import SIGSTRUCT_SIZE, Sigstruct
from sgxkit.messages import Message, msg

MAGIC = 0x86A8_0294_635D_0E4C
SECTION = b".note.sgxmeta"
VERSION_1_5 = (1, 3)

_NOTE = struct.Struct("<III")
_NOTE_NAME = b"sgx_metadata\0"
# magic 8 | version 8 | size 4 | tcs_policy 4 | ssa_frame_size 4 | max_save_buffer_size 4 | desired_misc_select 4
# | tcs_min_pool 4 | enclave_size 8 | attributes 16
_HEAD = struct.Struct("<QIIIIIIIIQQQ")
_DIRECTORY = struct.Struct("<II")
_ENTRY = struct.Struct("<HHIQIIQ")
_GROUP = struct.Struct("<HHIQ16s")
_PATCH = struct.Struct("<QII16s")
_ELRANGE = struct.Struct("<QQQ")
_EXTENSION = struct.Struct("<IIII")
_DIRECTORIES_AT = _HEAD.size + SIGSTRUCT_SIZE
_LEAST_SIZE = _DIRECTORIES_AT + 2 * _DIRECTORY.size
_GROUP_FLAG = 1 << 12
_SHARED_OBJECT = 0x1002
_ELRANGE_GAP = 10
_MAX_SSA_FRAMES = 4

# sgx_sign writes 24 KiB at most for a version, and three versions. What a small file names again and again must not
# become large.
_MAX_SIZE = 1 << 20
_MAX_NAMED = 1 << 24
_MAX_VERSIONS = 16


class PageAttributes(IntFlag):
    """What a loader does with the pages of a layout entry (se_page_attr.h)."""

    EADD = 1 << 0
    EEXTEND = 1 << 1
    EREMOVE = 1 << 2
    POST_ADD = 1 << 3
    POST_REMOVE = 1 << 4
    DYN_THREAD = 1 << 5
    GROW_DOWN = 1 << 6


_NAMES = {
    1: "heap (min)",
    2: "heap (init)",
    3: "heap (max)",
    4: "TCS",
    5: "thread data",
    6: "SSA",
    7: "stack (max)",
    8: "stack (min)",
    10: "guard",
    11: "dynamic heap (min)",
    12: "dynamic heap (init)",
    13: "dynamic heap (max)",
    14: "dynamic TCS",
    15: "dynamic thread data",
    16: "dynamic SSA",
    17: "dynamic stack (max)",
    18: "dynamic stack (min)",
    20: "reserved memory (min)",
    21: "reserved memory (init)",
    22: "reserved memory (max)",
    23: "user region",
}


@dataclass(frozen=True, slots=True)
class LayoutEntry:
    """Pages outside the segments. `content` is what they begin with, None where `fill` is repeated through them."""

    id: int
    attributes: PageAttributes
    page_count: int
    rva: int
    content: bytes | None
    fill: int
    si_flags: int

    @property
    def name(self) -> str:
        return _NAMES.get(self.id, f"layout {self.id}")


@dataclass(frozen=True, slots=True)
class LayoutGroup:
    """Load the `entry_count` entries before this one again, `load_times` times, each `load_step` further."""

    entry_count: int
    load_times: int
    load_step: int


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes that replace those of the file from `offset` on, before anything of it is loaded."""

    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Elrange:
    """Where the enclave's range begins and ends, and where in it the image is."""

    image_address: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """One version's metadata.

    offset          where it stands in the file.
    bound_threads   whether a thread of the caller keeps its TCS (tcs_policy).
    """

    offset: int
    version: tuple[int, int]
    size: int
    bound_threads: bool
    ssa_frame_size: int
    miscselect: int
    enclave_size: int
    attributes: Attributes
    sigstruct: Sigstruct
    layout: tuple[LayoutEntry | LayoutGroup, ...]
    patches: tuple[Patch, ...]
    elrange: Elrange | None

    @property
    def generation(self) -> int:
        """1 (no EDMM needed), 2 or 3 (EDMM)."""
        return self.version[0] % _ELRANGE_GAP


def parse_metadata(elf: Elf) -> tuple[Metadata, ...]:
    """Read all versions' metadata of a signed enclave; raises FormatError where there is none or it is malformed."""
    section = next((section for section in elf.sections if section.name == SECTION), None)
    if section is None:
        raise FormatError(
            SECTION.decode(),
            msg("the file has no such section"),
            hint=msg("only enclaves that Intel's sgx_sign has signed can be read"),
        )
    note = within(elf.data, section.offset, section.size, SECTION.decode(), at=section.offset)
    begin = _NOTE.size + len(_NOTE_NAME)
    if len(note) < begin or note[_NOTE.size : begin] != _NOTE_NAME:
        raise FormatError(SECTION.decode(), msg("the note is not named sgx_metadata"), offset=section.offset)
    block = note[: begin + _NOTE.unpack_from(note)[1]]
    found: list[Metadata] = []
    at = begin
    while len(block) - at >= _LEAST_SIZE and int.from_bytes(block[at : at + 8], "little") == MAGIC:
        if len(found) == _MAX_VERSIONS:
            problem = msg("{count} of them, at most {limit} are read", count=len(found) + 1, limit=_MAX_VERSIONS)
            raise FormatError("metadata", problem, offset=section.offset + at)
        found.append(_Reader(block[at:], section.offset + at).metadata())
        at += found[-1].size
    if not found:
        raise FormatError(
            "metadata",
            msg("the enclave is not signed"),
            offset=section.offset + begin,
            hint=msg("only enclaves that Intel's sgx_sign has signed can be read"),
        )
    return tuple(found)


class _Reader:
    """Metadata from its first byte on, and where that stands in the file."""

    def __init__(self, data: bytes, offset: int) -> None:
        self.offset = offset
        self.data = data
        self.named = 0
        size = int.from_bytes(data[16:20], "little")
        if size > _MAX_SIZE:
            raise self.error("size", msg("{size} bytes, at most {limit} are read", size=size, limit=_MAX_SIZE), 16)
        self.data = self.part(0, size, "size", 16)

    def error(self, field: str, problem: Message, at: int) -> FormatError:
        return FormatError(f"metadata.{field}", problem, offset=self.offset + at)

    def part(self, offset: int, size: int, field: str, at: int) -> bytes:
        """Bytes of the metadata that `field` at `at` names."""
        if offset + size > len(self.data):
            problem = msg("{size} bytes at {offset} are not in the metadata", size=size, offset=offset)
            raise self.error(field, problem, at)
        self.named += size
        if self.named > _MAX_NAMED:
            problem = msg("{size} bytes, at most {limit} are read", size=self.named, limit=_MAX_NAMED)
            raise self.error(field, problem, at)
        return self.data[offset : offset + size]

    def metadata(self) -> Metadata:
        size = len(self.data)
        if size < _LEAST_SIZE:
            raise self.error("size", msg("{value}, must be {expected}", value=size, expected=f">= {_LEAST_SIZE}"), 16)
        _, minor, major, _, policy, frames, _, miscselect, _, enclave_size, flags, xfrm = _HEAD.unpack_from(self.data)
        if policy > 1:
            raise self.error("tcs_policy", msg("{value}, must be {expected}", value=policy, expected="0, 1"), 20)
        if frames > _MAX_SSA_FRAMES:
            raise self.error(
                "ssa_frame_size", msg("{value}, must be {expected}", value=frames, expected="1 ... 4"), 24
            )
        if problem := create_problem(enclave_size, frames):
            raise self.error("enclave_size", problem, 40)
        sigstruct = Sigstruct.from_bytes(
            self.data[_HEAD.size : _DIRECTORIES_AT], field="metadata.SIGSTRUCT", offset=self.offset + _HEAD.size
        )
        version = (major, minor)
        if _has_extensions(version):
            self.refuse_shared_object()
        return Metadata(
            self.offset,
            version,
            size,
            policy == 0,
            frames,
            miscselect,
            enclave_size,
            Attributes(flags, xfrm),
            sigstruct,
            self.layout(),
            self.patches(),
            self.elrange(enclave_size) if major > _ELRANGE_GAP else None,
        )

    def directory(self, index: int, field: str) -> tuple[int, bytes]:
        at = _DIRECTORIES_AT + index * _DIRECTORY.size
        offset, size = _DIRECTORY.unpack(self.part(at, _DIRECTORY.size, field, at))
        return offset, self.part(offset, size, field, at)

    def patches(self) -> tuple[Patch, ...]:
        start, table = self.directory(0, "patches")
        found = []
        for at in range(0, len(table) - _PATCH.size + 1, _PATCH.size):
            destination, source, size, _ = _PATCH.unpack_from(table, at)
            found.append(Patch(destination, self.part(source, size, "patch", start + at)))
        return tuple(found)

    def layout(self) -> tuple[LayoutEntry | LayoutGroup, ...]:
        start, table = self.directory(1, "layout")
        found: list[LayoutEntry | LayoutGroup] = []
        for at in range(0, len(table) - _ENTRY.size + 1, _ENTRY.size):
            identifier, second, third, fourth, content_size, content_offset, si_flags = _ENTRY.unpack_from(table, at)
            if identifier & _GROUP_FLAG:
                before = found[len(found) - second :] if second <= len(found) else []
                if len(before) != second or any(isinstance(entry, LayoutGroup) for entry in before):
                    raise self.error(
                        "layout group", msg("it does not follow the entries that it repeats"), start + at
                    )
                found.append(LayoutGroup(second, third, fourth))
                continue
            content = self.part(content_offset, content_size, "layout entry", start + at) if content_offset else None
            found.append(
                LayoutEntry(
                    identifier,
                    PageAttributes(second & 0x7F),
                    third,
                    fourth,
                    content,
                    0 if content_offset else content_size,
                    si_flags,
                )
            )
        return tuple(found)

    def elrange(self, enclave_size: int) -> Elrange:
        start, table = self.directory(2, "ELRANGE")
        if len(table) != _ELRANGE.size:
            problem = msg("{size} bytes, must be {expected}", size=len(table), expected=_ELRANGE.size)
            raise self.error("ELRANGE", problem, start)
        image, begin, size = _ELRANGE.unpack(table)
        if size_problem := create_problem(size, 1):
            raise self.error("ELRANGE", size_problem, start)
        if begin % size or image % PAGE_SIZE or image < begin or image + enclave_size > begin + size:
            raise self.error("ELRANGE", msg("the image is not in the range, or not aligned"), start)
        return Elrange(image, begin, size)

    def refuse_shared_object(self) -> None:
        """The FIPS provider of SDK 2.2x is a second object inside the file, which is not read here."""
        start, table = self.directory(3, "extensions")
        for at in range(0, len(table) - _EXTENSION.size + 1, _EXTENSION.size):
            if _EXTENSION.unpack_from(table, at)[0] == _SHARED_OBJECT:
                raise self.error(
                    "extensions", msg("enclaves with a FIPS provider inside are not supported"), start + at
                )


def _has_extensions(version: tuple[int, int]) -> bool:
    generation, minor = version[0] % _ELRANGE_GAP, version[1]
    return (generation == 1 and minor >= 5) or (generation == 3 and minor >= 2)
