"""Model-specific registers that concern SGX (Intel SDM Vol. 4, "Architectural MSRs")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Msr(IntEnum):
    """Numbers of the registers, by the manual's names."""

    IA32_FEATURE_CONTROL = 0x3A
    IA32_BIOS_SIGN_ID = 0x8B
    IA32_SGXLEPUBKEYHASH0 = 0x8C
    IA32_SGXLEPUBKEYHASH1 = 0x8D
    IA32_SGXLEPUBKEYHASH2 = 0x8E
    IA32_SGXLEPUBKEYHASH3 = 0x8F
    MSR_PLATFORM_INFO = 0xCE
    MSR_SGX_DEBUG_MODE = 0x503
    """Nonzero: SGX is unlocked for debugging. The name is ours, the number Intel's TDX enabling guide's."""


INTEL_LAUNCH_KEY_HASH = bytes.fromhex("acb77012053e05a63d413b8bbae8fb6c5d73b3f2996d91c43bbbf90959c0f8d4")
"""SHA-256 of Intel's launch enclave signer modulus: what IA32_SGXLEPUBKEYHASH holds at reset."""


@dataclass(frozen=True, slots=True)
class FeatureControl:
    """IA32_FEATURE_CONTROL.

    lock              bit 0: the register can no longer be written until reset; no feature works before it is set.
    vmx_outside_smx   bit 2: VMX may be used.
    sgx_lc            bit 17: IA32_SGXLEPUBKEYHASH may be written (SGX Launch Control Enable).
    sgx               bit 18: ENCLS may be used (SGX Global Enable).
    """

    lock: bool
    vmx_outside_smx: bool
    sgx_lc: bool
    sgx: bool

    @property
    def sgx_usable(self) -> bool:
        return self.lock and self.sgx

    @property
    def launch_control_usable(self) -> bool:
        return self.lock and self.sgx and self.sgx_lc


def decode_feature_control(value: int) -> FeatureControl:
    """Decode the 64 bits of IA32_FEATURE_CONTROL (SDM Vol. 4, "Architectural MSRs", 3AH)."""
    return FeatureControl(
        lock=bool(value & 1),
        vmx_outside_smx=bool(value >> 2 & 1),
        sgx_lc=bool(value >> 17 & 1),
        sgx=bool(value >> 18 & 1),
    )


def launch_key_hash(words: Sequence[int]) -> bytes:
    """Return the 32-byte hash that IA32_SGXLEPUBKEYHASH0..3 hold; each word is 8 bytes little-endian."""
    return b"".join(word.to_bytes(8, "little") for word in words)


def is_preproduction(platform_info: int) -> bool:
    """Tell from MSR_PLATFORM_INFO whether this is a pre-production processor (bit 27; Intel's TDX enabling guide)."""
    return bool(platform_info >> 27 & 1)


@dataclass(frozen=True, slots=True)
class MicrocodeRevision:
    """IA32_BIOS_SIGN_ID[63:32]: the loaded microcode's revision; `debug_signed` is its top bit."""

    revision: int
    debug_signed: bool


def decode_bios_sign_id(value: int) -> MicrocodeRevision:
    """Decode IA32_BIOS_SIGN_ID (SDM Vol. 4, "Architectural MSRs", 8BH)."""
    revision = value >> 32 & 0xFFFF_FFFF
    return MicrocodeRevision(revision, bool(revision >> 31))
