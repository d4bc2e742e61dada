/* The functions of calls.edl, each with its bridge: checks and copies as edger8r's bridges make them. */
#include "runtime.h"

#define alloca __builtin_alloca
#define LARGEST 2048 /* what the small stack can take */

enum { SAY, OUTSIDE, PROVIDE, REARRANGE, CPUIDEX, WAIT, SET };

struct rectangle {
    int16_t width;
    double height;
};
struct blob {
    uint32_t size;
    uint8_t* data;
};

#define MS(type, from)                              \
    struct type ms;                                 \
    if (!(from) || !is_outside((from), sizeof(ms))) \
        return SGX_ERROR_INVALID_PARAMETER;         \
    memcpy(&ms, (from), sizeof(ms))
#define COPY_IN(name, pointer, length)                         \
    if (!(pointer) || !is_outside((pointer), (length)))        \
        return SGX_ERROR_INVALID_PARAMETER;                    \
    if ((length) > LARGEST)                                    \
        return SGX_ERROR_OUT_OF_MEMORY;                        \
    name = memcpy(alloca((length) + 1), (pointer), (length))
#define RETURN(type, from, value) ((struct type*)(from))->retval = (value)

struct ms_add { int retval; int a; int b; };
static sgx_status_t sgx_add(void* from)
{
    MS(ms_add, from);
    RETURN(ms_add, from, (int)((unsigned)ms.a + (unsigned)ms.b));
    return SGX_SUCCESS;
}

struct ms_sum { int64_t retval; const int* values; size_t n; };
static sgx_status_t sgx_sum(void* from)
{
    MS(ms_sum, from);
    const int* values = 0;
    int64_t sum = 0;
    if (ms.values && ms.n) {
        COPY_IN(values, ms.values, ms.n * sizeof(int));
        for (size_t i = 0; i < ms.n; i++)
            sum += values[i];
    }
    RETURN(ms_sum, from, ms.values ? sum : -1);
    return SGX_SUCCESS;
}

struct ms_fill { uint8_t* buffer; size_t n; uint8_t value; };
static sgx_status_t sgx_fill(void* from)
{
    MS(ms_fill, from);
    if (!is_outside(ms.buffer, ms.n))
        return SGX_ERROR_INVALID_PARAMETER;
    memset(ms.buffer, ms.value, ms.n);
    return SGX_SUCCESS;
}

struct ms_upper { char* text; size_t text_len; };
static sgx_status_t sgx_upper(void* from)
{
    MS(ms_upper, from);
    char* text;
    COPY_IN(text, ms.text, ms.text_len);
    text[ms.text_len - 1] = 0;
    if (ms.text_len != strlen(text) + 1)
        return SGX_ERROR_UNEXPECTED;
    for (char* at = text; *at; at++)
        if (*at >= 'a' && *at <= 'z')
            *at = (char)(*at - 32);
    memcpy(ms.text, text, ms.text_len);
    return SGX_SUCCESS;
}

struct ms_characters { size_t retval; int32_t* text; size_t text_len; };
static sgx_status_t sgx_characters(void* from)
{
    MS(ms_characters, from);
    int32_t* text;
    COPY_IN(text, ms.text, ms.text_len);
    if (ms.text_len % 4 || text[ms.text_len / 4 - 1])
        return SGX_ERROR_UNEXPECTED;
    RETURN(ms_characters, from, ms.text_len / 4 - 1);
    return SGX_SUCCESS;
}

struct ms_increment { uint64_t retval; uint64_t* counter; };
static sgx_status_t sgx_increment(void* from)
{
    MS(ms_increment, from);
    RETURN(ms_increment, from, ++*ms.counter);
    return SGX_SUCCESS;
}

struct ms_area { double retval; struct rectangle r; struct rectangle* twice; };
static sgx_status_t sgx_area(void* from)
{
    MS(ms_area, from);
    if (ms.twice) {
        struct rectangle* twice;
        COPY_IN(twice, ms.twice, sizeof(struct rectangle));
        twice->width = (int16_t)(2 * twice->width);
        twice->height *= 2;
        memcpy(ms.twice, twice, sizeof(struct rectangle));
    }
    RETURN(ms_area, from, ms.r.width * ms.r.height);
    return SGX_SUCCESS;
}

