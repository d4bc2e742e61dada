"""ECDSA on P-256 with SHA-256, the one signature algorithm of DCAP.

Both (r, s) and (r, n - s) verify, as ECDSA has it: a signature is no name for what it signs, and neither are a
quote's bytes.
"""

from __future__ import annotations

from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

_CURVE = ec.SECP256R1()
_PREHASHED_SHA256 = ec.ECDSA(utils.Prehashed(hashes.SHA256()))


def public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key at `point`, 64 bytes x and y big-endian; raises ValueError where that is not on the curve."""
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, b"\x04" + point)


def signature_verifies(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Whether `signature`, in DER as certificates have it, is `key`'s over `message`."""
    try:
        key.verify(signature, sha256(message).digest(), _PREHASHED_SHA256)
    except InvalidSignature:
        return False
    return True


def raw_signature_verifies(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """The same for a signature of 64 bytes, r and s big-endian, as quotes and collateral have it."""
    encoded = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    return signature_verifies(key, encoded, message)
