"""EDL text cut into tokens, each with its position."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sgxkit.errors import FormatError
from sgxkit.messages import Message, msg
from sgxkit.sdk.edl.syntax import Position

MAX_SIZE = 1 << 20
"""Bytes of one EDL file; a larger one is refused."""
_MAX_NUMBER = (1 << 62) - 1
"""edger8r's numbers are OCaml's, of 63 bits with sign."""
_SHOWN = 40

TokenKind = Literal["word", "number", "string", "symbol", "end"]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*|/\*.*?\*/)
      | (?P<word>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<number>[0-9]+)
      | "(?P<string>[^"]*)"
      | (?P<symbol>[{}()\[\]*.,;=])""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word (keyword or identifier), a number, a string without its quotes, a symbol, or the end of the file."""

    kind: TokenKind
    text: str
    position: Position


def refuse(position: Position, problem: Message, *, hint: Message | None = None) -> FormatError:
    """The error about what stands at `position`."""
    return FormatError(str(position), problem, hint=hint)


def tokens(data: bytes, file: str) -> Iterator[Token]:
    """Cut `data`, the contents of `file`, into tokens; the last one is the end.

    Raises FormatError where it is not text, is too large, or has a character that no token begins with.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(file, msg("{size} bytes, at most {limit} are read", size=len(data), limit=MAX_SIZE))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(file, msg("not UTF-8 text"), offset=error.start) from error
    at, line, begin = 0, 1, 0
    while at < len(text):
        position = Position(file, line, at - begin + 1)
        found = _TOKEN.match(text, at)
        if found is None:
            raise _unreadable(text, at, position)
        kind = found.lastgroup
        content = found[kind or 0]
        if kind == "number" and int(content[:20]) > _MAX_NUMBER:
            raise refuse(position, msg("the number is too large"))
        if kind in ("word", "number", "string", "symbol"):
            yield Token(kind, content, position)  # type: ignore[arg-type]
        breaks = found[0].count("\n")
        if breaks:
            line += breaks
            begin = at + found[0].rindex("\n") + 1
        at = found.end()
    yield Token("end", "", Position(file, line, at - begin + 1))


def _unreadable(text: str, at: int, position: Position) -> FormatError:
    if text.startswith("/*", at):
        return refuse(position, msg("the comment does not end"))
    if text[at] == '"':
        return refuse(position, msg("the string does not end"))
    if text[at] == "#":
        return refuse(
            position,
            msg("preprocessor directives are not read"),
            hint=msg("let the preprocessor expand the file first: gcc -x c -E -P FILE"),
        )
    return refuse(position, msg("unexpected character {character}", character=repr(text[at])))


def shown(token: Token) -> str:
    """What an error message calls a token."""
    return repr(token.text[:_SHOWN]) if token.kind != "end" else "EOF"