struct ms_transpose { int* source; int* to; };
static sgx_status_t sgx_transpose(void* from)
{
    MS(ms_transpose, from);
    int(*source)[3];
    COPY_IN(source, ms.source, 6 * sizeof(int));
    int to[3][2];
    for (int row = 0; row < 2; row++)
        for (int column = 0; column < 3; column++)
            to[column][row] = source[row][column];
    if (!is_outside(ms.to, sizeof(to)))
        return SGX_ERROR_INVALID_PARAMETER;
    memcpy(ms.to, to, sizeof(to));
    return SGX_SUCCESS;
}

/* Halves the data and reverses it; only what is left goes back out. */
struct ms_shorten { uint32_t retval; struct blob* b; };
static sgx_status_t sgx_shorten(void* from)
{
    MS(ms_shorten, from);
    struct blob* b;
    COPY_IN(b, ms.b, sizeof(struct blob));
    uint8_t *outside = b->data, *data;
    COPY_IN(data, b->data, b->size);
    uint32_t half = b->size / 2;
    for (uint32_t i = 0; i < half; i++)
        outside[i] = data[half - 1 - i];
    b->size = half;
    memcpy(ms.b, b, sizeof(struct blob));
    RETURN(ms_shorten, from, half);
    return SGX_SUCCESS;
}

struct ms_say { size_t retval; char* text; };
static sgx_status_t say(size_t* length, const char* text)
{
    size_t size = strlen(text) + 1;
    struct ms_say* ms = ocalloc(sizeof(*ms) + size);
    ms->text = memcpy(ms + 1, text, size);
    sgx_status_t status = ocall(SAY, ms);
    *length = ms->retval;
    return status;
}

struct ms_greet { size_t retval; const char* name; size_t name_len; };
static sgx_status_t sgx_greet(void* from)
{
    MS(ms_greet, from);
    char* name;
    COPY_IN(name, ms.name, ms.name_len);
    char* text = alloca(ms.name_len + 8);
    memcpy(text, "Hello, ", 7);
    memcpy(text + 7, name, ms.name_len);
    size_t length = 0, total = 0;
    sgx_status_t status = say(&length, text);
    total += length;
    if (status == SGX_SUCCESS)
        status = say(&length, "Bye");
    RETURN(ms_greet, from, status == SGX_SUCCESS ? total + length : 1000 + status);
    return SGX_SUCCESS;
}

struct ms_outside { int retval; int depth; };
struct ms_recurse { int retval; int depth; };
static sgx_status_t sgx_recurse(void* from)
{
    MS(ms_recurse, from);
    struct ms_outside* out = ocalloc(sizeof(*out));
    out->depth = ms.depth;
    sgx_status_t status = ocall(OUTSIDE, out);
    RETURN(ms_recurse, from, status == SGX_SUCCESS ? out->retval + 1 : -1);
    return SGX_SUCCESS;
}

struct ms_inner { int retval; int x; };
static sgx_status_t sgx_inner(void* from)
{
    MS(ms_inner, from);
    RETURN(ms_inner, from, ms.x * 10);
    return SGX_SUCCESS;
}

struct ms_provide { int retval; int ocall_errno; uint8_t* buffer; size_t n; };
struct ms_fetch { int retval; uint8_t* buffer; size_t n; };
static sgx_status_t sgx_fetch(void* from)
{
    MS(ms_fetch, from);
    if (!is_outside(ms.buffer, ms.n))
        return SGX_ERROR_INVALID_PARAMETER;
    struct ms_provide* out = ocalloc(sizeof(*out) + ms.n);
    out->buffer = memset(out + 1, 0, ms.n);
    out->n = ms.n;
    sgx_status_t status = ocall(PROVIDE, out);
    if (status == SGX_SUCCESS)
        memcpy(ms.buffer, out->buffer, ms.n);
    RETURN(ms_fetch, from, out->retval < 0 ? -out->ocall_errno : out->retval);

    struct blob* b = ocalloc(sizeof(*b) + 4);
    struct ms_rearrange { struct blob* b; }* last = ocalloc(sizeof(*last));
    b->size = 4;
    b->data = memcpy(b + 1, "abcd", 4);
    last->b = b;
    if (status == SGX_SUCCESS)
        status = ocall(REARRANGE, last);
    if (ms.n >= 4 && status == SGX_SUCCESS)
        memcpy(ms.buffer, b->data, b->size <= 4 ? b->size : 0);
    return SGX_SUCCESS;
}

