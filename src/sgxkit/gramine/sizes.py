"""Sizes as Gramine writes them: the signer reads them with Python's int(), the loader as decimal numbers in C."""

from __future__ import annotations

import re

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}
_AS_BOTH_READ = re.compile(r"(0|[1-9][0-9]{0,18})([KMG]?)")
_AS_LOADER_READS = re.compile(r"([0-9]{1,19})([kKmMgG]?)")


def size_for_both(text: str) -> int | None:
    """Return a size in bytes that signer and loader read alike; None where one refuses it or reads it otherwise."""
    return _size(_AS_BOTH_READ.fullmatch(text))


def size_for_loader(text: str) -> int | None:
    """Return a size in bytes as the loader reads it; None where it refuses it."""
    return _size(_AS_LOADER_READS.fullmatch(text))


def _size(found: re.Match[str] | None) -> int | None:
    if found is None:
        return None
    size = int(found[1]) << _UNITS[found[2].upper()]
    return size if size < 1 << 64 else None


def written(size: int) -> str:
    """Write a size with the largest unit that divides it."""
    for unit in ("G", "M", "K"):
        if size and not size % (1 << _UNITS[unit]):
            return f"{size >> _UNITS[unit]}{unit}"
    return str(size)
