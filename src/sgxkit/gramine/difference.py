"""Why two builds have different MRENCLAVE: which key, which file, which PAL, or only another order of the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from sgxkit.gramine.lock import Lock
from sgxkit.gramine.shape import describe

What = Literal["libpal", "key", "trusted file", "order of keys", "order of trusted files", "text"]


@dataclass(frozen=True, slots=True)
class BuildDifference:
    """One thing that is measured and differs.

    what    a key of the manifest, a trusted file, the PAL; the order, or how the text is written, where all else is
            the same.
    name    the key or the file's URI.
    first   what the first build has there, None where it has nothing; `second` likewise.
    """

    what: What
    name: str
    first: str | None
    second: str | None


def differences(first: Lock, second: Lock) -> list[BuildDifference]:
    """Return everything by which the builds differ, the PAL first; empty where they measure the same."""
    found = [*_differences(first, second)]
    if not found and first.manifest != second.manifest:
        found.append(BuildDifference("text", "", first.manifest, second.manifest))
    return found


def _differences(first: Lock, second: Lock) -> Iterator[BuildDifference]:
    if first.libpal != second.libpal:
        yield BuildDifference("libpal", "libpal.so", first.libpal, second.libpal)
    yield from _changes("key", {**first.settings}, {**second.settings})
    yield from _changes("trusted file", first.trusted_files, second.trusted_files)
    yield from _order("order of keys", first.settings, second.settings)
    yield from _order("order of trusted files", first.trusted_files, second.trusted_files)


def _changes(
    what: Literal["key", "trusted file"], first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[BuildDifference]:
    for name in dict.fromkeys([*first, *second]):
        one = _shown(what, first[name]) if name in first else None
        other = _shown(what, second[name]) if name in second else None
        if one != other:
            yield BuildDifference(what, name, one, other)


def _shown(what: str, value: object) -> str:
    return str(value) if what == "trusted file" or (isinstance(value, str) and len(value) > 40) else describe(value)


def _order(
    what: Literal["order of keys", "order of trusted files"], first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[BuildDifference]:
    """Where both have the same names: the first place at which another comes."""
    if first.keys() != second.keys():
        return
    for one, other in zip_longest(first, second):
        if one != other:
            yield BuildDifference(what, one, one, other)
            return
