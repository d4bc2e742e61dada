"""The emulated processor: what it holds between leaf functions, and what their checks have in common.

Leaf functions are plain functions over this state: `encls` (build and take down), `einit`, `encls_sgx2`, `enclu`,
`enclu_sgx2` and `entry`. They take the register operands of the instruction, make the checks of the manual's
pseudo-code in its order, and return what it leaves in RAX, or raise a `Fault`. One runs at a time, so the manual's
checks for another instruction that uses the same page never find one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from sgxkit.emulator.epc import Epc, EpcmEntry
from sgxkit.emulator.faults import GeneralProtectionFault, PageFault
from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.keys import PKCS1_PADDING, SecsIdentity
from sgxkit.emulator.turns import Turns
from sgxkit.errors import FormatError
from sgxkit.isa.cpuid import CpuidRegisters, EpcProtection, EpcSection, EpcType, SgxCapabilities
from sgxkit.isa.leaf import Encls, Enclu
from sgxkit.isa.msr import INTEL_LAUNCH_KEY_HASH
from sgxkit.isa.page import PAGE_SIZE, PageType
from sgxkit.isa.secs import Secs
from sgxkit.messages import msg

_Structure = TypeVar("_Structure")


class Measurement(Protocol):
    """SHA-256 in progress (`hashlib.sha256()`)."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def copy(self) -> Measurement: ...
    def digest(self) -> bytes: ...


@dataclass(slots=True, eq=False)
class SecsState:
    """What a SECS page holds, with what the manual leaves to the processor.

    measurement   MRENCLAVE so far; `secs.mrenclave` is set by EINIT.
    children      EPC pages that belong to the enclave.
    epoch         the tracking epoch: how often ETRACK succeeded.
    """

    secs: Secs
    eid: int
    measurement: Measurement = field(default_factory=hashlib.sha256)
    initialized: bool = False
    isvfamilyid: bytes = bytes(16)
    isvextprodid: bytes = bytes(16)
    padding: bytes = PKCS1_PADDING
    children: int = 0
    epoch: int = 0

    def covers(self, address: int) -> bool:
        """Whether `address` is in ELRANGE."""
        return self.secs.baseaddr <= address < self.secs.baseaddr + self.secs.size

    @property
    def identity(self) -> SecsIdentity:
        """Who the enclave is, once it is initialized."""
        secs = self.secs
        return SecsIdentity(
            mrenclave=secs.mrenclave,
            mrsigner=secs.mrsigner,
            attributes=secs.attributes,
            miscselect=secs.miscselect,
            isvprodid=secs.isvprodid,
            isvsvn=secs.isvsvn,
            isvfamilyid=self.isvfamilyid,
            isvextprodid=self.isvextprodid,
            configid=secs.configid,
            configsvn=secs.configsvn,
            cet_attributes=secs.cet_attributes,
            padding=self.padding,
        )


@dataclass(slots=True, eq=False)
class Processor:
    """One processor package with its EPC.

    report_keyid      CR_REPORT_KEYID: new at each boot.
    launch_key_hash   IA32_SGXLEPUBKEYHASH; write it with `write_launch_key_hash`.
    enclaves          by the EPC address of their SECS.
    inside            logical processors that execute an enclave.
    turns             who uses all this: hold it around leaf functions while other threads execute enclaves.
    """

    fuses: Fuses
    epc: Epc
    report_keyid: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    launch_key_hash: bytes = INTEL_LAUNCH_KEY_HASH
    enclaves: dict[int, SecsState] = field(default_factory=dict)
    inside: set[LogicalProcessor] = field(default_factory=set)
    next_eid: int = 0
    turns: Turns = field(default_factory=Turns)

    def cpuid(self) -> dict[tuple[int, int], CpuidRegisters]:
        """CPUID leaf 12H."""
        section = EpcSection(2, EpcType.EPC, self.epc.base, self.epc.size, EpcProtection.CONFIDENTIALITY_INTEGRITY)
        return self.fuses.profile.cpuid([section])

    def write_launch_key_hash(self, launch_key_hash: bytes) -> None:
        """WRMSR to IA32_SGXLEPUBKEYHASH0..3: #GP without flexible launch control."""
        if not self.fuses.profile.flexible_launch_control:
            raise GeneralProtectionFault(msg("IA32_SGXLEPUBKEYHASH cannot be written on this processor"))
        if len(launch_key_hash) != 32:
            raise ValueError("the launch key hash is 32 bytes")
        self.launch_key_hash = launch_key_hash


