"""Signing enclaves: RSA with 3072 bits and exponent 3, PKCS#1 v1.5, SHA-256 (Intel SDM Vol. 3D, 36.4, 35.14).

In one step with a private key at hand, or in two with a key kept elsewhere: write the 256 bytes to sign, have them
signed there (``openssl dgst -sha256 -sign key.pem``, a hardware module), take the signature back.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import date
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sgxkit.errors import FormatError, InputError
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.sigstruct import EXPONENT, KEY_SIZE, Sigstruct, quotients
from sgxkit.messages import Message, msg

SIGNED_SIZE = 256
"""Bytes that are signed: 0 to 127 and 900 to 1027 of SIGSTRUCT."""

_SIGNED_BEGIN = 128
_KEY_BITS = KEY_SIZE * 8

# AVX, AVX-512 and AMX: state components that a loader may turn on as the processor has them.
_OPTIONAL_XFRM = 0xE4 | 0x60000
_ALL = 0xFFFF_FFFF_FFFF_FFFF


def unsigned_sigstruct(
    mrenclave: bytes, *, like: Sigstruct | None = None, on: date | None = None, debug: bool = False
) -> Sigstruct:
    """Return what is to be signed for a measurement: the fields of `like` where given, else the strictest.

    Strict is: a 64-bit enclave for production, every attribute fixed but the vector extensions. With `debug` the
    enclave is a debug enclave and nothing else.
    """
    if like is None:
        base = Sigstruct(
            vendor=0,
            date=0,
            swdefined=0,
            modulus=bytes(KEY_SIZE),
            signature=bytes(KEY_SIZE),
            miscselect=0,
            miscmask=0xFFFF_FFFF,
            cet_attributes=0,
            cet_attributes_mask=0,
            isvfamilyid=bytes(16),
            attributes=Attributes(AttributeFlags.MODE64BIT, 3),
            attributemask=Attributes(_ALL, _ALL & ~_OPTIONAL_XFRM),
            enclavehash=bytes(32),
            isvextprodid=bytes(16),
            isvprodid=0,
            isvsvn=0,
            q1=bytes(KEY_SIZE),
            q2=bytes(KEY_SIZE),
        )
    else:
        base = like
    if debug:
        attributes, mask = base.attributes, base.attributemask
        base = replace(
            base,
            attributes=replace(attributes, flags=attributes.flags | AttributeFlags.DEBUG),
            attributemask=replace(mask, flags=mask.flags | AttributeFlags.DEBUG),
        )
    blank = bytes(KEY_SIZE)
    return replace(
        base,
        enclavehash=mrenclave,
        date=base.date if on is None else int(f"{on:%Y%m%d}", 16),
        modulus=blank,
        signature=blank,
        q1=blank,
        q2=blank,
    )


def sign(sigstruct: Sigstruct, key: rsa.RSAPrivateKey) -> Sigstruct:
    """Return `sigstruct` signed by `key`, which must be of the right kind (`load_private_key`)."""
    signature = key.sign(sigstruct.signed_bytes, padding.PKCS1v15(), hashes.SHA256())
    return with_signature(sigstruct, key.public_key(), signature)


def with_signature(sigstruct: Sigstruct, key: rsa.RSAPublicKey, signature: bytes) -> Sigstruct:
    """Return `sigstruct` with a signature that was made elsewhere: 384 bytes, big-endian as all tools write them.

    Raises InputError where it is not the signature of `key` over `sigstruct`.
    """
    _require_right_kind(key)
    modulus = key.public_numbers().n
    if len(signature) != KEY_SIZE or int.from_bytes(signature, "big") >= modulus:
        raise InputError(msg("the signature is not one of an RSA key with 3072 bits"))
    little = modulus.to_bytes(KEY_SIZE, "little")
    q1, q2 = quotients(signature[::-1], little)
    signed = replace(sigstruct, modulus=little, signature=signature[::-1], q1=q1, q2=q2)
    if not signed.signature_holds:
        raise InputError(
            msg("the signature is not that of this key over these bytes"),
            hint=msg("sign them with PKCS#1 v1.5 and SHA-256: openssl dgst -sha256 -sign KEY -out SIGNATURE FILE"),
        )
    return signed


def parse_signed_bytes(data: bytes) -> Sigstruct:
    """Read the 256 bytes that were written to be signed back into a SIGSTRUCT without signature."""
    if len(data) != SIGNED_SIZE:
        raise FormatError(
            "bytes to sign", msg("{size} bytes, must be {expected}", size=len(data), expected=SIGNED_SIZE), offset=0
        )
    key = bytes(KEY_SIZE) + EXPONENT.to_bytes(4, "little") + bytes(KEY_SIZE)
    return Sigstruct.from_bytes(data[:_SIGNED_BEGIN] + key + data[_SIGNED_BEGIN:] + bytes(12 + 2 * KEY_SIZE))


def refusals(sigstruct: Sigstruct, mrenclave: bytes | None) -> tuple[Message, ...]:
    """Say why EINIT would refuse the signature for an enclave of this measurement (None: not compared)."""
    found = []
    if not sigstruct.signature_holds:
        found.append(msg("the signature does not hold: SGX_INVALID_SIGNATURE"))
    elif not sigstruct.quotients_hold:
        found.append(msg("Q1 and Q2 do not belong to the signature: SGX_INVALID_SIGNATURE"))
    if mrenclave is not None and sigstruct.enclavehash != mrenclave:
        found.append(
            msg(
                "signed for MRENCLAVE {signed}, the image has {measured}: SGX_INVALID_MEASUREMENT",
                signed=sigstruct.enclavehash.hex(),
                measured=mrenclave.hex(),
            )
        )
    return tuple(found)


def generate_key() -> rsa.RSAPrivateKey:
    """Make a key that can sign enclaves."""
    return rsa.generate_private_key(EXPONENT, _KEY_BITS)


def load_private_key(pem: bytes, password: bytes | None = None) -> rsa.RSAPrivateKey:
    """Read a private key from PEM; InputError where it is none, is locked, or cannot sign enclaves."""
    try:
        key = serialization.load_pem_private_key(pem, password)
    except TypeError as error:
        if password is None:
            raise InputError(
                msg("the key is encrypted"), hint=msg("give its password in a file: --password-file FILE")
            ) from error
        raise InputError(msg("the key is not encrypted, but a password was given")) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            msg("the key cannot be read: it is no private key in PEM, or the password is wrong")
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InputError(msg("the key is not an RSA key"), hint=_generate_hint())
    _require_right_kind(key.public_key())
    return key


def load_public_key(pem: bytes) -> rsa.RSAPublicKey:
    """Read a public key from PEM; InputError where it is none or not one that signs enclaves."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(msg("the key cannot be read: it is no public key in PEM")) from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise InputError(msg("the key is not an RSA key"), hint=_generate_hint())
    _require_right_kind(key)
    return key


