"""The sample enclave's functions, as Python calls on any platform's enclave."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from sgxkit.enclave.platform import Enclave, EnclaveException, Registers
from sgxkit.errors import SgxkitError
from sgxkit.isa.keyrequest import KeyPolicy
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.local_report import Report
from sgxkit.isa.status import SgxError, Status
from sgxkit.isa.targetinfo import TargetInfo
from sgxkit.messages import Message, msg

LONGEST_SEALED = 1024
"""Bytes of plaintext that one call seals."""

_BUFFER = 2048


class Function(IntEnum):
    """What RDI chooses (sample.s)."""

    ADD = 0
    SEAL = 1
    UNSEAL = 2
    REPORT = 3
    VERIFY = 4
    FAULT = 5


class _Refusal(IntEnum):
    REFUSED = 0x10001
    NOT_AUTHENTIC = 0x10002
    NO_RANDOM = 0x10003


class SampleError(SgxkitError):
    """The enclave did not do what it was asked to, or was interrupted by an exception."""

    code = "sample-enclave"

    def __init__(self, message: Message, exception: EnclaveException | None = None) -> None:
        super().__init__(message)
        self.exception = exception


class NotAuthenticError(SampleError):
    """What the enclave was given was not made by who could make it, or was changed."""

    code = "not-authentic"


@dataclass(frozen=True, slots=True)
class SampleEnclave:
    """Calls a sample enclave; one call at a time, for it has one thread.

    Every method raises SampleError, and SgxError where EGETKEY refuses.
    """

    enclave: Enclave

    def add(self, numbers: Sequence[int]) -> int:
        """The sum of up to 256 numbers, modulo 2^64."""
        (total,) = struct.unpack("<Q", self._call(Function.ADD, struct.pack(f"<{len(numbers)}Q", *numbers)))
        return int(total)

    def seal(self, policy: KeyPolicy, data: bytes) -> bytes:
        """Seal up to LONGEST_SEALED bytes to this enclave (MRENCLAVE) or to its author (MRSIGNER)."""
        return self._call(Function.SEAL, struct.pack("<Q", policy) + data)

    def unseal(self, sealed: bytes) -> bytes:
        """Return what was sealed; raises NotAuthenticError where this enclave's keys do not open it."""
        return self._call(Function.UNSEAL, sealed)

    def report(self, target: TargetInfo, data: bytes) -> Report:
        """A REPORT that the target can verify, with 64 bytes of report data."""
        return Report.from_bytes(self._call(Function.REPORT, target.to_bytes() + data))

    def verify(self, report: Report) -> None:
        """Verify that an enclave on this platform made the report for this one; raises NotAuthenticError."""
        self._call(Function.VERIFY, report.to_bytes())

    def fault(self) -> None:
        """Execute UD2: raises SampleError with the exception. The enclave's one SSA frame is in use from then on."""
        self._call(Function.FAULT, b"")

    def _call(self, function: Function, data: bytes) -> bytes:
        memory = self.enclave.memory
        buffer = memory.allocate(_BUFFER)
        try:
            if len(data) <= _BUFFER:
                memory.write(buffer, data)
            left = self.enclave.enter(self.enclave.tcs[0], Registers(rdi=function, rsi=buffer, rdx=len(data)))
            if left.exception is not None:
                raise SampleError(
                    msg("the enclave was interrupted: {problem}", problem=left.exception.problem), left.exception
                )
            status, size = left.registers.rdi, left.registers.rsi
            if status == 0 and size <= _BUFFER:
                return memory.read(buffer, size)
        finally:
            memory.free(buffer)
        raise _error(status)


def _error(status: int) -> SgxkitError:
    if status == _Refusal.NOT_AUTHENTIC:
        return NotAuthenticError(msg("the enclave finds that it is not authentic"))
    if status == _Refusal.REFUSED:
        return SampleError(msg("the enclave refuses such a request"))
    if status == _Refusal.NO_RANDOM:
        return SampleError(msg("the processor had no random number for the enclave"))
    try:
        return SgxError(Enclu.EGETKEY, Status(status))
    except ValueError:
        return SampleError(msg("the enclave answered what it never does: {status}", status=hex(status)))
