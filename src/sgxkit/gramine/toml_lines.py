"""Where each key of a TOML document stands: what a message about a key points to.

The document has been parsed already, so this reads only what valid TOML 1.0 can hold, and no values but to pass them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

Path = tuple[str | int, ...]
"""Keys from the root; a number is an element of an array."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\[\s\S])*?"{3,5}' + r"|'''[\s\S]*?'{3,5}" + r'|"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'"
)
_OTHER = re.compile(r"[^,\]}#\n]+")


def key_lines(text: str) -> dict[Path, int]:
    """Map each key and each element of an array to the line where it is first named, counted from 1."""
    return _Scanner(text).scan()


class _Scanner:
    """Goes through a document once; `at` is the place, `lines` what was found."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.elements: dict[Path, int] = {}
        self._counted = (0, 1)

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip(_BLANK) < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self.lines

    def _header(self) -> Path:
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        path: Path = ()
        keys = list(self._keys("]"))
        for number, key in enumerate(keys, 1):
            path = (*path, key)
            self._note(path)
            if number == len(keys) and array:
                self.elements[path] = self.elements.get(path, -1) + 1
            if path in self.elements:  # a key below an array of tables means its last element
                path = (*path, self.elements[path])
                self._note(path)
        self.at += 2 if array else 1
        return path

    def _pair(self, table: Path) -> None:
        path = table
        for key in self._keys("="):
            path = (*path, key)
            self._note(path)
        self.at += 1
        self._value(path)

    def _keys(self, end: str) -> Iterator[str]:
        """The parts of a dotted key, up to `end`."""
        while True:
            self._skip(_SPACE)
            if self.text[self.at] in "\"'":
                found = self._match(_STRING)
                yield str(tomllib.loads(f"key = {found}")["key"])
            else:
                yield self._match(_BARE)
            self._skip(_SPACE)
            if self.text[self.at] == end:
                return
            self.at += 1

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        begin = self.text[self.at]
        if begin == "[":
            self._array(path)
        elif begin == "{":
            self.at += 1
            while self._skip(_BLANK) and self.text[self.at] != "}":
                self._pair(path)
                self._skip(_BLANK)
                self.at += self.text[self.at] == ","
            self.at += 1
        else:
            self._match(_STRING if begin in "\"'" else _OTHER)

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while self._skip(_BLANK) and self.text[self.at] != "]":
            element = (*path, index)
            self._note(element)
            self._value(element)
            self._skip(_BLANK)
            self.at += self.text[self.at] == ","
            index += 1
        self.at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self.text, self.at)
        assert found is not None, "the pattern matches nothing, too"
        self.at = found.end()
        return self.at

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        assert found is not None, "the document is valid"
        self.at = found.end()
        return found[0]

    def _note(self, path: Path) -> None:
        place, line = self._counted
        line += self.text.count("\n", place, self.at)
        self._counted = (self.at, line)
        self.lines.setdefault(path, line)
