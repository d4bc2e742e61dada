"""What may stand in brackets before a pointer, an array or a function, and what of it goes together.

The rules are those of edger8r of Intel's SDK. Where it leaves a mistake to the C compiler, such as a size that names
no parameter, it is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sgxkit.messages import Message, msg
from sgxkit.sdk.edl.lexer import Token, refuse
from sgxkit.sdk.edl.syntax import (
    CHAR,
    UNSIGNED_CHAR,
    VOID,
    WCHAR,
    Attributes,
    Basic,
    Convention,
    CType,
    Declaration,
    Direction,
    Extent,
    Named,
    Pointer,
    Position,
)

_FLAGS = ("string", "wstring", "isptr", "isary", "readonly", "user_check")


@dataclass(frozen=True, slots=True)
class AttributeValue:
    """One attribute as it is written; `value` is None where it has none."""

    name: str
    value: Extent | None
    position: Position


def parameter_declaration(
    name: Token,
    kind: CType,
    dimensions: tuple[int, ...],
    given: tuple[AttributeValue, ...] | None,
    *,
    constant: bool,
) -> Declaration:
    """Put a parameter together; raises FormatError for attributes that it cannot have or lacks."""
    attributes = _pointer_attributes(given or ())
    by_address = isinstance(kind, Pointer) or bool(dimensions)
    if given is not None:
        _require_consistent(attributes, name)
    if given is not None and not constant:
        _require_of_user_type(attributes, kind, name)
        by_address = by_address or (isinstance(kind, Named) and (attributes.isptr or attributes.isary))
        if not by_address:
            raise refuse(name.position, msg("{name} is passed by value: it has no such attributes", name=name.text))
    if not by_address:
        if kind == VOID:
            raise refuse(name.position, msg("{name} has no type", name=name.text))
        return Declaration(name.text, kind, dimensions, None, name.position)
    if kind == VOID:
        raise refuse(name.position, msg("an array of void"))
    if given is None:
        raise refuse(name.position, _no_direction(name.text))
    if constant:
        attributes = replace(attributes, readonly=True)
    return Declaration(name.text, kind, dimensions, attributes, name.position)


def member_declaration(
    name: Token, kind: CType, dimensions: tuple[int, ...], given: tuple[AttributeValue, ...] | None
) -> Declaration:
    """Put a member of a struct or union together; raises FormatError for attributes that it cannot have."""
    if kind == VOID:
        raise refuse(name.position, msg("{name} has no type", name=name.text))
    pointer = isinstance(kind, Pointer) or bool(dimensions)
    if given is None:
        return Declaration(name.text, kind, dimensions, Attributes() if pointer else None, name.position)
    attributes = _pointer_attributes(given)
    if not attributes.sized:
        raise refuse(name.position, msg("the attributes of {name} need size or count", name=name.text))
    for attribute in given:
        if attribute.name not in ("size", "count", "user_check"):
            raise refuse(attribute.position, msg("members of structs have no attribute {name}", name=attribute.name))
    if not isinstance(kind, Pointer) or dimensions:
        raise refuse(name.position, msg("{name} is no pointer, so nothing is copied for it", name=name.text))
    return Declaration(name.text, kind, dimensions, attributes, name.position)


def function_attributes(given: Iterable[AttributeValue]) -> tuple[Convention, bool]:
    """The calling convention of an untrusted function, and whether it has ``dllimport``."""
    convention: Convention = ""
    dllimport = False
    for attribute in given:
        match attribute.name:
            case "cdecl" | "stdcall" | "fastcall" if convention:
                problem = msg("{name} cannot stand beside {other}", name=attribute.name, other=convention)
                raise refuse(attribute.position, problem)
            case "cdecl" | "stdcall" | "fastcall" as found:
                convention = found
            case "dllimport" if dllimport:
                raise refuse(attribute.position, _twice(attribute.name))
            case "dllimport":
                dllimport = True
            case _:
                raise refuse(attribute.position, msg("functions have no attribute {name}", name=attribute.name))
    return convention, dllimport


def require_usable_pointers(function: str, parameters: tuple[Declaration, ...]) -> None:
    """Raise FormatError where a parameter's attributes do not fit its type, or name what is no number."""
    numbers = {parameter.name: parameter for parameter in parameters}
    for parameter in parameters:
        attributes = parameter.attributes
        if attributes is None:
            continue
        if parameter.type == Pointer(VOID) and not parameter.dimensions:
            if not attributes.user_check and attributes.size is None:
                raise refuse(parameter.position, msg("{name} is a void pointer without size", name=parameter.name))
        elif problem := _misfit(parameter, attributes):
            raise refuse(parameter.position, problem)
        for extent in (attributes.size, attributes.count):
            if isinstance(extent, str):
                require_number(extent, numbers, parameter, function)


