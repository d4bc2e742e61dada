# Into an enclave and out again: through the kernel's vDSO where it has the function, else by ENCLU.
#
# One page of this code and one page of data behind it belong to one thread of one enclave (a TCS). All data is found
# relative to RIP, because an enclave need not keep any register, RSP included.
#
# `enter` is a C function without arguments: it loads the registers from the block, goes in, and stores what it comes
# out with. A zero for RSP means the caller's own stack.

    .intel_syntax noprefix

    # The block, by offset in the data page; entry.py has the same.
    .set BLOCK, 0x1000
    .set AT_RAX, BLOCK + 0x00          # in: EENTER or ERESUME
    .set AT_RCX, BLOCK + 0x08
    .set AT_RDX, BLOCK + 0x10
    .set AT_RBX, BLOCK + 0x18          # in: the TCS
    .set AT_RSP, BLOCK + 0x20
    .set AT_RBP, BLOCK + 0x28
    .set AT_RSI, BLOCK + 0x30
    .set AT_RDI, BLOCK + 0x38
    .set AT_R8, BLOCK + 0x40
    .set AT_R9, BLOCK + 0x48
    .set AT_R10, BLOCK + 0x50
    .set AT_R11, BLOCK + 0x58
    .set AT_R12, BLOCK + 0x60
    .set AT_R13, BLOCK + 0x68
    .set AT_R14, BLOCK + 0x70
    .set AT_R15, BLOCK + 0x78
    .set AT_RFLAGS, BLOCK + 0x80       # out
    .set STACK, BLOCK + 0x88        # the caller's RSP
    .set VDSO, BLOCK + 0x90         # __vdso_sgx_enter_enclave, or 0
    .set RESULT, BLOCK + 0x98       # out: what it returned
    .set MXCSR, BLOCK + 0xa0
    .set FCW, BLOCK + 0xa8
    .set SIGNAL, BLOCK + 0xb0       # out: the signal that an exception inside became, without the vDSO's function
    .set VECTOR, BLOCK + 0xb8       # out: its vector, error code and address
    .set ERROR_CODE, BLOCK + 0xc0
    .set ADDRESS, BLOCK + 0xc8
    .set RUN, BLOCK + 0x100         # struct sgx_enclave_run
    .set BEFORE, BLOCK + 0x200      # of who handles signals: the handler of each signal before, 0 to 31

    .text
page:
enter:
    push    rbx
    push    rbp
    push    r12
    push    r13
    push    r14
    push    r15
    stmxcsr [rip + page + MXCSR]
    fnstcw  [rip + page + FCW]
    mov     [rip + page + STACK], rsp
    mov     rax, [rip + page + AT_RSP]
    test    rax, rax
    cmovnz  rsp, rax
    mov     rdx, [rip + page + AT_RDX]
    mov     rsi, [rip + page + AT_RSI]
    mov     rdi, [rip + page + AT_RDI]
    mov     r8, [rip + page + AT_R8]
    mov     r9, [rip + page + AT_R9]
    mov     r10, [rip + page + AT_R10]
    mov     r11, [rip + page + AT_R11]
    mov     r12, [rip + page + AT_R12]
    mov     r13, [rip + page + AT_R13]
    mov     r14, [rip + page + AT_R14]
    mov     r15, [rip + page + AT_R15]
    cmp     qword ptr [rip + page + VDSO], 0
    jne     through_vdso

    mov     rbp, [rip + page + AT_RBP]
    mov     rbx, [rip + page + AT_RBX]
    mov     rax, [rip + page + AT_RAX]
    lea     rcx, [rip + interrupted]
going_in:
    enclu