def _require_right_kind(key: rsa.RSAPublicKey) -> None:
    if key.key_size != _KEY_BITS or key.public_numbers().e != EXPONENT:
        raise InputError(
            msg(
                "enclaves are signed with RSA keys of 3072 bits and exponent 3, this one has {bits} and {exponent}",
                bits=key.key_size,
                exponent=key.public_numbers().e,
            ),
            hint=_generate_hint(),
        )


def _generate_hint() -> Message:
    return msg("{command} makes one", command="sgxkit enclave generate-key")


def write_private_key(path: Path, key: rsa.RSAPrivateKey, password: bytes | None = None) -> None:
    """Write a key to a new file that only its owner may read; InputError where it exists or cannot be written."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    write_key_file(path, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))


def write_key_file(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read; InputError where it exists or cannot be written."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except FileExistsError as error:
        raise InputError(
            msg("{path} exists already, and a key is never overwritten", path=path), hint=msg("name a new file")
        ) from error
    except OSError as error:
        raise InputError(
            msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or error)
        ) from error


def storage_warnings(path: Path, *, encrypted: bool) -> tuple[Message, ...]:
    """Say what speaks against a private key lying where it does."""
    found = []
    folder = path.resolve().parent
    if not encrypted:
        found.append(
            msg("{path} is not encrypted: who can read it signs enclaves as you, and no one can tell", path=path)
        )
    if any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        found.append(msg("{path} is in a git working tree: see that it is never committed", path=path))
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        found.append(msg("others may write to {folder}: they can replace the key", folder=folder))
    return tuple(found)
