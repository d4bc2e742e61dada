#include "runtime.h"

enum { ECMD_INIT_ENCLAVE = -1, ECMD_EXCEPT = -3 };
enum { NOT_STARTED, READY, CRASHED };
enum { PAGE = 0x1000, DT_RELA = 7, DT_RELASZ = 8, RELATIVE = 8 };

extern const uint8_t image_base[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));
extern const struct { uint64_t tag, value; } dynamic[] __asm__("_DYNAMIC") __attribute__((visibility("hidden")));

static volatile int state;
static uint64_t enclave_size;
/* Written by whoever signs the enclave: the size of ELRANGE. */
const volatile uint64_t g_enclave_size __attribute__((section(".data"))) = 0x100000;

static struct thread* self(void)
{
    uintptr_t base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return (struct thread*)base;
}

int is_outside(const void* pointer, size_t size)
{
    uintptr_t start = (uintptr_t)pointer, base = (uintptr_t)image_base;
    return start + size >= start && (start + size <= base || start >= base + enclave_size);
}

static void relocate(void)
{
    uintptr_t base = (uintptr_t)image_base, table = 0, size = 0;
    for (size_t i = 0; dynamic[i].tag; i++) {
        if (dynamic[i].tag == DT_RELA)
            table = base + dynamic[i].value;
        if (dynamic[i].tag == DT_RELASZ)
            size = dynamic[i].value;
    }
    for (uint64_t* entry = (uint64_t*)table; (uintptr_t)entry < table + size; entry += 3)
        if ((uint32_t)entry[1] == RELATIVE)
            *(uint64_t*)(base + entry[0]) = base + entry[2];
}

static sgx_status_t initialize(const void* features)
{
    if (state != NOT_STARTED)
        return SGX_ERROR_UNEXPECTED;
    relocate();
    enclave_size = g_enclave_size;
    /* system_features_t: a feature set whose bits 62 and 63 are set, and the structure's size behind the table. */
    uint64_t set, size;
    if (!is_outside(features, 176))
        return SGX_ERROR_UNEXPECTED;
    memcpy(&set, (const uint8_t*)features + 12, 8);
    memcpy(&size, (const uint8_t*)features + 156, 8);
    if (set >> 62 != 3 || size != 176)
        return SGX_ERROR_UNEXPECTED;
    state = READY;
    return SGX_SUCCESS;
}

__attribute__((noinline)) static sgx_status_t call(int number, void* ms)
{
    struct thread* thread = self();
    if ((size_t)number >= g_ecall_table.count)
        return SGX_ERROR_INVALID_FUNCTION;
    if (!thread->ocall && g_ecall_table.ecalls[number].is_private)
        return SGX_ERROR_ECALL_NOT_ALLOWED;
    if (thread->ocall && !g_dyn_entry_table.allowed[(thread->ocall - 1) * g_ecall_table.count + (size_t)number])
        return SGX_ERROR_ECALL_NOT_ALLOWED;
    uintptr_t outer = thread->ocall;
    thread->ocall = 0;
    sgx_status_t status = g_ecall_table.ecalls[number].bridge(ms);
    thread->ocall = outer;
    return status;
}

static sgx_status_t except(void)
{
    struct registers* registers = self()->ssa;
    if (state == READY && registers->exitinfo >> 31 && handle_exception(registers, registers->exitinfo & 0xff))
        return SGX_SUCCESS;
    state = CRASHED;
    return SGX_ERROR_ENCLAVE_CRASHED;
}

/* Called by entry.S. The SSA frames are the two pages behind the TCS. */
__attribute__((visibility("hidden"))) sgx_status_t enter(int command, void* ms, uint8_t* tcs, unsigned cssa)
{
    self()->ssa = (struct registers*)(tcs + 2 * PAGE - 184);
    if (state == CRASHED)
        return SGX_ERROR_ENCLAVE_CRASHED;
    if (cssa)
        return command == ECMD_EXCEPT ? except() : SGX_ERROR_UNEXPECTED;
    if (command == ECMD_INIT_ENCLAVE)
        return initialize(ms);
    return state == READY && command >= 0 ? call(command, ms) : SGX_ERROR_UNEXPECTED;
}

extern sgx_status_t leave_for_ocall(int number, void* ms);

void* ocalloc(size_t size)
{
    struct registers* registers = self()->ssa;
    registers->ursp = (registers->ursp - size) & ~(uint64_t)15;
    return (void*)registers->ursp;
}

sgx_status_t ocall(int number, void* ms)
{
    struct thread* thread = self();
    uintptr_t outer = thread->ocall;
    thread->ocall = (uintptr_t)number + 1;
    sgx_status_t status = leave_for_ocall(number, ms);
    thread->ocall = outer;
    /* The stack outside is again what it was when the ECALL began. */
    thread->ssa->ursp = ((uint64_t*)thread->ecall_frame)[3];
    return status;
}

void* memcpy(void* to, const void* from, size_t size)
{
    uint8_t* target = to;
    const uint8_t* source = from;
    while (size--)
        *target++ = *source++;
    return to;
}

void* memset(void* to, int value, size_t size)
{
    uint8_t* target = to;
    while (size--)
        *target++ = (uint8_t)value;
    return to;
}

size_t strlen(const char* text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}
