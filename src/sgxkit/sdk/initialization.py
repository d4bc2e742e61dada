"""What Intel's uRTS tells an enclave when it initialises it: ``system_features_t`` (internal/rts.h of SDK 2.26).

Without EDMM, as the enclave is laid out without it; and with metadata 1.x, so that the version is that of SDK 1.5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from sgxkit.isa.cpuid import CpuidRegisters

Cpuid = Callable[[int, int], CpuidRegisters]
"""CPUID by leaf and subleaf."""

# cpu_features 8 | version 4 | system_feature_set 8 | cpuinfo_table 8 * 16 | sealed_key 8 | size 8 |
# cpu_features_ext 8 | cpu_core_num 4; packed
_FEATURES = struct.Struct("<QIQ128sQQQI")
_LAST_ELEMENT, _EXTENDED = 1 << 63, 1 << 62
_SDK_1_5 = 0
_TABLE_LEAVES = (0, 1, 4, 7)

# Bits of cpu_features, each with the register of leaf 1 and the bits that say so (se_cpu_feature_defs.h). Intel's
# runtime takes a higher one of the SSE family for a mistake where a lower one is missing, so they are counted
# upwards.
_UPWARDS = (
    (0x2, "edx", 0),  # FPU
    (0x4, "edx", 15),  # CMOV
    (0x8, "edx", 23),  # MMX
    (0x10, "edx", 24),  # FXSAVE
    (0x20, "edx", 25),  # SSE
    (0x40, "edx", 26),  # SSE2
    (0x80, "ecx", 0),  # SSE3
    (0x100, "ecx", 9),  # SSSE3
    (0x200, "ecx", 19),  # SSE4.1
    (0x400, "ecx", 20),  # SSE4.2
)
_ALONE = (
    (0x800, "ecx", 22),  # MOVBE
    (0x1000, "ecx", 23),  # POPCNT
    (0x2000, "ecx", 1),  # PCLMULQDQ
    (0x4000, "ecx", 25),  # AES
    (0x2_0000, "ecx", 30),  # RDRAND
)
_GENERIC_IA32 = 1


def cpu_features(cpuid: Cpuid) -> int:
    """Intel's bit mask of what the processor can do, as far as SSE and its companions."""
    leaf = cpuid(1, 0)
    found = _GENERIC_IA32
    for mask, register, bit in _UPWARDS:
        if not getattr(leaf, register) >> bit & 1:
            break
        found |= mask
    return found | sum(mask for mask, register, bit in _ALONE if getattr(leaf, register) >> bit & 1)


def system_features(cpuid: Cpuid, *, processors: int = 1) -> bytes:
    """The structure that ECMD_INIT_ENCLAVE takes."""
    table = bytearray(128)
    for leaf in _TABLE_LEAVES:
        answer = cpuid(leaf, 0)
        struct.pack_into("<4I", table, leaf * 16, answer.eax, answer.ebx, answer.ecx, answer.edx)
    features = cpu_features(cpuid)
    return _FEATURES.pack(
        features, _SDK_1_5, _LAST_ELEMENT | _EXTENDED, bytes(table), 0, _FEATURES.size, features, processors
    )
