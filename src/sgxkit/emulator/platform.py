"""The emulated platform behind the interface that it shares with real ones (`enclave.platform`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from sgxkit.emulator.encls_debug import WORD_SIZE, edbgrd
from sgxkit.emulator.engine import Engine
from sgxkit.emulator.epc import Epc
from sgxkit.emulator.events import Observer
from sgxkit.emulator.faults import GeneralProtectionFault, PageFault
from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.loading import LoadedEnclave, load
from sgxkit.emulator.memory import SparseMemory
from sgxkit.emulator.processor import Processor
from sgxkit.enclave.image import EnclaveImage
from sgxkit.enclave.platform import EnclaveIdentity, ExitRegisters, PlatformInfo, Registers
from sgxkit.errors import InputError
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.isa.status import Status
from sgxkit.messages import msg

EPC_BASE = 0x8000_0000
DEFAULT_EPC_SIZE = 96 << 20
"""What the first SGX machines had left of 128 MiB."""

_ELRANGES = 0x7000_0000_0000
"""Where enclaves lie in the address space that they share; outside memory is far below."""


@dataclass(frozen=True, slots=True)
class EmulatedEnclave:
    """An enclave whose code runs in Unicorn; implements `enclave.platform.Enclave`."""

    engine: Engine
    loaded: LoadedEnclave

    @property
    def identity(self) -> EnclaveIdentity:
        identity = self.loaded.identity
        return EnclaveIdentity(
            mrenclave=identity.mrenclave,
            mrsigner=identity.mrsigner,
            attributes=identity.attributes,
            miscselect=identity.miscselect,
            isvprodid=identity.isvprodid,
            isvsvn=identity.isvsvn,
            isvfamilyid=identity.isvfamilyid,
            isvextprodid=identity.isvextprodid,
        )

    @property
    def base(self) -> int:
        return self.loaded.processor.enclaves[self.loaded.secs].secs.baseaddr

    @property
    def size(self) -> int:
        return self.loaded.processor.enclaves[self.loaded.secs].secs.size

    @property
    def tcs(self) -> tuple[int, ...]:
        return self.loaded.tcs

    @property
    def memory(self) -> SparseMemory:
        return self.engine.memory

    def enter(self, tcs: int, registers: Registers) -> ExitRegisters:
        """As `Engine.enter`."""
        return self.engine.enter(tcs, registers)

    def resume(self, tcs: int, registers: Registers) -> ExitRegisters:
        """As `Engine.resume`."""
        return self.engine.resume(tcs, registers)

    def read_debug(self, address: int, size: int) -> bytes:
        """Read by EDBGRD; raises InputError for a production enclave, and where it has no page or one not readable.

        Of a TCS only the fields can be read, not what follows.
        """
        if not self.identity.attributes.flags & AttributeFlags.DEBUG:
            raise InputError(msg("the enclave is in production mode: its memory cannot be read"))
        words, at = [], address - address % WORD_SIZE
        with self.loaded.processor.turns:
            while at < address + size:
                words.append(self._debug_word(at))
                at += WORD_SIZE
        return b"".join(words)[address % WORD_SIZE :][:size]

    def _debug_word(self, address: int) -> bytes:
        page = self.loaded.pages.get(address & -PAGE_SIZE)
        if page is None:
            raise InputError(msg("the enclave has no page at {address}", address=hex(address)))
        try:
            status, word = edbgrd(self.loaded.processor, page + address % PAGE_SIZE)
        except (GeneralProtectionFault, PageFault) as fault:
            reason = fault.problem
        else:
            if status is Status.SGX_SUCCESS:
                return word.to_bytes(WORD_SIZE, "little")
            reason = msg("{leaf} gave {status}", leaf="EDBGRD", status=status.name)
        raise InputError(msg("nothing can be read at {address}: {reason}", address=hex(address), reason=reason))

    def remove(self) -> None:
        """EREMOVE all its pages; raises SgxError while a thread is inside."""
        with self.loaded.processor.turns:
            if self.loaded.secs in self.loaded.processor.enclaves:
                self.loaded.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.remove()


@dataclass(slots=True, eq=False)
class EmulatedPlatform:
    """An SGX machine in software; implements `enclave.platform.Platform`.

    name          what it is called: its lab, or its kind of processor.
    memory        what all its enclaves share with their caller.
    instructions, seconds   limits of one entry.
    observers     are told of entries, leaf functions and exits of the enclaves that are loaded from now on.
    """

    processor: Processor
    name: str
    memory: SparseMemory = field(default_factory=SparseMemory)
    instructions: int | None = None
    seconds: float = 60.0
    observers: Sequence[Observer] = ()
    next_base: int = _ELRANGES

    @classmethod
    def of(cls, fuses: Fuses, *, name: str | None = None, epc_size: int = DEFAULT_EPC_SIZE) -> EmulatedPlatform:
        """The machine with these secrets, just booted."""
        return cls(Processor(fuses, Epc(EPC_BASE, epc_size)), name or fuses.profile.name)

    @property
    def info(self) -> PlatformInfo:
        fuses = self.processor.fuses
        return PlatformInfo(
            kind="emulated",
            name=self.name,
            epc_size=self.processor.epc.size,
            sgx2=fuses.profile.sgx2,
            flexible_launch_control=fuses.profile.flexible_launch_control,
            cpusvn=fuses.cpusvn,
        )

    def load(self, image: EnclaveImage, sigstruct: Sigstruct, *, debug: bool) -> EmulatedEnclave:
        """Load as an operating system does: with flexible launch control any signer may."""
        with self.processor.turns:
            if self.processor.fuses.profile.flexible_launch_control:
                self.processor.write_launch_key_hash(sigstruct.mrsigner)
            base = -(-self.next_base // image.size) * image.size
            loaded = load(self.processor, image, sigstruct, debug=debug, base=base)
            self.next_base = base + image.size
        return EmulatedEnclave(Engine(loaded, self.memory, self.instructions, self.seconds, self.observers), loaded)
