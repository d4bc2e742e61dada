# The sample enclave: one thread, six functions, no library.
#
# Entered with     RDI  the function
#                  RSI  a buffer of 2048 bytes outside the enclave
#                  RDX  how many of these are the function's input
# and left with    RDI  0, a status of EGETKEY, or REFUSED, NOT_AUTHENTIC, NO_RANDOM
#                  RSI  how many bytes of the buffer are the function's output
# RBX is where EEXIT went; RSP, RBP are the caller's again; all other registers are zero.
#
# Input is copied in once and nothing outside is read again; output is copied out at the end; what was secret is wiped.
# An enclave that meant to keep its secrets would also have to mind side channels.
#
# Sealing is AES-SIV (RFC 5297) with one header as associated data, under two keys of EGETKEY:
#     0  magic and format, 8     8  KEYPOLICY, 2    10  ISVSVN, 2    12  zero, 4
#    16  CPUSVN, 16             32  KEYID, 32: the first byte is 0, and 1 in the request for the other key
#    64  synthetic IV, 16       80  ciphertext

    .intel_syntax noprefix

    .ifndef VERSION
    .set VERSION, 1
    .endif

    # Offsets in the enclave (images.py).
    .set CODE, 0x4000
    .set SIZE, 0x8000
    .set IN, 0x2000                 # 2048
    .set OUT, 0x2800                # 2048
    .set KEYREQUEST, 0x3000         # 512
    .set KEY, 0x3200                # 16
    .set BLOCK, 0x3210              # 16
    .set MACKEYS, 0x3240            # 11 round keys
    .set ENCKEYS, 0x3300            # 11 round keys
    .set TEXT, 0x3400               # 2048
    .set STACK, 0x4000              # downwards, to 0x3c00

    .set BUFFER, 2048
    .set HEADER, 64
    .set SEALED, HEADER + 16        # where the ciphertext begins
    .set LONGEST, 1024              # plaintext
    .set REPORT, 432
    .set REPORT_BODY, 384

    .set SUCCESS, 0
    .set REFUSED, 0x10001
    .set NOT_AUTHENTIC, 0x10002
    .set NO_RANDOM, 0x10003

    .set EREPORT, 0
    .set EGETKEY, 1
    .set EEXIT, 4
    .set REPORT_KEY, 3
    .set SEAL_KEY, 4
    .set DEBUG_AND_INIT, 3

    .text
entry:
    mov     r8, rsp
    mov     r9, rbp
    lea     rbp, [rip + entry - CODE]
    lea     rsp, [rbp + STACK]
    push    r8
    push    r9
    push    rcx                     # where EEXIT goes to
    push    rsi
    push    2                       # the caller's DF and AC do not count here
    popfq

    mov     eax, REFUSED
    xor     r13d, r13d              # bytes of output
    cmp     rdx, BUFFER
    ja      leave
    mov     r8, rsi                 # the buffer is outside, all of it
    add     r8, BUFFER
    jc      leave
    cmp     r8, rbp
    jbe     outside
    lea     r8, [rbp + SIZE]
    cmp     rsi, r8
    jb      leave
outside:
    lfence
    mov     r12, rdx                # bytes of input
    mov     r14d, edi
    lea     rdi, [rbp + IN]
    mov     rcx, rdx
    rep movsb

    cmp     r14d, 0
    je      do_add
    cmp     r14d, 1
    je      do_seal
    cmp     r14d, 2
    je      do_unseal
    cmp     r14d, 3
    je      do_report
    cmp     r14d, 4
    je      do_verify
    cmp     r14d, 5
    je      do_fault

refuse:
    mov     eax, REFUSED
leave:                              # EAX: status, R13: bytes of output
    pop     rdi
    mov     r14d, eax
    test    eax, eax
    jz      1f
    xor     r13d, r13d
