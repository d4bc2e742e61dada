/* Builds the suite's enclave with the in-tree driver's ioctls. The signature is read from $CONFORMANCE_SIGSTRUCT. */
#include "conformance.h"

static uint8_t page[PAGE] __attribute__((aligned(4096)));
static uint8_t code[2 * PAGE] __attribute__((aligned(4096)));
static uint8_t signature[PAGE] __attribute__((aligned(4096)));

const uint8_t *sigstruct(void) {
    const char *path = getenv("CONFORMANCE_SIGSTRUCT");
    FILE *file = fopen(path ? path : "enclave.sigstruct", "rb");
    if (!file || fread(signature, 1, 1808, file) != 1808) { perror("the enclave's signature"); exit(2); }
    fclose(file);
    return signature;
}

int debug_enclave = 1;

int open_device(void) { return open("/dev/sgx_enclave", O_RDWR | O_CLOEXEC); }

void make_secs(uint8_t *secs, uint8_t *base) {
    memset(secs, 0, PAGE);
    *(uint64_t *)secs = SIZE;
    *(uint64_t *)(secs + 8) = (uint64_t)base;
    *(uint32_t *)(secs + 16) = 1;  /* SSAFRAMESIZE */
    *(uint32_t *)(secs + 20) = 1;  /* MISCSELECT: EXINFO */
    *(uint64_t *)(secs + 48) = debug_enclave ? 6 : 4; /* MODE64BIT, DEBUG */
    *(uint64_t *)(secs + 56) = 3;  /* XFRM: x87, SSE */
}

uint8_t *reserve(void) {
    uint8_t *area = mmap(NULL, 2 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *base = (uint8_t *)(((uintptr_t)area + SIZE - 1) & -SIZE);
    if (base > area) munmap(area, base - area);
    munmap(base + SIZE, area + 2 * SIZE - (base + SIZE));
    return base;
}

int add(int fd, const void *source, uint64_t offset, uint64_t pages, uint64_t flags, int measure) {
    uint64_t secinfo[8] __attribute__((aligned(64))) = {flags};
    struct add_pages request = {(uint64_t)source, offset, pages * PAGE, (uint64_t)secinfo, measure, 0};
    while (request.length) {
        int result = ioctl(fd, IOC_ADD, &request);
        if (result) return result;
        request.src += request.count, request.offset += request.count, request.length -= request.count;
        request.count = 0;
    }
    return 0;
}

static int add_tcs(int fd, uint64_t at, uint64_t ssa, uint64_t data) {
    memset(page, 0, PAGE);
    *(uint64_t *)(page + 16) = ssa;
    *(uint32_t *)(page + 28) = 3; /* NSSA */
    *(uint64_t *)(page + 48) = data;
    *(uint64_t *)(page + 56) = data;
    *(uint32_t *)(page + 64) = *(uint32_t *)(page + 68) = 0xfff;
    return add(fd, page, at, 1, TCS_, 1);
}

int add_all(int fd) {
    static uint8_t zeros[6 * PAGE] __attribute__((aligned(4096)));
    memcpy(code, enclave_code, enclave_code_end - enclave_code);
    return add(fd, code, CODE, 2, REG | R | X, 1) || add_tcs(fd, TCS0, SSA0, DATA0) || add_tcs(fd, TCS1, SSA1, DATA1) ||
           add(fd, zeros, SSA0, 3, REG | R | W, 1) || add(fd, zeros, DATA0, 2, REG | R | W, 1) ||
           add(fd, zeros, SSA1, 3, REG | R | W, 1) || add(fd, zeros, DATA1, 2, REG | R | W, 1) ||
           add(fd, zeros, READ_ONLY, 1, REG | R, 0);
}

static int map(struct enclave *e, uint64_t at, uint64_t pages, int protection) {
    return mmap(e->base + at, pages * PAGE, protection, MAP_SHARED | MAP_FIXED, e->fd, 0) == MAP_FAILED;
}

int map_all(struct enclave *e) {
    return map(e, CODE, 2, PROT_READ | PROT_EXEC) || map(e, TCS0, 2, PROT_READ | PROT_WRITE) ||
           map(e, SSA0, 3, PROT_READ | PROT_WRITE) || map(e, DATA0, 2, PROT_READ | PROT_WRITE) ||
           map(e, SSA1, 3, PROT_READ | PROT_WRITE) || map(e, DATA1, 2, PROT_READ | PROT_WRITE) ||
           map(e, READ_ONLY, 1, PROT_READ) || map(e, DYNAMIC, 16, PROT_READ | PROT_WRITE | PROT_EXEC);
}

int build(struct enclave *e) {
    uint8_t secs[PAGE] __attribute__((aligned(4096)));
    if ((e->fd = open_device()) < 0) return -1;
    e->base = reserve();
    make_secs(secs, e->base);
    struct create create = {(uint64_t)secs};
    struct init init = {(uint64_t)sigstruct()};
    return ioctl(e->fd, IOC_CREATE, &create) || add_all(e->fd) || map_all(e) || ioctl(e->fd, IOC_INIT, &init);
}

typedef int (*enter_function)(unsigned long, unsigned long, unsigned long, unsigned, unsigned long, unsigned long, struct run *);
static enter_function find_vdso(void) {
    void *image = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
    return image ? (enter_function)dlvsym(image, "__vdso_sgx_enter_enclave", "LINUX_2.6") : NULL;
}

int have_vdso(void) { return find_vdso() != NULL; }

__attribute__((noinline)) int vdso(unsigned long rdi, unsigned long rsi, unsigned long rdx, unsigned function, struct run *run) {
    static enter_function found;
    if (!found) found = find_vdso();
    int result = found(rdi, rsi, rdx, function, 0, 0, run);
    __asm__ volatile("" ::: "rbx", "r12", "r13", "r14", "r15", "memory");
    return result;
}

void destroy(struct enclave *e) {
    munmap(e->base, SIZE);
    close(e->fd);
}

uint64_t call_at(struct enclave *e, uint64_t tcs, int function, uint64_t rsi, uint64_t rdx, uint64_t r8) {
    struct call call = {EENTER, (uint64_t)e->base + tcs, function, rsi, rdx, r8};
    return enter(&call);
}
