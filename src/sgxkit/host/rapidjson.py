"""JSON as RapidJSON reads it with `kParseCommentsFlag`: the same language, and errors at the same byte.

What differs from the standard library's `json`: comments are skipped, a zero byte ends the text, repeated keys are
all kept (RapidJSON's look-up finds the first), strings are not checked to be UTF-8, and an error has the offset that
RapidJSON would report. Behaviour after https://rapidjson.org (`GenericReader`, `ParseErrorCode`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sgxkit.messages import Message, msg

DEEPEST = 100
"""Nesting beyond this is refused here; RapidJSON goes on until its stack ends."""

_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_ESCAPES = {
    b'"': '"',
    b"/": "/",
    b"\\": "\\",
    b"b": "\b",
    b"f": "\f",
    b"n": "\n",
    b"r": "\r",
    b"t": "\t",
}


class ParseError(Exception):
    """The text is not what RapidJSON accepts: why, and at which byte; `line` and `column` count from 1."""

    def __init__(self, data: bytes, offset: int, problem: Message) -> None:
        super().__init__(f"offset {offset}: {problem}")
        self.offset = offset
        self.problem = problem
        self.line = data.count(b"\n", 0, offset) + 1
        self.column = offset - (data.rfind(b"\n", 0, offset) + 1) + 1


@dataclass(frozen=True, slots=True)
class Object:
    """A JSON object with its members as written."""

    members: tuple[tuple[str, Any], ...]

    @property
    def first(self) -> dict[str, Any]:
        """The members by key; of a repeated key the first."""
        return dict(reversed(self.members))


def parse(data: bytes) -> Any:
    """Parse one document into str, int, float, bool, None, list and `Object`, or raise `ParseError`."""
    end = data.find(b"\0")
    reader = _Reader(data if end < 0 else data[:end])
    reader.skip()
    if reader.ended():
        raise reader.error(msg("the file is empty"))
    value = reader.value(0)
    reader.skip()
    if not reader.ended():
        raise reader.error(msg("something follows the end of the JSON value"))
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def ended(self) -> bool:
        return self.at >= len(self.data)

    def peek(self) -> bytes:
        return self.data[self.at : self.at + 1]

    def consume(self, token: bytes) -> bool:
        if not self.data.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def error(self, problem: Message, offset: int | None = None) -> ParseError:
        return ParseError(self.data, self.at if offset is None else offset, problem)

    def skip(self) -> None:
        """Pass over blanks and comments."""
        while True:
            while self.peek() in (b" ", b"\n", b"\r", b"\t"):
                self.at += 1
            if self.consume(b"//"):
                newline = self.data.find(b"\n", self.at)
                self.at = len(self.data) if newline < 0 else newline + 1
            elif self.consume(b"/*"):
                close = self.data.find(b"*/", self.at)
                if close < 0:
                    self.at = len(self.data)
                    raise self.error(msg("a comment is not closed"))
                self.at = close + 2
            elif self.consume(b"/"):
                raise self.error(msg("a single slash begins nothing"))
            else:
                return

    def value(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise self.error(msg("values are nested too deep"))
        for word, meaning in ((b"null", None), (b"true", True), (b"false", False)):
            if self.peek() == word[:1]:
                return self.word(word, meaning)
        if self.peek() == b'"':
            return self.string()
        if self.consume(b"{"):
            return self.object(depth)
        if self.consume(b"["):
            return self.array(depth)
        return self.number()

    def word(self, word: bytes, meaning: Any) -> Any:
        for letter in word:
            if self.peek() != bytes((letter,)):
                raise self.error(msg("a value is expected here"))
            self.at += 1
        return meaning

    def object(self, depth: int) -> Object:
        members: list[tuple[str, Any]] = []
        self.skip()
        if self.consume(b"}"):
            return Object(())
        while True:
            if self.peek() != b'"':
                if members and self.peek() == b"}":
                    raise self.error(msg("the last setting is followed by a comma"))
                raise self.error(msg("the name of a setting, in double quotes, is expected here"))
            key = self.string()
            self.skip()
            if not self.consume(b":"):
                raise self.error(msg("a colon is missing after the name of a setting"))
            self.skip()
            members.append((key, self.value(depth + 1)))
            self.skip()
            if self.consume(b","):
                self.skip()
            elif self.consume(b"}"):
                return Object(tuple(members))
            else:
                raise self.error(msg("a comma or a closing brace is missing before this place"))

    def array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self.skip()
        if self.consume(b"]"):
            return items
        while True:
            items.append(self.value(depth + 1))
            self.skip()
            if self.consume(b","):
                self.skip()
            elif self.consume(b"]"):
                return items
            else:
                raise self.error(msg("a comma or a closing bracket is missing before this place"))

    def string(self) -> str:
        self.at += 1
        parts: list[bytes] = []
        while True:
            start = self.at
            character = self.peek()
            if character == b'"':
                self.at += 1
                return b"".join(parts).decode("utf-8", "replace")
            if not character:
                raise self.error(msg("a string is not closed"))
            if character < b" ":
                raise self.error(msg("a string goes on over the end of its line or holds a control character"))
            self.at += 1
            if character == b"\\":
                parts.append(self.escape(start).encode("utf-8", "replace"))
            else:
                parts.append(character)

    def escape(self, start: int) -> str:
        kind = self.peek()
        if kind in _ESCAPES:
            self.at += 1
            return _ESCAPES[kind]
        if kind != b"u":
            raise self.error(msg("a backslash is followed by a character that it cannot escape"), start)
        self.at += 1
        unit = self.hex4(start)
        if 0xD800 <= unit <= 0xDBFF and self.consume(b"\\u"):
            low = self.hex4(start)
            if 0xDC00 <= low <= 0xDFFF:
                return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))
            raise self.error(msg("a surrogate pair is broken"), start)
        if 0xD800 <= unit <= 0xDFFF:
            raise self.error(msg("a surrogate pair is broken"), start)
        return chr(unit)

    def hex4(self, start: int) -> int:
        digits = self.data[self.at : self.at + 4]
        if re.fullmatch(rb"[0-9A-Fa-f]{4}", digits) is None:
            raise self.error(msg("four hexadecimal digits must follow \\u"), start)
        self.at += 4
        return int(digits, 16)

    def number(self) -> int | float:
        start = self.at
        whole = _NUMBER.match(self.data, self.at)
        if whole is None:
            self.consume(b"-")
            raise self.error(msg("a value is expected here"))
        self.at = whole.end()
        if self.consume(b"."):
            self.digits(msg("digits must follow the decimal point"))
        if self.peek() in (b"e", b"E"):
            self.at += 1
            if self.peek() in (b"+", b"-"):
                self.at += 1
            self.digits(msg("digits must follow the exponent"))
        text = self.data[start : self.at]
        if text == whole[0] and len(text) <= 20 and -(2**63) <= int(text) < 2**64:
            return int(text)
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise self.error(msg("a number is too big"), start)
        return value

    def digits(self, problem: Message) -> None:
        found = re.compile(rb"[0-9]+").match(self.data, self.at)
        if found is None:
            raise self.error(problem)
        self.at = found.end()
