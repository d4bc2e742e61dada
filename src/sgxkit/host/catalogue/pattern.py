"""The language of signatures: the text as it stands in a log, with places where it varies.

A signature is literal text, case and blanks as they are, and placeholders in braces:

``{...}``      any text of the line, at most 200 bytes, up to the next literal text
``{word}``     1 to 200 bytes without a blank, up to the next literal text
``{ }``        1 to 40 blanks or tabs
``{number}``   1 to 20 decimal digits
``{hex}``      1 to 32 hexadecimal digits, with or without ``0x``
``{a|b|c}``    one of these texts; one of them may be empty
``{{``, ``}}`` a brace

It is found anywhere in a line. What the language can say is matched in time that grows with the line and no faster:
every repetition is bounded, and none is tried again once the text after it was found. A regular expression has no
such promise, so there are none in the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sgxkit.messages import Message, msg

MAX_LENGTH = 400
"""Characters of a signature."""

MAX_MATCH = 4096
"""Bytes that a match can span, generously."""

MIN_ANCHOR = 6
"""Bytes of literal text that a signature must have in one piece, for the fast search of a log."""

MAX_PLACEHOLDERS = 6
MAX_ALTERNATIVES = 12

_GAP = 200
_TOKEN = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")
_RUNS = {"...": rb"[^\n]{0,%d}?" % _GAP, "word": rb"[^\s]{1,%d}?" % _GAP}
_FIXED = {" ": rb"[ \t]{1,40}+", "number": rb"[0-9]{1,20}+", "hex": rb"(?:0x)?+[0-9A-Fa-f]{1,32}+"}
_MEMBERS = {" ": " \t", "number": "0123456789", "hex": "0123456789abcdefABCDEFx"}
_UNSAFE_IN_ANCHOR = re.compile(rb"[^\"'\\<>&\x80-\xff]+")


class PatternError(ValueError):
    """A signature that is none; `problem` says why."""

    def __init__(self, problem: Message) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled signature.

    text       as it was written.
    regex      its bytes expression; it never matches across a line's end.
    literals   the texts that every line that matches holds, in their order, UTF-8.
    """

    text: str
    regex: re.Pattern[bytes]
    literals: tuple[bytes, ...]

    @property
    def anchors(self) -> tuple[bytes, ...]:
        """Pieces of the literal text that look the same in plain logs and inside anybody's JSON strings."""
        return tuple(
            piece
            for literal in self.literals
            for piece in _UNSAFE_IN_ANCHOR.findall(literal)
            if len(piece) >= MIN_ANCHOR
        )


@dataclass(frozen=True, slots=True)
class _Piece:
    """Either literal text, or a placeholder's name and its alternatives."""

    literal: str = ""
    name: str = ""
    alternatives: tuple[str, ...] = ()


def compile_pattern(text: str) -> Pattern:
    """Compile a signature; raises PatternError for one that is malformed, too long or too unspecific."""
    if not text or len(text) > MAX_LENGTH:
        raise PatternError(msg("is empty, or longer than {limit} characters", limit=MAX_LENGTH))
    if not text.isprintable():
        raise PatternError(msg("holds control characters or a line's end; a signature is within one line"))
    pieces = tuple(_joined(_pieces(text)))
    if sum(1 for piece in pieces if not piece.literal) > MAX_PLACEHOLDERS:
        raise PatternError(msg("has more than {limit} placeholders", limit=MAX_PLACEHOLDERS))
    _check_order(pieces)
    literals = tuple(piece.literal.encode() for piece in pieces if piece.literal)
    pattern = Pattern(text, re.compile(_expression(pieces)), literals)
    if not pattern.anchors:
        raise PatternError(
            msg(
                "has no {limit} characters of plain ASCII text in one piece, without quotes and backslashes, "
                "to be searched by",
                limit=MIN_ANCHOR,
            )
        )
    return pattern


def _pieces(text: str) -> Iterator[_Piece]:
    for token in _TOKEN.findall(text):
        if token in ("{{", "}}"):
            yield _Piece(literal=token[0])
        elif token in ("{", "}"):
            raise PatternError(msg("has a single brace; write two for a brace in the text"))
        elif token.startswith("{"):
            yield _placeholder(token[1:-1])
        else:
            yield _Piece(literal=token)


def _placeholder(content: str) -> _Piece:
    if "|" in content:
        alternatives = tuple(content.split("|"))
        if len(alternatives) > MAX_ALTERNATIVES or len(set(alternatives)) < len(alternatives):
            raise PatternError(msg("has more than {limit} alternatives, or one twice", limit=MAX_ALTERNATIVES))
        return _Piece(alternatives=alternatives)
    if content in _RUNS or content in _FIXED:
        return _Piece(name=content)
    raise PatternError(
        msg(
            "{{{name}}} is no placeholder; there are: {known}",
            name=content,
            known="{...} {word} { } {number} {hex} {a|b}",
        )
    )


def _joined(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """Neighbouring literals as one."""
    held = ""
    for piece in pieces:
        if piece.literal:
            held += piece.literal
            continue
        if held:
            yield _Piece(literal=held)
            held = ""
        yield piece
    if held:
        yield _Piece(literal=held)


def _check_order(pieces: tuple[_Piece, ...]) -> None:
    """A placeholder of unknown length ends at literal text; digits and blanks end at what is none."""
    for piece, following in zip(pieces, (*pieces[1:], None), strict=True):
        if piece.name in _RUNS and (following is None or not following.literal):
            raise PatternError(msg("{{{name}}} is not followed by literal text", name=piece.name))
        if piece.name in _FIXED and following is not None:
            texts = following.alternatives or (following.literal,)
            if any(not text or text[0] in _MEMBERS[piece.name] for text in texts):
                raise PatternError(msg("what follows {{{name}}} could be a part of it", name=piece.name))
    if pieces[0].name in _RUNS:
        raise PatternError(msg("begins with {{{name}}}, which says nothing", name=pieces[0].name))


def _expression(pieces: tuple[_Piece, ...]) -> bytes:
    result, position = b"", 0
    while position < len(pieces):
        piece = pieces[position]
        position += 1
        if piece.literal:
            result += re.escape(piece.literal.encode())
        elif piece.alternatives:
            # Longest first, so that what is found does not depend on the order in which they were written.
            longest = sorted((alternative.encode() for alternative in piece.alternatives), key=len, reverse=True)
            result += b"(?:" + b"|".join(map(re.escape, longest)) + b")"
        elif piece.name in _FIXED:
            result += _FIXED[piece.name]
        else:
            # Atomic: once the text after the gap was found, no longer gap is tried.
            result += b"(?>" + _RUNS[piece.name] + re.escape(pieces[position].literal.encode()) + b")"
            position += 1
    return result
