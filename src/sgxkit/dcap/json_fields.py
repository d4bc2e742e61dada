"""Typed access to the members of Intel's JSON documents: a value of the type asked for, or FormatError.

Member names are those of the PCS API v4; unknown members are allowed, because Intel adds some without a new version.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import cast

from sgxkit.errors import FormatError
from sgxkit.messages import msg

_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")


def as_object(value: object, field: str) -> dict[str, object]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise FormatError(field, msg("must be an object"))
    return cast("dict[str, object]", value)


def member(parent: dict[str, object], name: str, field: str) -> object:
    """Return a member that must be there."""
    try:
        return parent[name]
    except KeyError:
        raise FormatError(f"{field}.{name}", msg("is missing")) from None


def array(parent: dict[str, object], name: str, field: str, *, limit: int) -> list[object]:
    """Return an array of at most `limit` values."""
    value = member(parent, name, field)
    if not isinstance(value, list):
        raise FormatError(f"{field}.{name}", msg("must be an array"))
    if len(value) > limit:
        raise FormatError(
            f"{field}.{name}", msg("{count} values, at most {limit} are read", count=len(value), limit=limit)
        )
    return cast("list[object]", value)


def string(parent: dict[str, object], name: str, field: str) -> str:
    """Return a string."""
    value = member(parent, name, field)
    if not isinstance(value, str):
        raise FormatError(f"{field}.{name}", msg("must be a string"))
    return value


def integer(parent: dict[str, object], name: str, field: str, *, limit: int) -> int:
    """Return an integer from 0 to `limit`; true and false are no integers."""
    value = member(parent, name, field)
    if type(value) is not int or not 0 <= value <= limit:
        raise FormatError(f"{field}.{name}", msg("must be an integer from 0 to {limit}", limit=limit))
    return value


def hexadecimal(parent: dict[str, object], name: str, field: str, *, size: int) -> bytes:
    """Return `size` bytes written in hexadecimal, in either case."""
    value = string(parent, name, field)
    if len(value) != 2 * size or _HEX.fullmatch(value) is None:
        raise FormatError(f"{field}.{name}", msg("must be {size} bytes in hexadecimal", size=size))
    return bytes.fromhex(value)


def date(parent: dict[str, object], name: str, field: str) -> datetime:
    """Return a point in time, written YYYY-MM-DDThh:mm:ssZ and no other way."""
    found = _DATE.fullmatch(string(parent, name, field))
    if found is not None:
        year, month, day, hour, minute, second = map(int, found.groups())
        try:
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            pass  # a month 13 or an hour 25: refused below like any other text
    raise FormatError(f"{field}.{name}", msg("must be a time in the form YYYY-MM-DDThh:mm:ssZ"))
