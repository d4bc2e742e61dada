"""X.509 certificates and CRLs of the SGX hierarchy, as far as a verifier needs them (RFC 5280).

pyca/cryptography decodes them; this module adds what it does not give: the signed bytes and the names exactly as they
stand in the input, and the refusal of what has no place in this hierarchy (other curves, unknown critical
extensions).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntFlag
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sgxkit.dcap import der
from sgxkit.errors import FormatError
from sgxkit.messages import msg

MAX_CHAIN_SIZE = 64 << 10
MAX_CHAIN_LENGTH = 8
MAX_CRL_SIZE = 2 << 20

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What pyca/cryptography raises over certificates and CRLs that it cannot read."""

_SECOND = timedelta(seconds=1)
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)

_PEM_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/\r\n]+={0,2}[\r\n]*)-----END CERTIFICATE-----[\r\n]*"
)
_LINE_ENDS = str.maketrans("", "", "\r\n")
_COMMON_NAME = bytes.fromhex("0603550403")
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


class Window(NamedTuple):
    """When something is in force: from `begin`, and until just before `end`.

    `published` marks what Intel reissues regularly (CRLs, TCB info, identities) as opposed to certificates.
    """

    name: str
    begin: datetime
    end: datetime
    published: bool


class KeyUsage(IntFlag):
    """What a certified key may be used for, as far as it matters here (RFC 5280, 4.2.1.3); bit 0 is the highest."""

    DIGITAL_SIGNATURE = 1 << 7
    KEY_CERT_SIGN = 1 << 2
    CRL_SIGN = 1 << 1


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate; names are raw DER, so that they compare as they were signed.

    `digest` is the SHA-256 of all of it, `public_point` is 04, x, y.

    `path_length` is None for a leaf (not a CA); a CA without a limit has `MAX_CHAIN_LENGTH`. `extensions` are the DER
    values by the DER of their OIDs, without tag and length.
    """

    encoded: bytes
    digest: bytes
    subject: bytes
    issuer: bytes
    common_name: str
    serial_number: int
    not_before: datetime
    not_after: datetime
    signed_bytes: bytes
    signature: bytes
    public_key: ec.EllipticCurvePublicKey
    public_point: bytes
    path_length: int | None
    key_usage: KeyUsage | None
    extensions: Mapping[bytes, bytes]
    window: Window

    @property
    def is_ca(self) -> bool:
        return self.path_length is not None


@dataclass(frozen=True, slots=True)
class Crl:
    """One certificate revocation list; `issuer` is raw DER like the names in `Certificate`."""

    issuer: bytes
    this_update: datetime
    next_update: datetime
    signed_bytes: bytes
    signature: bytes
    entries: x509.CertificateRevocationList

    def revokes(self, serial_number: int) -> bool:
        """Whether the certificate with this serial number, by the same issuer, is on the list."""
        return self.entries.get_revoked_certificate_by_serial_number(serial_number) is not None


def split_pem(text: str, field: str) -> tuple[bytes, ...]:
    """Cut PEM text into its certificates, each in DER.

    Raises FormatError where there is anything but certificates, none at all, or more than `MAX_CHAIN_LENGTH`.
    """
    if len(text) > MAX_CHAIN_SIZE:
        raise FormatError(field, msg("{size} bytes, at most {limit} are read", size=len(text), limit=MAX_CHAIN_SIZE))
    text = text.rstrip("\0").strip("\r\n")
    position = 0
    certificates: list[bytes] = []
    while position < len(text):
        found = _PEM_BLOCK.match(text, position)
        if found is None or len(certificates) == MAX_CHAIN_LENGTH:
            raise FormatError(field, msg("not PEM certificates and nothing else"), offset=position)
        encoded = found[1].translate(_LINE_ENDS)
        try:
            decoded = binascii.a2b_base64(encoded)
        except binascii.Error as error:
            raise FormatError(field, msg("not base64: {error}", error=error), offset=position) from error
        if binascii.b2a_base64(decoded, newline=False) != encoded.encode():
            raise FormatError(field, msg("base64 with bits that mean nothing"), offset=position)
        certificates.append(decoded)
        position = found.end()
    if not certificates:
        raise FormatError(field, msg("no certificate in it"))
    return tuple(certificates)


@lru_cache(maxsize=256)
def parse_certificate(encoded: bytes, field: str = "certificate") -> Certificate:
    """Read one DER certificate with a P-256 key and an ECDSA-SHA256 signature; raises FormatError.

    What a certificate says never changes, so the last few are remembered.
    """
    tbs, (_, serial, algorithm, issuer, _, subject) = _signed_part(encoded, field, count=6)
    if encoded[algorithm.start : algorithm.end] != _ECDSA_WITH_SHA256:
        raise FormatError(field, msg("not signed with ECDSA and SHA-256"))
    serial_bytes = encoded[serial.content : serial.end]
    if serial.tag != der.INTEGER or not serial_bytes.strip(b"\0") or serial_bytes[0] & 0x80:
        raise FormatError(field, msg("its serial number is not a positive integer"))
    try:
        certificate = x509.load_der_x509_certificate(encoded)
        public_key = certificate.public_key()
        serial_number = certificate.serial_number
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        signature = certificate.signature
    except UNREADABLE as error:
        raise FormatError(field, msg("not a certificate: {error}", error=error)) from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
        raise FormatError(field, msg("its key is not on P-256"))
    extensions = _extensions(encoded, tbs, after=subject, field=field)
    common_name = _common_name(encoded, subject, field)
    return Certificate(
        encoded=encoded,
        digest=sha256(encoded).digest(),
        subject=encoded[subject.start : subject.end],
        issuer=encoded[issuer.start : issuer.end],
        common_name=common_name,
        serial_number=serial_number,
        not_before=not_before,
        not_after=not_after,
        signed_bytes=encoded[tbs.start : tbs.end],
        signature=signature,
        public_key=public_key,
        public_point=public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        path_length=_path_length(extensions.get(_BASIC_CONSTRAINTS), field),
        key_usage=_key_usage(extensions.get(_KEY_USAGE), field),
        extensions=extensions,
        window=Window(common_name, not_before, _after(not_after), published=False),
    )


def _after(not_after: datetime) -> datetime:
    """A certificate is valid through the second of its notAfter (RFC 5280, 4.1.2.5)."""
    return min(not_after, _END_OF_TIME - _SECOND) + _SECOND


@lru_cache(maxsize=64)
def parse_crl(encoded: bytes, field: str) -> Crl:
    """Read one complete DER CRL of version 2 with an ECDSA-SHA256 signature; raises FormatError. The last few are
    remembered as they were read.

    It must carry a CRL number and an authority key identifier (RFC 5280, 5.2), and no critical extension: those make
    a list partial (5.2.4, 5.2.5), and what is absent from a partial list may be revoked all the same.
    """
    if len(encoded) > MAX_CRL_SIZE:
        raise FormatError(field, msg("{size} bytes, at most {limit} are read", size=len(encoded), limit=MAX_CRL_SIZE))
    try:
        entries = x509.load_der_x509_crl(encoded)
        extensions = entries.extensions
        this_update, next_update = entries.last_update_utc, entries.next_update_utc
        signature = entries.signature
    except UNREADABLE as error:
        raise FormatError(field, msg("not a CRL: {error}", error=error)) from error
    if next_update is None:
        raise FormatError(field, msg("it does not say when the next one comes"))
    kinds = {type(extension.value) for extension in extensions}
    if x509.CRLNumber not in kinds or x509.AuthorityKeyIdentifier not in kinds:
        raise FormatError(field, msg("CRL number or authority key identifier is missing"))
    for extension in extensions:
        if extension.critical:
            raise FormatError(field, msg("critical extension {oid} is not known", oid=extension.oid.dotted_string))
    tbs, (_, algorithm, issuer) = _signed_part(encoded, field, count=3)
    if encoded[algorithm.start : algorithm.end] != _ECDSA_WITH_SHA256:
        raise FormatError(field, msg("not signed with ECDSA and SHA-256"))
    return Crl(
        issuer=encoded[issuer.start : issuer.end],
        this_update=this_update,
        next_update=next_update,
        signed_bytes=encoded[tbs.start : tbs.end],
        signature=signature,
        entries=entries,
    )


def _signed_part(encoded: bytes, field: str, *, count: int) -> tuple[der.Element, list[der.Element]]:
    """Return the signed part of a certificate or CRL and its first `count` fields.

    Both are SEQUENCE { signed part, algorithm, signature } (RFC 5280, 4.1 and 5.1.1). The algorithm stands in the
    signed part too, and the two must agree. A certificate's fields begin with version and serial number, of which the
    first is optional; a version 1 certificate has no place here, so it is not looked for.
    """
    outer = der.expect(der.element(encoded, 0, len(encoded), field), der.SEQUENCE, field)
    tbs = der.expect(der.element(encoded, outer.content, outer.end, field), der.SEQUENCE, field)
    algorithm = der.element(encoded, tbs.end, outer.end, field)
    if encoded[algorithm.start : algorithm.end] != _ECDSA_WITH_SHA256:
        raise FormatError(field, msg("not signed with ECDSA and SHA-256"))
    signature = der.expect(der.element(encoded, algorithm.end, outer.end, field), der.BIT_STRING, field)
    if encoded[signature.content : signature.content + 1] != b"\0" or not signature.end == outer.end == len(encoded):
        raise FormatError(field, msg("bits or bytes that mean nothing follow its signature"))
    fields: list[der.Element] = []
    position = tbs.content
    for _ in range(count):
        found = der.element(encoded, position, tbs.end, field)
        fields.append(found)
        position = found.end
    return tbs, fields


_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_KEY_USAGE = bytes.fromhex("551d0f")
_KNOWN = frozenset({_BASIC_CONSTRAINTS, _KEY_USAGE})
_EXTENSIONS_TAG = 0xA3
_KEY_USAGE_BITS = KeyUsage.DIGITAL_SIGNATURE | KeyUsage.KEY_CERT_SIGN | KeyUsage.CRL_SIGN


def _extensions(encoded: bytes, tbs: der.Element, *, after: der.Element, field: str) -> Mapping[bytes, bytes]:
    """Read the extensions of a certificate, which follow its key; refuse a critical one that is not known here."""
    key = der.element(encoded, after.end, tbs.end, field)
    if key.end == tbs.end:
        return {}
    outer = der.expect(der.element(encoded, key.end, tbs.end, field), _EXTENSIONS_TAG, field)
    listing = der.expect(der.element(encoded, outer.content, outer.end, field), der.SEQUENCE, field)
    if not listing.end == outer.end == tbs.end:
        raise FormatError(field, msg("something follows its extensions"), offset=listing.end)
    found: dict[bytes, bytes] = {}
    for extension in der.children(encoded, listing, field):
        parts = list(der.children(encoded, der.expect(extension, der.SEQUENCE, field), field))
        if len(parts) not in (2, 3):
            raise FormatError(field, msg("an extension that is none"), offset=extension.start)
        oid = der.expect(parts[0], der.OBJECT_IDENTIFIER, field)
        value = der.expect(parts[-1], der.OCTET_STRING, field)
        name = encoded[oid.content : oid.end]
        critical = len(parts) == 3 and der.boolean(encoded, parts[1], field)
        if critical and name not in _KNOWN:
            raise FormatError(field, msg("critical extension {oid} is not known", oid=name.hex()), offset=oid.start)
        if name in found:
            raise FormatError(field, msg("an extension comes twice"), offset=extension.start)
        found[name] = encoded[value.content : value.end]
    return found


def _path_length(value: bytes | None, field: str) -> int | None:
    """BasicConstraints ::= SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER OPTIONAL }."""
    if value is None:
        return None
    parts = list(der.children(value, _whole(value, der.SEQUENCE, field), field))
    if not parts or not der.boolean(value, parts[0], field):
        return None
    if len(parts) == 1:
        return MAX_CHAIN_LENGTH
    return der.unsigned(value, der.expect(parts[1], der.INTEGER, field), field, 0xFF)


def _key_usage(value: bytes | None, field: str) -> KeyUsage | None:
    if value is None:
        return None
    bits = _whole(value, der.BIT_STRING, field)
    # One byte that counts unused bits, then at most 9 bits: two bytes.
    if not 2 <= bits.end - bits.content <= 3:
        raise FormatError(field, msg("a key usage that is none"))
    return KeyUsage(value[bits.content + 1] & _KEY_USAGE_BITS)


def _whole(value: bytes, tag: int, field: str) -> der.Element:
    found = der.expect(der.element(value, 0, len(value), field), tag, field)
    if found.end != len(value):
        raise FormatError(field, msg("bytes follow it"), offset=found.end)
    return found


def _common_name(encoded: bytes, name: der.Element, field: str) -> str:
    for rdn in der.children(encoded, name, field):
        for pair in der.children(encoded, rdn, field):
            if encoded.startswith(_COMMON_NAME, pair.content):
                value = der.element(encoded, pair.content + len(_COMMON_NAME), pair.end, field)
                return encoded[value.content : value.end].decode("utf-8", "replace")
    raise FormatError(field, msg("its subject has no common name"))
