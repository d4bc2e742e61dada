/* The way into and out of an enclave, by the convention of Intel's SDK: RDI has the command or the number of an ECALL,
 * RSI its ms struct; on the way out RDI has -1 and RSI a status, or RDI the number of an OCALL and RSI its ms struct.
 *
 * GS is the thread's data (struct thread in runtime.h). The stack of a TCS ends one page below it.
 */
    .intel_syntax noprefix
    .set LAST_SP, 0
    .set ECALL_FRAME, 8
    .set SSA_GPR, 16
    .set ECMD_ORET, -2
    .set EEXIT, 4
    .set URSP, 144
    .set URBP, 152

    .text
    .globl enclave_entry
    .hidden enclave_entry
    .type enclave_entry, @function
enclave_entry:
    .cfi_startproc
    .cfi_undefined rip
    cld
    mov r9d, eax                    # CSSA
    mov r8, rsp                     # the stack outside
    test eax, eax
    jnz .Lexception
    cmp edi, ECMD_ORET
    je .Loret
    mov rax, gs:[LAST_SP]
    test rax, rax
    jnz .Lnested
    lea rax, [rbx - 0x1000]
.Lnested:
    mov rsp, rax
    push r8
    push rcx
    push rbp
    push qword ptr gs:[ECALL_FRAME]
    mov gs:[ECALL_FRAME], rsp
    mov rdx, rbx
    mov ecx, r9d
    call enter
    pop qword ptr gs:[ECALL_FRAME]
    jmp .Lleave
.Lexception:                        # on the lower half of the stack, as the upper one may be in use
    lea rsp, [rbx - 0x9000]
    push r8
    push rcx
    push rbp
    push 0
    mov rdx, rbx
    mov ecx, r9d
    call enter
    pop rcx
.Lleave:
    mov rsi, rax
    mov rdi, -1
    pop rbp
    pop rbx
    pop rsp
    jmp .Lexit
.Loret:
    mov rsp, gs:[LAST_SP]
    mov rax, rsi
    pop qword ptr gs:[LAST_SP]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
.Lexit:
    xor ecx, ecx
    xor edx, edx
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    mov eax, EEXIT
    .byte 0x0f, 0x01, 0xd7          # ENCLU
    ud2
    .cfi_endproc
    .size enclave_entry, . - enclave_entry

/* int leave_for_ocall(int number, void* ms): what it returns is the status that the caller comes back with. */
    .globl leave_for_ocall
    .hidden leave_for_ocall
    .type leave_for_ocall, @function
leave_for_ocall:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    push qword ptr gs:[LAST_SP]
    mov gs:[LAST_SP], rsp
    mov rax, gs:[ECALL_FRAME]
    mov rbx, [rax + 16]             # the way back of the ECALL
    mov rdx, gs:[SSA_GPR]
    mov rsp, [rdx + URSP]
    mov rbp, [rdx + URBP]
    movsxd rdi, edi
    jmp .Lexit
    .size leave_for_ocall, . - leave_for_ocall

/* Room for what a signing tool writes; not loaded. */
    .section .note.sgxmeta, "", @note
    .space 16384
    .section .note.GNU-stack, "", @progbits
