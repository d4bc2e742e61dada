"""Collateral: what Intel has published about the platform that made a quote, and the files it is kept in.

`Collateral` holds the pieces exactly as they are signed; nothing in it is trusted until `sgxkit.dcap.verify` has
checked it. A bundle is one JSON file with all the pieces (docs/collateral.md): `parse_bundle` reads sgxkit's own and
the two shapes other tools write, `export_bundle` writes sgxkit's own, which dcap-qvl can read too.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from sgxkit.dcap.signed_json import parse_strict_json, split_signed_json
from sgxkit.errors import FormatError, InputError, SgxkitError
from sgxkit.messages import msg

MAX_BUNDLE = 4 << 20
MAX_CHAIN = 64 << 10
MAX_CRL = 2 << 20
MAX_JSON = 1 << 20

BUNDLE_FORMAT = "sgxkit-collateral"
BUNDLE_VERSION = "1"


class CollateralError(SgxkitError):
    """Collateral that verification needs could not be had: nothing can be said about the quote."""

    code: ClassVar[str] = "collateral"
    exit_code: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class Collateral:
    """The signed pieces that a quote is judged by, raw.

    Certificate chains are PEM text, leaf first and root last. CRLs are DER. `tcb_info` and `qe_identity` are the JSON
    text of the inner object (the value of ``tcbInfo`` and ``enclaveIdentity``) byte for byte as signed, and their
    signatures are raw big-endian r and s, 32 bytes each (Intel PCS API v4).
    """

    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: bytes
    pck_certificate_chain: str | None = None
    """For quotes whose certification data carries no certificate (types 1 to 3)."""
    digest: bytes = field(init=False, repr=False, compare=False)
    """SHA-256 over all pieces, each with its length: a name for exactly this collateral."""

    def __post_init__(self) -> None:
        hasher = sha256()
        for member in fields(self):
            if member.init:
                piece = getattr(self, member.name)
                encoded = piece.encode("utf-8", "surrogatepass") if isinstance(piece, str) else piece
                hasher.update(b"-" if encoded is None else b"%d:%b" % (len(encoded), encoded))
        object.__setattr__(self, "digest", hasher.digest())


_HEX = re.compile(r"[0-9a-fA-F]*")
_PEM_CRL = re.compile(r"\s*-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]*)-----END X509 CRL-----\s*")

_CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_CRLS = ("root_ca_crl", "pck_crl")
_DOCUMENTS = ("tcb_info", "qe_identity")
_SIGNATURES = ("tcb_info_signature", "qe_identity_signature")
# What describes the C structure sgx_ql_qve_collateral_t rather than the collateral.
_STRUCT = ("version", "major_version", "minor_version", "tee_type")
_STRUCT_SIZES = tuple(f"{name}_size" for name in (*_CHAINS, *_CRLS, *_DOCUMENTS))

# A root certificate that travels with the collateral (some test data has one) is never trusted, so never kept.
_FLAT_KEYS = frozenset(
    {*_CHAINS, *_CRLS, *_DOCUMENTS, *_SIGNATURES, *_STRUCT, "pck_certificate_chain", "trusted_root"}
)
_OWN_KEYS = frozenset({*_CHAINS, *_CRLS, *_DOCUMENTS, *_SIGNATURES, "pck_certificate_chain", "format", "version"})
_STRUCT_KEYS = frozenset({*_CHAINS, *_CRLS, *_DOCUMENTS, *_STRUCT, *_STRUCT_SIZES, "pck_certificate_chain"})

# SGX_QL_QVE_COLLATERAL_VERSION_*: 1.0 has PEM CRLs, 3.0 hexadecimal DER, 3.1 DER (sgx_ql_lib_common.h).
_STRUCT_VERSIONS = ((1, 0), (3, 0), (3, 1))
_TEE_TYPES = (0x00000000, 0x00000081)


def parse_bundle(data: bytes | str) -> Collateral:
    """Read a collateral bundle: UTF-8 JSON of at most 4 MiB in one of three shapes.

    (a) sgxkit's own, with ``"format": "sgxkit-collateral"`` (docs/schema/collateral.schema.json); (b) dcap-qvl's
    QuoteCollateralV3, the same strings without a format; (c) the fields of Intel's ``sgx_ql_qve_collateral_t``
    (sgx_ql_lib_common.h), where ``tcb_info`` and ``qe_identity`` are the documents as served, signature included.
    In (b) and (c) a CRL may be PEM, hexadecimal or base64 DER, or an array of bytes, and any text may be an array of
    bytes. Keys that the shape does not have, and equal keys anywhere, are refused.

    Nothing is verified, and the signed documents are not read beyond what cutting them out of (c) takes. Raises
    `FormatError` naming the field.
    """
    if len(data) > MAX_BUNDLE:
        raise FormatError("collateral", msg("it is longer than {limit} bytes", limit=MAX_BUNDLE))
    if isinstance(data, bytes):
        data = _utf8(data, "collateral")
    bundle = parse_strict_json(data, "collateral")
    if not isinstance(bundle, dict):
        raise FormatError("collateral", msg("it is not an object"))
    if "format" in bundle:
        return _parse_own(bundle)
    if any(name in bundle for name in _SIGNATURES):
        return _parse_flat(bundle)
    return _parse_struct(bundle)


def export_bundle(collateral: Collateral) -> str:
    """Write collateral as sgxkit's own bundle, ASCII JSON; `parse_bundle` gives exactly the same collateral back.

    CRLs and signatures become lower-case hexadecimal digits, all else is text as it is (docs/collateral.md).
    """
    pieces = {
        "format": BUNDLE_FORMAT,
        "version": BUNDLE_VERSION,
        "pck_crl_issuer_chain": collateral.pck_crl_issuer_chain,
        "root_ca_crl": collateral.root_ca_crl.hex(),
        "pck_crl": collateral.pck_crl.hex(),
        "tcb_info_issuer_chain": collateral.tcb_info_issuer_chain,
        "tcb_info": collateral.tcb_info,
        "tcb_info_signature": collateral.tcb_info_signature.hex(),
        "qe_identity_issuer_chain": collateral.qe_identity_issuer_chain,
        "qe_identity": collateral.qe_identity,
        "qe_identity_signature": collateral.qe_identity_signature.hex(),
    }
    if collateral.pck_certificate_chain is not None:
        pieces["pck_certificate_chain"] = collateral.pck_certificate_chain
    return json.dumps(pieces, indent=2) + "\n"


def read_bundle(path: Path) -> Collateral:
    """Read a bundle from a file; raises `InputError` where it cannot be read, `FormatError` for what is no bundle."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BUNDLE + 1)
    except OSError as error:
        raise InputError(msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or error)) from error
    return parse_bundle(data)


