"""CPUID leaves that concern SGX, decoded by the manual's names.

Intel SDM Vol. 2A, "CPUID" (leaf 07H), and Vol. 3D, "Discovering Support for Intel SGX" (leaf 12H). Registers are
unsigned 32-bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from itertools import count

from sgxkit.isa.attributes import Attributes

SGX_LEAF = 0x12
STRUCTURED_FEATURES_LEAF = 0x07
FIRST_EPC_SUBLEAF = 2


@dataclass(frozen=True, slots=True)
class CpuidRegisters:
    """What CPUID leaves in EAX, EBX, ECX and EDX for one leaf and sub-leaf."""

    eax: int
    ebx: int
    ecx: int
    edx: int


CpuidTable = Mapping[tuple[int, int], CpuidRegisters]
"""Registers by (leaf, sub-leaf); a leaf that is not there was not read or does not exist."""


@dataclass(frozen=True, slots=True)
class StructuredFeatures:
    """Leaf 07H, sub-leaf 0, as far as it concerns SGX.

    sgx        EBX[2]: SGX is supported. It may be set while the firmware has SGX turned off.
    sgx_lc     ECX[30]: flexible launch control (IA32_SGXLEPUBKEYHASH may be writable).
    sgx_keys   EDX[1]: attestation services for SGX.
    """

    sgx: bool
    sgx_lc: bool
    sgx_keys: bool


class SgxCapabilities(IntFlag):
    """Bits of leaf 12H.0 EAX: instruction sets and leaf functions that this processor supports."""

    SGX1 = 1 << 0
    SGX2 = 1 << 1
    ENCLV = 1 << 5
    """EINCVIRTCHILD, EDECVIRTCHILD and ESETCONTEXT."""
    OVERSUB = 1 << 6
    """ETRACKC, ERDINFO, ELDBC and ELDUC."""
    EVERIFYREPORT2 = 1 << 7
    EUPDATESVN = 1 << 10
    EDECCSSA = 1 << 11


class MiscSelect(IntFlag):
    """Bits of leaf 12H.0 EBX: extended features that SECS.MISCSELECT may ask for."""

    EXINFO = 1 << 0
    """Report #PF and #GP inside the enclave."""
    CPINFO = 1 << 1
    """Report #CP inside the enclave."""


@dataclass(frozen=True, slots=True)
class SgxCapability:
    """Leaf 12H, sub-leaf 0.

    capabilities            EAX.
    miscselect              EBX: mask of MISCSELECT bits that may be set.
    max_enclave_size_not64  EDX[7:0]: log2 of the largest enclave outside 64-bit mode, 0 when SGX is off.
    max_enclave_size_64     EDX[15:8]: log2 of the largest enclave in 64-bit mode, 0 when SGX is off.
    """

    capabilities: SgxCapabilities
    miscselect: MiscSelect
    max_enclave_size_not64: int
    max_enclave_size_64: int

    @property
    def sgx1(self) -> bool:
        return SgxCapabilities.SGX1 in self.capabilities

    @property
    def sgx2(self) -> bool:
        return SgxCapabilities.SGX2 in self.capabilities

    @property
    def max_enclave_bytes_not64(self) -> int:
        """Largest enclave outside 64-bit mode in bytes; 0 when SGX is off."""
        return enclave_bytes(self.max_enclave_size_not64)

    @property
    def max_enclave_bytes_64(self) -> int:
        """Largest enclave in 64-bit mode in bytes; 0 when SGX is off."""
        return enclave_bytes(self.max_enclave_size_64)


class EpcType(IntEnum):
    """EAX[3:0] of leaf 12H, sub-leaf 2 and above."""

    INVALID = 0
    EPC = 1


class EpcProtection(IntEnum):
    """ECX[3:0] of an EPC section: what the memory behind it is protected against; newer processors have others."""

    CONFIDENTIALITY_INTEGRITY = 1
    CONFIDENTIALITY = 2


@dataclass(frozen=True, slots=True)
class EpcSection:
    """One EPC section: leaf 12H, sub-leaf `subleaf`.

    type         an `EpcType` where the manual names it.
    base, size   physical address and size in bytes (52 bits, multiples of 4096).
    protection   an `EpcProtection` where the manual names it.
    """

    subleaf: int
    type: int
    base: int
    size: int
    protection: int

    @property
    def usable(self) -> bool:
        """Whether this is an EPC section: Linux uses it whatever its protection (arch/x86/kernel/cpu/sgx/main.c)."""
        return self.type == EpcType.EPC


