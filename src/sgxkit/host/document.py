"""Frozen dataclasses to JSON values and back, by their annotations, strictly and within limits.

What a captured document may hold is exactly what the dataclasses declare. Anything else is a `FormatError` whose
field is the JSON path (``$.cpu.cpuid.value[0].leaves``). Keys that the dataclass does not know are ignored, so that
a document of a newer probe can still be read.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sgxkit.errors import FormatError
from sgxkit.messages import msg

MAX_TEXT = 64 * 1024
"""Longest text, in characters."""

MAX_ITEMS = 8192
"""Most entries in one list; logical CPUs are the largest (Linux's NR_CPUS maximum is 8192)."""

UnreadKind = Literal["absent", "permission", "timeout", "unsupported", "error", "skipped", "unrecorded"]


@dataclass(frozen=True, slots=True)
class Unread:
    """Why a fact has no value.

    kind     ``absent``: it was looked for and is not there. ``permission``: refused, so it may well be there.
             ``timeout``: no answer within the limit. ``unsupported``: this system has no such thing to ask.
             ``error``: reading failed otherwise. ``skipped``: not asked, on purpose. ``unrecorded``: the document
             comes from something that does not record it.
    text     one sentence in plain English.
    errno    Linux error number where the system call gave one.
    """

    kind: UnreadKind
    text: str
    errno: int | None = None


@dataclass(frozen=True, slots=True)
class Hex:
    """Annotation: an unsigned integer that is written as ``0x`` and exactly `digits` hexadecimal digits."""

    digits: int


NOT_IN_DOCUMENT = Unread("unrecorded", "not in this document")

_MISSING = object()
_Decoder = Callable[[object, str], Any]
_Encoder = Callable[[Any], object]


def decode(kind: Hashable, value: object, path: str = "$") -> Any:
    """Make an instance of dataclass `kind` from JSON value `value`; FormatError names the JSON path that is wrong."""
    return _codec(kind)[0](value, path)


def encode(kind: Hashable, value: Any) -> object:
    """Return the JSON value of `value`, an instance of dataclass `kind`; `decode` gives back an equal instance."""
    return _codec(kind)[1](value)


def is_reading(hint: object) -> bool:
    """Tell whether annotation `hint` is ``T | Unread``."""
    return get_origin(hint) in (Union, types.UnionType) and Unread in get_args(hint)


@cache
def field_hints(kind: Any) -> dict[str, Any]:
    """Return the resolved annotations of dataclass `kind`, `Annotated` kept."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def is_section(hint: object) -> bool:
    """Tell whether `hint` is a dataclass that consists of readings only, so that all of it may be missing."""
    return (
        isinstance(hint, type)
        and dataclasses.is_dataclass(hint)
        and hint is not Unread
        and all(is_reading(inner) for inner in field_hints(hint).values())
    )


@cache
def _codec(hint: Any) -> tuple[_Decoder, _Encoder]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _hex_codec(arguments[1])
    if origin is Literal:
        return _literal_codec(arguments)
    if origin is tuple:
        return _list_codec(_codec(arguments[0]))
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument not in (Unread, types.NoneType))
        codec = _codec(inner)
        if types.NoneType in arguments:
            codec = _optional_codec(codec)
        return _reading_codec(codec) if Unread in arguments else codec
    if dataclasses.is_dataclass(hint):
        return _dataclass_codec(hint)
    return _scalars()[hint]


@cache
def _scalars() -> dict[type[Any], tuple[_Decoder, _Encoder]]:
    return {
        bool: (_decode_bool, _same),
        int: (_decode_int, _same),
        float: (_decode_float, _same),
        str: (_decode_text, _same),
    }


def _same(value: Any) -> object:
    result: object = value
    return result


def _decode_bool(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise FormatError(path, msg("is not true or false"))
    return value


def _decode_int(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormatError(path, msg("is not an integer"))
    if not -(1 << 63) <= value < 1 << 64:
        raise FormatError(path, msg("does not fit 64 bits"))
    return value


def _decode_float(value: object, path: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise FormatError(path, msg("is not a number"))
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FormatError(path, msg("is not a finite number"))
    return number


def _decode_text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise FormatError(path, msg("is not text"))
    if len(value) > MAX_TEXT:
        raise FormatError(path, msg("is longer than {limit} characters", limit=MAX_TEXT))
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise FormatError(path, msg("is not valid Unicode text")) from error
    return value


def _hex_codec(form: Hex) -> tuple[_Decoder, _Encoder]:
    def decode_hex(value: object, path: str) -> int:
        text = _decode_text(value, path)
        digits = text[2:]
        if not (text.startswith("0x") and len(digits) == form.digits and set(digits) <= set("0123456789abcdef")):
            raise FormatError(path, msg('is not "0x" and {digits} hexadecimal digits', digits=form.digits))
        return int(digits, 16)

    def encode_hex(value: int) -> str:
        return f"0x{value:0{form.digits}x}"

    return decode_hex, encode_hex


def _literal_codec(allowed: tuple[Any, ...]) -> tuple[_Decoder, _Encoder]:
    def decode_literal(value: object, path: str) -> str:
        text = _decode_text(value, path)
        if text not in allowed:
            raise FormatError(path, msg("is none of {allowed}", allowed=", ".join(map(str, allowed))))
        return text

    return decode_literal, _same


def _list_codec(item: tuple[_Decoder, _Encoder]) -> tuple[_Decoder, _Encoder]:
    decode_item, encode_item = item

    def decode_list(value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise FormatError(path, msg("is not a list"))
        if len(value) > MAX_ITEMS:
            raise FormatError(path, msg("has more than {limit} entries", limit=MAX_ITEMS))
        return tuple(decode_item(entry, f"{path}[{index}]") for index, entry in enumerate(value))

    def encode_list(value: tuple[Any, ...]) -> list[object]:
        return [encode_item(entry) for entry in value]

    return decode_list, encode_list


def _optional_codec(inner: tuple[_Decoder, _Encoder]) -> tuple[_Decoder, _Encoder]:
    decode_inner, encode_inner = inner

    def decode_optional(value: object, path: str) -> Any:
        return None if value is None else decode_inner(value, path)

    def encode_optional(value: Any) -> object:
        return None if value is None else encode_inner(value)

    return decode_optional, encode_optional


def _reading_codec(inner: tuple[_Decoder, _Encoder]) -> tuple[_Decoder, _Encoder]:
    decode_inner, encode_inner = inner
    decode_kind = _literal_codec(get_args(UnreadKind))[0]

    def decode_reading(value: object, path: str) -> Any:
        if not isinstance(value, dict) or ("value" in value) == ("error" in value):
            raise FormatError(path, msg('is not an object with either "value" or "error"'))
        if "value" in value:
            return decode_inner(value["value"], f"{path}.value")
        errno = value.get("errno")
        return Unread(
            decode_kind(value["error"], f"{path}.error"),
            _decode_text(value.get("text"), f"{path}.text"),
            None if errno is None else _decode_int(errno, f"{path}.errno"),
        )

    def encode_reading(value: Any) -> object:
        if not isinstance(value, Unread):
            return {"value": encode_inner(value)}
        error: dict[str, object] = {"error": value.kind, "text": value.text}
        if value.errno is not None:
            error["errno"] = value.errno
        return error

    return decode_reading, encode_reading


def _dataclass_codec(kind: Any) -> tuple[_Decoder, _Encoder]:
    hints = field_hints(kind)
    codecs = {name: _codec(hint) for name, hint in hints.items()}
    readings = frozenset(name for name, hint in hints.items() if is_reading(hint))
    sections = frozenset(name for name, hint in hints.items() if is_section(hint))

    def decode_dataclass(value: object, path: str) -> Any:
        if not isinstance(value, dict):
            raise FormatError(path, msg("is not an object"))
        arguments: dict[str, Any] = {}
        for name, (decode_field, _) in codecs.items():
            entry = value.get(name, _MISSING)
            if entry is not _MISSING:
                arguments[name] = decode_field(entry, f"{path}.{name}")
            elif name in readings:
                arguments[name] = NOT_IN_DOCUMENT
            elif name in sections:
                arguments[name] = decode_field({}, f"{path}.{name}")
            else:
                raise FormatError(f"{path}.{name}", msg("is missing"))
        return kind(**arguments)

    def encode_dataclass(value: Any) -> dict[str, object]:
        return {name: encode_field(getattr(value, name)) for name, (_, encode_field) in codecs.items()}

    return decode_dataclass, encode_dataclass
