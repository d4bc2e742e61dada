"""Enclave code, run in Unicorn, with the emulated processor for all that is SGX.

`stay` is what happens between entry and exit, `cpu` how Unicorn is used, `space` what the code can reach.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType

from sgxkit.emulator.coverage import Coverage
from sgxkit.emulator.cpu import Cpu, Limits
from sgxkit.emulator.events import Observer
from sgxkit.emulator.loading import LoadedEnclave
from sgxkit.emulator.memory import SparseMemory
from sgxkit.emulator.space import Space
from sgxkit.emulator.stay import InstructionLimitError, LimitError, Stay, TimeLimitError
from sgxkit.emulator.xsave import INITIAL, XFRM
from sgxkit.enclave.platform import ExitRegisters, Registers
from sgxkit.errors import InputError
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.messages import msg

__all__ = ["Engine", "InstructionLimitError", "LimitError", "TimeLimitError", "load_unicorn"]


@dataclass(frozen=True, slots=True)
class Engine:
    """Runs the code of one enclave, in as many threads at once as enter it by different TCSs.

    memory        what the enclave can reach outside itself: only the pages that were written there exist.
    instructions  how many one call may execute; None for any number, which is much faster as nobody counts.
    seconds       how long one call may take.
    observers     are told of entries, leaf functions and exits.
    coverage      where to note which instructions were executed and which pages used, if at all.
    """

    enclave: LoadedEnclave
    memory: SparseMemory = field(default_factory=SparseMemory)
    instructions: int | None = None
    seconds: float = 60.0
    observers: Sequence[Observer] = ()
    coverage: Coverage | None = None
    _idle: list[Cpu] = field(default_factory=list, init=False, repr=False, compare=False)

    def enter(self, tcs: int, registers: Registers, *, fxsave: bytes = INITIAL) -> ExitRegisters:
        """EENTER by the TCS at the linear address `tcs`, and run until the enclave is left.

        `fxsave` are the caller's x87 and SSE registers, as FXSAVE64 writes them (512 bytes). Raises a Fault where
        EENTER does, LimitError when a limit is reached, InputError for an enclave that needs extended features which
        Unicorn does not have.
        """
        with self._stay(tcs, registers, fxsave) as stay:
            return stay.enter(registers)

    def resume(self, tcs: int, registers: Registers) -> ExitRegisters:
        """ERESUME by the TCS at `tcs`, and run until the enclave is left; raises as `enter` does."""
        with self._stay(tcs, registers) as stay:
            return stay.resume(registers)

    def read(self, address: int, size: int) -> bytes:
        """What software outside enclaves reads: ones where the EPC is (abort page semantics)."""
        end, parts = address + size, []
        while address < end:
            length = min(end - address, PAGE_SIZE - address % PAGE_SIZE)
            outside = address & -PAGE_SIZE not in self.enclave.pages
            parts.append(self.memory.read(address, length) if outside else b"\xff" * length)
            address += length
        return b"".join(parts)

    @contextmanager
    def _stay(self, tcs: int, registers: Registers, fxsave: bytes = INITIAL) -> Iterator[Stay]:
        with self.enclave.processor.turns:
            # A list gives and takes one element at a time whatever other threads do.
            cpu = self._idle.pop() if self._idle else self._new_cpu()
            cpu.begin(Limits(self.instructions, time.monotonic() + self.seconds), self.coverage)
            try:
                yield Stay(cpu, cpu.space.thread, tcs, registers.rflags, self.observers, fxsave)
            finally:
                if not cpu.spent:
                    self._idle.append(cpu)

    def _new_cpu(self) -> Cpu:
        unicorn = load_unicorn()
        thread = self.enclave.thread()
        state = thread.processor.enclaves[self.enclave.secs]
        xfrm = state.secs.attributes.xfrm
        if xfrm & ~XFRM:
            raise InputError(
                msg("the enclave needs XFRM {xfrm}; its code can be run with 3 only (x87 and SSE)", xfrm=hex(xfrm)),
                hint=msg("sign it with an XFRM of 3, or with an XFRM mask that allows it"),
            )
        return Cpu(unicorn, Space(thread, state, self.memory), sgx2=thread.processor.fuses.profile.sgx2)


def load_unicorn() -> ModuleType:
    """Import Unicorn; raises InputError where it is not installed."""
    try:
        import unicorn  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            msg("this needs {package}, which is not installed", package="Unicorn"),
            hint=msg("{command} installs it", command="pip install 'sgxkit[emulator]'"),
        ) from error
    return unicorn
