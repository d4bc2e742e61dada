"""An RA-TLS certificate: a new key, and quotes that bind it to the enclave which has it.

It carries what Gramine's certificates carry since release 1.8, so that Gramine's verifiers take it: the quote over
the hash of the key in Gramine's own extension, and TCG DICE tagged evidence (Confidential Computing Consortium,
"Interoperable RA-TLS") with a second quote. DER is written here: X.690; certificates: RFC 5280.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from sgxkit.enclave_side.attestation import quote as quote_of_this_enclave
from sgxkit.enclave_side.libcrypto import SigningKey

DEFAULT_DAYS = 90

_INTEGER, _BIT_STRING, _OCTET_STRING, _OID, _UTF8, _TIME, _SEQUENCE, _SET = 2, 3, 4, 6, 12, 24, 48, 49
_VERSION_3 = bytes.fromhex("a003020102")
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_COMMON_NAME = bytes.fromhex("0603550403")
_BASIC_CONSTRAINTS = bytes.fromhex("0603551d13")
_SUBJECT_KEY_ID = bytes.fromhex("0603551d0e")
_SUBJECT_ALTERNATIVE_NAME = bytes.fromhex("0603551d11")
_TAGGED_EVIDENCE = bytes.fromhex("0606678105050409")
# As Gramine has it: the OID's own tag and length stand where its content belongs.
_GRAMINE_QUOTE = bytes.fromhex("060b06092a864886f84d8a3906")
_CRITICAL = bytes.fromhex("0101ff")

QuoteMaker = Callable[[bytes], bytes]
"""Gives the quote of an enclave over up to 64 bytes of report data."""


@dataclass(frozen=True)
class KeyAndCertificate:
    """A private key (ECPrivateKey, DER) and the certificate (DER) that an enclave's quotes are in."""

    private_key: bytes
    certificate: bytes

    @property
    def private_key_pem(self) -> str:
        """The key as PEM; keep it where only the enclave can read it."""
        return _pem("EC PRIVATE KEY", self.private_key)

    @property
    def certificate_pem(self) -> str:
        return _pem("CERTIFICATE", self.certificate)


def make_certificate(
    common_name: str = "RATLS",
    hostnames: Sequence[str] = (),
    days: int = DEFAULT_DAYS,
    quote: QuoteMaker = quote_of_this_enclave,
) -> KeyAndCertificate:
    """Make a key on P-256 and a self-signed certificate for it, valid from now on for `days`.

    `hostnames`, names or addresses, become its subjectAltName. `quote` makes the quotes, by default this enclave's.
    Raises EnclaveSideError where there is no quote to be had.
    """
    key = SigningKey()
    spki = key.public_der
    key_hash = sha256(spki).digest()
    claims = b"\xa1\x6bpubkey-hash\x58\x24\x82\x01\x58\x20" + key_hash
    evidence = b"\xd9\xea\x60\x82" + _cbor_bytes(quote(sha256(claims).digest())) + _cbor_bytes(claims)
    extensions = [
        _extension(_BASIC_CONSTRAINTS, _tlv(_SEQUENCE), critical=_CRITICAL),
        # RFC 7093, 2 (1); nothing relies on it.
        _extension(_SUBJECT_KEY_ID, _tlv(_OCTET_STRING, sha256(_point(spki)).digest()[:20])),
        _extension(_GRAMINE_QUOTE, quote(key_hash)),
        _extension(_TAGGED_EVIDENCE, evidence),
    ]
    if hostnames:
        names = _tlv(_SEQUENCE, *map(_general_name, hostnames))
        extensions.insert(0, _extension(_SUBJECT_ALTERNATIVE_NAME, names))
    name = _tlv(_SEQUENCE, _tlv(_SET, _tlv(_SEQUENCE, _COMMON_NAME + _tlv(_UTF8, common_name.encode()))))
    now = int(time.time())
    tbs = _tlv(
        _SEQUENCE,
        _VERSION_3,
        _tlv(_INTEGER, b"\x01" + os.urandom(15)),
        _ECDSA_WITH_SHA256,
        name,
        # An hour for clocks that are behind.
        _tlv(_SEQUENCE, _time(now - 3600), _time(now + days * 86400)),
        name,
        spki,
        _tlv(0xA3, _tlv(_SEQUENCE, *extensions)),
    )
    certificate = _tlv(_SEQUENCE, tbs, _ECDSA_WITH_SHA256, _tlv(_BIT_STRING, b"\0", key.sign(tbs)))
    return KeyAndCertificate(key.private_der, certificate)


def _extension(oid: bytes, value: bytes, critical: bytes = b"") -> bytes:
    return _tlv(_SEQUENCE, oid, critical, _tlv(_OCTET_STRING, value))


def _general_name(name: str) -> bytes:
    """A dNSName or, for an address, an iPAddress (RFC 5280, 4.2.1.6)."""
    try:
        return _tlv(0x87, ipaddress.ip_address(name).packed)
    except ValueError:
        return _tlv(0x82, name.encode("idna"))


def _tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _cbor_bytes(data: bytes) -> bytes:
    """A byte string in the shortest form that its length has (RFC 8949, 4.2.1)."""
    size = len(data)
    if size < 24:
        return bytes((0x40 | size,)) + data
    width, head = (1, 0x58) if size < 1 << 8 else (2, 0x59) if size < 1 << 16 else (4, 0x5A)
    return bytes((head,)) + size.to_bytes(width, "big") + data


def _time(moment: int) -> bytes:
    """RFC 5280, 4.1.2.5: years before 2050 are UTCTime, which has two digits of the year."""
    broken_down = time.gmtime(moment)
    if broken_down.tm_year < 2050:
        return _tlv(23, time.strftime("%y%m%d%H%M%SZ", broken_down).encode())
    return _tlv(_TIME, time.strftime("%Y%m%d%H%M%SZ", broken_down).encode())


def _point(spki: bytes) -> bytes:
    """The uncompressed point at the end of a P-256 key's SubjectPublicKeyInfo."""
    return spki[-65:]


def _pem(label: str, der: bytes) -> str:
    body = base64.encodebytes(der).decode().replace("\n", "")
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
