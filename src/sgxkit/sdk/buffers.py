"""What a pointer points at: how many bytes, of which type, and these bytes in Python and in the memory outside.

A buffer is bytes (bytearray where it can be written) for single bytes and void, else a list of values; or, as an
argument, anything that has a buffer: ctypes, array, NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import dataclass
from math import prod

from sgxkit.enclave.platform import OutsideMemory
from sgxkit.errors import InputError
from sgxkit.messages import msg
from sgxkit.sdk.edl.syntax import BASICS, VOID, WCHAR, Attributes, CType, Declaration, Extent, Pointer, Struct
from sgxkit.sdk.layout import ArrayOf, Resolved, Types
from sgxkit.sdk.values import is_byte, misfit, pack, unpack

MAX_BUFFER = 1 << 30
"""Bytes of one buffer; more is taken for an error."""
_CHUNK = 256

Lookup = Callable[[str], int]
"""The value of the parameter or member of that name, which is a number."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a pointer points at: `size` bytes, which are `kind`; `element` is one of its values."""

    kind: Resolved
    element: Resolved
    size: int


def content(types: Types, declaration: Declaration, lookup: Lookup) -> Content:
    """What a parameter or member points at, by edger8r's rules; raises InputError where it is too large."""
    attributes = declaration.attributes or Attributes()
    if declaration.dimensions:
        element = types.resolve(declaration.type)
        kind = ArrayOf(element, declaration.dimensions)
        return Content(kind, element, _limited(declaration, types.size(element) * prod(declaration.dimensions)))
    if attributes.isary:
        kind_of_array = types.resolve(declaration.type)
        return Content(kind_of_array, kind_of_array, types.size(kind_of_array))
    element = pointee(types, declaration.type, attributes)
    each = types.size(element) if attributes.size is None else _number(attributes.size, lookup)
    count = 1 if attributes.count is None else _number(attributes.count, lookup)
    size = _limited(declaration, each * count)
    unit = types.size(element)
    if unit <= 1:
        return Content(ArrayOf(BASICS["uint8_t"], (size,)), BASICS["uint8_t"], size)
    return Content(ArrayOf(element, (size // unit,)), element, size)


def shared(types: Types, declaration: Declaration) -> Content:
    """What a pointer with user_check points at; how much of it is known for arrays only, else `size` is 0."""
    attributes = declaration.attributes or Attributes()
    if declaration.dimensions or attributes.isary:
        return content(types, declaration, lambda _name: 0)
    element = pointee(types, declaration.type, attributes)
    return Content(ArrayOf(element, (1,)), element, 0)


def pointee(types: Types, kind: CType, attributes: Attributes) -> Resolved:
    """The type that a pointer of this type points at; bytes for what nobody has described."""
    target = types.resolve(kind) if attributes.isptr else kind
    if not isinstance(target, Pointer):
        raise InputError(msg("the type {name} is described as no pointer, but has isptr", name=str(kind)))
    if target.to == VOID:
        return BASICS["uint8_t"]
    return types.resolve(target.to)


def _number(extent: Extent, lookup: Lookup) -> int:
    value = extent if isinstance(extent, int) else lookup(extent)
    # A negative number becomes a very large one, as in C.
    return value & 0xFFFF_FFFF_FFFF_FFFF


def _limited(declaration: Declaration, size: int) -> int:
    if size > MAX_BUFFER:
        problem = msg("{size} bytes, at most {limit} can be passed", size=size, limit=MAX_BUFFER)
        raise InputError(msg("{field}: {problem}", field=declaration.name, problem=problem))
    return size


def encoded(types: Types, what: Content, value: object, name: str) -> bytes:
    """The bytes of an argument that is passed by address: at least as many as are copied."""
    if isinstance(value, Mapping) and isinstance(what.element, Struct):
        value = [value]
    if (data := _raw(value)) is None:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise misfit(name, msg("a buffer, a list, an address or None"))
        if isinstance(what.kind, ArrayOf) and len(what.kind.dimensions) > 1:
            data = pack(types, what.kind, value, name)
        else:
            element = what.kind.element if isinstance(what.kind, ArrayOf) else what.kind
            data = b"".join(pack(types, element, one, f"{name}[{number}]") for number, one in enumerate(value))
    if len(data) < what.size:
        raise InputError(msg("{name} needs {size} bytes, it has {has}", name=name, size=what.size, has=len(data)))
    return data


def returned(types: Types, what: Content, value: object, data: bytes) -> None:
    """Write `data` back into a buffer that `encoded` read."""
    if isinstance(value, MutableMapping):
        (one,) = _values(types, what, data)[:1]
        assert isinstance(one, dict)
        value.update(one)
    elif isinstance(value, MutableSequence) and _raw(value) is None:
        values = _values(types, what, data)
        value[: len(values)] = values
    else:
        memoryview(value).cast("B")[: len(data)] = data  # type: ignore[arg-type]


def can_be_written(value: object) -> bool:
    """Whether an argument can take what comes out."""
    if isinstance(value, (MutableMapping, MutableSequence)):
        return True
    try:
        with memoryview(value) as view:  # type: ignore[arg-type]
            return not view.readonly
    except TypeError:
        return False


def require_writable(value: object, name: str) -> None:
    """Raise InputError for an argument that cannot take what comes out."""
    if not can_be_written(value):
        raise misfit(name, msg("a bytearray, a list or another buffer that can be written"))


def decoded(types: Types, what: Content, data: bytes, *, writable: bool) -> object:
    """What a handler gets for `data`: bytes, or a bytearray that it can write; else a list of values."""
    if is_byte(what.element):
        return bytearray(data) if writable else bytes(data)
    return _values(types, what, data)


def _values(types: Types, what: Content, data: bytes) -> list[object]:
    kind = what.kind if isinstance(what.kind, ArrayOf) else ArrayOf(what.kind, (1,))
    found = unpack(types, kind, data)
    return list(found) if isinstance(found, (list, bytes)) else [found]


def _raw(value: object) -> bytes | None:
    """The bytes of an object that has a buffer; None for one that has none."""
    try:
        with memoryview(value) as view:  # type: ignore[arg-type]
            return view.tobytes()
    except TypeError:
        return None


def text_bytes(attributes: Attributes, value: object, name: str) -> bytes:
    """A string argument with its end, as C has it: str, or bytes up to their first zero."""
    unit = WCHAR.size if attributes.wstring else 1
    if isinstance(value, str):
        if "\0" in value:
            raise misfit(name, msg("a string without NUL"))
        if attributes.wstring:
            return b"".join(ord(character).to_bytes(unit, "little") for character in value + "\0")
        return value.encode("utf-8", "surrogateescape") + b"\0"
    data = _raw(value)
    if data is None:
        raise misfit(name, msg("a string, a buffer, an address or None"))
    end = _end_of_text(data, unit)
    if end is not None:
        return data[: end + unit]
    if isinstance(value, bytes):
        return data + bytes(unit)
    raise misfit(name, msg("a buffer with a string that ends in NUL"))


def text_value(attributes: Attributes, data: bytes) -> str:
    """The string in `data`, which ends with NUL. What is no UTF-8 becomes surrogates (PEP 383)."""
    if not attributes.wstring:
        return data[:-1].decode("utf-8", "surrogateescape")
    codes = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data) - 4, 4)]
    return "".join(chr(code) if code < 0x110000 else "\ufffd" for code in codes)


def read_text(memory: OutsideMemory, address: int, attributes: Attributes) -> bytes:
    """Read a string with its end from memory, which may end with the page behind it."""
    unit = WCHAR.size if attributes.wstring else 1
    data = b""
    while len(data) < MAX_BUFFER:
        length = _CHUNK - (address + len(data)) % _CHUNK
        start = len(data) // unit * unit
        data += memory.read(address + len(data), length)
        if (end := _end_of_text(data, unit, start)) is not None:
            return data[: end + unit]
    raise InputError(msg("a string does not end"))


def _end_of_text(data: bytes, unit: int, start: int = 0) -> int | None:
    at = data.find(bytes(unit), start)
    while at >= 0 and at % unit:
        at = data.find(bytes(unit), at + 1)
    return at if at >= 0 else None
