"""The identifier of an attestation key: ``sgx_att_key_id_ext_t`` of Intel's sgx_quote.h, 256 bytes.

    id u16 0 | version u16 0 | mrsigner_length u16 32 | mrsigner 48 | prod_id u32 | extended_prod_id 16 | config_id 64
    | family_id 16 | algorithm_id u32 | spid 16 | att_key_type u16 | reserved 80

The first 158 bytes are compared when a key is looked for (docs/reference/host.md 2.4).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from sgxkit.errors import FormatError
from sgxkit.messages import msg

KEY_ID_SIZE = 256
COMPARED_SIZE = 158
MAX_LISTED = 10

INTEL_QE_SIGNER = bytes.fromhex("8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff")

_KEY_ID = struct.Struct("<HHH48sI16s64s16sI16sH80s")
_LIST = struct.Struct("<HHH")


class Algorithm(IntEnum):
    """What an attestation key signs with (sgx_quote.h: sgx_ql_attestation_algorithm_id_t and EPID)."""

    EPID = 0
    EPID_LINKABLE = 1
    ECDSA_P256 = 2
    ECDSA_P384 = 3


@dataclass(frozen=True, slots=True)
class AttestationKeyId:
    """Whose quoting enclave, and which algorithm; what is not named here is zero in every identifier of Intel's."""

    mrsigner: bytes
    prod_id: int
    algorithm: int

    @classmethod
    def from_bytes(cls, data: bytes) -> AttestationKeyId:
        """Read 256 bytes; raises FormatError on another length or another version."""
        field = "attestation key identifier"
        if len(data) != KEY_ID_SIZE:
            raise FormatError(field, msg("{size} bytes, must be {expected}", size=len(data), expected=KEY_ID_SIZE))
        kind, version, length, mrsigner, prod_id, _, _, _, algorithm, _, _, _ = _KEY_ID.unpack(data)
        if (kind, version, length) != (0, 0, 32):
            raise FormatError(field, msg("not of the kind and version that is known"), offset=0)
        return cls(mrsigner[:32], prod_id, algorithm)

    def to_bytes(self) -> bytes:
        """The 256 bytes."""
        return _KEY_ID.pack(
            0,
            0,
            32,
            self.mrsigner,
            self.prod_id,
            bytes(16),
            bytes(64),
            bytes(16),
            self.algorithm,
            bytes(16),
            0,
            bytes(80),
        )


INTEL_ECDSA_P256 = AttestationKeyId(INTEL_QE_SIGNER, 1, Algorithm.ECDSA_P256)
"""The key of Intel's ECDSA quoting enclave; programs that ask for no selection use this constant."""


def listed_key_ids(data: bytes) -> tuple[bytes, ...]:
    """Cut an ``sgx_att_key_id_list`` (header id 0, version 0, number) into identifiers; raises FormatError."""
    field = "attestation key list"
    if len(data) < _LIST.size:
        raise FormatError(field, msg("cut short"))
    kind, version, number = _LIST.unpack_from(data)
    if (kind, version) != (0, 0) or not 1 <= number <= MAX_LISTED:
        raise FormatError(field, msg("not of the kind and version that is known"), offset=0)
    if len(data) != _LIST.size + number * KEY_ID_SIZE:
        raise FormatError(
            field,
            msg("{size} bytes, must be {expected}", size=len(data), expected=_LIST.size + number * KEY_ID_SIZE),
        )
    return tuple(data[start : start + KEY_ID_SIZE] for start in range(_LIST.size, len(data), KEY_ID_SIZE))


def same_key(one: bytes, other: bytes) -> bool:
    """Whether two identifiers mean the same key."""
    return one[:COMPARED_SIZE] == other[:COMPARED_SIZE]