@dataclass(frozen=True, slots=True)
class SavedFrame:
    """CR_XSAVE_PAGE_n and CR_GPR_PA: EPC addresses of the SSA frame that the next asynchronous exit writes."""

    xsave_pages: tuple[int, ...]
    xsave_size: int
    misc: int
    misc_size: int
    gprsgx: int


@dataclass(slots=True, eq=False)
class LogicalProcessor:
    """One hardware thread.

    page_table    the operating system's: EPC page by linear page. It may say anything; the EPCM decides.
    xcr0          extended features that the operating system has turned on.
    active_secs   CR_ACTIVE_SECS: EPC address of the SECS of the enclave it executes, None outside.
    tcs, tcs_page   linear and EPC address of the TCS by which it is inside.
    frame         where an asynchronous exit saves its state, None outside.
    epoch         the enclave's tracking epoch when it entered.
    """

    processor: Processor
    page_table: Mapping[int, int]
    xcr0: int = 0x3
    active_secs: int | None = None
    tcs: int = 0
    tcs_page: int = 0
    frame: SavedFrame | None = None
    epoch: int = 0

    def translate(self, address: int) -> int:
        """The EPC address that `address` is mapped to; raises PageFault where it is no EPC page."""
        page = self.page_table.get(address & -PAGE_SIZE)
        if page is None or page not in self.processor.epc:
            raise PageFault(address, msg("not an EPC page"))
        return page + address % PAGE_SIZE

    def current(self, leaf: Enclu) -> SecsState:
        """The enclave that is being executed; #GP outside of one."""
        if self.active_secs is None:
            raise GeneralProtectionFault(msg("{leaf} outside an enclave", leaf=leaf.name))
        return self.processor.enclaves[self.active_secs]


def require_aligned(operand: str, address: int, alignment: int) -> None:
    """#GP unless `address` is a multiple of `alignment`."""
    if address % alignment:
        raise GeneralProtectionFault(
            msg(
                "{operand} is {address}, not a multiple of {size}",
                operand=operand,
                address=hex(address),
                size=alignment,
            )
        )


def require_epc(processor: Processor, address: int) -> EpcmEntry:
    """#PF unless `address` is in the EPC; returns the page's EPCM entry."""
    if address not in processor.epc:
        raise PageFault(address, msg("not an EPC page"))
    return processor.epc.entry(address)


def require_free(address: int, entry: EpcmEntry) -> None:
    """#PF if the EPC page is in use."""
    if entry.valid:
        raise PageFault(address, msg("the EPC page is in use"))


def require_secs(processor: Processor, address: int) -> SecsState:
    """#PF unless the EPC page holds a SECS; returns it."""
    entry = processor.epc.entry(address)
    if not entry.valid or entry.page_type is not PageType.SECS:
        raise PageFault(address, msg("not a SECS"))
    return processor.enclaves[address]


def refuse(field: str, value: object) -> GeneralProtectionFault:
    """The #GP for a field that may not have this value."""
    return GeneralProtectionFault(msg("{field} cannot be {value} here", field=field, value=value))


def require_sgx2(processor: Processor, leaf: Encls | Enclu) -> None:
    """#GP where the processor has only SGX1."""
    require_capability(processor, leaf, SgxCapabilities.SGX2)


def require_capability(processor: Processor, leaf: Encls | Enclu, capability: SgxCapabilities) -> None:
    """#GP where the processor does not have the leaf function."""
    if capability not in processor.fuses.profile.capabilities:
        raise GeneralProtectionFault(msg("{leaf} is not a leaf function of this processor", leaf=leaf.name))


def parse(read: Callable[[bytes], _Structure], data: bytes) -> _Structure:
    """Read a structure of which the leaf function checks the reserved bits: they are #GP."""
    try:
        return read(data)
    except FormatError as error:
        raise GeneralProtectionFault(error.message) from error


def is_canonical(processor: Processor, address: int) -> bool:
    """Whether the bits above the processor's linear addresses are copies of the topmost one."""
    top = address >> (processor.fuses.profile.linear_address_bits - 1)
    return top in (0, (1 << 65 - processor.fuses.profile.linear_address_bits) - 1)