out:                                # EEXIT comes here
    mov     [rip + page + AT_RAX], rax
    mov     [rip + page + AT_RBX], rbx
    mov     [rip + page + AT_RCX], rcx
    mov     [rip + page + AT_RSP], rsp
    mov     [rip + page + AT_RDX], rdx
    mov     [rip + page + AT_RBP], rbp
    mov     [rip + page + AT_RSI], rsi
    mov     [rip + page + AT_RDI], rdi
    mov     [rip + page + AT_R8], r8
    mov     [rip + page + AT_R9], r9
    mov     [rip + page + AT_R10], r10
    mov     [rip + page + AT_R11], r11
    mov     [rip + page + AT_R12], r12
    mov     [rip + page + AT_R13], r13
    mov     [rip + page + AT_R14], r14
    mov     [rip + page + AT_R15], r15
    mov     rsp, [rip + page + STACK]
    pushfq
    pop     [rip + page + AT_RFLAGS]
back:
    push    2                       # DF and AC as C has them
    popfq
    ldmxcsr [rip + page + MXCSR]
    fldcw   [rip + page + FCW]
    pop     r15
    pop     r14
    pop     r13
    pop     r12
    pop     rbp
    pop     rbx
    ret

interrupted:                        # asynchronous exits lead here: go on inside
    enclu

faulted:                            # the signal's handler leads here: what was inside is in the SSA
    mov     rsp, [rip + page + STACK]
    jmp     back

through_vdso:
    lea     rax, [rip + page + RUN]
    and     rsp, -16
    push    rax
    push    rax                     # the seventh argument
    mov     ecx, [rip + page + AT_RAX]
    call    [rip + page + VDSO]
    movsxd  rax, eax
    mov     [rip + page + RESULT], rax
    mov     rsp, [rip + page + STACK]
    jmp     back

handler:                            # the vDSO's function calls it with what the enclave left, RSP being in RCX
    mov     [rip + page + AT_RSP], rcx
    mov     [rip + page + AT_RDX], rdx
    mov     [rip + page + AT_RBP], rbp
    mov     [rip + page + AT_RSI], rsi
    mov     [rip + page + AT_RDI], rdi
    mov     [rip + page + AT_R8], r8
    mov     [rip + page + AT_R9], r9
    mov     [rip + page + AT_R10], r10
    mov     [rip + page + AT_R11], r11
    mov     [rip + page + AT_R12], r12
    mov     [rip + page + AT_R13], r13
    mov     [rip + page + AT_R14], r14
    mov     [rip + page + AT_R15], r15
    xor     eax, eax                # do not go in again
    ret

# A handler of signals, for exceptions inside where the vDSO has no function: (signal, siginfo, ucontext). If RIP is at
# an ENCLU of such a page, the thread goes on at `faulted`; all else is for who handled the signal before.
    .set UC_RIP, 168
    .set UC_ERROR_CODE, 192
    .set UC_VECTOR, 200
    .set UC_ADDRESS, 216
    .set RT_SIGACTION, 13
on_signal:
    mov     rax, [rdx + UC_RIP]
    mov     ecx, eax
    and     ecx, 0xfff
    cmp     ecx, interrupted - page
    je      1f
    cmp     ecx, going_in - page
    jne     2f
1:  and     rax, -0x1000
    mov     rcx, [rip + magic]
    cmp     rcx, [rax + magic - page]
    jne     2f
    mov     [rax + SIGNAL], rdi
    mov     rcx, [rdx + UC_VECTOR]
    mov     [rax + VECTOR], rcx
    mov     rcx, [rdx + UC_ERROR_CODE]
    mov     [rax + ERROR_CODE], rcx
    mov     rcx, [rdx + UC_ADDRESS]
    mov     [rax + ADDRESS], rcx
    lea     rcx, [rax + faulted - page]
    mov     [rdx + UC_RIP], rcx
    ret
2:  lea     rax, [rip + page + BEFORE]
    mov     edi, edi
    mov     rax, [rax + rdi * 8]
    cmp     rax, 1
    jbe     3f
    jmp     rax
3:  xor     eax, eax                # nobody did: as it is without us, the next time it ends the process
    push    rax
    push    rax
    push    rax
    push    rax
    mov     rsi, rsp
    xor     edx, edx
    mov     r10d, 8
    mov     eax, RT_SIGACTION
    syscall
    add     rsp, 32
    ret

    .balign 8
magic:
    .ascii  "sgxkitEN"
    .quad   handler - page          # for entry.py
    .quad   on_signal - page
