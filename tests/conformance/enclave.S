# The enclave of the conformance suite: position-independent, without stack or library.
#
# RDI chooses a function, RSI, RDX and R8 are its operands, RDI is its result. All functions can be entered at any CSSA.
# Layout (conformance.h has the same numbers): code at 0, data of each thread at FS:0.

    .intel_syntax noprefix
    .section .enclave, "ax", @progbits
    .globl enclave_code, enclave_code_end
    .balign 4096
enclave_code:
    mov r15, rcx                    # where EEXIT goes
    cmp edi, (table_end - table) / 4
    jae leave_unknown
    lea r14, [rip + table]
    movsxd r13, dword ptr [r14 + rdi*4]
    add r13, r14
    jmp r13

    .balign 4
table:
    .long add_numbers - table       # 0   RSI + RDX
    .long report - table            # 1   EREPORT: TARGETINFO at RSI, REPORTDATA at RDX, REPORT to R8
    .long get_key - table           # 2   EGETKEY: KEYREQUEST at RSI, key to RDX; the status
    .long load - table              # 3   the 8 bytes at RSI
    .long store - table             # 4   RDX to RSI
    .long undefined - table         # 5   UD2
    .long ask_cpuid - table         # 6   CPUID
    .long system_call - table       # 7   SYSCALL
    .long breakpoint - table        # 8   INT3
    .long divide - table            # 9   0 / 0
    .long spin - table              # 10  until [RSI] is not 0, with RDX in XMM7 and R12; whether both were kept
    .long accept - table            # 11  EACCEPT: SECINFO.FLAGS RSI, page RDX; the status
    .long extend - table            # 12  EMODPE: SECINFO.FLAGS RSI, page RDX
    .long accept_copy - table       # 13  EACCEPTCOPY: SECINFO.FLAGS RSI, page RDX, source R8; the status
    .long frame_word - table        # 14  the 8 bytes at offset RSI of the SSA frame RDX
    .long change_frame - table      # 15  add R8 to them
    .long halt - table              # 16  HLT
    .long jump - table              # 17  to RSI
    .long call_enter - table        # 18  EENTER inside
    .long read_bases - table        # 19  FS base in RDI, GS base in RSI
    .long leaf_unknown - table      # 20  ENCLU with EAX = 0x7F
    .long flags_of_key - table      # 21  RFLAGS after an EGETKEY that is refused
table_end:

leave_unknown:
    mov rdi, -1
    jmp leave

add_numbers:
    lea rdi, [rsi + rdx]
    jmp leave

report:
    rdfsbase rbx
    lea r10, [rbx + 0x200]
    lea r11, [rbx + 0x400]
    mov r9, rdi
    mov rdi, rbx                    # TARGETINFO
    mov ecx, 64
    cld
    rep movsq
    mov rsi, rdx
    mov rdi, r10                    # REPORTDATA
    mov ecx, 8
    rep movsq
    mov rcx, r10
    mov rdx, r11
    xor eax, eax
    enclu
    mov rsi, r11
    mov rdi, r8
    mov ecx, 54
    rep movsq
    xor edi, edi
    jmp leave

get_key:
    rdfsbase rbx
    mov rdi, rbx
    mov ecx, 64
    cld
    rep movsq
    lea rcx, [rbx + 0x200]
    mov qword ptr [rcx], 0
    mov qword ptr [rcx + 8], 0
    mov eax, 1
    enclu
    mov r10, [rcx]
    mov r11, [rcx + 8]
    mov [rdx], r10
    mov [rdx + 8], r11
    mov rdi, rax
    jmp leave

flags_of_key:
    rdfsbase rbx
    xor eax, eax
    mov ecx, 64
    mov rdi, rbx
    cld
    rep stosq
    mov word ptr [rbx], 0x77        # no such key
    lea rcx, [rbx + 0x200]
    mov eax, 1
    enclu
    setz al
    movzx edi, al
    jmp leave

load:
    mov rdi, [rsi]
    jmp leave
store:
    mov [rsi], rdx
    jmp leave
undefined:
    ud2
    mov edi, 0x11
    jmp leave
ask_cpuid:
    xor eax, eax
    cpuid
    mov edi, 0x12
    jmp leave
system_call:
    mov eax, 39
    syscall
    mov edi, 0x13
    jmp leave
breakpoint:
    int3
    mov edi, 0x14
    jmp leave
divide:
    xor edx, edx
    xor eax, eax
    xor ecx, ecx
    div ecx
    mov edi, 0x15
    jmp leave
halt:
    hlt
    mov edi, 0x16
    jmp leave
jump:
    jmp rsi

spin:
    movq xmm7, rdx
    mov r12, rdx
1:  pause
    cmp qword ptr [rsi], 0
    je 1b
    movq rax, xmm7
    xor edi, edi
    cmp rax, rdx
    jne leave
    cmp r12, rdx
    jne leave
    mov edi, 1
    jmp leave

accept:
    rdfsbase rbx
    mov [rbx], rsi
    xor eax, eax
    .irp at, 8, 16, 24, 32, 40, 48, 56
    mov [rbx + \at], rax
    .endr
    mov rcx, rdx
    mov eax, 5
    enclu
    mov rdi, rax
    jmp leave
extend:
    rdfsbase rbx
    mov [rbx], rsi
    xor eax, eax
    .irp at, 8, 16, 24, 32, 40, 48, 56
    mov [rbx + \at], rax
    .endr
    mov rcx, rdx
    mov eax, 6
    enclu
    xor edi, edi
    jmp leave
accept_copy:
    rdfsbase rbx
    mov [rbx], rsi
    xor eax, eax
    .irp at, 8, 16, 24, 32, 40, 48, 56
    mov [rbx + \at], rax
    .endr
    mov rcx, rdx
    mov rdx, r8
    mov eax, 7
    enclu
    mov rdi, rax
    jmp leave

frame_word:
    rdgsbase r10                    # SSA frames are at GS - 0x6000, one page each
    shl rdx, 12
    lea r10, [r10 + rdx - 0x6000]
    mov rdi, [r10 + rsi]
    jmp leave
change_frame:
    rdgsbase r10
    shl rdx, 12
    lea r10, [r10 + rdx - 0x6000]
    add [r10 + rsi], r8
    xor edi, edi
    jmp leave

call_enter:
    mov rbx, rsi
    mov eax, 2
    enclu
    mov edi, 0x18
    jmp leave
read_bases:
    rdfsbase rdi
    rdgsbase rsi
    jmp leave
leaf_unknown:
    mov eax, 0x7f
    enclu
    mov edi, 0x19
    jmp leave

leave:
    mov rbx, r15
    mov eax, 4
    enclu

    .balign 4096
enclave_code_end:

# The caller's side: unsigned long enter(struct call *)
#   struct call: 0 leaf, 8 tcs, 16 rdi, 24 rsi, 32 rdx, 40 r8, 48 rdi after, 56 rsi after, 64 rax after, 72 rcx after,
#   80 how often an exit was asynchronous
    .text
    .globl enter, async_exit, enter_exit
enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
    mov rax, [rdi]
    mov rbx, [rdi + 8]
    mov rsi, [rdi + 24]
    mov rdx, [rdi + 32]
    mov r8, [rdi + 40]
    mov rdi, [rdi + 16]
    lea rcx, [rip + async_exit]
    enclu
enter_exit:
    pop r11
    mov [r11 + 48], rdi
    mov [r11 + 56], rsi
    mov [r11 + 64], rax
    mov [r11 + 72], rcx
    mov rax, rdi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
async_exit:
    enclu
    ud2
    .section .note.GNU-stack, "", @progbits
