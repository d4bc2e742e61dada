"""TCG DICE tagged evidence as interoperable RA-TLS uses it: CBOR tag 60000 on [quote, claims].

TCG DICE Attestation Architecture, "Tagged Evidence"; Confidential Computing Consortium, "Interoperable RA-TLS". The
quote's REPORTDATA begins with the SHA-256 of the claims as they stand; one of them, "pubkey-hash", is a byte string
that holds CBOR again: [hash algorithm, hash of the certificate's SubjectPublicKeyInfo].
"""

from __future__ import annotations

import hashlib
from typing import Any

import cbor2

from sgxkit.dcap.found_quote import Bind, Binding, Bound, Envelope, Layer, binds_sha256
from sgxkit.dcap.quote_shape import is_quote
from sgxkit.errors import FormatError
from sgxkit.messages import msg

FIELD = "tagged evidence"
TAG = 60000
MAX_SIZE = 64 << 10
_MAGIC = bytes.fromhex("d9ea60")
_MAX_DEPTH = 8

# Numbers of the IANA registry "Named Information Hash Algorithm".
_ALGORITHMS = {1: "sha256", 7: "sha384", 8: "sha512"}


def open_tagged_evidence(content: bytes) -> tuple[Layer, ...]:
    """Tagged evidence on its own, without the certificate whose key it binds; () for what does not begin as such."""
    return (read_tagged_evidence(content, None),) if content.startswith(_MAGIC) else ()


def read_tagged_evidence(content: bytes, spki: bytes | None) -> Layer:
    """Read tagged evidence found in a certificate whose SubjectPublicKeyInfo, in DER, is `spki`.

    Only definite lengths in their shortest form, each key once and nothing after the end are read, so that all
    readers see the same evidence. Raises FormatError for anything else.
    """
    if len(content) > MAX_SIZE:
        raise FormatError(FIELD, msg("{size} bytes, at most {limit} are read", size=len(content), limit=MAX_SIZE))
    tagged = _decode(content, FIELD)
    if not isinstance(tagged, cbor2.CBORTag) or tagged.tag != TAG:
        raise FormatError(FIELD, msg("not CBOR tag {tag}", tag=TAG))
    pair = tagged.value
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(part, bytes) for part in pair):
        raise FormatError(FIELD, msg("not an array of two byte strings"))
    quote, claims = pair
    if not is_quote(quote):
        raise FormatError(FIELD, msg("no quote in it"))
    mapping = _decode(claims, f"{FIELD}, claims")
    if not isinstance(mapping, dict) or not all(isinstance(name, str) for name in mapping):
        raise FormatError(f"{FIELD}, claims", msg("not a map with text keys"))
    details = (("claims", ", ".join(mapping)), ("claims bytes", claims.hex()))
    bind = (binds_sha256(Bound.CLAIMS, "claims", claims), _binds_key(mapping.get("pubkey-hash"), spki))
    return Layer(FIELD, quote, Envelope.TAGGED_EVIDENCE, bind, details)


def _binds_key(claim: Any, spki: bytes | None) -> Bind:
    """The public key's hash in the claims; evidence without that claim binds no key: that comparison never holds."""
    algorithm, present = "sha256", None
    if claim is not None:
        algorithm, present = _read_key_hash(claim)
    expected = None if spki is None else hashlib.new(algorithm, spki).digest()
    binding = Binding(Bound.PUBLIC_KEY, "SubjectPublicKeyInfo", "claims: pubkey-hash", algorithm, expected, present)
    return lambda _reportdata: binding


def _read_key_hash(claim: Any) -> tuple[str, bytes]:
    field = f"{FIELD}, pubkey-hash"
    pair = _decode(claim, field) if isinstance(claim, bytes) else None
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise FormatError(field, msg("not an algorithm and a hash"))
    number, digest = pair
    if type(number) is not int or number not in _ALGORITHMS:
        raise FormatError(field, msg("hash algorithm {number} is not known", number=str(number)[:20]))
    algorithm = _ALGORITHMS[number]
    if not isinstance(digest, bytes) or len(digest) != hashlib.new(algorithm).digest_size:
        raise FormatError(field, msg("not a hash of its algorithm"))
    return algorithm, digest


def _decode(content: bytes, field: str) -> Any:
    try:
        value = cbor2.loads(content, max_depth=_MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False)
        again = cbor2.dumps(value)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        raise FormatError(field, msg("not CBOR: {error}", error=str(error)[:200])) from error
    if again != content:
        raise FormatError(field, msg("bytes follow it, or it is not in its shortest form"))
    return value
