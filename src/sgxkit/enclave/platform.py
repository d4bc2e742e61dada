"""A platform: one SGX machine, real or emulated, as everything above sees it.

Two packages implement this, `emulator` and `driver`. Nothing above them asks which it has, except to print it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self

from sgxkit.enclave.image import EnclaveImage
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.isa.targetinfo import TargetInfo
from sgxkit.messages import Message

PlatformKind = Literal["kernel", "emulated"]


@dataclass(frozen=True, slots=True)
class Registers:
    """The general registers, RIP and RFLAGS, of whoever enters or has been left to.

    For an entry, `rip` is the address of the ENCLU outside and `rcx` the address for asynchronous exits (AEP); a
    platform that has an ENCLU of its own uses its own addresses for both.
    """

    rax: int = 0
    rcx: int = 0
    rdx: int = 0
    rbx: int = 0
    rsp: int = 0
    rbp: int = 0
    rsi: int = 0
    rdi: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0
    r12: int = 0
    r13: int = 0
    r14: int = 0
    r15: int = 0
    rip: int = 0
    rflags: int = 0x202


@dataclass(frozen=True, slots=True)
class EnclaveException:
    """What interrupted the enclave, as the operating system sees it.

    vector       of the exception (Intel SDM Vol. 3A, 6.3.1).
    rip          where in the enclave, as far as it is known: the operating system is not told, a debugger is.
    address      of the page, for a #PF.
    """

    vector: int
    error_code: int
    rip: int | None
    problem: Message
    address: int | None = None


@dataclass(frozen=True, slots=True)
class ExitRegisters:
    """How an enclave was left.

    exception      what caused an asynchronous exit; None after EEXIT.
    instructions   how many were executed inside; None where nobody counts.
    fxsave         after EEXIT, x87 and SSE registers as FXSAVE64 writes them (512 bytes); empty where nobody knows,
                   and after an asynchronous exit, when they are as after reset.
    """

    registers: Registers
    exception: EnclaveException | None
    instructions: int | None = None
    fxsave: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class EnclaveIdentity:
    """Who an initialized enclave is."""

    mrenclave: bytes
    mrsigner: bytes
    attributes: Attributes
    miscselect: int = 0
    isvprodid: int = 0
    isvsvn: int = 0
    isvfamilyid: bytes = bytes(16)
    isvextprodid: bytes = bytes(16)

    @property
    def target_info(self) -> TargetInfo:
        """The TARGETINFO that names this enclave as the one to verify a report."""
        return TargetInfo(measurement=self.mrenclave, attributes=self.attributes, miscselect=self.miscselect)


@dataclass(frozen=True, slots=True)
class PlatformInfo:
    """What a platform is.

    name       the kind of processor, or the lab whose processor it is.
    epc_size   in bytes; None where it cannot be read.
    cpusvn     16 bytes; None where no one tells but a report.
    """

    kind: PlatformKind
    name: str
    epc_size: int | None
    sgx2: bool
    flexible_launch_control: bool
    cpusvn: bytes | None = None


class OutsideMemory(Protocol):
    """Memory outside enclaves that the enclaves of a process share with it."""

    def allocate(self, size: int) -> int:
        """Return the address, a multiple of 16, of `size` bytes of zeros."""
        ...

    def free(self, address: int) -> None:
        """Give back what `allocate` returned."""
        ...

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...


class Enclave(Protocol):
    """An initialized enclave; leaving the context removes it.

    base, size   its ELRANGE.
    tcs          linear addresses of its TCS pages, in the order of loading.
    memory       what it can reach outside itself.
    """

    @property
    def identity(self) -> EnclaveIdentity: ...
    @property
    def base(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def tcs(self) -> tuple[int, ...]: ...
    @property
    def memory(self) -> OutsideMemory: ...

    def enter(self, tcs: int, registers: Registers) -> ExitRegisters:
        """EENTER by the TCS at the linear address `tcs`, and stay until the enclave is left."""
        ...

    def resume(self, tcs: int, registers: Registers) -> ExitRegisters:
        """ERESUME by the TCS at `tcs` after an asynchronous exit, and stay until the enclave is left."""
        ...

    def read_debug(self, address: int, size: int) -> bytes:
        """Read the memory of a debug enclave (EDBGRD); raises InputError for one in production mode."""
        ...

    def remove(self) -> None:
        """Give the enclave's pages back. Doing it again does nothing."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Platform(Protocol):
    """One SGX machine."""

    @property
    def info(self) -> PlatformInfo: ...

    def load(self, image: EnclaveImage, sigstruct: Sigstruct, *, debug: bool) -> Enclave:
        """Create, fill and initialize an enclave; `debug` adds ATTRIBUTES.DEBUG.

        Raises SgxError with the leaf function's status, or HostError where the host refuses.
        """
        ...
