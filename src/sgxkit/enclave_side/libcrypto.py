"""A P-256 key from the libcrypto that Python's ssl module has loaded: made, named, used to sign, written out.

OpenSSL 1.1.1 and 3: EVP_PKEY_keygen(3), EVP_DigestSign(3), i2d_PUBKEY(3), i2d_PrivateKey(3), EVP_PKEY_CTX_ctrl(3).
Enclaves have this library wherever they have Python with TLS, and often nothing else.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from functools import lru_cache
from pathlib import Path

from sgxkit.enclave_side.attestation import EnclaveSideError

_EVP_PKEY_EC = 408
_NID_P256 = 415
_OP_PARAMGEN_OR_KEYGEN = 1 << 1 | 1 << 2
_CTRL_EC_PARAMGEN_CURVE_NID = 0x1001

_POINTER, _INT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_PROTOTYPES: dict[str, tuple[object, tuple[object, ...]]] = {
    "EVP_PKEY_CTX_new_id": (_POINTER, (_INT, _POINTER)),
    "EVP_PKEY_CTX_free": (None, (_POINTER,)),
    "EVP_PKEY_keygen_init": (_INT, (_POINTER,)),
    "EVP_PKEY_CTX_ctrl": (_INT, (_POINTER, _INT, _INT, _INT, _INT, _POINTER)),
    "EVP_PKEY_keygen": (_INT, (_POINTER, _POINTER)),
    "EVP_PKEY_free": (None, (_POINTER,)),
    "EVP_MD_CTX_new": (_POINTER, ()),
    "EVP_MD_CTX_free": (None, (_POINTER,)),
    "EVP_sha256": (_POINTER, ()),
    "EVP_DigestSignInit": (_INT, (_POINTER, _POINTER, _POINTER, _POINTER, _POINTER)),
    "EVP_DigestSign": (_INT, (_POINTER, _POINTER, _POINTER, ctypes.c_char_p, _SIZE)),
    "i2d_PUBKEY": (_INT, (_POINTER, _POINTER)),
    "i2d_PrivateKey": (_INT, (_POINTER, _POINTER)),
}


class SigningKey:
    """A new ECDSA key on P-256; its private part stays in libcrypto until it is written out."""

    def __init__(self) -> None:
        library = _library()
        context = _made(library.EVP_PKEY_CTX_new_id(_EVP_PKEY_EC, None))
        key = ctypes.c_void_p()
        try:
            _done(library.EVP_PKEY_keygen_init(context))
            _done(
                library.EVP_PKEY_CTX_ctrl(
                    context, _EVP_PKEY_EC, _OP_PARAMGEN_OR_KEYGEN, _CTRL_EC_PARAMGEN_CURVE_NID, _NID_P256, None
                )
            )
            _done(library.EVP_PKEY_keygen(context, ctypes.byref(key)))
        finally:
            library.EVP_PKEY_CTX_free(context)
        self._key = key.value
        weakref.finalize(self, library.EVP_PKEY_free, self._key)

    @property
    def public_der(self) -> bytes:
        """The SubjectPublicKeyInfo in DER (RFC 5280, 4.1)."""
        return self._encoded("i2d_PUBKEY")

    @property
    def private_der(self) -> bytes:
        """The ECPrivateKey in DER (RFC 5915)."""
        return self._encoded("i2d_PrivateKey")

    def sign(self, data: bytes) -> bytes:
        """Return the ECDSA signature of SHA-256 over `data`, in DER."""
        library = _library()
        context = _made(library.EVP_MD_CTX_new())
        try:
            _done(library.EVP_DigestSignInit(context, None, library.EVP_sha256(), None, self._key))
            size = ctypes.c_size_t()
            _done(library.EVP_DigestSign(context, None, ctypes.byref(size), data, len(data)))
            buffer = ctypes.create_string_buffer(size.value)
            _done(library.EVP_DigestSign(context, buffer, ctypes.byref(size), data, len(data)))
            return buffer.raw[: size.value]
        finally:
            library.EVP_MD_CTX_free(context)

    def _encoded(self, encode: str) -> bytes:
        function = getattr(_library(), encode)
        size = function(self._key, None)
        _done(size)
        buffer = ctypes.create_string_buffer(size)
        # The function moves the pointer that it is given on by what it wrote.
        _done(function(self._key, ctypes.byref(ctypes.cast(buffer, ctypes.c_void_p))))
        return buffer.raw[:size]


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    for name in _names():
        try:
            library = ctypes.CDLL(name)
            for function, (result, arguments) in _PROTOTYPES.items():
                prototype = getattr(library, function)
                prototype.restype, prototype.argtypes = result, list(arguments)
        except (OSError, AttributeError):
            continue
        return library
    raise EnclaveSideError("libcrypto, which Python's ssl module uses, was not found; is it among the trusted files?")


def _names() -> list[str]:
    """The one that the ssl module has loaded, where that can be seen, then the usual names."""
    import ssl  # noqa: F401, PLC0415 - loads libcrypto

    loaded = []
    maps = Path("/proc/self/maps")
    if maps.exists():
        for line in maps.read_text(encoding="utf-8", errors="replace").splitlines():
            path = line.partition("/")[1] + line.partition("/")[2]
            if "libcrypto" in path.rpartition("/")[2] and path not in loaded:
                loaded.append(path)
    beside = Path(sys.base_prefix) / "DLLs"
    windows = [str(beside / f"libcrypto-{version}.dll") for version in ("3", "3-x64", "1_1")]
    return [*loaded, "libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.dylib", *windows]


def _made(pointer: int | None) -> int:
    if not pointer:
        raise EnclaveSideError("libcrypto has no memory left")
    return pointer


def _done(result: int) -> None:
    if result <= 0:
        raise EnclaveSideError(f"libcrypto answered {result}")
