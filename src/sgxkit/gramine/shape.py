"""Shapes of TOML values, and what a value has that its shape has not: the language that `schema` is written in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sgxkit.gramine.finding import Finding, RefusedBy, error
from sgxkit.gramine.toml_lines import Path
from sgxkit.messages import Message, msg


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number."""


@dataclass(frozen=True, slots=True)
class Boolean:
    """``true`` or ``false``."""


@dataclass(frozen=True, slots=True)
class Anything:
    """Whatever TOML can say."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these strings."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array whose elements all have one shape."""

    item: Shape


@dataclass(frozen=True, slots=True)
class Table:
    """A table with these keys and no others."""

    keys: Mapping[str, Shape]
    required: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Named:
    """A table with keys that the author chooses, all of one shape."""

    item: Shape


@dataclass(frozen=True, slots=True)
class TextOr:
    """A string for short, or a table."""

    table: Table


@dataclass(frozen=True, slots=True)
class Variants:
    """A table whose keys depend on its key `tag`; where that is not there, on `default`."""

    tag: str
    default: str
    tables: Mapping[str, Table] = field(hash=False)


Shape = Text | Integer | Boolean | Anything | OneOf | ListOf | Table | Named | TextOr | Variants


def mismatches(shape: Shape, value: object, path: Path = ()) -> Iterator[Finding]:
    """Say what of `value` does not fit `shape`: wrong types, other words, keys that are unknown or missing."""
    match shape:
        case Anything():
            return
        case Text():
            if not isinstance(value, str):
                yield _wrong_type(path, value, msg("a string"))
        case Boolean():
            if not isinstance(value, bool):
                yield _wrong_type(path, value, msg("true or false"))
        case Integer():
            if isinstance(value, bool):  # Gramine's schema takes one for a number; its loader does not
                yield error(
                    "type",
                    path,
                    msg("must be {expected}, is {actual}", expected=msg("a whole number"), actual=describe(value)),
                    RefusedBy.LOADER,
                )
            elif not isinstance(value, int):
                yield _wrong_type(path, value, msg("a whole number"))
        case OneOf():
            if value not in shape.values:
                yield _wrong_type(path, value, msg("one of {words}", words=", ".join(shape.values)))
        case ListOf():
            if isinstance(value, list):
                for index, item in enumerate(value):
                    yield from mismatches(shape.item, item, (*path, index))
            else:
                yield _wrong_type(path, value, msg("an array"))
        case TextOr():
            if not isinstance(value, str):
                if isinstance(value, dict):
                    yield from mismatches(shape.table, value, path)
                else:
                    yield _wrong_type(path, value, msg("a string or a table"))
        case Table() | Named() | Variants():
            if isinstance(value, dict):
                yield from _table_mismatches(shape, value, path)
            else:
                yield _wrong_type(path, value, msg("a table"))


def _table_mismatches(shape: Table | Named | Variants, value: dict[str, object], path: Path) -> Iterator[Finding]:
    if isinstance(shape, Named):
        for key, item in value.items():
            yield from mismatches(shape.item, item, (*path, key))
        return
    if isinstance(shape, Variants):
        tag = value.get(shape.tag, shape.default)
        if not isinstance(tag, str) or tag not in shape.tables:
            yield _wrong_type((*path, shape.tag), tag, msg("one of {words}", words=", ".join(shape.tables)))
            return
        shape = shape.tables[tag]
    for key, item in value.items():
        if key in shape.keys:
            yield from mismatches(shape.keys[key], item, (*path, key))
        else:
            yield error("unknown-key", (*path, key), msg("there is no such key"), RefusedBy.SCHEMA)
    for key in shape.keys:
        if key in shape.required and key not in value:
            yield error("missing", (*path, key), msg("is missing"), RefusedBy.SCHEMA)


def _wrong_type(path: Path, value: object, expected: Message) -> Finding:
    problem = msg("must be {expected}, is {actual}", expected=expected, actual=describe(value))
    return error("type", path, problem, RefusedBy.SCHEMA)


def describe(value: object) -> str:
    """Write a value as TOML would, cut where it is long."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 40 else f'"{value[:37]}..."'
        case list():
            return "[...]" if value else "[]"
        case dict():
            return "{...}" if value else "{}"
        case int() if value.bit_length() > 128:
            return hex(value)[:20] + "..."
    return str(value)