def enclave_bytes(log2: int) -> int:
    """Return 2**log2, 0 for 0 (SGX is off), and at most 2**64 - 1, as a register would hold it."""
    if log2 == 0:
        return 0
    return (1 << log2) if log2 < 64 else (1 << 64) - 1


def decode_structured_features(registers: CpuidRegisters) -> StructuredFeatures:
    """Decode leaf 07H, sub-leaf 0 (SDM Vol. 2A, "CPUID")."""
    return StructuredFeatures(
        sgx=bool(registers.ebx >> 2 & 1), sgx_lc=bool(registers.ecx >> 30 & 1), sgx_keys=bool(registers.edx >> 1 & 1)
    )


def decode_sgx_capability(registers: CpuidRegisters) -> SgxCapability:
    """Decode leaf 12H, sub-leaf 0 (SDM Vol. 3D, "Intel SGX Resource Enumeration Leaves")."""
    return SgxCapability(
        capabilities=SgxCapabilities(registers.eax),
        miscselect=MiscSelect(registers.ebx),
        max_enclave_size_not64=registers.edx & 0xFF,
        max_enclave_size_64=registers.edx >> 8 & 0xFF,
    )


def decode_sgx_attributes(registers: CpuidRegisters) -> Attributes:
    """Decode leaf 12H, sub-leaf 1: the mask of SECS.ATTRIBUTES bits that ECREATE accepts; XFRM is EDX:ECX."""
    return Attributes(flags=registers.ebx << 32 | registers.eax, xfrm=registers.edx << 32 | registers.ecx)


def decode_epc_section(subleaf: int, registers: CpuidRegisters) -> EpcSection | None:
    """Decode leaf 12H, sub-leaf 2 and above; None for an invalid sub-leaf, which ends the enumeration."""
    kind = registers.eax & 0xF
    if kind == EpcType.INVALID:
        return None
    return EpcSection(
        subleaf=subleaf,
        type=kind,
        base=registers.eax & 0xFFFF_F000 | (registers.ebx & 0xF_FFFF) << 32,
        size=registers.ecx & 0xFFFF_F000 | (registers.edx & 0xF_FFFF) << 32,
        protection=registers.ecx & 0xF,
    )


def vendor(registers: CpuidRegisters) -> str:
    """Return the vendor text of leaf 0 (EBX, EDX, ECX), e.g. ``GenuineIntel``."""
    return _text((registers.ebx, registers.edx, registers.ecx))


def hypervisor_signature(registers: CpuidRegisters) -> str:
    """Return the hypervisor's signature of leaf 40000000H (EBX, ECX, EDX), without its trailing NULs."""
    return _text((registers.ebx, registers.ecx, registers.edx)).rstrip("\0")


@dataclass(frozen=True, slots=True)
class SgxEnumeration:
    """All that CPUID of one logical CPU says of SGX; None for what the table does not hold."""

    max_basic_leaf: int | None
    vendor: str | None
    features: StructuredFeatures | None
    capability: SgxCapability | None
    attributes: Attributes | None
    epc: tuple[EpcSection, ...]


def decode_sgx(table: CpuidTable) -> SgxEnumeration:
    """Decode what `table` holds of leaves 0, 7 and 12H; EPC sections end at the first invalid or missing sub-leaf."""
    basic = table.get((0, 0))
    features = table.get((STRUCTURED_FEATURES_LEAF, 0))
    capability = table.get((SGX_LEAF, 0))
    attributes = table.get((SGX_LEAF, 1))
    return SgxEnumeration(
        max_basic_leaf=None if basic is None else basic.eax,
        vendor=None if basic is None else vendor(basic),
        features=None if features is None else decode_structured_features(features),
        capability=None if capability is None else decode_sgx_capability(capability),
        attributes=None if attributes is None else decode_sgx_attributes(attributes),
        epc=tuple(_epc_sections(table)),
    )


def _epc_sections(table: CpuidTable) -> Iterable[EpcSection]:
    for subleaf in count(FIRST_EPC_SUBLEAF):
        registers = table.get((SGX_LEAF, subleaf))
        section = None if registers is None else decode_epc_section(subleaf, registers)
        if section is None:
            return
        yield section


def _text(registers: tuple[int, ...]) -> str:
    return b"".join(register.to_bytes(4, "little") for register in registers).decode("ascii", "replace")
