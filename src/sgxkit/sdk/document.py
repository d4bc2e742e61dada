"""An interface as a JSON document (docs/schema/edl.schema.json): numbers, parameters, and what is passed where."""

from __future__ import annotations

from typing import Any

from sgxkit.errors import InputError
from sgxkit.messages import Message
from sgxkit.sdk.edl.interface import Interface
from sgxkit.sdk.edl.syntax import Composite, Declaration, Ecall, Enumeration, Ocall
from sgxkit.sdk.layout import StructLayout, Types

FORMAT, VERSION = "sgxkit-edl", "1"


def interface_document(interface: Interface, types: Types) -> dict[str, Any]:
    """The document of an interface; a layout with a type that nobody described is null, and the type is named."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": interface.name,
        "files": list(interface.files),
        "includes": list(interface.includes),
        "warnings": [str(warning) for warning in interface.warnings],
        "ecalls": [_ecall(number, ecall, types) for number, ecall in enumerate(interface.ecalls)],
        "ocalls": [_ocall(number, ocall, types) for number, ocall in enumerate(interface.ocalls)],
        "composites": [_composite(composite, types) for composite in interface.composites],
    }


def marshalling(function: Ecall | Ocall, types: Types) -> tuple[StructLayout | None, Message | None]:
    """The layout of what a function passes, or the reason why it is not known."""
    try:
        return types.marshalling(function), None
    except InputError as error:
        return None, error.message


def _ecall(number: int, ecall: Ecall, types: Types) -> dict[str, Any]:
    return {
        **_function(number, ecall, types),
        "private": ecall.private,
        "switchless": ecall.switchless,
    }


def _ocall(number: int, ocall: Ocall, types: Types) -> dict[str, Any]:
    return {
        **_function(number, ocall, types),
        "allow": list(ocall.allow),
        "convention": ocall.convention or None,
        "dllimport": ocall.dllimport,
        "propagate_errno": ocall.propagate_errno,
        "switchless": ocall.switchless,
    }


def _function(number: int, function: Ecall | Ocall, types: Types) -> dict[str, Any]:
    layout, unknown = marshalling(function, types)
    return {
        "index": number,
        "name": function.name,
        "position": str(function.position),
        "returns": str(function.returns),
        "parameters": [_declaration(parameter) for parameter in function.parameters],
        "marshalling": None if layout is None else _layout(layout),
        "unknown": None if unknown is None else str(unknown),
    }


def _declaration(declaration: Declaration) -> dict[str, Any]:
    attributes = declaration.attributes
    found: dict[str, Any] = {
        "name": declaration.name,
        "type": str(declaration.type),
        "dimensions": list(declaration.dimensions),
        "attributes": None,
    }
    if attributes is not None:
        names = ("string", "wstring", "isptr", "isary", "readonly", "user_check")
        found["attributes"] = {
            "direction": attributes.direction.value or None,
            "size": attributes.size,
            "count": attributes.count,
            "flags": [name for name in names if getattr(attributes, name)],
        }
    return found


def _layout(layout: StructLayout) -> dict[str, Any]:
    fields = [
        {"name": field.name, "type": field.text, "offset": field.offset, "size": field.size}
        for field in layout.fields
    ]
    return {"size": layout.size, "alignment": layout.alignment, "fields": fields}


def _composite(composite: Composite, types: Types) -> dict[str, Any]:
    if isinstance(composite, Enumeration):
        return {"kind": "enum", "name": composite.name, "values": [list(value) for value in composite.values]}
    layout: dict[str, Any] | None = None
    unknown = None
    try:
        layout = _layout(types.layout(composite))
    except InputError as error:
        unknown = str(error)
    return {
        "kind": type(composite).__name__.lower(),
        "name": composite.name,
        "members": [_declaration(member) for member in composite.members],
        "layout": layout,
        "unknown": unknown,
    }
