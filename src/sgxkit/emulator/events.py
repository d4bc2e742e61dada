"""What an observer of the engine is told: entries, leaf functions, exits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sgxkit.emulator.faults import Fault
from sgxkit.enclave.platform import EnclaveException, Registers
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.status import Status


@dataclass(frozen=True, slots=True)
class Entered:
    """EENTER or ERESUME succeeded; with `registers` the enclave goes on (RAX is CSSA after EENTER)."""

    tcs: int
    leaf: Enclu
    registers: Registers


@dataclass(frozen=True, slots=True)
class LeafCalled:
    """The enclave's code executed another leaf function of ENCLU than EEXIT.

    leaf       EAX, also where it is none.
    status     what it left in RAX; None for leaf functions that leave nothing, and after a fault.
    fault      what it raised; None where it did not.
    """

    tcs: int
    rip: int
    leaf: int
    rbx: int
    rcx: int
    rdx: int
    status: Status | None
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Left:
    """EEXIT; `registers` are those outside."""

    tcs: int
    rip: int
    registers: Registers


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An asynchronous exit: by an exception, or, where that is None, because a limit was reached.

    `registers` are the enclave's own, which were saved in its SSA frame.
    """

    tcs: int
    rip: int
    registers: Registers
    exception: EnclaveException | None


EngineEvent = Entered | LeafCalled | Left | Interrupted
Observer = Callable[[EngineEvent], None]
"""Called in the thread that executes the enclave, while it has its turn: it must not enter an enclave itself.

What it raises interrupts the enclave and goes on to the caller.
"""
