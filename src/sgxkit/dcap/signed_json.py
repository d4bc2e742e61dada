"""JSON that Intel signs: read strictly, and cut out byte for byte what the signature covers.

The Provisioning Certification Service answers ``{"tcbInfo":{...},"signature":"<hex>"}``; the signature covers the
text of the inner object exactly as served. Two readers that disagree about such a document (which of two equal keys
counts, where an object ends) can be made to judge something that was never signed, so everything on which readers
are known to disagree is refused here.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import NoReturn

from sgxkit.errors import FormatError
from sgxkit.messages import Message, msg

MAX_DEPTH = 32
_INTEGER_LIMIT = 2**63

_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}")
# Folds every digit to 0 and everything that may precede a number to a colon, so that a plain search finds numbers of
# 19 digits or more: those may pass 2**63 - 1, which has 19. (A regular expression takes longer than the decoding.)
_FOLD = bytes.maketrans(b"0123456789[,:- \t\n\r", b"0" * 10 + b":" * 8)
_LONG_NUMBER = b":" + b"0" * 19
# Possessive, and with the closing quote optional: no input makes it step back or begin again.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


class _RefusedError(ValueError):
    """Raised inside the decoder; `parse_strict_json` gives it the field's name."""

    def __init__(self, problem: Message) -> None:
        super().__init__(problem)
        self.problem = problem


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _RefusedError(msg("the key {key} occurs twice in one object", key=json.dumps(name[:100])))
            seen.add(name)
    return result


def _no_float(literal: str) -> NoReturn:
    raise _RefusedError(msg("the number {literal} is not an integer", literal=literal[:50]))


def _no_constant(literal: str) -> NoReturn:
    raise _RefusedError(msg("{literal} is not JSON", literal=literal))


def _bounded_integer(literal: str) -> int:
    # Longer than any number in range is out of range; int() itself is slow on, or refuses, thousands of digits.
    if len(literal) > 20 or not -_INTEGER_LIMIT <= (value := int(literal)) < _INTEGER_LIMIT:
        raise _RefusedError(msg("the number {literal} does not fit in 64 bits", literal=literal[:50]))
    return value


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=_no_float, parse_constant=_no_constant)
_decoder_of_long_numbers = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_no_float, parse_constant=_no_constant, parse_int=_bounded_integer
)


def _too_deep(text: str, encoded: bytes) -> bool:
    # Removing all innermost pairs of brackets takes one pass a level, if both kinds count as one. It fails only where
    # strings contain brackets or the text is not JSON; then the slower scanner, which knows strings, decides.
    brackets = encoded.translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        before = len(brackets)
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
        if len(brackets) == before:
            break
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        match text[token.start()]:
            case "{" | "[":
                depth += 1
                if depth > MAX_DEPTH:
                    return True
            case "}" | "]":
                depth -= 1
    return False


def _encode(text: str, field: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise FormatError(field, msg("it contains a lone surrogate, which is not text")) from error


def parse_strict_json(text: str, field: str = "JSON", *, escapes: bool = True) -> object:
    """Return the value of one JSON document, refusing everything that two readers could understand differently.

    Refused beyond what RFC 8259 forbids: equal keys in one object at any depth, numbers that are not integers or do
    not fit in 64 bits with sign, NaN and Infinity, nesting deeper than 32, strings that are not Unicode text, and
    with ``escapes=False`` any backslash (Intel's documents have none). Raises `FormatError` naming `field`.

    Python counts True as 1: who wants a number must refuse bool.
    """
    encoded = _encode(text, field)
    backslash = "\\" in text
    if backslash and not escapes:
        raise FormatError(field, msg("it contains a backslash; no document signed by Intel does"))
    if _too_deep(text, encoded):
        raise FormatError(field, msg("it is nested deeper than {limit}", limit=MAX_DEPTH))
    decoder = _decoder_of_long_numbers if _LONG_NUMBER in (b":" + encoded).translate(_FOLD) else _decoder
    try:
        value: object = decoder.decode(text)
    except _RefusedError as error:
        raise FormatError(field, error.problem) from error
    except json.JSONDecodeError as error:
        raise FormatError(
            field, msg("not JSON: {reason} at character {position}", reason=error.msg, position=error.pos)
        ) from error
    if backslash:
        _encode(json.dumps(value, ensure_ascii=False), field)
    return value


def split_signed_json(text: str, member: str) -> tuple[str, bytes]:
    """Cut ``{"<member>":{...},"signature":"<hex>"}`` into the text that is signed and the signature over it.

    Returns the raw text of the inner object, every character as served, and the signature, 64 bytes, r and s
    big-endian. The two keys may stand in either order, white space may surround every token; nothing else may be in
    the document. Nothing is verified. Raises `FormatError` naming `member`. (Intel PCS API v4: Get TCB Info,
    Get Enclave Identity, Get TCB Evaluation Data Numbers)
    """
    document = parse_strict_json(text, member, escapes=False)
    if not isinstance(document, dict):
        raise FormatError(member, msg("the document is not an object"))
    if set(document) != {member, "signature"}:
        raise FormatError(
            member,
            msg(
                "the document has the keys {found}; it must have {member} and signature",
                found=json.dumps(sorted(document))[:200],
                member=member,
            ),
        )
    signature = document["signature"]
    if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        raise FormatError("signature", msg("it is not 128 hexadecimal digits"))
    if not isinstance(document[member], dict):
        raise FormatError(member, msg("it is not an object"))
    parts = _signed_document(member).fullmatch(text)
    if parts is None:  # cannot be: the strict reader found these two members with values of these kinds
        raise FormatError(member, msg("it is not where the document's keys say"))
    return parts["last"] if parts["first"] is None else parts["first"], bytes.fromhex(signature)


@lru_cache(maxsize=8)
def _signed_document(member: str) -> re.Pattern[str]:
    # Matched only against text that is known to be one object with exactly these two keys and no escapes. What stands
    # before the inner object is then fixed, and so is what stands after it, because neither the word "signature" in
    # quotes nor a brace can occur within the hexadecimal string: there is one way to match.
    space = r"[ \t\n\r]*"
    colon, comma = f"{space}:{space}", f"{space},{space}"
    name, signature = f'"{re.escape(member)}"', f'"signature"{colon}"[0-9a-fA-F]{{128}}"'
    either = (
        rf"{name}{colon}(?P<first>\{{.*\}}){comma}{signature}",
        rf"{signature}{comma}{name}{colon}(?P<last>\{{.*\}})",
    )
    return re.compile(rf"{space}\{{{space}(?:{'|'.join(either)}){space}\}}{space}", re.DOTALL)