1:  lea     rsi, [rbp + OUT]
    mov     rcx, r13
    rep movsb
    lea     rdi, [rbp + IN]
    mov     ecx, (STACK - 0x400 - IN) / 8
    xor     eax, eax
    rep stosq
    pxor    xmm0, xmm0
    pxor    xmm1, xmm1
    pxor    xmm2, xmm2
    pxor    xmm3, xmm3
    pxor    xmm4, xmm4
    pxor    xmm5, xmm5
    pxor    xmm6, xmm6
    mov     edi, r14d
    mov     rsi, r13
    pop     rbx
    pop     rbp
    pop     rsp
    xor     edx, edx
    xor     r8d, r8d
    xor     r9d, r9d
    xor     r10d, r10d
    xor     r11d, r11d
    xor     r12d, r12d
    xor     r13d, r13d
    xor     r14d, r14d
    xor     r15d, r15d
    mov     eax, EEXIT
    enclu

# 0: the sum of the input's 64-bit numbers.
do_add:
    test    r12d, 7
    jnz     refuse
    lea     rsi, [rbp + IN]
    xor     eax, eax
1:  sub     r12, 8
    jb      2f
    add     rax, [rsi]
    add     rsi, 8
    jmp     1b
2:  mov     [rbp + OUT], rax
    mov     r13d, 8
    xor     eax, eax
    jmp     leave

# 1: seal. Input: KEYPOLICY (8 bytes), plaintext. Output: what is described above.
do_seal:
    sub     r12, 8
    jb      refuse
    cmp     r12, LONGEST
    ja      refuse
    mov     r9, [rbp + IN]
    call    check_policy
    jnz     refuse
    lea     rbx, [rbp + KEYREQUEST] # a report for nobody tells CPUSVN and ISVSVN
    lea     rcx, [rbp + ENCKEYS + 0x80]
    lea     rdx, [rbp + TEXT]
    mov     eax, EREPORT
    enclu
    lea     r14, [rbp + OUT]        # the header
    mov     rax, [rip + magic]
    mov     [r14], rax
    mov     [r14 + 8], r9w
    movzx   eax, word ptr [rbp + TEXT + 258]
    mov     [r14 + 10], ax
    mov     dword ptr [r14 + 12], 0
    movdqu  xmm0, [rbp + TEXT]
    movdqu  [r14 + 16], xmm0
    xor     ecx, ecx
1:  mov     edx, 32                 # RDRAND may fail now and then, not always
2:  rdrand  rax
    jc      3f
    dec     edx
    jnz     2b
    mov     eax, NO_RANDOM
    jmp     leave
3:  mov     [r14 + 32 + rcx * 8], rax
    inc     ecx
    cmp     ecx, 4
    jne     1b
    mov     byte ptr [r14 + 32], 0
    call    sealing_keys
    test    eax, eax
    jnz     leave
    lea     r15, [rbp + IN + 8]
    call    synthetic_iv
    movdqu  [r14 + HEADER], xmm0
    mov     rsi, r15
    lea     rdi, [rbp + OUT + SEALED]
    call    crypt
    lea     r13, [r12 + SEALED]
    xor     eax, eax
    jmp     leave

# 2: unseal. Input: what sealing gave. Output: the plaintext.
do_unseal:
    sub     r12, SEALED
    jb      refuse
    cmp     r12, LONGEST
    ja      refuse
    lea     r14, [rbp + IN]
    mov     rax, [rip + magic]
    cmp     rax, [r14]
    jne     refuse
    movzx   r9d, word ptr [r14 + 8]
    call    check_policy
    jnz     refuse
    cmp     dword ptr [r14 + 12], 0
    jne     refuse
    cmp     byte ptr [r14 + 32], 0
    jne     refuse
    call    sealing_keys
    test    eax, eax
    jnz     leave
    movdqu  xmm0, [r14 + HEADER]
    lea     rsi, [rbp + IN + SEALED]
    lea     rdi, [rbp + OUT]
    call    crypt
    lea     r15, [rbp + OUT]
    call    synthetic_iv
    movdqu  xmm1, [r14 + HEADER]
    mov     r13, r12
    jmp     compare

# 3: a report. Input: TARGETINFO, 64 bytes of report data. Output: REPORT.
do_report:
    cmp     r12, 512 + 64
    jne     refuse
    lea     rbx, [rbp + IN]
    lea     rcx, [rbp + IN + 512]
    lea     rdx, [rbp + OUT]
    mov     eax, EREPORT
    enclu
    mov     r13d, REPORT
    xor     eax, eax
    jmp     leave

