"""Quotes in X.509 certificates: RA-TLS of Gramine and of the interoperable kind, Open Enclave, Azure, and IAS.

A certificate's key is bound to the quote, and so to the enclave that made both. What is hashed differs: Gramine takes
the SubjectPublicKeyInfo in DER; Open Enclave, and Azure's attestation service, which is built with it, take the PEM
text of the key with the zero byte that ends it in C.

Certificates are walked element by element and not decoded as X.509: those that programs make for themselves often are
not valid, and neither their signature nor their names matter here. (RFC 5280, 4.1)
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

from sgxkit.dcap import der
from sgxkit.dcap.found_quote import Bind, Binding, Bound, Envelope, Layer, binds_either, binds_sha256
from sgxkit.dcap.open_enclave import open_evidence, open_report
from sgxkit.dcap.quote_shape import is_quote
from sgxkit.dcap.tagged_evidence import read_tagged_evidence
from sgxkit.errors import FormatError
from sgxkit.messages import msg

FIELD = "certificate"
_VERSION, _ISSUER_ID, _SUBJECT_ID, _EXTENSIONS = 0xA0, 0x81, 0x82, 0xA3

# Gramine writes the OID's DER, tag and length included, where its content belongs; so it reads 0.6.9.42.840.…
GRAMINE_AS_WRITTEN = "0.6.9.42.840.113741.1337.6"
GRAMINE = "1.2.840.113741.1337.6"
TAGGED_EVIDENCE = "2.23.133.5.4.9"
OPEN_ENCLAVE_REPORT = "1.2.840.113556.10.1.1"
OPEN_ENCLAVE_EVIDENCE = "1.2.840.113556.10.1.2"
OPEN_ENCLAVE_REPORT_NEW = "1.3.6.1.4.1.311.105.1"
OPEN_ENCLAVE_EVIDENCE_NEW = "1.3.6.1.4.1.311.105.2"
NETSCAPE_COMMENT = "2.16.840.1.113730.1.13"


def open_certificate(content: bytes) -> Iterator[Layer]:
    """A DER certificate: one layer for each extension that carries a quote, nothing for what is no certificate.

    Zero bytes may follow it. Raises FormatError at an extension that is not what it should be: whoever breaks the
    stronger evidence must not make the weaker count instead.
    """
    try:
        walked = _walk(content)
    except FormatError:
        return  # not a certificate; another opener may know it
    if walked is None:
        return
    spki, extensions = walked
    seen: set[str] = set()
    for oid, value in extensions:
        reader = _READERS.get(oid)
        if reader is None:
            continue
        if oid in seen:
            raise FormatError(f"extension {oid}", msg("comes twice"))
        seen.add(oid)
        for layer in reader(oid, value, spki):
            name = f"X.509 extension {oid}"
            yield Layer(name, layer.content, layer.envelope, layer.bind, layer.details)


def _walk(content: bytes) -> tuple[bytes, list[tuple[str, bytes]]] | None:
    """Return the SubjectPublicKeyInfo, in DER, and the extensions, each its OID and the content of its value."""
    outer = der.expect(der.element(content, 0, len(content), FIELD), der.SEQUENCE, FIELD)
    if content.count(0, outer.end) != len(content) - outer.end:
        return None
    parts = list(der.children(content, outer, FIELD))
    if [part.tag for part in parts] != [der.SEQUENCE, der.SEQUENCE, 0x03]:
        return None
    fields = list(der.children(content, parts[0], FIELD))
    if fields and fields[0].tag == _VERSION:
        del fields[0]
    # serial number, signature algorithm, issuer, validity, subject, public key, and then the optional ones
    if [field.tag for field in fields[:6]] != [der.INTEGER, *[der.SEQUENCE] * 5]:
        return None
    key = fields[5]
    extensions: list[tuple[str, bytes]] = []
    for field in fields[6:]:
        if field.tag == _EXTENSIONS:
            extensions += _extensions(content, field)
        elif field.tag not in (_ISSUER_ID, _SUBJECT_ID):
            return None
    return content[key.start : key.end], extensions


def _extensions(content: bytes, field: der.Element) -> Iterator[tuple[str, bytes]]:
    sequence = der.expect(der.element(content, field.content, field.end, FIELD), der.SEQUENCE, FIELD)
    for extension in der.children(content, der.expect(sequence, der.SEQUENCE, FIELD), FIELD):
        parts = list(der.children(content, der.expect(extension, der.SEQUENCE, FIELD), FIELD))
        if len(parts) not in (2, 3) or (len(parts) == 3 and parts[1].tag != der.BOOLEAN):
            raise FormatError(FIELD, msg("not an extension"), offset=extension.start)
        oid = der.expect(parts[0], der.OBJECT_IDENTIFIER, FIELD)
        value = der.expect(parts[-1], der.OCTET_STRING, FIELD)
        yield _dotted(content[oid.content : oid.end]), content[value.content : value.end]


def _dotted(encoded: bytes) -> str:
    """An OID's content as text (X.690, 8.19); arcs of more than 64 bits are of no OID looked for."""
    numbers: list[int] = []
    value = 0
    for byte in encoded[:64]:
        value = (value << 7 | byte & 0x7F) & 0xFFFF_FFFF_FFFF_FFFF
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    if not numbers:
        return ""
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _binds_key_der(spki: bytes) -> Bind:
    return binds_sha256(Bound.PUBLIC_KEY, "SubjectPublicKeyInfo", spki)


