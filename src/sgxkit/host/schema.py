"""The JSON Schema of the facts document, made from the dataclasses.

``python -m sgxkit.host.schema`` prints what docs/schema/facts.schema.json holds.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from sgxkit.host.document import MAX_ITEMS, MAX_TEXT, Hex, Unread, field_hints, is_reading, is_section
from sgxkit.host.facts import SCHEMA, Facts, UnreadKind

_SCALARS: dict[Any, dict[str, object]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 64) - 1},
    float: {"type": "number"},
    str: {"type": "string", "maxLength": MAX_TEXT},
}


def facts_schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of the document that `sgxkit.host.facts.parse_facts` reads."""
    definitions: dict[str, object] = {
        "Unread": {
            "description": _description(Unread),
            "type": "object",
            "required": ["error", "text"],
            "properties": {
                "error": {"enum": list(get_args(UnreadKind))},
                "text": _SCALARS[str],
                "errno": _SCALARS[int],
            },
            "not": {"required": ["value"]},
        }
    }
    root = _object(Facts, definitions)
    properties = root["properties"]
    assert isinstance(properties, dict)
    properties["schema"] = {"const": SCHEMA}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Facts of an SGX host",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _schema(hint: Any, definitions: dict[str, object]) -> dict[str, object]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        form = arguments[1]
        assert isinstance(form, Hex)
        return {"type": "string", "pattern": f"^0x[0-9a-f]{{{form.digits}}}$"}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "maxItems": MAX_ITEMS, "items": _schema(arguments[0], definitions)}
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument not in (Unread, types.NoneType))
        content = _schema(inner, definitions)
        if types.NoneType in arguments:
            content = {"anyOf": [content, {"type": "null"}]}
        return _reading(content) if Unread in arguments else content
    if dataclasses.is_dataclass(hint):
        name = hint.__name__ if isinstance(hint, type) else type(hint).__name__
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{name}"}
    return _SCALARS[hint]


def _reading(content: dict[str, object]) -> dict[str, object]:
    value = {
        "type": "object",
        "required": ["value"],
        "properties": {"value": content},
        "not": {"required": ["error"]},
    }
    return {"oneOf": [value, {"$ref": "#/$defs/Unread"}]}


def _object(kind: Any, definitions: dict[str, object]) -> dict[str, object]:
    hints = field_hints(kind)
    return {
        "description": _description(kind),
        "type": "object",
        "required": [name for name, hint in hints.items() if not (is_reading(hint) or is_section(hint))],
        "properties": {name: _schema(hint, definitions) for name, hint in hints.items()},
    }


def _description(kind: Any) -> str:
    return inspect.getdoc(kind) or ""


if __name__ == "__main__":
    sys.stdout.write(json.dumps(facts_schema(), indent=2, ensure_ascii=False) + "\n")
