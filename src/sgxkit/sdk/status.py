"""sgx_status_t by its names (sgx_error.h of SDK 2.26), and the errors that are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from sgxkit.enclave.platform import EnclaveException
from sgxkit.errors import SgxkitError
from sgxkit.isa.ssa import GprSgx
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from sgxkit.sdk.backtrace import Frame


class SdkStatus(IntEnum):
    """sgx_status_t, as far as calling an enclave can return it."""

    SGX_SUCCESS = 0x0000
    SGX_ERROR_UNEXPECTED = 0x0001
    SGX_ERROR_INVALID_PARAMETER = 0x0002
    SGX_ERROR_OUT_OF_MEMORY = 0x0003
    SGX_ERROR_ENCLAVE_LOST = 0x0004
    SGX_ERROR_INVALID_STATE = 0x0005
    SGX_ERROR_FEATURE_NOT_SUPPORTED = 0x0008
    SGX_PTHREAD_EXIT = 0x0009
    SGX_ERROR_MEMORY_MAP_FAILURE = 0x000A
    SGX_ERROR_INVALID_FUNCTION = 0x1001
    SGX_ERROR_OUT_OF_TCS = 0x1003
    SGX_ERROR_ENCLAVE_CRASHED = 0x1006
    SGX_ERROR_ECALL_NOT_ALLOWED = 0x1007
    SGX_ERROR_OCALL_NOT_ALLOWED = 0x1008
    SGX_ERROR_STACK_OVERRUN = 0x1009
    SGX_ERROR_UNDEFINED_SYMBOL = 0x2000
    SGX_ERROR_INVALID_ENCLAVE = 0x2001
    SGX_ERROR_INVALID_ENCLAVE_ID = 0x2002
    SGX_ERROR_INVALID_SIGNATURE = 0x2003
    SGX_ERROR_NDEBUG_ENCLAVE = 0x2004
    SGX_ERROR_OUT_OF_EPC = 0x2005
    SGX_ERROR_NO_DEVICE = 0x2006
    SGX_ERROR_DEVICE_BUSY = 0x200C
    SGX_ERROR_INVALID_VERSION = 0x200D
    SGX_ERROR_MODE_INCOMPATIBLE = 0x200E
    SGX_ERROR_MAC_MISMATCH = 0x3001
    SGX_ERROR_INVALID_ATTRIBUTE = 0x3002
    SGX_ERROR_INVALID_CPUSVN = 0x3003
    SGX_ERROR_INVALID_ISVSVN = 0x3004
    SGX_ERROR_INVALID_KEYNAME = 0x3005
    SGX_ERROR_UNSUPPORTED_FUNCTION = 0x3006
    SGX_ERROR_SERVICE_UNAVAILABLE = 0x4001
    SGX_ERROR_SERVICE_TIMEOUT = 0x4002
    SGX_ERROR_BUSY = 0x400A
    SGX_ERROR_NO_PRIVILEGE = 0x5002
    SGX_ERROR_PCL_ENCRYPTED = 0x6001
    SGX_ERROR_PCL_NOT_ENCRYPTED = 0x6002


_SHOWN_FRAMES = 24
_STATUSES = {int(status): status for status in SdkStatus}


def status_name(status: int) -> str:
    """The name of a status, or its number where it has none here."""
    return _STATUSES[status].name if status in _STATUSES else f"{status:#06x}"


class SdkError(SgxkitError):
    """An ECALL that did not succeed: `status` is what the SDK's bridge or its runtime in the enclave returned."""

    code = "sdk"

    def __init__(self, function: str, status: int, *, hint: Message | None = None) -> None:
        super().__init__(
            msg("{function} failed with {status}", function=function, status=status_name(status)), hint=hint
        )
        self.function = function
        self.status: int = _STATUSES.get(status, status)


@dataclass(frozen=True, slots=True)
class Crash:
    """An exception that the enclave did not handle.

    registers   inside the enclave; None for one in production mode, which nobody can look into.
    frames      the functions that were active, innermost first, as far as they could be found.
    """

    exception: EnclaveException
    registers: GprSgx | None
    frames: tuple[Frame, ...]


class EnclaveCrashed(SdkError):  # noqa: N818 - the SDK's word
    """The enclave crashed, in this call or in an earlier one: `crash` says how, where it is known."""

    code = "enclave-crashed"

    def __init__(self, function: str, crash: Crash | None) -> None:
        super().__init__(function, SdkStatus.SGX_ERROR_ENCLAVE_CRASHED, hint=_where(crash))
        self.crash = crash

    def __str__(self) -> str:
        lines = [super().__str__()]
        if self.crash is not None:
            lines.append(f"  {self.crash.exception.problem}")
            frames = self.crash.frames
            lines += [f"  #{number} {frame}" for number, frame in enumerate(frames[:_SHOWN_FRAMES])]
            lines += ["  ..."] if len(frames) > _SHOWN_FRAMES else []
        return "\n".join(lines)


def _where(crash: Crash | None) -> Message | None:
    if crash is None or not crash.frames:
        return None
    return msg("it stopped at {place}", place=str(crash.frames[0]))
