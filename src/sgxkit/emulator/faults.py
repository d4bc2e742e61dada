"""Faults that a leaf function raises instead of a status (Intel SDM Vol. 3A, chapter 6; Vol. 3D, 37.5.1)."""

from __future__ import annotations

from enum import IntFlag
from typing import ClassVar

from sgxkit.errors import SgxkitError
from sgxkit.messages import Message, msg


class PageFaultCode(IntFlag):
    """Bits of a #PF's error code that SGX sets."""

    P = 1 << 0
    W = 1 << 1
    U = 1 << 2
    SGX = 1 << 15
    """The EPCM, not the page tables, refused the access."""


EPCM_FAULT = PageFaultCode.P | PageFaultCode.SGX


class Fault(SgxkitError):  # noqa: N818 - the manual's word; not every fault is an error of the caller
    """A processor exception; `vector` is its number and `error_code` what it pushes."""

    code = "fault"
    vector: ClassVar[int]

    def __init__(self, message: Message, error_code: int) -> None:
        super().__init__(message)
        self.error_code = error_code


class GeneralProtectionFault(Fault):
    """#GP(0): an operand, a structure or a state that the leaf function does not allow; `problem` says which."""

    vector = 13

    def __init__(self, problem: Message) -> None:
        super().__init__(msg("#GP(0): {problem}", problem=problem), 0)
        self.problem = problem


class PageFault(Fault):
    """#PF at `address`: it is no EPC page, or the EPCM does not allow this use of it; `problem` says why."""

    vector = 14

    def __init__(self, address: int, problem: Message, error_code: PageFaultCode = EPCM_FAULT) -> None:
        super().__init__(msg("#PF at {address}: {problem}", address=hex(address), problem=problem), error_code)
        self.address = address
        self.problem = problem
