"""The wire of AESM: frames, and the part of protobuf that its messages use.

A frame is a 4-byte little-endian length and one protobuf message (docs/reference/host.md 2.1). Messages have numbers
and byte strings only (protobuf encoding, wire types 0 and 2); fields that a message does not know are skipped, as
protobuf does, and a field that comes twice is refused: no client of AESM writes one.
"""

from __future__ import annotations

import struct

from sgxkit.errors import FormatError
from sgxkit.messages import msg

FRAME_HEADER = struct.Struct("<I")
MAX_REQUEST = 16 << 10
"""Ten attestation key identifiers and a report fit several times over."""
MAX_RESPONSE = 64 << 10

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_FIELDS = 64
_MAX_FIELD_NUMBER = (1 << 29) - 1

Value = int | bytes


def frame(message: bytes) -> bytes:
    """Put a message's length before it."""
    return FRAME_HEADER.pack(len(message)) + message


def frame_length(header: bytes, limit: int) -> int:
    """Read the 4 bytes before a message; raises FormatError for an empty one or one of more than `limit` bytes."""
    (length,) = FRAME_HEADER.unpack(header)
    if not 0 < length <= limit:
        raise FormatError(
            "AESM frame", msg("a message of {size} bytes, between 1 and {limit} are read", size=length, limit=limit)
        )
    return int(length)


def encode_fields(fields: dict[int, Value]) -> bytes:
    """Write fields in the order given."""
    out = bytearray()
    for number, value in fields.items():
        if isinstance(value, int):
            out += varint(number << 3 | _VARINT) + varint(value)
        else:
            out += varint(number << 3 | _BYTES) + varint(len(value)) + value
    return bytes(out)


def decode_fields(data: bytes, name: str) -> dict[int, Value]:
    """Read a message's fields by number; raises FormatError, which names the message `name`."""
    found: dict[int, Value] = {}
    position = 0
    while position < len(data):
        start = position
        tag, position = read_varint(data, position, name)
        number, kind = tag >> 3, tag & 7
        if not 0 < number <= _MAX_FIELD_NUMBER:
            raise FormatError(name, msg("there is no field {number}", number=number), offset=start)
        value: Value
        if kind == _VARINT:
            value, position = read_varint(data, position, name)
        elif kind == _BYTES:
            length, position = read_varint(data, position, name)
            value, position = take(data, position, length, name)
        elif kind in (_FIXED32, _FIXED64):
            value, position = take(data, position, 4 if kind == _FIXED32 else 8, name)
        else:
            raise FormatError(name, msg("wire type {kind} is not read", kind=kind), offset=start)
        if number in found:
            raise FormatError(name, msg("field {number} comes twice", number=number), offset=start)
        if len(found) == _MAX_FIELDS:
            raise FormatError(name, msg("more than {limit} fields", limit=_MAX_FIELDS), offset=start)
        found[number] = value
    return found


def take(data: bytes, position: int, length: int, name: str) -> tuple[bytes, int]:
    """Read `length` bytes and where the next one is; raises FormatError, which names the message `name`."""
    end = position + length
    if end > len(data):
        raise FormatError(name, msg("a field is longer than the message"), offset=position)
    return data[position:end], end


def varint(value: int) -> bytes:
    """Write a number of up to 64 bits, seven bits a byte, least significant first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, position: int, name: str) -> tuple[int, int]:
    """Read a number and where the next byte is; raises FormatError, which names the message `name`."""
    value = 0
    for index, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value >> 64:
                break
            return value, position + index + 1
    else:
        if len(data) - position < 10:
            raise FormatError(name, msg("it ends inside a number"), offset=position)
    raise FormatError(name, msg("a number of more than 64 bits"), offset=position)
