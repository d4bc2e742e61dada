"""Where the keys of a TOML document stand: tomllib gives values without their lines.

It is for documents that tomllib has already accepted (TOML 1.0), and for what the catalogue uses of them: tables,
arrays of tables, and keys. Keys inside inline tables and arrays count as the key that holds them.
"""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_HEADER = re.compile(r"(?P<open>\[\[?)[ \t]*(?P<name>[A-Za-z0-9_.-]+)[ \t]*\]\]?")
_KEY = re.compile(r"(?P<name>[A-Za-z0-9_.-]+|\"[^\"\n]*\"|'[^'\n]*')[ \t]*=")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\(?s:.)|""?(?!"))*"{3,5}'
    r"|'''(?:[^']|''?(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
)


def key_lines(text: str) -> dict[Path, int]:
    """Return the line (from 1) of each table and key, by its path; tables of an array are numbered from 0."""
    found: dict[Path, int] = {(): 1}
    table: Path = ()
    position, depth, fresh = 0, 0, True
    line = 1
    while position < len(text):
        character = text[position]
        length = 1
        if character == "\n":
            fresh = fresh or depth == 0
        elif character == "#":
            end = text.find("\n", position)
            length = (len(text) if end < 0 else end) - position
        elif fresh and depth == 0 and (header := _HEADER.match(text, position)):
            table = _enter(found, header["name"], array=header["open"] == "[[")
            found[table] = line
            length, fresh = len(header[0]), False
        elif fresh and depth == 0 and (key := _KEY.match(text, position)):
            found[(*table, key["name"].strip("\"'"))] = line
            length, fresh = len(key[0]), False
        elif character in "\"'" and (string := _STRING.match(text, position)):
            length = len(string[0])
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        line += text.count("\n", position, position + length)
        position += length
    return found


def _enter(found: dict[Path, int], name: str, *, array: bool) -> Path:
    """The path of the table that a header opens; a name in it that is an array stands for the array's last table."""
    path: Path = ()
    parts = name.split(".")
    for position, part in enumerate(parts):
        path = (*path, part)
        last = position == len(parts) - 1
        count = sum(1 for known in found if known[:-1] == path and len(known) == len(path) + 1 and _numbered(known))
        if array and last:
            found.setdefault(path, 0)
            return (*path, count)
        if count:
            path = (*path, count - 1)
    return path


def _numbered(path: Path) -> bool:
    return isinstance(path[-1], int)
