"""SIGSTRUCT: the certificate of an enclave, signed by its author (Intel SDM Vol. 3D, 35.14, table SIGSTRUCT).

1808 bytes, little-endian throughout, the RSA numbers too. What EINIT compares with constants before it looks at the
signature (SGX_INVALID_SIG_STRUCT) is refused here while reading; whether the signature holds is another question.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256

from sgxkit.errors import FormatError
from sgxkit.isa.attributes import Attributes
from sgxkit.messages import msg

SIGSTRUCT_SIZE = 1808
KEY_SIZE = 384
"""Bytes of the modulus, the signature, Q1 and Q2: RSA with 3072 bits."""

EXPONENT = 3
VENDOR_INTEL = 0x8086
VENDORS = (0, VENDOR_INTEL)

HEADER = bytes.fromhex("06000000e10000000000010000000000")
HEADER2 = bytes.fromhex("01010000600000006000000001000000")

# HEADER 16 | VENDOR 4 | DATE 4 | HEADER2 16 | SWDEFINED 4 | reserved 84
_BEGIN = struct.Struct("<16sII16sI84s")
# MODULUS 384 | EXPONENT 4 | SIGNATURE 384
_KEY = struct.Struct("<384sI384s")
# MISCSELECT 4 | MISCMASK 4 | CET_ATTRIBUTES 1 | CET_ATTRIBUTES_MASK 1 | reserved 2 | ISVFAMILYID 16 | ATTRIBUTES 16
# | ATTRIBUTEMASK 16 | ENCLAVEHASH 32 | reserved 16 | ISVEXTPRODID 16 | ISVPRODID 2 | ISVSVN 2
_BODY = struct.Struct("<IIBB2s16sQQQQ32s16s16sHH")
# reserved 12 | Q1 384 | Q2 384
_END = struct.Struct("<12s384s384s")

_KEY_OFFSET = _BEGIN.size
_BODY_OFFSET = _KEY_OFFSET + _KEY.size
_END_OFFSET = _BODY_OFFSET + _BODY.size

# DER of DigestInfo for SHA-256 before the digest itself (RFC 8017, 9.2, note 1).
_SHA256_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


@dataclass(frozen=True, slots=True)
class Sigstruct:
    """The fields by the manual's names; constants and reserved bytes are not kept, as they can have one value only.

    `date` is YYYYMMDD in binary-coded decimal. `modulus`, `signature`, `q1` and `q2` are the 384 bytes as they stand,
    little-endian.
    """

    vendor: int
    date: int
    swdefined: int
    modulus: bytes
    signature: bytes
    miscselect: int
    miscmask: int
    cet_attributes: int
    cet_attributes_mask: int
    isvfamilyid: bytes
    attributes: Attributes
    attributemask: Attributes
    enclavehash: bytes
    isvextprodid: bytes
    isvprodid: int
    isvsvn: int
    q1: bytes
    q2: bytes

    @classmethod
    def from_bytes(cls, data: bytes, *, field: str = "SIGSTRUCT", offset: int = 0) -> Sigstruct:
        """Read 1808 bytes.

        Raises FormatError on another length, and where a constant or a reserved byte is not what the manual says.
        `field` and `offset` say where the bytes stood, for the error's text.
        """
        if len(data) != SIGSTRUCT_SIZE:
            raise FormatError(
                field, msg("{size} bytes, must be {expected}", size=len(data), expected=SIGSTRUCT_SIZE), offset=offset
            )
        header, vendor, date, header2, swdefined, reserved1 = _BEGIN.unpack_from(data)
        modulus, exponent, signature = _KEY.unpack_from(data, _KEY_OFFSET)
        (
            miscselect,
            miscmask,
            cet_attributes,
            cet_attributes_mask,
            reserved2,
            isvfamilyid,
            flags,
            xfrm,
            flags_mask,
            xfrm_mask,
            enclavehash,
            reserved3,
            isvextprodid,
            isvprodid,
            isvsvn,
        ) = _BODY.unpack_from(data, _BODY_OFFSET)
        reserved4, q1, q2 = _END.unpack_from(data, _END_OFFSET)
        for name, at, value, expected in (("HEADER", 0, header, HEADER), ("HEADER2", 24, header2, HEADER2)):
            if value != expected:
                problem = msg("{value}, must be {expected}", value=value.hex(), expected=expected.hex())
                raise FormatError(f"{field}.{name}", problem, offset=offset + at)
        if vendor not in VENDORS:
            problem = msg("{value}, must be {expected}", value=f"{vendor:#x}", expected="0x0 or 0x8086")
            raise FormatError(f"{field}.VENDOR", problem, offset=offset + 16)
        if exponent != EXPONENT:
            problem = msg("{value}, must be {expected}", value=exponent, expected=EXPONENT)
            raise FormatError(f"{field}.EXPONENT", problem, offset=offset + 512)
        for at, reserved in ((44, reserved1), (910, reserved2), (992, reserved3), (1028, reserved4)):
            if any(reserved):
                raise FormatError(f"{field}.reserved", msg("reserved bytes must be zero"), offset=offset + at)
        return cls(
            vendor,
            date,
            swdefined,
            modulus,
            signature,
            miscselect,
            miscmask,
            cet_attributes,
            cet_attributes_mask,
            isvfamilyid,
            Attributes(flags, xfrm),
            Attributes(flags_mask, xfrm_mask),
            enclavehash,
            isvextprodid,
            isvprodid,
            isvsvn,
            q1,
            q2,
        )

    def to_bytes(self) -> bytes:
        """The 1808 bytes that `from_bytes` reads back to this value."""
        return b"".join(
            (
                self._begin(),
                _KEY.pack(self.modulus, EXPONENT, self.signature),
                self._body(),
                _END.pack(bytes(12), self.q1, self.q2),
            )
        )

    def _begin(self) -> bytes:
        return _BEGIN.pack(HEADER, self.vendor, self.date, HEADER2, self.swdefined, bytes(84))

    def _body(self) -> bytes:
        return _BODY.pack(
            self.miscselect,
            self.miscmask,
            self.cet_attributes,
            self.cet_attributes_mask,
            bytes(2),
            self.isvfamilyid,
            self.attributes.flags,
            self.attributes.xfrm,
            self.attributemask.flags,
            self.attributemask.xfrm,
            self.enclavehash,
            bytes(16),
            self.isvextprodid,
            self.isvprodid,
            self.isvsvn,
        )

    @property
    def signed_bytes(self) -> bytes:
        """The 256 bytes that are signed: 0 to 127 and 900 to 1027."""
        return self._begin() + self._body()

    @property
    def mrsigner(self) -> bytes:
        """SHA-256 of the modulus as it stands: the identity of the enclave's author."""
        return sha256(self.modulus).digest()

    @property
    def debug(self) -> bool:
        """Whether ATTRIBUTES ask for a debug enclave; the mask decides whether a loader may choose otherwise."""
        return self.attributes.debug

    @property
    def date_text(self) -> str:
        """DATE as YYYY-MM-DD; digits that are not decimal are shown as they are."""
        return f"{self.date >> 16:04x}-{self.date >> 8 & 0xFF:02x}-{self.date & 0xFF:02x}"

    @property
    def signature_holds(self) -> bool:
        """Whether the signature is the key's over `signed_bytes`: RSA PKCS#1 v1.5 with SHA-256, exponent 3.

        Q1 and Q2 are not part of it: see `quotients_hold`. EINIT answers SGX_INVALID_SIGNATURE unless both hold.
        """
        modulus, signature = int.from_bytes(self.modulus, "little"), int.from_bytes(self.signature, "little")
        if signature >= modulus:
            return False
        return pow(signature, EXPONENT, modulus) == encoded_digest(self.signed_bytes)

    @property
    def quotients_hold(self) -> bool:
        """Whether Q1 and Q2 are those of the signature and the modulus."""
        if int.from_bytes(self.signature, "little") >= int.from_bytes(self.modulus, "little"):
            return False
        return (self.q1, self.q2) == quotients(self.signature, self.modulus)


def encoded_digest(signed_bytes: bytes) -> int:
    """Return what the cube of the signature must be: EMSA-PKCS1-v1_5 of the SHA-256 digest (RFC 8017, 9.2)."""
    content = _SHA256_DIGEST_INFO + sha256(signed_bytes).digest()
    padding = b"\xff" * (KEY_SIZE - len(content) - 3)
    return int.from_bytes(b"\x00\x01" + padding + b"\x00" + content, "big")


def quotients(signature: bytes, modulus: bytes) -> tuple[bytes, bytes]:
    """Return Q1 and Q2, which spare the processor long divisions; all numbers are 384 bytes, little-endian.

    Q1 = floor(S^2 / M), Q2 = floor((S^3 - Q1*S*M) / M). `signature` must be below `modulus`, or they do not fit.
    """
    s, m = int.from_bytes(signature, "little"), int.from_bytes(modulus, "little")
    q1, remainder = divmod(s * s, m)
    q2 = remainder * s // m
    return q1.to_bytes(KEY_SIZE, "little"), q2.to_bytes(KEY_SIZE, "little")