def _binds_key_pem(spki: bytes) -> Bind:
    return binds_sha256(Bound.PUBLIC_KEY, "PEM of the public key, with its final zero byte", _pem(spki) + b"\0")


def _pem(spki: bytes) -> bytes:
    body = base64.b64encode(spki)
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return b"\n".join([b"-----BEGIN PUBLIC KEY-----", *lines, b"-----END PUBLIC KEY-----", b""])


def _claims_have_key(spki: bytes, claims: bytes) -> Bind:
    """Open Enclave's evidence binds its custom claims; in a certificate those are the PEM text of the key."""
    text = _pem(spki)
    place = "custom claims of the evidence"
    present = text if text in claims else claims
    binding = Binding(Bound.PUBLIC_KEY, "PEM of the public key", place, "none", text, present)
    return lambda _reportdata: binding


def _binds_key_point(spki: bytes) -> Bind:
    """The 64 bytes of REPORTDATA are the key itself, x and y of its point on P-256."""

    def bind(reportdata: bytes) -> Binding:
        return Binding(
            Bound.PUBLIC_KEY, "point of the public key", "REPORTDATA", "none", spki[-64:], reportdata or None
        )

    return bind


Reader = Callable[[str, bytes, bytes], tuple[Layer, ...]]


def _read_gramine(oid: str, value: bytes, spki: bytes) -> tuple[Layer, ...]:
    if not is_quote(value):
        raise FormatError(f"extension {oid}", msg("no quote in it"))
    return (Layer(oid, value, Envelope.RA_TLS, (_binds_key_der(spki),)),)


def _read_tagged(_: str, value: bytes, spki: bytes) -> tuple[Layer, ...]:
    return (read_tagged_evidence(value, spki),)


def _read_open_enclave(oid: str, value: bytes, spki: bytes) -> tuple[Layer, ...]:
    """A report behind its header, or (Azure) a DER OCTET STRING with a quote or a report in it."""
    inner = value
    details: tuple[tuple[str, str | int], ...] = ()
    if value[:1] == bytes([der.OCTET_STRING]):
        string = der.element(value, 0, len(value), f"extension {oid}")
        inner = value[string.content : string.end]
    elif value[:1] == bytes([der.INTEGER]):
        return ()  # Azure's version number beside the quote, which stands in another extension
    opened = open_report(inner) or open_evidence(inner)
    bind: tuple[Bind, ...] = (binds_either(_binds_key_pem(spki), _binds_key_der(spki)),)
    if opened:
        inner, details = opened[0].content, opened[0].details
        if opened[0].bind:
            claims = bytes.fromhex(str(dict(details)["custom claims"]))
            bind = (*opened[0].bind, _claims_have_key(spki, claims))
    if not is_quote(inner):
        raise FormatError(f"extension {oid}", msg("no quote in it"))
    return (Layer(oid, inner, Envelope.OPEN_ENCLAVE_CERTIFICATE, bind, details),)


def _read_comment(oid: str, value: bytes, spki: bytes) -> tuple[Layer, ...]:
    """An IAS report, its signature and its certificate, with bars between; any other comment is of no concern."""
    report, bar, _ = value.partition(b"|")
    if not bar or b'"isvEnclaveQuoteBody"' not in report:
        return ()
    bind = binds_either(_binds_key_point(spki), _binds_key_der(spki))
    return (Layer(oid, report, Envelope.IAS_CERTIFICATE, (bind,)),)


_READERS: dict[str, Reader] = {
    GRAMINE_AS_WRITTEN: _read_gramine,
    GRAMINE: _read_gramine,
    TAGGED_EVIDENCE: _read_tagged,
    OPEN_ENCLAVE_REPORT: _read_open_enclave,
    OPEN_ENCLAVE_EVIDENCE: _read_open_enclave,
    OPEN_ENCLAVE_REPORT_NEW: _read_open_enclave,
    OPEN_ENCLAVE_EVIDENCE_NEW: _read_open_enclave,
    NETSCAPE_COMMENT: _read_comment,
}
