"""XRSTOR of a compacted image, in the tracer's hands.

Inside an enclave XCR0 is XFRM; here it is the machine's, and where that has AMX the processor looks at more of a
compacted image than is there: it touches the last byte that all components of XCOMP_BV would have. Enclaves put such
images at the end of their stack. The image is restored as Intel SDM Vol. 1, 13.8.2 has it.
"""

from __future__ import annotations

from sgxkit.emulator.tracer import ptrace
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.tracee import Thread
from sgxkit.isa.ssa import compacted_components

_COMPACTED = 1 << 63
_XSTATE_BV, _XCOMP_BV, _END_OF_HEADER = 512, 520, 576
_XRSTOR = b"\x0f\xae"
_BASES = (
    "rax",
    "rcx",
    "rdx",
    "rbx",
    "rsp",
    "rbp",
    "rsi",
    "rdi",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
)


def restore_compacted(thread: Thread, registers: Registers, *, xcr0: int) -> bool:
    """If RIP is at an XRSTOR of a compacted image that can be restored, do it; says whether it was."""
    memory = thread.space.memory
    try:
        code = memory.read(registers.rip, 9)
        operand = _operand(code, registers)
        if operand is None:
            return False
        address, length = operand
        image = memory.read(address, _END_OF_HEADER)
    except OSError:
        return False
    present = int.from_bytes(image[_XSTATE_BV:_XCOMP_BV], "little")
    compaction = int.from_bytes(image[_XCOMP_BV : _XCOMP_BV + 8], "little")
    if not compaction & _COMPACTED or present & ~compaction or compaction & ~(_COMPACTED | xcr0) or address % 64:
        return False
    wanted = (registers.rdx & 0xFFFF_FFFF) << 32 | registers.rax & 0xFFFF_FFFF
    area = bytearray(ptrace.get_xstate(thread.tid))
    kept = int.from_bytes(area[_XSTATE_BV:_XCOMP_BV], "little") & ~wanted
    if wanted & 1:
        area[0:24] = image[0:24] if present & 1 else b"\x7f\x03".ljust(24, b"\0")
        area[32:160] = image[32:160] if present & 1 else bytes(128)
    if wanted & 2:
        area[24:28] = image[24:28] if present & 2 else b"\x80\x1f\0\0"
        area[160:416] = image[160:416] if present & 2 else bytes(256)
    try:
        for bit, (at, standard, size) in compacted_components(compaction).items():
            if present & wanted & 1 << bit:
                area[standard : standard + size] = memory.read(address + at, size)
    except OSError:
        return False
    area[_XSTATE_BV:_END_OF_HEADER] = (kept | present & wanted).to_bytes(8, "little") + bytes(56)
    ptrace.set_xstate(thread.tid, bytes(area))
    registers.rip += length
    return True


def _operand(code: bytes, registers: Registers) -> tuple[int, int] | None:
    """Address of the memory operand and length of the instruction, where it is an XRSTOR without index register."""
    rex = code[0] if 0x40 <= code[0] < 0x50 else 0
    at = 1 if rex else 0
    if code[at : at + 2] != _XRSTOR:
        return None
    modrm = code[at + 2]
    mode, operation, base = modrm >> 6, modrm >> 3 & 7, modrm & 7
    length = at + 3
    if operation != 5 or mode == 3 or (mode == 0 and base == 5):
        return None
    if base == 4:
        if code[length] >> 3 & 7 != 4 or rex & 2 or (mode == 0 and code[length] & 7 == 5):
            return None
        base, length = code[length] & 7, length + 1
    size = (0, 1, 4)[mode]
    displacement = int.from_bytes(code[length : length + size], "little", signed=True)
    address = getattr(registers, _BASES[base | (rex & 1) << 3]) + displacement
    return address & 2**64 - 1, length + size