def write_bundle(path: Path, collateral: Collateral) -> None:
    """Write a bundle to a file, which then is either whole or as it was before; raises `InputError`.

    What is no regular file (a link, a device, a pipe) is written to as it stands: renaming would take its place.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_text(export_bundle(collateral))
            return
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            temporary.write_text(export_bundle(collateral))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or error)
        ) from error


def decode_crl(data: bytes, field: str) -> bytes:
    """Return the DER of a CRL given as DER, PEM, or hexadecimal or base64 digits of DER.

    All four are met: Intel's service answers DER or PEM, a PCCS answers hexadecimal digits under a content type of
    PEM or DER, JSON carries base64. They cannot be confused: DER begins with the byte 30h, its hexadecimal digits
    with "30", its base64 with "M". Whether it is a CRL is not looked at. Raises `FormatError` naming `field`.
    """
    if data.startswith(b"\x30"):
        return _bounded_crl(data, field)
    try:
        return _crl_of_text(data.decode("ascii"), field)
    except UnicodeDecodeError as error:
        raise FormatError(field, msg("it is neither DER nor text")) from error


def _crl_of_text(text: str, field: str) -> bytes:
    text = text.strip("\0").strip()
    if len(text) % 2 == 0 and _HEX.fullmatch(text):
        return _bounded_crl(bytes.fromhex(text), field)
    pem = _PEM_CRL.fullmatch(text)
    digits = "".join((text if pem is None else pem[1]).split())
    try:
        der = base64.b64decode(digits, validate=True)
    except ValueError as error:
        raise FormatError(field, msg("it is not PEM, hexadecimal or base64 digits, or DER")) from error
    if not der.startswith(b"\x30"):
        raise FormatError(field, msg("it is not PEM, hexadecimal or base64 digits, or DER"))
    return _bounded_crl(der, field)


def _bounded_crl(der: bytes, field: str) -> bytes:
    if len(der) > MAX_CRL:
        raise FormatError(field, msg("it is longer than {limit} bytes", limit=MAX_CRL))
    return der


def _parse_own(bundle: Mapping[str, object]) -> Collateral:
    if bundle["format"] != BUNDLE_FORMAT:
        raise FormatError("format", msg("it is not {expected}", expected=BUNDLE_FORMAT))
    if bundle.get("version") != BUNDLE_VERSION:
        raise FormatError(
            "version",
            msg("this sgxkit reads bundles of version {expected}", expected=BUNDLE_VERSION),
            hint=msg("a newer sgxkit wrote the bundle, or it was changed by hand"),
        )
    _only(bundle, _OWN_KEYS)
    for name in sorted(_OWN_KEYS & bundle.keys()):
        if not isinstance(bundle[name], str):
            raise FormatError(name, msg("it is not a string"))
    return _collateral(
        bundle,
        {name: _bounded_crl(_hex(bundle, name), name) for name in _CRLS},
        {name: _signature(bundle, name) for name in _SIGNATURES},
    )


def _parse_flat(bundle: Mapping[str, object]) -> Collateral:
    _only(bundle, _FLAT_KEYS)
    _check_struct(bundle)
    return _collateral(
        bundle,
        {name: _crl(bundle, name) for name in _CRLS},
        {name: _signature(bundle, name) for name in _SIGNATURES},
    )


def _parse_struct(bundle: Mapping[str, object]) -> Collateral:
    _only(bundle, _STRUCT_KEYS)
    _check_struct(bundle)
    # C strings: the terminating NUL is counted by the structure's sizes and so often written along.
    plain = {name: _text(bundle, name).rstrip("\0") for name in (*_CHAINS, *_DOCUMENTS)}
    if bundle.get("pck_certificate_chain") is not None:
        plain["pck_certificate_chain"] = _text(bundle, "pck_certificate_chain").rstrip("\0")
    signatures = {}
    for name, member in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity")):
        if len(plain[name]) > MAX_JSON:
            raise FormatError(name, msg("it is longer than {limit} bytes", limit=MAX_JSON))
        plain[name], signatures[f"{name}_signature"] = split_signed_json(plain[name], member)
    return _collateral(plain, {name: _crl(bundle, name) for name in _CRLS}, signatures)


def _collateral(
    texts: Mapping[str, object], crls: Mapping[str, bytes], signatures: Mapping[str, bytes]
) -> Collateral:
    has_pck_chain = texts.get("pck_certificate_chain") is not None
    return Collateral(
        pck_crl_issuer_chain=_text(texts, "pck_crl_issuer_chain", MAX_CHAIN),
        root_ca_crl=crls["root_ca_crl"],
        pck_crl=crls["pck_crl"],
        tcb_info_issuer_chain=_text(texts, "tcb_info_issuer_chain", MAX_CHAIN),
        tcb_info=_text(texts, "tcb_info", MAX_JSON),
        tcb_info_signature=signatures["tcb_info_signature"],
        qe_identity_issuer_chain=_text(texts, "qe_identity_issuer_chain", MAX_CHAIN),
        qe_identity=_text(texts, "qe_identity", MAX_JSON),
        qe_identity_signature=signatures["qe_identity_signature"],
        pck_certificate_chain=_text(texts, "pck_certificate_chain", MAX_CHAIN) if has_pck_chain else None,
    )


def _only(bundle: Mapping[str, object], known: frozenset[str]) -> None:
    for name in bundle:
        if name not in known:
            raise FormatError(json.dumps(name[:100]), msg("a bundle of this shape has no such key"))


def _required(bundle: Mapping[str, object], name: str) -> object:
    if name not in bundle:
        raise FormatError(name, msg("it is missing"))
    return bundle[name]


def _check_struct(bundle: Mapping[str, object]) -> None:
    for name in (*_STRUCT, *_STRUCT_SIZES):
        value = bundle.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 32:
            raise FormatError(name, msg("it is not a 32-bit number"))
    if bundle.get("tee_type", 0) not in _TEE_TYPES:
        raise FormatError("tee_type", msg("it is neither 0 (SGX) nor 129 (TDX)"))
    if "major_version" in bundle:
        major, minor = bundle["major_version"], bundle.get("minor_version", 0)
        field = "major_version"
    elif "version" in bundle:
        # The structure's first 32 bits: the major version in the lower half, the minor one in the upper.
        version = bundle["version"]
        if not isinstance(version, int):
            raise FormatError("version", msg("it is not a 32-bit number"))
        major, minor = version & 0xFFFF, version >> 16
        field = "version"
    else:
        return
    if (major, minor) not in _STRUCT_VERSIONS:
        raise FormatError(
            field,
            msg("the collateral structure has versions 1.0, 3.0 and 3.1, not {found}", found=f"{major}.{minor}"),
        )


def _utf8(data: bytes, field: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(field, msg("it is not UTF-8"), offset=error.start) from error


def _bytes(value: list[object], field: str) -> bytes:
    if not all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= 255 for item in value):
        raise FormatError(field, msg("it is not an array of bytes"))
    return bytes(item for item in value if isinstance(item, int))


def _text(bundle: Mapping[str, object], name: str, limit: int = MAX_BUNDLE) -> str:
    value = _required(bundle, name)
    if isinstance(value, list):
        value = _utf8(_bytes(value, name), name)
    if isinstance(value, dict) and name in _DOCUMENTS:
        raise FormatError(
            name,
            msg("it is an object; what is signed is its text, which must stand here as a string"),
            hint=msg("`sgxkit collateral fetch` writes a bundle that has it"),
        )
    if not isinstance(value, str):
        raise FormatError(name, msg("it is not a string"))
    if len(value) > limit:
        raise FormatError(name, msg("it is longer than {limit} bytes", limit=limit))
    return value


def _crl(bundle: Mapping[str, object], name: str) -> bytes:
    value = _required(bundle, name)
    if isinstance(value, list):
        return decode_crl(_bytes(value, name), name)
    if not isinstance(value, str):
        raise FormatError(name, msg("it is not a string"))
    return _crl_of_text(value, name)


def _hex(bundle: Mapping[str, object], name: str) -> bytes:
    value = _required(bundle, name)
    if not isinstance(value, str) or len(value) % 2 or not _HEX.fullmatch(value):
        raise FormatError(name, msg("it is not hexadecimal digits, two a byte"))
    return bytes.fromhex(value)


def _signature(bundle: Mapping[str, object], name: str) -> bytes:
    value = _required(bundle, name)
    signature = _bytes(value, name) if isinstance(value, list) else _hex(bundle, name)
    if len(signature) != 64:
        raise FormatError(name, msg("it has {length} bytes; a signature has 64", length=len(signature)))
    return signature
