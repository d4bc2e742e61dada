"""Messages of proto3, as frozen dataclasses: the part that the kubelet's interfaces use.

A message class lists its fields' numbers in `WIRE`; the types are those of its annotations: str, bool, int (as int32
and int64 both are), another message or None, tuples of these, and a mapping of strings. Fields that a class does not
know are skipped, as protobuf asks for. A singular field that comes twice is refused: no writer makes one.
The .proto files beside this one say the same in protobuf's own language; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Protocol, TypeVar, get_args, get_origin, get_type_hints

from sgxkit.aesm.wire import read_varint, take, varint
from sgxkit.errors import FormatError
from sgxkit.messages import msg

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_U64 = (1 << 64) - 1


class Message(Protocol):
    """A frozen dataclass all of whose fields have proto3's default."""

    WIRE: ClassVar[Mapping[str, int]]


MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: `shape` is single, repeated or map; `kind` is str, bool, int or a message class."""

    name: str
    number: int
    shape: str
    kind: Any


@cache
def _fields(cls: type[Message]) -> tuple[_Field, ...]:
    hints = get_type_hints(cls)
    return tuple(_field(name, number, hints[name]) for name, number in cls.WIRE.items())


def _field(name: str, number: int, hint: Any) -> _Field:
    origin = get_origin(hint)
    if origin is tuple:
        return _Field(name, number, "repeated", get_args(hint)[0])
    if origin is UnionType:
        return _Field(name, number, "single", get_args(hint)[0])
    if origin is not None:
        return _Field(name, number, "map", str)
    return _Field(name, number, "single", hint)


@cache
def _numbers(cls: type[Message]) -> Mapping[int, _Field]:
    return {field.number: field for field in _fields(cls)}


def encode(message: Message) -> bytes:
    """Write a message; what has its default value is left out."""
    out = bytearray()
    for field in _fields(type(message)):
        content = getattr(message, field.name)
        if field.shape == "map":
            for key, value in content.items():
                _put(out, field.number, _bytes_field(1, key.encode()) + _bytes_field(2, value.encode()))
        elif field.shape == "repeated":
            if field.kind in (int, bool) and content:
                _put(out, field.number, b"".join(varint(int(number) & _U64) for number in content))
            elif field.kind not in (int, bool):
                for element in content:
                    _put(out, field.number, _payload(element))
        elif field.kind in (int, bool):
            if content:
                out += varint(field.number << 3 | _VARINT) + varint(int(content) & _U64)
        elif content is not None and content != "":
            _put(out, field.number, _payload(content))
    return bytes(out)


def _payload(content: Any) -> bytes:
    return content.encode() if isinstance(content, str) else encode(content)


def _bytes_field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | _BYTES) + varint(len(content)) + content if content else b""


def _put(out: bytearray, number: int, content: bytes) -> None:
    out += varint(number << 3 | _BYTES) + varint(len(content)) + content


def decoder(cls: type[MessageT]) -> Callable[[bytes], MessageT]:
    """Return the function that reads messages of one class: what gRPC wants as a deserializer."""

    def read(data: bytes) -> MessageT:
        return decode(cls, data)

    return read


def decode(cls: type[MessageT], data: bytes) -> MessageT:
    """Read a message; raises FormatError for bytes that are none."""
    name = cls.__name__
    known = _numbers(cls)
    single: dict[str, Any] = {}
    repeated: dict[str, list[Any]] = {}
    maps: dict[str, dict[str, str]] = {}
    for start, number, kind, content in _read(data, name):
        field = known.get(number)
        if field is None:
            continue
        if field.shape == "map":
            key, value = _entry(_expect_bytes(kind, content, name, start), name)
            maps.setdefault(field.name, {})[key] = value
        elif field.shape == "repeated":
            repeated.setdefault(field.name, []).extend(_elements(field, kind, content, name, start))
        elif field.name in single:
            raise FormatError(name, msg("field {number} comes twice", number=number), offset=start)
        else:
            (single[field.name],) = _elements(field, kind, content, name, start, packed=False)
    return cls(**single, **{key: tuple(values) for key, values in repeated.items()}, **maps)


def _read(data: bytes, name: str) -> Iterator[tuple[int, int, int, int | bytes]]:
    """Offset, number, wire type and content of each field."""
    position = 0
    while position < len(data):
        start = position
        tag, position = read_varint(data, position, name)
        number, kind = tag >> 3, tag & 7
        content: int | bytes
        if not 0 < number < 1 << 29:
            raise FormatError(name, msg("there is no field {number}", number=number), offset=start)
        if kind == _VARINT:
            content, position = read_varint(data, position, name)
        elif kind == _BYTES:
            length, position = read_varint(data, position, name)
            content, position = take(data, position, length, name)
        elif kind in (_FIXED32, _FIXED64):
            content, position = take(data, position, 4 if kind == _FIXED32 else 8, name)
        else:
            raise FormatError(name, msg("wire type {kind} is not read", kind=kind), offset=start)
        yield start, number, kind, content


def _elements(
    field: _Field, kind: int, content: int | bytes, name: str, start: int, *, packed: bool = True
) -> list[Any]:
    if field.kind in (int, bool):
        if kind == _BYTES and packed:
            data, position, numbers = _expect_bytes(kind, content, name, start), 0, []
            while position < len(data):
                number, position = read_varint(data, position, name)
                numbers.append(_number(field.kind, number))
            return numbers
        if kind != _VARINT or not isinstance(content, int):
            raise FormatError(name, msg("wire type {kind} is not read", kind=kind), offset=start)
        return [_number(field.kind, content)]
    data = _expect_bytes(kind, content, name, start)
    return [_text(data, name, start) if field.kind is str else decode(field.kind, data)]


def _number(kind: type, value: int) -> int:
    """Negative int32 and int64 are written as 64-bit two's complement."""
    if kind is bool:
        return bool(value)
    return value - (1 << 64) if value >> 63 else value


def _entry(data: bytes, name: str) -> tuple[str, str]:
    key = value = ""
    for start, number, kind, content in _read(data, name):
        if number == 1:
            key = _text(_expect_bytes(kind, content, name, start), name, start)
        elif number == 2:
            value = _text(_expect_bytes(kind, content, name, start), name, start)
    return key, value


def _expect_bytes(kind: int, content: int | bytes, name: str, start: int) -> bytes:
    if kind != _BYTES or not isinstance(content, bytes):
        raise FormatError(name, msg("wire type {kind} is not read", kind=kind), offset=start)
    return content


def _text(data: bytes, name: str, start: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(name, msg("is not UTF-8 text"), offset=start) from error
