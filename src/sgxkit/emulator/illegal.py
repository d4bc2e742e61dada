"""Instructions that an enclave may not execute, found by their bytes.

Intel SDM Vol. 3D, 36.6.1, table "Illegal Instructions Inside an Enclave" (#UD), and Vol. 2 for those that need
privilege level 0 (#GP, or #UD where Vol. 2 says so). 64-bit mode only.
"""

from __future__ import annotations

UNDEFINED, PROTECTION, BREAKPOINT = 6, 13, 3

_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
_REX = range(0x40, 0x50)

_ONE_BYTE = {
    **dict.fromkeys((0x6C, 0x6D, 0x6E, 0x6F), UNDEFINED),  # INS, OUTS
    **dict.fromkeys((0xE4, 0xE5, 0xE6, 0xE7, 0xEC, 0xED, 0xEE, 0xEF), UNDEFINED),  # IN, OUT
    **dict.fromkeys((0xCA, 0xCB, 0xCD, 0xCF), UNDEFINED),  # far RET, INT n, IRET
    0x8E: UNDEFINED,  # MOV to a segment register
    0xCC: BREAKPOINT,  # INT3
    **dict.fromkeys((0xF4, 0xFA, 0xFB), PROTECTION),  # HLT, CLI, STI
}
_TWO_BYTES = {
    **dict.fromkeys((0xA2, 0x05, 0x34), UNDEFINED),  # CPUID, SYSCALL, SYSENTER
    **dict.fromkeys((0x33, 0x37), UNDEFINED),  # RDPMC, GETSEC
    **dict.fromkeys((0xA1, 0xA9, 0xB2, 0xB4, 0xB5), UNDEFINED),  # POP FS, POP GS, LSS, LFS, LGS
    **dict.fromkeys((0x06, 0x07, 0x08, 0x09, 0x35), PROTECTION),  # CLTS, SYSRET, INVD, WBINVD, SYSEXIT
    **dict.fromkeys((0x20, 0x21, 0x22, 0x23, 0x30, 0x32), PROTECTION),  # MOV of CRn and DRn, WRMSR, RDMSR
}
_RDTSC = 0x31
# 0F 00 and 0F 01 by the reg field of their ModRM byte; 0F 01 with a register operand by the whole byte.
_GROUP_6 = {0: UNDEFINED, 1: UNDEFINED, 2: PROTECTION, 3: PROTECTION}  # SLDT, STR, LLDT, LTR
_GROUP_7 = {
    **dict.fromkeys((0, 1, 4), UNDEFINED),  # SGDT, SIDT, SMSW
    **dict.fromkeys((2, 3, 6, 7), PROTECTION),  # LGDT, LIDT, LMSW, INVLPG
}
_GROUP_7_REGISTERS = {
    **dict.fromkeys((0xC1, 0xD4), UNDEFINED),  # VMCALL, VMFUNC
    **dict.fromkeys((0xC8, 0xC9, 0xCA, 0xCB), UNDEFINED),  # MONITOR, MWAIT, CLAC, STAC
    **dict.fromkeys((0xCF, 0xD1, 0xF8), PROTECTION),  # ENCLS, XSETBV, SWAPGS
}
_RDTSCP = 0xF9
_GROUP_9_SUPERVISOR = (3, 5)  # XRSTORS, XSAVES
_VEX2, _VEX3, _EVEX = 0xC5, 0xC4, 0x62
_GENERAL_VEX = {2: (0xF2, 0xF3, 0xF5, 0xF6, 0xF7), 3: (0xF0,)}
"""BMI1 and BMI2, by opcode map: instructions with a VEX prefix that use general registers, and so do not need AVX."""
_FAR = (3, 5)  # FF /3, FF /5: far CALL and JMP
_INVPCID = b"\x38\x82"


def exception_of(code: bytes, *, sgx2: bool) -> int | None:
    """The vector that the instruction at the start of `code` raises in an enclave, whatever its operands.

    None where the instruction itself is allowed. `sgx2`: RDTSC and RDTSCP are allowed on processors with SGX2. AVX is
    never on.
    """
    start = 0
    while start < len(code) and code[start] in _PREFIXES:
        start += 1
    if start < len(code) and code[start] in _REX:
        start += 1
    opcode = code[start : start + 4].ljust(4, b"\x90")
    if opcode[0] == 0x0F:
        return _of_two_bytes(opcode[1], opcode[2], opcode[1:3], sgx2)
    if opcode[0] in (_VEX2, _EVEX) or (
        opcode[0] == _VEX3 and opcode[3] not in _GENERAL_VEX.get(opcode[1] & 0x1F, ())
    ):
        return UNDEFINED
    if opcode[0] == 0xFF and _reg(opcode[1]) in _FAR and opcode[1] < 0xC0:
        return UNDEFINED
    return _ONE_BYTE.get(opcode[0])


def _of_two_bytes(opcode: int, modrm: int, rest: bytes, sgx2: bool) -> int | None:
    memory = modrm < 0xC0
    if opcode == _RDTSC:
        return None if sgx2 else UNDEFINED
    if opcode == 0x00:
        return _GROUP_6.get(_reg(modrm))
    if opcode == 0x01:
        if modrm == _RDTSCP:
            return None if sgx2 else UNDEFINED
        if memory or _reg(modrm) in (4, 6):
            return _GROUP_7.get(_reg(modrm))
        return _GROUP_7_REGISTERS.get(modrm)
    if opcode == 0xC7 and memory and _reg(modrm) in _GROUP_9_SUPERVISOR:
        return PROTECTION
    if rest == _INVPCID:
        return PROTECTION
    return _TWO_BYTES.get(opcode)


def _reg(modrm: int) -> int:
    return modrm >> 3 & 7
