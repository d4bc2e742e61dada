"""Status codes of the leaf functions, as they leave them in RAX (Intel SDM Vol. 3D, 38.1.4, "Error Codes")."""

from __future__ import annotations

from enum import IntEnum

from sgxkit.errors import SgxkitError
from sgxkit.isa.leaf import Encls, Enclu
from sgxkit.messages import msg


class Status(IntEnum):
    """RAX after a leaf function, by the manual's names."""

    SGX_SUCCESS = 0
    SGX_INVALID_SIG_STRUCT = 1
    SGX_INVALID_ATTRIBUTE = 2
    SGX_BLKSTATE = 3
    SGX_INVALID_MEASUREMENT = 4
    SGX_NOTBLOCKABLE = 5
    SGX_PG_INVLD = 6
    SGX_EPC_PAGE_CONFLICT = 7
    SGX_INVALID_SIGNATURE = 8
    SGX_MAC_COMPARE_FAIL = 9
    SGX_PAGE_NOT_BLOCKED = 10
    SGX_NOT_TRACKED = 11
    SGX_VA_SLOT_OCCUPIED = 12
    SGX_CHILD_PRESENT = 13
    SGX_ENCLAVE_ACT = 14
    SGX_ENTRYEPOCH_LOCKED = 15
    SGX_INVALID_EINITTOKEN = 16
    SGX_PREV_TRK_INCMPL = 17
    SGX_PG_IS_SECS = 18
    SGX_PAGE_ATTRIBUTES_MISMATCH = 19
    SGX_PAGE_NOT_MODIFIABLE = 20
    SGX_PAGE_NOT_DEBUGGABLE = 21
    SGX_INVALID_COUNTER = 25
    SGX_PG_NONEPC = 26
    SGX_TRACK_NOT_REQUIRED = 27
    SGX_INVALID_REPORTMACSTRUCT = 28
    SGX_INSUFFICIENT_ENTROPY = 29
    SGX_EPC_NOT_READY = 30
    SGX_NO_UPDATE = 31
    SGX_INVALID_CPUSVN = 32
    SGX_INVALID_ISVSVN = 64
    SGX_UNMASKED_EVENT = 128
    SGX_INVALID_KEYNAME = 256


class SgxError(SgxkitError):
    """A leaf function's own refusal: its status, by the manual's name and number."""

    code = "sgx"

    def __init__(self, leaf: Encls | Enclu, status: Status) -> None:
        super().__init__(
            msg("{leaf} failed with {status} ({number})", leaf=leaf.name, status=status.name, number=int(status))
        )
        self.leaf = leaf
        self.status = status


def require_success(leaf: Encls | Enclu, status: Status) -> None:
    """Raise SgxError unless `status` is success."""
    if status is not Status.SGX_SUCCESS:
        raise SgxError(leaf, status)
