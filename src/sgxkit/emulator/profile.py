"""What kinds of processor the emulated platform can be: their SGX features, as CPUID leaf 12H reports them.

Features that are not emulated are left out, whatever the processor of that name has: control-flow enforcement (CET),
EVERIFYREPORT2, the oversubscription and virtualisation leaf functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.cpuid import FIRST_EPC_SUBLEAF, SGX_LEAF, CpuidRegisters, EpcSection, MiscSelect, SgxCapabilities

_FLAGS = AttributeFlags.DEBUG | AttributeFlags.MODE64BIT | AttributeFlags.PROVISIONKEY | AttributeFlags.EINITTOKEN_KEY


@dataclass(frozen=True, slots=True)
class CpuProfile:
    """The SGX features of one kind of processor.

    capabilities         leaf 12H.0 EAX.
    miscselect           leaf 12H.0 EBX: MISCSELECT bits that an enclave may have.
    attributes           leaf 12H.1: ATTRIBUTES bits that an enclave may have (INIT is the processor's own).
    max_size_not64, max_size_64   leaf 12H.0 EDX: log2 of the size that an enclave must stay below.
    flexible_launch_control       whether IA32_SGXLEPUBKEYHASH can be written.
    linear_address_bits           width of canonical addresses.
    """

    name: str
    capabilities: SgxCapabilities
    miscselect: MiscSelect
    attributes: Attributes
    max_size_not64: int
    max_size_64: int
    flexible_launch_control: bool
    linear_address_bits: int = 48

    @property
    def sgx2(self) -> bool:
        return SgxCapabilities.SGX2 in self.capabilities

    def cpuid(self, epc: Sequence[EpcSection]) -> dict[tuple[int, int], CpuidRegisters]:
        """Leaf 12H of this processor with these EPC sections (Intel SDM Vol. 3D, 34.7.2)."""
        table = {
            (SGX_LEAF, 0): CpuidRegisters(
                self.capabilities, self.miscselect, 0, self.max_size_not64 | self.max_size_64 << 8
            ),
            (SGX_LEAF, 1): CpuidRegisters(
                self.attributes.flags & 0xFFFF_FFFF,
                self.attributes.flags >> 32,
                self.attributes.xfrm & 0xFFFF_FFFF,
                self.attributes.xfrm >> 32,
            ),
        }
        for subleaf, section in enumerate(epc, FIRST_EPC_SUBLEAF):
            table[SGX_LEAF, subleaf] = CpuidRegisters(
                section.base & 0xFFFF_F000 | section.type,
                section.base >> 32,
                section.size & 0xFFFF_F000 | section.protection,
                section.size >> 32,
            )
        table[SGX_LEAF, FIRST_EPC_SUBLEAF + len(epc)] = CpuidRegisters(0, 0, 0, 0)
        return table


SKYLAKE_CLIENT = CpuProfile(
    name="skylake-client",
    capabilities=SgxCapabilities.SGX1,
    miscselect=MiscSelect(0),
    attributes=Attributes(_FLAGS, 0x1F),
    max_size_not64=31,
    max_size_64=36,
    flexible_launch_control=False,
)
"""SGX1, launch control by Intel's launch enclave only."""

ICELAKE_SP = CpuProfile(
    name="icelake-sp",
    capabilities=SgxCapabilities.SGX1 | SgxCapabilities.SGX2,
    miscselect=MiscSelect.EXINFO,
    attributes=Attributes(_FLAGS | AttributeFlags.KSS, 0x2E7),
    max_size_not64=31,
    max_size_64=56,
    flexible_launch_control=True,
)
"""SGX2, KSS, flexible launch control."""

SAPPHIRE_RAPIDS = CpuProfile(
    name="sapphire-rapids",
    capabilities=SgxCapabilities.SGX1 | SgxCapabilities.SGX2 | SgxCapabilities.EDECCSSA,
    miscselect=MiscSelect.EXINFO,
    attributes=Attributes(_FLAGS | AttributeFlags.KSS | AttributeFlags.AEXNOTIFY, 0x602E7),
    max_size_not64=31,
    max_size_64=56,
    flexible_launch_control=True,
)
"""As Ice Lake, with AMX state, AEX notification and EDECCSSA."""

PROFILES = {profile.name: profile for profile in (SKYLAKE_CLIENT, ICELAKE_SP, SAPPHIRE_RAPIDS)}
