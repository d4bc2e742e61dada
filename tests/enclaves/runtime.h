/* A trusted runtime in miniature, by the convention of Intel's SDK: just enough to test what calls it. */
#include <stddef.h>
#include <stdint.h>

typedef uint32_t sgx_status_t;
enum {
    SGX_SUCCESS = 0,
    SGX_ERROR_UNEXPECTED = 1,
    SGX_ERROR_INVALID_PARAMETER = 2,
    SGX_ERROR_OUT_OF_MEMORY = 3,
    SGX_ERROR_INVALID_FUNCTION = 0x1001,
    SGX_ERROR_ENCLAVE_CRASHED = 0x1006,
    SGX_ERROR_ECALL_NOT_ALLOWED = 0x1007,
};

/* What GS points at; entry.S knows the first three. */
struct thread {
    uintptr_t last_sp;     /* the stack while an OCALL is served, 0 outside */
    uintptr_t ecall_frame; /* outer frame, RBP, the way back, RSP outside */
    struct registers* ssa; /* GPRSGX of the first SSA frame */
    uintptr_t ocall;       /* the number of the OCALL that is served, and one more; 0 if none is */
};

/* GPRSGX (Intel SDM Vol. 3D, 35.9.1.1). */
struct registers {
    uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, rflags, rip, ursp, urbp;
    uint32_t exitinfo;
};

typedef sgx_status_t (*bridge_t)(void* ms);
struct ecall {
    bridge_t bridge;
    uint8_t is_private, is_switchless;
};

/* What an enclave defines, as the code that edger8r generates does. */
extern const struct ecall_table {
    size_t count;
    struct ecall ecalls[];
} g_ecall_table;
extern const struct entry_table {
    size_t count;
    uint8_t allowed[];
} g_dyn_entry_table;
/* Deals with an exception by changing the registers; returns 0 where it cannot. */
int handle_exception(struct registers* registers, unsigned vector);

int is_outside(const void* pointer, size_t size);
/* Memory on the stack outside, until the OCALL is over. */
void* ocalloc(size_t size);
sgx_status_t ocall(int number, void* ms);

void* memcpy(void* to, const void* from, size_t size);
void* memset(void* to, int value, size_t size);
size_t strlen(const char* text);
