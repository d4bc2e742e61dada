"""Facts by their path, e.g. ``system.hypervisor.present``: the names of the facts document, without its readings."""

from __future__ import annotations

import dataclasses
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from sgxkit.host.document import Unread, field_hints
from sgxkit.host.facts import Facts


def scalar_kind(path: str) -> type[str] | type[int] | type[bool] | None:
    """The type of the fact at `path`; None where there is no such path, or no single value at it."""
    hint: Any = Facts
    for name in path.split("."):
        if not isinstance(hint, type) or not dataclasses.is_dataclass(hint):
            return None
        hints = field_hints(hint)
        if name not in hints:
            return None
        hint = _bare(hints[name])
    if get_origin(hint) is Literal:
        return str
    return hint if hint in (str, int, bool) else None


def fact_at(facts: Facts, path: str) -> object:
    """The fact at `path`: its value, an `Unread`, or None where the document has none."""
    value: object = facts
    for name in path.split("."):
        if value is None or isinstance(value, Unread):
            return value
        value = getattr(value, name)
    return value


def _bare(hint: Any) -> Any:
    """A field's type without `Unread`, None and the form that it has in JSON."""
    if get_origin(hint) is Annotated:
        return get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = (kind for kind in get_args(hint) if kind not in (Unread, types.NoneType))
        return _bare(inner)
    return hint
