"""What a program is to find, and what is told of how it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.tracer.leaf_functions import (
    Exception_,
)
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.tracee import Thread
from sgxkit.errors import SgxkitError
from sgxkit.isa.leaf import Enclu
from sgxkit.messages import Message


class RunError(SgxkitError):
    """The program could not be run: 126 it cannot be executed, 127 it was not found, 125 anything else."""

    code = "run"

    def __init__(self, message: Message, exit_code: int = 125, *, hint: Message | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Injected:
    """What fails on purpose.

    ioctls   errno by ioctl command.
    aesm     nobody listens at AESM's socket.
    quote    AESM gives no quotes.
    """

    ioctls: Mapping[int, int] = field(default_factory=dict)
    aesm: bool = False
    quote: bool = False


_NOTHING = Injected()


@dataclass(frozen=True, slots=True)
class Machine:
    """What a program is to find.

    fuses           of the emulated processor.
    epc_size        in bytes.
    aesm            path of the socket that leads to an AESM daemon; asked for when it is connected to.
    qcnl            contents of /etc/sgx_default_qcnl.conf; asked for when it is opened.
    device_names    more names for /dev/sgx_enclave.
    """

    fuses: Fuses
    epc_size: int
    aesm: Callable[[], bytes]
    qcnl: Callable[[], bytes]
    device_names: tuple[str, ...] = ()
    injected: Injected = _NOTHING


@dataclass(frozen=True, slots=True)
class Ending:
    """How the program ended: `signal` is 0 where it exited."""

    status: int
    signal: int


class Observer:
    """What is told of a run: the base of statistics and traces; does nothing itself."""

    def entered(self, thread: Thread, registers: Registers, leaf: Enclu) -> None: ...
    def executed(self, thread: Thread, leaf: Enclu, result: int) -> None: ...
    def left(self, thread: Thread, registers: Registers) -> None: ...
    def interrupted(self, thread: Thread, exception: Exception_ | None, number: int, rip: int) -> None: ...
    def ioctl(self, thread: Thread, command: int, result: int, reason: str) -> None: ...
    def opened(self, thread: Thread, path: str) -> None: ...
    def warned(self, message: Message) -> None: ...