struct ms_cpuidex { int* info; int leaf; int subleaf; };
struct ms_leaf { int retval; int number; };
static sgx_status_t sgx_leaf(void* from)
{
    MS(ms_leaf, from);
    struct ms_cpuidex* out = ocalloc(sizeof(*out) + 4 * sizeof(int));
    out->info = (int*)(out + 1);
    out->leaf = ms.number;
    out->subleaf = 0;
    sgx_status_t status = ocall(CPUIDEX, out);
    RETURN(ms_leaf, from, out->info[1]);
    return status;
}

__attribute__((noinline)) static uint64_t look(const volatile uint64_t* at)
{
    return *at + 1;
}

__attribute__((noinline)) static uint64_t look_deeper(uint64_t address, unsigned depth)
{
    return depth ? look_deeper(address, depth - 1) + depth : look((const uint64_t*)address) + 1;
}

struct ms_peek { uint64_t retval; uint64_t address; };
static sgx_status_t sgx_peek(void* from)
{
    MS(ms_peek, from);
    RETURN(ms_peek, from, look_deeper(ms.address, 2));
    return SGX_SUCCESS;
}

struct ms_undefined { int retval; };
static sgx_status_t sgx_undefined(void* from)
{
    int found = 41;
    __asm__ volatile("ud2" : "+a"(found));
    RETURN(ms_undefined, from, found);
    return SGX_SUCCESS;
}

struct ms_divide { int retval; int a; int b; };
static sgx_status_t sgx_divide(void* from)
{
    MS(ms_divide, from);
    int quotient, rest;
    __asm__ volatile("cltd\n\tidivl %%ecx" : "=a"(quotient), "=d"(rest) : "a"(ms.a), "c"(ms.b));
    RETURN(ms_divide, from, quotient);
    return SGX_SUCCESS;
}

int handle_exception(struct registers* registers, unsigned vector)
{
    if (vector == 0) { /* divides by 1 instead */
        registers->rcx = 1;
        return 1;
    }
    if (vector != 6)
        return 0;
    registers->rip += 2;
    registers->rax += 1;
    return 1;
}

static uint64_t own_tcs(void)
{
    uintptr_t base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base - 0x3000;
}

struct ms_event { int retval; uint64_t tcs; };
static sgx_status_t sgx_sleep(void* from)
{
    if (from)
        return SGX_ERROR_INVALID_PARAMETER;
    struct ms_event* out = ocalloc(sizeof(*out));
    out->tcs = own_tcs();
    sgx_status_t status = ocall(WAIT, out);
    return status == SGX_SUCCESS && out->retval ? SGX_ERROR_UNEXPECTED : status;
}

struct ms_wake { uint64_t tcs; };
static sgx_status_t sgx_wake(void* from)
{
    MS(ms_wake, from);
    struct ms_event* out = ocalloc(sizeof(*out));
    out->tcs = ms.tcs;
    sgx_status_t status = ocall(SET, out);
    return status == SGX_SUCCESS && out->retval ? SGX_ERROR_INVALID_PARAMETER : status;
}

struct ms_identity { uint64_t retval; };
static sgx_status_t sgx_identity(void* from)
{
    MS(ms_identity, from);
    RETURN(ms_identity, from, own_tcs());
    return SGX_SUCCESS;
}

#define ECALLS 20
const struct {
    size_t count;
    struct ecall ecalls[ECALLS];
} calls __asm__("g_ecall_table") = {
    ECALLS,
    {{sgx_add, 0, 0}, {sgx_sum, 0, 0}, {sgx_fill, 0, 0}, {sgx_upper, 0, 0}, {sgx_characters, 0, 0},
     {sgx_increment, 0, 0}, {sgx_area, 0, 0}, {sgx_transpose, 0, 0}, {sgx_shorten, 0, 0}, {sgx_greet, 0, 0},
     {sgx_recurse, 0, 0}, {sgx_inner, 1, 0}, {sgx_fetch, 0, 0}, {sgx_leaf, 0, 0}, {sgx_peek, 0, 0},
     {sgx_undefined, 0, 0}, {sgx_sleep, 0, 0}, {sgx_wake, 0, 0}, {sgx_identity, 0, 0},
     {sgx_divide, 0, 0}},
};

const struct {
    size_t count;
    uint8_t allowed[7][ECALLS];
} entries __asm__("g_dyn_entry_table") = {7, {[OUTSIDE] = {[10] = 1, [11] = 1}}};
