# What the tracer puts into each traced process at a fixed address: __vdso_sgx_enter_enclave, and transitions that need no
# tracer. EENTER and EEXIT here do what emulator/entry.py does, for a TCS that the tracer has looked at since anything
# about it changed; whatever is not as it should be goes to ENCLU, and so to the tracer.
#
# An entry of the table (128 bytes, by bits 12 to 17 of the TCS's address; the tracer writes it, agent.py reads it):
#    0  linear address of the TCS, 0: none        8  FS base of the one thread that may use it
#   16  where the TCS can be written             24  where the GPRSGX of its current frame can
#   32  RIP, 40 FS base, 48 GS base inside       56  GS base outside, while inside
#   64  RAX inside: CSSA                         72  1 while the thread is inside
#   80  how often it was entered here

    .intel_syntax noprefix
    .text
    .set TABLE, agent + 0x5000          # the agent lies at 0x3000 of its pages, its table at 0x8000
    .set BY_GS, agent + 0x7000          # entries by bits 12 to 17 of the GS base inside

agent:
enter_enclave:                          # struct sgx_enclave_run is the one argument on the stack
    push rbp
    mov rbp, rsp
    push rbx
    mov eax, ecx
again:
    lea r10d, [rax - 2]                 # EENTER or ERESUME
    cmp r10d, 1
    ja invalid
    mov r11, [rbp + 16]
    mov ecx, 27                         # reserved: 27 words from 40
check:
    cmp qword ptr [r11 + rcx*8 + 32], 0
    jne invalid
    dec ecx
    jnz check
    mov rbx, [r11]
    lea rcx, [rip + aep]
    cmp eax, 2
    je fast_enter
aep:
    enclu
left:                                   # EEXIT comes here
    mov rbx, [rbp + 16]
    mov dword ptr [rbx + 8], 4
    jmp tell
exception:                              # the tracer comes here: EAX leaf, DI vector, SI error code, RDX address
    mov rbx, [rbp + 16]
    mov [rbx + 8], eax
    mov [rbx + 12], di
    mov [rbx + 14], si
    mov [rbx + 16], rdx
tell:
    mov rax, [rbx + 24]
    test rax, rax
    jnz tell_handler
done:
    mov rbx, [rbp - 8]
    mov rsp, rbp
    pop rbp
    ret
invalid:
    mov eax, -22
    jmp done
tell_handler:                           # handler(rdi, rsi, rdx, rsp, r8, r9, run)
    mov rcx, rsp
    mov r10, rsp
    and rsp, -16
    push r10
    push rbx
    cld
    call rax
    mov rsp, [rsp + 8]
    test eax, eax
    jle done
    jmp again

fast_enter:
    mov r10, rbx
    shr r10, 12
    and r10d, 63
    shl r10d, 7
    lea r11, [rip + TABLE]
    add r10, r11
    cmp [r10], rbx
    jne aep
    rdfsbase r11
    cmp [r10 + 8], r11
    jne aep
entering:                               # from here to `entered` nothing may come in between
    mov r11, [r10 + 16]
    lock bts dword ptr [r11], 0         # TCS.STATE
    jc aep
    mov [r11 + 40], rcx                 # TCS.AEP
    mov r11, [r10 + 24]
    mov [r11 + 144], rsp                # URSP, URBP
    mov [r11 + 152], rbp
    rdgsbase r11
    mov [r10 + 56], r11
    inc qword ptr [r10 + 80]
    mov dword ptr [r10 + 72], 1
    mov r11, [r10 + 40]
    wrfsbase r11
    mov r11, [r10 + 48]
    wrgsbase r11
    mov rax, [r10 + 64]
    lea rcx, [rip + left]
    jmp [r10 + 32]
entered:

# The enclave's own instructions before its ENCLU, where the tracer has put a jump to here in their place.
exit_after_ocall:
    xor r15, r15
    add rdx, rdx
    cld
exit:
    rdgsbase rax
    shr rax, 12
    and eax, 63
    lea rcx, [rip + BY_GS]
    mov rcx, [rcx + rax*8]
    jrcxz slow_exit
    rdgsbase rax
    cmp [rcx + 48], rax
    jne slow_exit
    cmp dword ptr [rcx + 72], 1
    jne slow_exit
    mov rax, [rcx + 8]
    wrfsbase rax
    mov rax, [rcx + 56]
    wrgsbase rax
    mov dword ptr [rcx + 72], 0
    mov rax, [rcx + 16]
    mov rcx, [rax + 40]                 # TCS.AEP
    mov qword ptr [rax], 0              # TCS.STATE
    mov eax, 4
    jmp rbx
slow_exit:
    mov eax, 4
    enclu
exited:
    .section .note.GNU-stack, "", @progbits