def require_number(extent: str, among: dict[str, Declaration], of: Declaration, where: str) -> None:
    """Raise FormatError unless `extent`, a size or count of `of`, names a number among the others."""
    named = among.get(extent)
    if named is None:
        raise refuse(of.position, msg("{where} has no {name}", where=where, name=extent))
    integer = not (isinstance(named.type, Basic) and named.type.kind not in ("signed", "unsigned"))
    if named.attributes is not None or not integer or (isinstance(named.type, Named) and named.type.tag == "struct"):
        raise refuse(of.position, msg("{name} is no number", name=extent))


def _misfit(parameter: Declaration, attributes: Attributes) -> Message | None:
    name = parameter.name
    pointer = isinstance(parameter.type, Pointer) or attributes.isptr
    if (parameter.dimensions or attributes.isary) and pointer:
        return msg("{name} is an array of pointers, which cannot be copied", name=name)
    if attributes.readonly and attributes.direction.copies_out:
        return msg("{name} is read-only and cannot be [out]", name=name)
    if attributes.string and parameter.type not in (Pointer(CHAR), Pointer(UNSIGNED_CHAR)):
        return msg("{name} is no pointer to char, so it cannot be a string", name=name)
    if attributes.wstring and not attributes.string and parameter.type != Pointer(WCHAR):
        return msg("{name} is no pointer to wchar_t, so it cannot be a wstring", name=name)
    if parameter.dimensions and (attributes.sized or attributes.isary):
        return msg("{name} is an array, whose size is known: no size, count or isary", name=name)
    return None


def _pointer_attributes(given: Iterable[AttributeValue]) -> Attributes:
    found = Attributes()
    for attribute in given:
        name, value = attribute.name, attribute.value
        match name:
            case "size" | "count":
                if value is None:
                    raise refuse(attribute.position, msg("{name} needs a number or a parameter's name", name=name))
                if getattr(found, name) is not None:
                    raise refuse(attribute.position, _twice(name))
                found = replace(found, size=value) if name == "size" else replace(found, count=value)
            case "in" | "out":
                direction = Direction(name)
                if found.direction in (direction, Direction.INOUT):
                    raise refuse(attribute.position, _twice(name))
                found = replace(found, direction=direction if found.direction is Direction.NONE else Direction.INOUT)
            case "sizefunc":
                raise refuse(
                    attribute.position,
                    msg("sizefunc is no longer supported"),
                    hint=msg("let a parameter carry the size: [size=NAME]"),
                )
            case _ if name in _FLAGS:
                found = replace(found, **{name: True})  # type: ignore[arg-type]
            case _:
                raise refuse(attribute.position, msg("there is no attribute {name}", name=name))
    return found


def _require_consistent(attributes: Attributes, name: Token) -> None:
    """What of the attributes excludes or needs each other, whatever they stand before."""
    if problem := _inconsistent(attributes, name.text):
        raise refuse(name.position, problem)


def _inconsistent(attributes: Attributes, name: str) -> Message | None:
    undirected = attributes.direction is Direction.NONE
    if attributes.isary:
        if attributes.sized:
            return msg("{name} has isary: its size is that of its type", name=name)
        if attributes.isptr:
            return msg("isary and isptr exclude each other")
    elif attributes.string and attributes.wstring:
        return msg("string and wstring exclude each other")
    elif attributes.sized and attributes.text:
        return msg("string and wstring exclude size and count")
    elif (attributes.sized or attributes.text) and undirected:
        return msg("{name} says how much to copy, but not whether in or out", name=name)
    if not undirected and attributes.user_check:
        return msg("user_check excludes in and out")
    if undirected and not attributes.user_check:
        return _no_direction(name)
    if attributes.direction is Direction.OUT and attributes.text:
        return msg("a string that goes out has to come in: write [in, out]")
    return None


def _require_of_user_type(attributes: Attributes, kind: CType, name: Token) -> None:
    bare = isinstance(kind, Named) and not kind.tag
    inner: CType = kind
    while isinstance(inner, Pointer):
        inner = inner.to
    if (attributes.isptr or attributes.isary) and not bare:
        raise refuse(name.position, msg("isptr and isary are only for types that a C header defines"))
    if attributes.readonly and not (isinstance(inner, Named) and not inner.tag and attributes.isptr):
        raise refuse(name.position, msg("readonly only stands with isptr: write const"))


def _no_direction(name: str) -> Message:
    return msg("{name} is a pointer or an array: it needs in, out or user_check", name=name)


def _twice(name: str) -> Message:
    return msg("{name} is written twice", name=name)
