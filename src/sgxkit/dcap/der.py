"""Reading DER: the few steps that certificates, CRLs and the SGX extension need (ITU-T X.690).

Only definite lengths in their shortest form are read, as DER demands; anything else is a FormatError.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sgxkit.errors import FormatError
from sgxkit.messages import msg

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
ENUMERATED = 0x0A
SEQUENCE = 0x30
SET = 0x31


class Element(NamedTuple):
    """One tag-length-value: `data[start:end]` is all of it, `data[content:end]` its value."""

    tag: int
    start: int
    content: int
    end: int


def element(data: bytes, start: int, limit: int, field: str, base: int = 0) -> Element:
    """Read the element at `start`, which must end at or before `limit`.

    Raises FormatError under the name `field`; its offset is `base` + the position in `data`.
    """
    if start + 2 > limit:
        raise FormatError(field, msg("DER element cut short"), offset=base + start)
    tag = data[start]
    length = data[start + 1]
    content = start + 2
    if length >= 0x80:
        size = length - 0x80
        if not 1 <= size <= 4 or content + size > limit:
            raise FormatError(field, msg("DER length is not readable"), offset=base + start + 1)
        length = int.from_bytes(data[content : content + size], "big")
        if length < 0x80 or length >> (8 * (size - 1)) == 0:
            raise FormatError(field, msg("DER length is not in its shortest form"), offset=base + start + 1)
        content += size
    end = content + length
    if end > limit:
        raise FormatError(
            field,
            msg("DER element of {size} bytes, {left} left", size=length, left=limit - content),
            offset=base + start,
        )
    return Element(tag, start, content, end)


def elements(data: bytes, field: str, base: int = 0) -> Iterator[Element]:
    """Read elements one after the other until `data` is used up; raises FormatError, as for no element at all."""
    position = 0
    while position < len(data) or position == 0:
        found = element(data, position, len(data), field, base)
        yield found
        position = found.end


def children(data: bytes, parent: Element, field: str) -> Iterator[Element]:
    """Read the elements inside a constructed element."""
    position = parent.content
    while position < parent.end:
        found = element(data, position, parent.end, field)
        yield found
        position = found.end


def expect(found: Element, tag: int, field: str) -> Element:
    """Return the element if its tag is `tag`, else raise FormatError."""
    if found.tag != tag:
        raise FormatError(
            field, msg("DER tag {tag}, must be {expected}", tag=hex(found.tag), expected=hex(tag)), offset=found.start
        )
    return found


def unsigned(data: bytes, found: Element, field: str, limit: int) -> int:
    """Read an INTEGER or ENUMERATED between 0 and `limit`, in its shortest form."""
    value = data[found.content : found.end]
    if not value or value[0] & 0x80 or (len(value) > 1 and value[0] == 0 and not value[1] & 0x80):
        raise FormatError(field, msg("not an unsigned DER integer"), offset=found.start)
    number = int.from_bytes(value, "big")
    if number > limit:
        raise FormatError(field, msg("{number} is more than {limit}", number=number, limit=limit), offset=found.start)
    return number


def boolean(data: bytes, found: Element, field: str) -> bool:
    """Read a BOOLEAN, which DER writes as 00 or FF."""
    value = data[expect(found, BOOLEAN, field).content : found.end]
    if value not in (b"\x00", b"\xff"):
        raise FormatError(field, msg("not a DER boolean"), offset=found.start)
    return value == b"\xff"
