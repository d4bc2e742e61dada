"""Bytes written as text: hex, base64 in both alphabets, PEM. Each opener gives nothing for what is not its form."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from sgxkit.dcap import der
from sgxkit.dcap.found_quote import Layer
from sgxkit.errors import FormatError
from sgxkit.messages import msg

MIN_QUOTE_SIZE = 8
"""Bytes; what is shorter cannot even begin as a quote does."""

_SPACE = b" \t\r\n\f\v"
_HEX = re.compile(rb"(?:0[xX])?((?:[0-9a-fA-F]{2})+)")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+={0,2}")
_PEM_BEGIN = re.compile(rb"-----BEGIN ([A-Za-z0-9 .#_-]{1,64})-----")


def trim(content: bytes) -> bytes:
    """Take away what commonly surrounds text in files: a byte order mark, white space, zero bytes at the end."""
    return content.removeprefix(b"\xef\xbb\xbf").strip(_SPACE + b"\0")


def open_hex(content: bytes) -> tuple[Layer, ...]:
    """Hexadecimal in either case, with or without 0x, with white space or colons anywhere between digits."""
    digits = trim(content).translate(None, _SPACE + b":")
    found = _HEX.fullmatch(digits)
    if found is None or len(found[1]) < 2 * MIN_QUOTE_SIZE:
        return ()
    return (Layer("hex", bytes.fromhex(found[1].decode())),)


def decode_base64(text: bytes) -> tuple[str, bytes] | None:
    """Decode base64 or base64url, padded or not, with white space anywhere; None for what is neither.

    Returns the alphabet's name as well. Text that has letters of both alphabets is neither.
    """
    letters = trim(text).translate(None, _SPACE)
    if _BASE64.fullmatch(letters):
        name, standard = "base64", letters
    elif _BASE64URL.fullmatch(letters):
        name, standard = "base64url", letters.replace(b"-", b"+").replace(b"_", b"/")
    else:
        return None
    bare = standard.rstrip(b"=")
    padding = -len(bare) % 4
    if padding == 3 or len(standard) - len(bare) not in (0, padding):
        return None
    return name, binascii.a2b_base64(bare + b"=" * padding)


def open_base64(content: bytes) -> tuple[Layer, ...]:
    """Base64 or base64url, as `decode_base64` reads it."""
    decoded = decode_base64(content)
    if decoded is None or len(decoded[1]) < MIN_QUOTE_SIZE:
        return ()
    return (Layer(*decoded),)


def open_pem(content: bytes) -> Iterator[Layer]:
    """PEM blocks of any label, with any text around them; private keys are passed over.

    Raises FormatError at a block that does not end or whose content is not base64 (RFC 7468).
    """
    position = 0
    while (begin := _PEM_BEGIN.search(content, position)) is not None:
        label = begin[1].decode()
        end_line = b"-----END " + begin[1] + b"-----"
        end = content.find(end_line, begin.end())
        if end < 0:
            if not content[: begin.start()].isascii():
                return  # a binary file that has PEM text in it, such as a quote cut off at the front
            raise FormatError("PEM", msg("block {label} does not end", label=label), offset=begin.start())
        position = end + len(end_line)
        if label.endswith("PRIVATE KEY"):
            continue
        decoded = decode_base64(content[begin.end() : end])
        if decoded is None:
            raise FormatError("PEM", msg("block {label} is not base64", label=label), offset=begin.start())
        yield Layer(f"PEM {label}", _without_trust(label, decoded[1]))


def _without_trust(label: str, content: bytes) -> bytes:
    """OpenSSL's TRUSTED CERTIFICATE may carry its own trust settings, one DER element, after the certificate."""
    if label != "TRUSTED CERTIFICATE":
        return content
    try:
        certificate = der.element(content, 0, len(content), "PEM TRUSTED CERTIFICATE")
        if certificate.end == len(content):
            return content
        settings = der.element(content, certificate.end, len(content), "PEM TRUSTED CERTIFICATE")
    except FormatError:
        return content  # not DER: shown as it stands to the other openers
    return content[: certificate.end] if settings.end == len(content) else content
