"""A small enclave's code with its source; a test assembles it again and compares."""

from __future__ import annotations

SOURCE = """\
    .intel_syntax noprefix
    .text
entry:                          # RDI: what to do, by the caller
    mov r15, rcx                # where to go back to
    cmp edi, 1
    je  seal
    cmp edi, 2
    je  fault
    cmp edi, 3
    je  outside
    cmp edi, 4
    je  spin
    lea rax, [rsi + rsi*2]      # 0: three times RSI, plus RDX
    add rdx, rax
    jmp leave
seal:                           # 1: a sealing key to FS:[0x200], a report with RSI in it to FS:[0x400]
    rdfsbase rbx
    lea rcx, [rbx + 0x200]
    mov eax, 1                  # EGETKEY
    enclu
    mov r14, rax
    mov [rbx + 0x280], rsi
    rdfsbase r13
    lea rcx, [r13 + 0x280]      # REPORTDATA
    lea rdx, [r13 + 0x400]      # REPORT
    lea rbx, [r13 + 0x800]      # TARGETINFO
    xor eax, eax                # EREPORT
    enclu
    mov rdx, [r13 + 0x200]      # give the key away: this enclave is for tests
    jmp leave
fault:                          # 2: read from RSI
    movq xmm3, rsi
    mov rdx, [rsi]
    jmp leave
outside:                        # 3: read RSI, write twice as much to RSI + 8
    mov rdx, [rsi]
    add rdx, rdx
    mov [rsi + 8], rdx
    jmp leave
spin:                           # 4: for ever
    inc rdx
    jmp spin
leave:
    mov rbx, r15
    mov eax, 4                  # EEXIT
    enclu
"""

CODE = bytes.fromhex(
    "4989cf83ff01741883ff02745983ff03745e83ff047465488d04764801c2eb61f3480faec3488d8b00020000b8010000000f"
    "01d74989c64889b380020000f3490faec5498d8d80020000498d9500040000498d9d0008000031c00f01d7498b9500020000"
    "eb1b66480f6ede488b16eb11488b164801d248895608eb0548ffc2ebfb4c89fbb8040000000f01d7"
)

COMPUTE, SEAL, FAULT, OUTSIDE, SPIN = range(5)
"""What the enclave does, in RDI."""

FAULTING, SPINNING = 0x6B, 0x7C
"""Offsets of the instruction that reads from RSI, and of the endless loop."""