# 4: verify another enclave's report for this one. Input: REPORT.
do_verify:
    cmp     r12, REPORT
    jne     refuse
    mov     word ptr [rbp + KEYREQUEST], REPORT_KEY
    movdqu  xmm0, [rbp + IN + REPORT_BODY]
    movdqu  [rbp + KEYREQUEST + 40], xmm0
    movdqu  xmm0, [rbp + IN + REPORT_BODY + 16]
    movdqu  [rbp + KEYREQUEST + 56], xmm0
    lea     rdi, [rbp + MACKEYS]
    call    get_key
    test    eax, eax
    jnz     leave
    lea     rsi, [rbp + IN]
    mov     ecx, REPORT_BODY
    lea     rdi, [rbp + MACKEYS]
    call    cmac
    movdqu  xmm1, [rbp + IN + REPORT_BODY + 32]

compare:                            # XMM0 with XMM1, in constant time
    pcmpeqb xmm0, xmm1
    pmovmskb ecx, xmm0
    mov     eax, NOT_AUTHENTIC
    cmp     ecx, 0xffff
    jne     leave
    xor     eax, eax
    jmp     leave

# 5: an exception.
do_fault:
    ud2

# ZF if R9 is a policy that this enclave seals by: MRENCLAVE (1) or MRSIGNER (2).
check_policy:
    lea     rax, [r9 - 1]
    test    rax, -2
    ret

# Both keys for the header at R14, ready for use. EAX: status.
sealing_keys:
    mov     word ptr [rbp + KEYREQUEST], SEAL_KEY
    mov     eax, [r14 + 8]          # KEYPOLICY and ISVSVN
    mov     [rbp + KEYREQUEST + 2], eax
    movdqu  xmm0, [r14 + 16]
    movdqu  [rbp + KEYREQUEST + 8], xmm0
    mov     qword ptr [rbp + KEYREQUEST + 24], DEBUG_AND_INIT
    movdqu  xmm0, [r14 + 32]
    movdqu  [rbp + KEYREQUEST + 40], xmm0
    movdqu  xmm0, [r14 + 48]
    movdqu  [rbp + KEYREQUEST + 56], xmm0
    lea     rdi, [rbp + MACKEYS]
    call    get_key
    test    eax, eax
    jnz     1f
    mov     byte ptr [rbp + KEYREQUEST + 40], 1
    lea     rdi, [rbp + ENCKEYS]
    jmp     get_key
1:  ret

# The key of KEYREQUEST, expanded to RDI. EAX: status.
get_key:
    lea     rbx, [rbp + KEYREQUEST]
    lea     rcx, [rbp + KEY]
    mov     eax, EGETKEY
    enclu
    test    eax, eax
    jnz     1f
    movdqa  xmm1, [rbp + KEY]
    movdqa  [rdi], xmm1
    .macro  expand constant
    aeskeygenassist xmm2, xmm1, \constant
    call    next_round_key
    .endm
    expand  0x01
    expand  0x02
    expand  0x04
    expand  0x08
    expand  0x10
    expand  0x20
    expand  0x40
    expand  0x80
    expand  0x1b
    expand  0x36
    xor     eax, eax
1:  ret

next_round_key:                     # FIPS 197, 5.2
    pshufd  xmm2, xmm2, 0xff
    movdqa  xmm3, xmm1
    pslldq  xmm3, 4
    pxor    xmm1, xmm3
    pslldq  xmm3, 4
    pxor    xmm1, xmm3
    pslldq  xmm3, 4
    pxor    xmm1, xmm3
    pxor    xmm1, xmm2
    add     rdi, 16
    movdqa  [rdi], xmm1
    ret

# XMM0 encrypted with the round keys at RDI.
encrypt:
    pxor    xmm0, [rdi]
    aesenc  xmm0, [rdi + 16]
    aesenc  xmm0, [rdi + 32]
    aesenc  xmm0, [rdi + 48]
    aesenc  xmm0, [rdi + 64]
    aesenc  xmm0, [rdi + 80]
    aesenc  xmm0, [rdi + 96]
    aesenc  xmm0, [rdi + 112]
    aesenc  xmm0, [rdi + 128]
    aesenc  xmm0, [rdi + 144]
    aesenclast xmm0, [rdi + 160]
    ret

