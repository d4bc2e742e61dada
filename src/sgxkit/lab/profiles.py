"""The processors that a lab's platform can be: what CPUID and Intel's certificates say of them.

The FMSPCs are like Intel's (family, model and stepping come first) and none of Intel's: they end in 1AB0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sgxkit.dcap.chains import PckCa
from sgxkit.dcap.pck import SgxType
from sgxkit.emulator.profile import ICELAKE_SP, SAPPHIRE_RAPIDS, SKYLAKE_CLIENT, CpuProfile
from sgxkit.errors import InputError
from sgxkit.isa.cpuid import (
    FIRST_EPC_SUBLEAF,
    STRUCTURED_FEATURES_LEAF,
    CpuidRegisters,
    EpcProtection,
    EpcSection,
    EpcType,
    SgxCapabilities,
)
from sgxkit.messages import msg

_VERSION_LEAF = 0x01
_SGX, _SGX_LC, _SGX_KEYS = 1 << 2, 1 << 30, 1 << 1
_EPC_BASE = 0x80_0000_0000
PAGE = 4096


@dataclass(frozen=True, slots=True)
class LabProfile:
    """One kind of platform.

    signature    EAX of CPUID leaf 1: type, family, model, stepping.
    epc_size     bytes of EPC unless told otherwise.
    kind         what the PCS calls it in its list of FMSPCs.
    """

    cpu: CpuProfile
    signature: int
    fmspc: bytes
    ca: PckCa
    sgx_type: SgxType
    epc_size: int
    kind: str

    @property
    def name(self) -> str:
        return self.cpu.name

    def cpuid(self, cpu: CpuProfile, epc_size: int) -> dict[tuple[int, int], CpuidRegisters]:
        """The CPUID leaves that concern SGX, of this platform with these features and this much EPC."""
        protection = (
            EpcProtection.CONFIDENTIALITY_INTEGRITY
            if self.sgx_type is SgxType.STANDARD
            else EpcProtection.CONFIDENTIALITY
        )
        lc = _SGX_LC if cpu.flexible_launch_control else 0
        return {
            (_VERSION_LEAF, 0): CpuidRegisters(self.signature, 0, 0, 0),
            (STRUCTURED_FEATURES_LEAF, 0): CpuidRegisters(0, _SGX, lc, _SGX_KEYS),
            **cpu.cpuid([EpcSection(FIRST_EPC_SUBLEAF, EpcType.EPC, _EPC_BASE, epc_size, protection)]),
        }


PROFILES = {
    profile.name: profile
    for profile in (
        LabProfile(
            SKYLAKE_CLIENT,
            0x506E3,
            bytes.fromhex("00506E301AB0"),
            PckCa.PROCESSOR,
            SgxType.STANDARD,
            93 << 20,
            "client",
        ),
        LabProfile(
            ICELAKE_SP, 0x606A6, bytes.fromhex("00606A001AB0"), PckCa.PLATFORM, SgxType.SCALABLE, 8 << 30, "E5"
        ),
        LabProfile(
            SAPPHIRE_RAPIDS, 0x806F8, bytes.fromhex("00806F001AB0"), PckCa.PLATFORM, SgxType.SCALABLE, 16 << 30, "E5"
        ),
    )
}
DEFAULT_PROFILE = ICELAKE_SP.name


def find_profile(name: str) -> LabProfile:
    """Return the profile of that name; raises InputError."""
    if name not in PROFILES:
        raise InputError(msg("there is no processor {name}; there are {names}", name=name, names=", ".join(PROFILES)))
    return PROFILES[name]


def features(profile: LabProfile, *, flc: bool, sgx2: bool) -> CpuProfile:
    """The processor with or without flexible launch control and SGX2; raises InputError for what it never had."""
    cpu = profile.cpu
    if sgx2 and not cpu.sgx2:
        raise InputError(msg("{name} has no {feature}", name=profile.name, feature="SGX2"))
    if flc and not cpu.flexible_launch_control:
        raise InputError(msg("{name} has no {feature}", name=profile.name, feature="FLC"))
    capabilities = cpu.capabilities if sgx2 else cpu.capabilities & ~SgxCapabilities.SGX2
    return replace(cpu, flexible_launch_control=flc, capabilities=capabilities)
