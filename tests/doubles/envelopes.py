"""Envelopes made for tests: certificates, evidence and messages with any quote in them."""

from __future__ import annotations

import base64
import struct
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from doubles.platform import Platform, make_platform, report_body
from sgxkit.isa.attributes import AttributeFlags, Attributes

_PLATFORM = cache(lambda: make_platform("SGX"))
_KEY = ec.generate_private_key(ec.SECP384R1())

SPKI = _KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
SPKI_PEM = (
    _KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    + b"\0"
)
KEY_HASH = sha256(SPKI).digest()
SGX_ECDSA = bytes.fromhex("a3a21e871b4d4014b70aa125d2fbcd8c")


def sgx_platform() -> Platform:
    """One platform for all quotes of this module."""
    return _PLATFORM()


def quote_over(reportdata: bytes, *, debug: bool = False, version: int = 3) -> bytes:
    """Make an SGX quote whose REPORTDATA begins with `reportdata`."""
    flags = AttributeFlags.INIT | AttributeFlags.MODE64BIT
    if debug:
        flags |= AttributeFlags.DEBUG
    body = report_body(reportdata=reportdata.ljust(64, b"\0"), attributes=Attributes(flags, 3))
    return sgx_platform().quote(version=version, body=body.to_bytes())


def epid_quote(reportdata: bytes = b"", *, signature: bytes | None = bytes(range(200)), version: int = 2) -> bytes:
    """Make an EPID quote; without a signature, the 432 bytes that IAS reports carry."""
    header = struct.pack("<HHIHHI32s", version, 1, 0x0C14, 12, 13, 0, bytes(range(32)))
    body = header + report_body(reportdata=reportdata.ljust(64, b"\0")).to_bytes()
    return body if signature is None else body + struct.pack("<I", len(signature)) + signature


def certificate(*extensions: tuple[str, bytes]) -> x509.Certificate:
    """Make a self-signed certificate with these extensions (OID, content)."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RATLS")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_KEY.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2001, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2030, 12, 31, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    for oid, content in extensions:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), content)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(_KEY, hashes.SHA256())


def certificate_der(*extensions: tuple[str, bytes]) -> bytes:
    return certificate(*extensions).public_bytes(serialization.Encoding.DER)


def key_claims(digest: bytes = KEY_HASH, algorithm: int = 1) -> bytes:
    """The claims that Gramine makes: the hash of the certificate's key, in CBOR in CBOR."""
    return cbor2.dumps({"pubkey-hash": cbor2.dumps([algorithm, digest])})


def tagged_evidence(claims: bytes, quote: bytes | None = None) -> bytes:
    """Tagged evidence; by default with a quote over the claims."""
    quote = quote_over(sha256(claims).digest()) if quote is None else quote
    return cbor2.dumps(cbor2.CBORTag(60000, [quote, claims]))


def open_enclave_report(quote: bytes, *, kind: int = 2, size: int | None = None) -> bytes:
    return struct.pack("<IIQ", 1, kind, len(quote) if size is None else size) + quote


def open_enclave_evidence(quote: bytes, claims: bytes, *, version: int = 3) -> bytes:
    inner = (open_enclave_report(quote) if version == 2 else quote) + claims
    return struct.pack("<I16s4xQ", version, SGX_ECDSA, len(inner)) + inner


def qgs_response(quote: bytes, *, selected_id: bytes = b"", error: int = 0) -> bytes:
    size = 24 + len(selected_id) + len(quote)
    return struct.pack("<HHIIIII", 1, 0, 1, size, error, len(selected_id), len(quote)) + selected_id + quote


def tdx_quote_buffer(content: bytes, *, status: int = 0) -> bytes:
    return struct.pack("<QQII", 1, status, 1024, len(content)) + content + bytes(100)


def pem(content: bytes, label: str) -> str:
    body = base64.encodebytes(content).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n"


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
