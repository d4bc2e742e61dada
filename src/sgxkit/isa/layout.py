"""The layout of a structure of fixed size: little-endian fields at fixed offsets, reserved bytes zero.

The structures of Intel SDM Vol. 3D, chapter 35 (section 35.6 on), are all of this kind.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from sgxkit.errors import FormatError
from sgxkit.messages import msg

_FIELD = re.compile(r"(\d*)([a-zA-Z?])")


class Layout:
    """A `struct` format in which ``x`` is a reserved byte: written as zero, and refused as anything else.

    `name` says what the structure is, for errors; reserved ranges are called reserved1, reserved2... in order.
    """

    __slots__ = ("_byte_fields", "_reserved", "_struct", "name", "size")

    def __init__(self, name: str, fields: str) -> None:
        self.name = name
        self._struct = struct.Struct("<" + fields)
        self.size = self._struct.size
        reserved: list[tuple[int, int, bytes]] = []
        byte_fields: list[int | None] = []
        at = 0
        for count, code in _FIELD.findall(fields):
            size = struct.calcsize(f"<{count}{code}")
            if code == "x":
                reserved.append((at, size, bytes(size)))
            elif code == "s":
                byte_fields.append(size)
            else:
                byte_fields.extend([None] * int(count or 1))
            at += size
        self._reserved = tuple(reserved)
        self._byte_fields = tuple(byte_fields)

    def unpack(
        self, data: bytes, field: str | None = None, offset: int = 0, *, ignore_reserved: bool = False
    ) -> tuple[Any, ...]:
        """Read the fields of `data`, which stood at `offset` and is called `field` in errors.

        Raises FormatError on another length and where a reserved byte is not zero. `ignore_reserved` is for the
        leaf functions that do not look at these bytes.
        """
        field = self.name if field is None else field
        if len(data) != self.size:
            raise FormatError(
                field, msg("{size} bytes, must be {expected}", size=len(data), expected=self.size), offset=offset
            )
        if not ignore_reserved:
            for number, (at, size, zeros) in enumerate(self._reserved, 1):
                if data[at : at + size] != zeros:
                    raise FormatError(
                        f"{field}.reserved{number}", msg("reserved bytes must be zero"), offset=offset + at
                    )
        return self._struct.unpack(data)

    def pack(self, *values: int | bytes) -> bytes:
        """Write the fields; bytes of another length than their field are refused, never cut or filled."""
        for value, size in zip(values, self._byte_fields, strict=True):
            if size is not None and (not isinstance(value, bytes) or len(value) != size):
                raise ValueError(f"{self.name}: a field of {size} bytes cannot hold {value!r}")
        return self._struct.pack(*values)


def require_clear(value: int, mask: int, field: str, offset: int) -> None:
    """Raise FormatError if a bit of `mask`, which is reserved in `field`, is set in `value`."""
    if value & mask:
        raise FormatError(field, msg("reserved bits must be zero: {bits}", bits=hex(value & mask)), offset=offset)
