"""What an enclave is told of the processor, which it cannot ask itself: the answers to CPUID.

The answers are those of a processor with just what all of ours have: x87, SSE to SSE4.2, AES, RDRAND, no AVX. So an
enclave chooses code that runs on each of them.
"""

from __future__ import annotations

import struct

from sgxkit.isa.cpuid import CpuidRegisters

_MAX_LEAF, _MAX_EXTENDED = 0x12, 0x8000_0008
_VENDOR = CpuidRegisters(_MAX_LEAF, *struct.unpack("<3I", b"GenuntelineI"))
# Family 6, model 106, stepping 6 (Ice Lake server); CLFLUSH lines of 64 bytes.
_SIGNATURE, _BRAND = 0x0006_06A6, 0x0001_0800
# Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, OSXSAVE, RDRAND.
_FEATURES_C = sum(1 << bit for bit in (0, 1, 9, 13, 19, 20, 22, 23, 25, 26, 27, 30))
# Leaf 1 EDX: FPU, TSC, MSR, PAE, CX8, APIC, SEP, PGE, CMOV, PAT, CLFSH, MMX, FXSR, SSE, SSE2.
_FEATURES_D = sum(1 << bit for bit in (0, 4, 5, 6, 8, 9, 11, 13, 15, 16, 19, 23, 24, 25, 26))
# Leaf 7 EBX: FSGSBASE, SGX, ERMS. RDSEED, ADX and BMI are left out, as Intel's runtime takes them for AVX's
# companions.
_STRUCTURED_B = sum(1 << bit for bit in (0, 2, 9))
# Leaf 4.0: a data cache of 32 KiB, 8 ways, 64 sets.
_CACHE = CpuidRegisters(0x0000_0121, 0x01C0_003F, 0x3F, 0)
_LONG_MODE = CpuidRegisters(0, 0, 0x121, 0x2C10_0800)
_ADDRESS_SIZES = CpuidRegisters(0x302E, 0, 0, 0)
_NOTHING = CpuidRegisters(0, 0, 0, 0)

_ANSWERS: dict[tuple[int, int], CpuidRegisters] = {
    (0, 0): _VENDOR,
    (1, 0): CpuidRegisters(_SIGNATURE, _BRAND, _FEATURES_C, _FEATURES_D),
    (4, 0): _CACHE,
    (7, 0): CpuidRegisters(0, _STRUCTURED_B, 0, 0),
    (0x8000_0000, 0): CpuidRegisters(_MAX_EXTENDED, 0, 0, 0),
    (0x8000_0001, 0): _LONG_MODE,
    (0x8000_0008, 0): _ADDRESS_SIZES,
}
_WITHOUT_SUBLEAVES = frozenset((0, 1, 0x8000_0000, 0x8000_0001, 0x8000_0008))


def cpuid(leaf: int, subleaf: int) -> CpuidRegisters:
    """CPUID as enclaves of Intel's SDK are answered; what is not told is zero."""
    leaf &= 0xFFFF_FFFF
    return _ANSWERS.get((leaf, 0 if leaf in _WITHOUT_SUBLEAVES else subleaf & 0xFFFF_FFFF), _NOTHING)
