"""Values of C in Python: numbers, bytes, lists and dictionaries, and how they stand in memory on x86-64."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence

from sgxkit.errors import InputError
from sgxkit.messages import Message, msg
from sgxkit.sdk.edl.syntax import Basic, Enumeration, Pointer, Struct, Union
from sgxkit.sdk.layout import POINTER_SIZE, ArrayOf, Opaque, Resolved, Types

_FLOATS = {4: struct.Struct("<f"), 8: struct.Struct("<d")}
_LONG_DOUBLE = struct.Struct("<QH6x")
_BIAS, _SIGN, _SPECIAL = 16383, 0x8000, 0x7FFF


def pack(types: Types, kind: Resolved, value: object, name: str) -> bytes:
    """Return `value`, called `name` in errors, as C has it in memory.

    Numbers are int or float, pointers int or None, structs mappings in which members that are missing are zero,
    unions bytes or a mapping with one member, arrays sequences, arrays of single bytes and opaque types bytes.
    Raises InputError for what does not fit.
    """
    match kind:
        case Pointer():
            return _integer(0 if value is None else value, POINTER_SIZE, name, signed=False)
        case Basic(kind="float"):
            return _float(value, kind.size, name)
        case Basic():
            if kind.size == 1 and isinstance(value, bytes) and len(value) == 1:
                return value
            return _integer(value, kind.size, name, signed=kind.kind == "signed")
        case Enumeration():
            size = types.size(kind)
            return _integer(value, size, name, signed=isinstance(value, int) and value < 0)
        case Opaque():
            return _exactly(value, kind.size, name)
        case ArrayOf():
            return _array(types, kind, value, name)
        case Struct():
            return _struct(types, kind, value, name)
        case Union():
            return _union(types, kind, value, name)


def unpack(types: Types, kind: Resolved, data: bytes) -> object:
    """Return what stands in `data`; structs become dictionaries, unions and arrays of single bytes become bytes."""
    match kind:
        case Pointer():
            return int.from_bytes(data, "little")
        case Basic(kind="float"):
            return _read_float(data)
        case Basic():
            return int.from_bytes(data, "little", signed=kind.kind == "signed")
        case Enumeration():
            return int.from_bytes(data, "little")
        case Opaque() | Union():
            return bytes(data)
        case ArrayOf():
            count, *inner = kind.dimensions
            element = ArrayOf(kind.element, tuple(inner)) if inner else kind.element
            size = types.size(element)
            if is_byte(element):
                return bytes(data[:count])
            return [unpack(types, element, data[at : at + size]) for at in range(0, count * size, size or 1)]
        case Struct():
            return {
                field.name: unpack(types, field.type, data[field.offset : field.offset + field.size])
                for field in types.layout(kind).fields
            }


def is_byte(kind: Resolved) -> bool:
    """Whether an array of this is bytes in Python: char, int8_t, uint8_t, void."""
    return isinstance(kind, Basic) and kind.size <= 1


def misfit(name: str, expected: Message) -> InputError:
    """The error about a value that is not what it should be."""
    return InputError(msg("{name} must be {expected}", name=name, expected=expected))


def _integer(value: object, size: int, name: str, *, signed: bool) -> bytes:
    if not hasattr(value, "__index__"):
        raise misfit(name, msg("an integer"))
    try:
        return int(value.__index__()).to_bytes(size, "little", signed=signed)
    except OverflowError as error:
        bits = size * 8
        expected = (
            msg("a signed integer of {bits} bits", bits=bits)
            if signed
            else msg("an unsigned integer of {bits} bits", bits=bits)
        )
        raise misfit(name, expected) from error


def _float(value: object, size: int, name: str) -> bytes:
    if not isinstance(value, (int, float)):
        raise misfit(name, msg("a number"))
    try:
        number = float(value)
        return _FLOATS[size].pack(number) if size in _FLOATS else _pack_long_double(number)
    except OverflowError as error:
        raise misfit(name, msg("a number that {size} bytes can hold", size=size)) from error


def _pack_long_double(number: float) -> bytes:
    """The x87 format: sign and exponent in 16 bits, the significand in 64 (Intel SDM Vol. 1, 4.2)."""
    sign = _SIGN if math.copysign(1, number) < 0 else 0
    if math.isnan(number) or math.isinf(number):
        return _LONG_DOUBLE.pack(3 << 62 if math.isnan(number) else 1 << 63, sign | _SPECIAL)
    if not number:
        return _LONG_DOUBLE.pack(0, sign)
    fraction, exponent = math.frexp(abs(number))
    return _LONG_DOUBLE.pack(int(math.ldexp(fraction, 64)), sign | (exponent - 1 + _BIAS))


def _read_float(data: bytes) -> float:
    if len(data) in _FLOATS:
        return float(_FLOATS[len(data)].unpack(data)[0])
    significand, high = _LONG_DOUBLE.unpack(data[:10] + bytes(6))
    sign, exponent = (-1.0 if high & _SIGN else 1.0), high & _SPECIAL
    if exponent == _SPECIAL:
        return sign * (math.inf if significand == 1 << 63 else math.nan)
    try:
        return sign * math.ldexp(significand, exponent - _BIAS - 63)
    except OverflowError:
        return sign * math.inf


def _exactly(value: object, size: int, name: str) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)) or memoryview(value).nbytes != size:
        raise misfit(name, msg("{size} bytes", size=size))
    return bytes(value)


def _array(types: Types, kind: ArrayOf, value: object, name: str) -> bytes:
    count, *inner = kind.dimensions
    element = ArrayOf(kind.element, tuple(inner)) if inner else kind.element
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _exactly(value, types.size(kind), name)
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        raise misfit(name, msg("a sequence of {count}", count=count))
    return b"".join(pack(types, element, one, f"{name}[{number}]") for number, one in enumerate(value))


def _struct(types: Types, kind: Struct, value: object, name: str) -> bytes:
    layout = types.layout(kind)
    if not isinstance(value, Mapping):
        return _exactly(value, layout.size, name)
    data = bytearray(layout.size)
    fields = {field.name: field for field in layout.fields}
    for member, one in value.items():
        field = fields.get(member)
        if field is None:
            raise InputError(msg("{where} has no {name}", where=f"struct {kind.name}", name=repr(member)))
        data[field.offset : field.offset + field.size] = pack(types, field.type, one, f"{name}.{member}")
    return bytes(data)


def _union(types: Types, kind: Union, value: object, name: str) -> bytes:
    layout = types.layout(kind)
    if not isinstance(value, Mapping):
        return _exactly(value, layout.size, name)
    fields = {field.name: field for field in layout.fields}
    if len(value) != 1 or not value.keys() <= fields.keys():
        raise misfit(name, msg("a mapping with one of {names}", names=", ".join(fields)))
    ((member, one),) = value.items()
    return pack(types, fields[member].type, one, f"{name}.{member}").ljust(layout.size, b"\0")