# XMM0 doubled in GF(2^128), as NIST SP 800-38B, 6.1, has it.
double:
    movq    rax, xmm0
    psrldq  xmm0, 8
    movq    rdx, xmm0
    bswap   rax
    bswap   rdx
    add     rdx, rdx
    adc     rax, rax
    sbb     r8, r8
    and     r8d, 0x87
    xor     rdx, r8
    bswap   rax
    bswap   rdx
    movq    xmm0, rax
    movq    xmm1, rdx
    punpcklqdq xmm0, xmm1
    ret

# XMM0: AES-CMAC (NIST SP 800-38B) of the RCX bytes at RSI, with the round keys at RDI.
cmac:
    pxor    xmm0, xmm0
    call    encrypt
    call    double
    movdqa  xmm4, xmm0              # K1
    pxor    xmm5, xmm5
1:  cmp     rcx, 16
    jbe     2f
    movdqu  xmm0, [rsi]
    pxor    xmm0, xmm5
    call    encrypt
    movdqa  xmm5, xmm0
    add     rsi, 16
    sub     rcx, 16
    jmp     1b
2:  je      3f
    movdqa  xmm0, xmm4
    call    double
    movdqa  xmm4, xmm0              # K2
    call    pad
    jmp     4f
3:  movdqu  xmm0, [rsi]
4:  pxor    xmm0, xmm4
    pxor    xmm0, xmm5
    jmp     encrypt

# XMM0: the RCX bytes at RSI, less than 16, then a bit that is set, then zeros.
pad:
    pxor    xmm0, xmm0
    movdqa  [rbp + BLOCK], xmm0
    push    rdi
    lea     rdi, [rbp + BLOCK]
    rep movsb
    mov     byte ptr [rdi], 0x80
    pop     rdi
    movdqa  xmm0, [rbp + BLOCK]
    ret

# XMM0: S2V (RFC 5297, 2.4) of the header at R14 and the R12 bytes at R15.
synthetic_iv:
    lea     rdi, [rbp + MACKEYS]
    pxor    xmm0, xmm0
    movdqa  [rbp + BLOCK], xmm0
    lea     rsi, [rbp + BLOCK]
    mov     ecx, 16
    call    cmac
    call    double
    movdqa  xmm6, xmm0
    mov     rsi, r14
    mov     ecx, HEADER
    call    cmac
    pxor    xmm6, xmm0
    mov     rsi, r15
    mov     rcx, r12
    cmp     r12, 16
    jb      1f
    lea     rdi, [rbp + TEXT]
    rep movsb
    movdqu  xmm0, [rdi - 16]
    pxor    xmm0, xmm6
    movdqu  [rdi - 16], xmm0
    mov     rcx, r12
    jmp     2f
1:  movdqa  xmm0, xmm6
    call    double
    movdqa  xmm6, xmm0
    call    pad
    pxor    xmm0, xmm6
    movdqa  [rbp + TEXT], xmm0
    mov     ecx, 16
2:  lea     rsi, [rbp + TEXT]
    lea     rdi, [rbp + MACKEYS]
    jmp     cmac

# The R12 bytes at RSI to RDI, en- or decrypted with the synthetic IV in XMM0 (RFC 5297, 2.5).
crypt:
    movq    r8, xmm0
    psrldq  xmm0, 8
    movq    r9, xmm0
    bswap   r9
    mov     rax, 0x7fffffff7fffffff
    and     r9, rax
    mov     r10, r12
1:  test    r10, r10
    jz      3f
    mov     rax, r9
    bswap   rax
    movq    xmm0, r8
    movq    xmm1, rax
    punpcklqdq xmm0, xmm1
    mov     r11, rdi
    lea     rdi, [rbp + ENCKEYS]
    call    encrypt
    mov     rdi, r11
    movdqa  [rbp + BLOCK], xmm0
    inc     r9
    mov     ecx, 16
    cmp     r10, rcx
    cmovb   rcx, r10
    sub     r10, rcx
    lea     rdx, [rbp + BLOCK]
2:  mov     al, [rsi]
    xor     al, [rdx]
    mov     [rdi], al
    inc     rsi
    inc     rdi
    inc     rdx
    dec     ecx
    jnz     2b
    jmp     1b
3:  ret

    .balign 8
magic:
    .ascii  "sgxkit"
    .byte   0, 1
    .ascii  "sgxkit sample enclave, version "
    .byte   '0' + VERSION, 0
