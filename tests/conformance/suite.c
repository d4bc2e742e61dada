/* The conformance suite: what a program may rely on of /dev/sgx_enclave and ENCLU on Linux.
 *
 * Prints TAP (testanything.org). Everything in it holds on hardware with SGX2 and flexible launch control, too.
 */
#include "conformance.h"

static int number, failures;
static void check(int holds, const char *what) {
    printf("%s %d - %s\n", holds ? "ok" : "not ok", ++number, what);
    if (!holds) failures++, printf("# errno %d (%s)\n", errno, strerror(errno));
    fflush(stdout);
}
#define FAILS(expression, expected, what) do { errno = 0; int r_ = (expression); check(r_ == -1 && errno == (expected), what); } while (0)
#define HOLDS(expression, what) do { errno = 0; int r_ = (expression); check(r_, what); } while (0)

static uint8_t secs[PAGE] __attribute__((aligned(4096)));
static uint8_t buffer[4 * PAGE] __attribute__((aligned(4096)));
static struct enclave main_enclave;

/* -- signals: what the last one said, and where to go on */
static volatile struct seen { int signal, code; uint64_t address, rip, rax, rbx, rcx; } seen;
static volatile int mode; /* 0: skip the ENCLU and return, 1: fix by CSSA 1 handler and resume, 2: just resume */
static volatile uint64_t frame_rip, frame_exitinfo, frame_maddr, frame_errcd, skip_bytes, handler_calls;

static void handler(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    seen.signal = signal, seen.code = info->si_code, seen.address = (uint64_t)info->si_addr;
    seen.rip = registers[REG_RIP], seen.rax = registers[REG_RAX], seen.rbx = registers[REG_RBX], seen.rcx = registers[REG_RCX];
    handler_calls++;
    if (mode == 1) {
        uint64_t tcs = seen.rbx - (uint64_t)main_enclave.base;
        frame_rip = call_at(&main_enclave, tcs, FRAME_WORD, 4096 - 184 + 136, 0, 0);
        frame_exitinfo = call_at(&main_enclave, tcs, FRAME_WORD, 4096 - 184 + 160, 0, 0) & 0xffffffff;
        frame_maddr = call_at(&main_enclave, tcs, FRAME_WORD, 4096 - 184 - 16, 0, 0);
        frame_errcd = call_at(&main_enclave, tcs, FRAME_WORD, 4096 - 184 - 8, 0, 0) & 0xffffffff;
        call_at(&main_enclave, tcs, CHANGE_FRAME, 4096 - 184 + 136, 0, skip_bytes);
    } else if (mode == 0) {
        registers[REG_RIP] = (greg_t)enter_exit;
    }
}

static void catch(int signal) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(signal, &action, NULL);
}

/* An exception inside: it is seen outside at the AEP with `signal`, reported in the SSA, and execution can go on. */
static void exception(int function, uint64_t rsi, int signal, unsigned vector, uint64_t skip, uint64_t result, const char *what) {
    char text[128];
    memset((void *)&seen, 0, sizeof seen);
    mode = 1, skip_bytes = skip;
    uint64_t answer = call_at(&main_enclave, TCS0, function, rsi, 0, 0);
    snprintf(text, sizeof text, "%s: signal %d", what, signal);
    check(seen.signal == signal, text);
    snprintf(text, sizeof text, "%s: outside at the AEP with ERESUME's operands", what);
    check(seen.rip == (uint64_t)async_exit && seen.rax == ERESUME && seen.rbx == (uint64_t)main_enclave.base + TCS0 &&
          seen.rcx == (uint64_t)async_exit, text);
    snprintf(text, sizeof text, "%s: EXITINFO has vector %u", what, vector);
    check((frame_exitinfo & 0xff) == vector && frame_exitinfo >> 31, text);
    snprintf(text, sizeof text, "%s: ERESUME goes on where RIP was set to", what);
    check(answer == result, text);
    mode = 2;
}

static void ioctls(void) {
    int fd = open_device();
    uint8_t *base = reserve();
    uint64_t secinfo[8] __attribute__((aligned(64))) = {REG | R | W};
    struct create create = {(uint64_t)secs};
    struct add_pages request = {(uint64_t)buffer, 0, PAGE, (uint64_t)secinfo, 1, 0};
    struct init init = {(uint64_t)sigstruct()};
    struct modify modify = {0, PAGE, R, 0, 0};
    struct remove_pages removal = {0, PAGE, 0};

    FAILS(ioctl(fd, _IO(0xA4, 0x55), 0), ENOTTY, "an unknown ioctl: ENOTTY");
    FAILS(ioctl(fd, IOC_ADD, &request), EINVAL, "ADD_PAGES before CREATE: EINVAL");
    FAILS(ioctl(fd, IOC_INIT, &init), EINVAL, "INIT before CREATE: EINVAL");
    FAILS(ioctl(fd, IOC_RESTRICT, &modify), EINVAL, "RESTRICT_PERMISSIONS before INIT: EINVAL");
    FAILS(ioctl(fd, IOC_MODIFY, &modify), EINVAL, "MODIFY_TYPES before INIT: EINVAL");
    FAILS(ioctl(fd, IOC_REMOVE, &removal), EINVAL, "REMOVE_PAGES before INIT: EINVAL");
    FAILS(ioctl(fd, IOC_CREATE, (void *)8), EFAULT, "CREATE with a bad pointer: EFAULT");
    create.src = 8;
    FAILS(ioctl(fd, IOC_CREATE, &create), EFAULT, "CREATE with a bad pointer to SECS: EFAULT");
    create.src = (uint64_t)secs;
    make_secs(secs, base);
    *(uint64_t *)secs = 3 * PAGE;
    FAILS(ioctl(fd, IOC_CREATE, &create), EINVAL, "CREATE of a size that is no power of two: EINVAL");
    make_secs(secs, base);
    *(uint64_t *)(secs + 56) = 1;
    FAILS(ioctl(fd, IOC_CREATE, &create), EIO, "CREATE with an XFRM that the processor refuses: EIO");
    make_secs(secs, base);
    secs[100 + 300] = 1;
    FAILS(ioctl(fd, IOC_CREATE, &create), EIO, "CREATE with reserved bytes set: EIO");
    make_secs(secs, base + PAGE);
    FAILS(ioctl(fd, IOC_CREATE, &create), EIO, "CREATE at a base that is no multiple of the size: EIO");
    make_secs(secs, base);
    HOLDS(ioctl(fd, IOC_CREATE, &create) == 0, "CREATE");
    FAILS(ioctl(fd, IOC_CREATE, &create), EINVAL, "CREATE twice: EINVAL");

    request.offset = 8;
    FAILS(ioctl(fd, IOC_ADD, &request), EINVAL, "ADD_PAGES at a bad offset: EINVAL");
    request.offset = SIZE;
    FAILS(ioctl(fd, IOC_ADD, &request), EINVAL, "ADD_PAGES behind the end: EINVAL");
    request.offset = 0, request.length = 0;
    FAILS(ioctl(fd, IOC_ADD, &request), EINVAL, "ADD_PAGES of nothing: EINVAL");
    request.length = PAGE, request.src += 8;
    FAILS(ioctl(fd, IOC_ADD, &request), EINVAL, "ADD_PAGES from an address that is not aligned: EINVAL");
    request.src = PAGE;
    request.count = 7;
    FAILS(ioctl(fd, IOC_ADD, &request), EFAULT, "ADD_PAGES from nowhere: EFAULT");
    HOLDS(request.count == 0, "its count is 0");
    request.src = (uint64_t)buffer;
    secinfo[0] = REG | W;
    FAILS(ioctl(fd, IOC_ADD, &request), EINVAL, "ADD_PAGES with W and without R: EINVAL");
    secinfo[0] = TCS_ | R;
    FAILS(ioctl(fd, IOC_ADD, &request), EINVAL, "ADD_PAGES of a TCS with permissions: EINVAL");
    secinfo[0] = TRIM | R;
    FAILS(ioctl(fd, IOC_ADD, &request), EINVAL, "ADD_PAGES of another type: EINVAL");
    secinfo[0] = REG | R, secinfo[3] = 1;
    FAILS(ioctl(fd, IOC_ADD, &request), EINVAL, "ADD_PAGES with reserved bytes of SECINFO: EINVAL");
    secinfo[3] = 0;
    secinfo[0] = REG | R | W;
    uint8_t *hole = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(hole + 2 * PAGE, 2 * PAGE);
    request.src = (uint64_t)hole, request.offset = DYNAMIC, request.length = 4 * PAGE;
    FAILS(ioctl(fd, IOC_ADD, &request), EFAULT, "ADD_PAGES that runs out of its source: EFAULT");
    HOLDS(request.count == 2 * PAGE, "count says how far it came");
    request.src = (uint64_t)buffer, request.offset = DYNAMIC, request.length = PAGE;
    FAILS(ioctl(fd, IOC_ADD, &request), EBUSY, "ADD_PAGES where there is a page: EBUSY");
    FAILS(ioctl(fd, IOC_INIT, &init), EPERM, "INIT of what was not signed: EPERM");

    FAILS(mmap(base + DYNAMIC, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ? -1 : 0, EACCES,
          "mmap with more than the page's permissions: EACCES");
    FAILS(mmap(base + DYNAMIC, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED ? -1 : 0, EINVAL,
          "a private mmap: EINVAL");
    HOLDS(mmap(base + DYNAMIC, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == base + DYNAMIC, "mmap with less");
    FAILS(mprotect(base + DYNAMIC, PAGE, PROT_READ | PROT_EXEC), EACCES, "mprotect to more: EACCES");
    HOLDS(mprotect(base + DYNAMIC, PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect to what the page has");
    munmap(base, SIZE);
    close(fd);
}

static void provisioning(void) {
    struct create create = {(uint64_t)secs};
    struct init init = {(uint64_t)sigstruct()};
    struct enclave e = {open_device(), reserve()};
    make_secs(secs, e.base);
    *(uint64_t *)(secs + 48) |= 0x10;
    HOLDS(ioctl(e.fd, IOC_CREATE, &create) == 0 && add_all(e.fd) == 0, "an enclave with PROVISIONKEY");
    FAILS(ioctl(e.fd, IOC_INIT, &init), EACCES, "INIT without the right: EACCES");
    struct provision right = {0};
    FAILS(ioctl(e.fd, IOC_PROVISION, &right), EINVAL, "PROVISION with another file: EINVAL");
    int fd = open("/dev/sgx_provision", O_RDONLY);
    if (fd < 0) {
        printf("ok %d - PROVISION # SKIP /dev/sgx_provision: %s\n", ++number, strerror(errno));
    } else {
        right.fd = fd;
        HOLDS(ioctl(e.fd, IOC_PROVISION, &right) == 0, "PROVISION");
        FAILS(ioctl(e.fd, IOC_INIT, &init), EPERM, "then INIT judges the signature: EPERM");
        close(fd);
    }
    destroy(&e);
}

static uint64_t fs_base(void) { uint64_t v; __asm__ volatile("mov %%fs:0, %0" : "=r"(v)); return v; }

static void entries(void) {
    struct enclave *e = &main_enclave;
    struct call call = {EENTER, (uint64_t)e->base + TCS0, ADD, 40, 2};
    uint64_t before = fs_base();
    HOLDS(enter(&call) == 42, "EENTER and EEXIT");
    HOLDS(call.out_rcx == (uint64_t)async_exit, "EEXIT leaves the AEP in RCX");
    HOLDS(call.out_rax == EEXIT, "RAX is EEXIT's leaf number");
    HOLDS(fs_base() == before, "FS is the caller's again");
    struct call bases = {EENTER, (uint64_t)e->base + TCS0, BASES};
    enter(&bases);
    HOLDS(bases.out_rdi == (uint64_t)e->base + DATA0 && bases.out_rsi == bases.out_rdi, "FS and GS inside are the TCS's");
    int right = 1;
    for (int i = 0; i < 1000; i++) right &= call_at(e, i & 1 ? TCS0 : TCS1, ADD, i, 1, 0) == (uint64_t)i + 1;
    HOLDS(right, "a thousand entries by two TCSs");

    static uint8_t target[512] __attribute__((aligned(512))), data[64] = "report data", report[432], key[16], again[16];
    static uint8_t request[512];
    HOLDS(call_at(e, TCS0, REPORT, (uint64_t)target, (uint64_t)data, (uint64_t)report) == 0 &&
          memcmp(report + 320, data, 64) == 0 && memcmp(report + 64, sigstruct() + 960, 32) == 0,
          "EREPORT: MRENCLAVE as signed, and the report data");
    *(uint16_t *)request = 4;
    *(uint16_t *)(request + 2) = 1;
    memcpy(request + 8, report, 16);
    HOLDS(call_at(e, TCS0, GET_KEY, (uint64_t)request, (uint64_t)key, 0) == 0 &&
          call_at(e, TCS1, GET_KEY, (uint64_t)request, (uint64_t)again, 0) == 0 && !memcmp(key, again, 16) &&
          memcmp(key, target, 16), "EGETKEY: the same seal key twice");
    *(uint16_t *)request = 0x77;
    HOLDS(call_at(e, TCS0, GET_KEY, (uint64_t)request, (uint64_t)again, 0) == 256, "EGETKEY of no such key: SGX_INVALID_KEYNAME");
    HOLDS(call_at(e, TCS0, KEY_FLAGS, 0, 0, 0) == 1, "ZF is set with a status");
}

static void exceptions(void) {
    struct enclave *e = &main_enclave;
    uint8_t *unmapped = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    exception(UNDEFINED, 0, SIGILL, 6, 2, 0x11, "UD2");
    exception(CPUID, 0, SIGILL, 6, 2, 0x12, "CPUID");
    exception(SYSCALL_, 0, SIGILL, 6, 2, 0x13, "SYSCALL");
    exception(INT3, 0, SIGTRAP, 3, 1, 0x14, "INT3");
    exception(DIVIDE, 0, SIGFPE, 0, 2, 0x15, "0 / 0");
    exception(HALT, 0, SIGSEGV, 13, 1, 0x16, "HLT");
    exception(LEAF, 0, SIGSEGV, 13, 3, 0x19, "ENCLU with an unknown leaf");
    exception(ENTER, (uint64_t)e->base + TCS1, SIGSEGV, 13, 3, 0x18, "EENTER inside");
    exception(LOAD, (uint64_t)unmapped + 8, SIGSEGV, 14, 3, LOAD, "a read of nothing");
    HOLDS(seen.address == (uint64_t)unmapped && frame_maddr == (uint64_t)unmapped + 8,
          "the system sees the page, EXINFO the address");
    exception(STORE, (uint64_t)e->base + READ_ONLY, SIGSEGV, 14, 3, STORE, "a write to a page without W");
    HOLDS((frame_errcd & 0x7) == 7, "its error code: P, W, U");
    exception(LOAD, (uint64_t)e->base + TCS1, SIGSEGV, 14, 3, LOAD, "a read of a TCS");

    mode = 0;
    seen.signal = 0;
    struct call busy = {EENTER, (uint64_t)e->base + DATA0, ADD};
    enter(&busy);
    HOLDS(seen.signal == SIGSEGV, "EENTER by what is no TCS faults");
    struct call odd = {EENTER, (uint64_t)e->base + TCS0 + 8, ADD};
    seen.signal = 0;
    enter(&odd);
    HOLDS(seen.signal == SIGSEGV, "EENTER by an address that is not aligned faults");
    struct call resume = {ERESUME, (uint64_t)e->base + TCS0};
    seen.signal = 0;
    enter(&resume);
    HOLDS(seen.signal == SIGSEGV, "ERESUME without anything to resume faults");
    HOLDS(call_at(e, TCS0, ADD, 1, 1, 0) == 2, "the TCS is usable after all this");
}

static volatile uint64_t flag;
static volatile int alarms;
static void on_alarm(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)signal, (void)info;
    if (registers[REG_RIP] == (greg_t)async_exit && ++alarms == 3) flag = 1;
}

static void interrupts(void) {
    struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO};
    struct itimerval timer = {{0, 5000}, {0, 5000}}, off = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, NULL);
    flag = alarms = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
    uint64_t kept = call_at(&main_enclave, TCS0, SPIN, (uint64_t)&flag, 0x123456789abcdef0, 0);
    setitimer(ITIMER_REAL, &off, NULL);
    HOLDS(alarms >= 3, "signals interrupt the enclave: seen at the AEP");
    HOLDS(kept == 1, "registers and SSE state survive");
}

static void *other_thread(void *argument) {
    (void)argument;
    return (void *)call_at(&main_enclave, TCS1, SPIN, (uint64_t)&flag, 7, 0);
}

static void *a_thousand(void *tcs) {
    uint64_t right = 1;
    for (uint64_t i = 0; i < 300; i++) right &= call_at(&main_enclave, (uint64_t)tcs, ADD, i, 5, 0) == i + 5;
    return (void *)right;
}

static void threads(void) {
    pthread_t thread, one;
    void *result, *second;
    flag = 0;
    pthread_create(&thread, NULL, other_thread, NULL);
    usleep(20000);
    mode = 0, seen.signal = 0;
    call_at(&main_enclave, TCS1, ADD, 1, 1, 0);
    HOLDS(seen.signal == SIGSEGV, "EENTER by a TCS that another thread is in faults");
    HOLDS(call_at(&main_enclave, TCS0, ADD, 1, 1, 0) == 2, "another TCS can be entered meanwhile");
    flag = 1;
    pthread_join(thread, &result);
    HOLDS((uint64_t)result == 1, "the other thread leaves");
    pthread_create(&one, NULL, a_thousand, (void *)TCS0);
    pthread_create(&thread, NULL, a_thousand, (void *)TCS1);
    pthread_join(one, &result);
    pthread_join(thread, &second);
    HOLDS(result && second, "two threads inside at the same time");
}

static void processes(void) {
    int status = 0;
    pid_t child = fork();
    if (!child) _exit(7);
    waitpid(child, &status, 0);
    HOLDS(WIFEXITED(status) && WEXITSTATUS(status) == 7, "fork");
    child = fork();
    if (!child) _exit(call_at(&main_enclave, TCS0, ADD, 8, 3, 0) == 11 ? 0 : 1);
    waitpid(child, &status, 0);
    HOLDS(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child can enter its parent's enclave");
    HOLDS(call_at(&main_enclave, TCS0, ADD, 20, 3, 0) == 23, "the parent's enclave is as before");
    child = fork();
    if (!child) {
        struct enclave own;
        _exit(build(&own) == 0 && call_at(&own, TCS0, ADD, 4, 5, 0) == 9 ? 0 : 1);
    }
    waitpid(child, &status, 0);
    HOLDS(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child builds its own");
    child = fork();
    if (!child) {
        struct enclave own; /* a child has its parent's enclaves, too: this is to stay inside one for ever */
        signal(SIGSEGV, SIG_DFL);
        if (build(&own) == 0) call_at(&own, TCS0, LOAD, 0, 0, 0);
        _exit(0);
    }
    waitpid(child, &status, 0);
    HOLDS(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a fault inside without a handler ends the process");
    struct enclave second;
    HOLDS(build(&second) == 0 && call_at(&second, TCS0, ADD, 1, 2, 0) == 3 && call_at(&main_enclave, TCS0, ADD, 1, 2, 0) == 3,
          "two enclaves in a process");
    destroy(&second);
    int right = 1;
    for (int i = 0; i < 60 && right; i++) {
        right = build(&second) == 0 && call_at(&second, TCS0, ADD, i, 2, 0) == (uint64_t)i + 2;
        if (have_vdso()) {
            uint64_t place = 0;
            struct run run = {.tcs = (uint64_t)second.base + TCS0};
            for (int j = 0; j < 3; j++) right &= vdso(STORE, (uint64_t)&place, i + j, EENTER, &run) == 0 && place == (uint64_t)(i + j);
        }
        destroy(&second);
    }
    HOLDS(right, "sixty enclaves, one after the other");
}

static void dynamic_memory(void) {
    struct enclave *e = &main_enclave;
    uint64_t page = (uint64_t)e->base + DYNAMIC;
    struct modify change = {DYNAMIC, PAGE, R, 0, 0};
    struct remove_pages removal = {DYNAMIC, PAGE, 0};
    mode = 2;
    FAILS(ioctl(e->fd, IOC_RESTRICT, &change), EFAULT, "RESTRICT_PERMISSIONS where there is no page: EFAULT");
    exception(LOAD, page + 5 * PAGE, SIGSEGV, 14, 3, LOAD, "a read of a page that was not accepted");
    HOLDS(call_at(e, TCS0, ACCEPT, REG | R | W | PENDING, page, 0) == 0, "EACCEPT of a page that is not there yet: EAUG");
    HOLDS(call_at(e, TCS0, ACCEPT, REG | R | W | PENDING, page, 0) == 19, "again: SGX_PAGE_ATTRIBUTES_MISMATCH");
    call_at(e, TCS0, STORE, page, 77, 0);
    HOLDS(call_at(e, TCS0, LOAD, page, 0, 0) == 77, "it can be written and read");
    HOLDS(call_at(e, TCS0, ACCEPT_COPY, REG | R | W, page + PAGE, page) == 0 && call_at(e, TCS0, LOAD, page + PAGE, 0, 0) == 77,
          "EACCEPTCOPY");
    change.value = W;
    FAILS(ioctl(e->fd, IOC_RESTRICT, &change), EINVAL, "RESTRICT_PERMISSIONS to W without R: EINVAL");
    change.value = R, change.result = 1;
    FAILS(ioctl(e->fd, IOC_RESTRICT, &change), EINVAL, "with a result set: EINVAL");
    change.result = 0;
    HOLDS(ioctl(e->fd, IOC_RESTRICT, &change) == 0 && change.count == PAGE, "RESTRICT_PERMISSIONS");
    HOLDS(call_at(e, TCS0, ACCEPT, REG | R | PR, page, 0) == 0, "EACCEPT of the restriction");
    exception(STORE, page, SIGSEGV, 14, 3, STORE, "a write to it");
    HOLDS(call_at(e, TCS0, EXTEND, REG | R | W, page, 0) == 0, "EMODPE");
    call_at(e, TCS0, STORE, page, 78, 0);
    HOLDS(call_at(e, TCS0, LOAD, page, 0, 0) == 78, "it can be written again");
    change = (struct modify){DYNAMIC, PAGE, 9, 0, 0};
    FAILS(ioctl(e->fd, IOC_MODIFY, &change), EINVAL, "MODIFY_TYPES to no such type: EINVAL");
    FAILS(ioctl(e->fd, IOC_REMOVE, &removal), EPERM, "REMOVE_PAGES of a page that is not trimmed: EPERM");
    change = (struct modify){DYNAMIC, PAGE, 4, 0, 0};
    HOLDS(ioctl(e->fd, IOC_MODIFY, &change) == 0 && change.count == PAGE, "MODIFY_TYPES: trim");
    FAILS(ioctl(e->fd, IOC_REMOVE, &removal), EPERM, "REMOVE_PAGES before EACCEPT: EPERM");
    removal.count = 0;
    HOLDS(call_at(e, TCS0, ACCEPT, TRIM | MODIFIED, page, 0) == 0, "EACCEPT of the trimming");
    HOLDS(ioctl(e->fd, IOC_REMOVE, &removal) == 0 && removal.count == PAGE, "REMOVE_PAGES");
    HOLDS(call_at(e, TCS0, ACCEPT, REG | R | W | PENDING, page, 0) == 0 && call_at(e, TCS0, LOAD, page, 0, 0) == 0,
          "a new page in its place is zero");

    uint64_t tcs = page + 2 * PAGE, words[16] = {0};
    call_at(e, TCS0, ACCEPT, REG | R | W | PENDING, tcs, 0);
    words[2] = SSA1, words[3] = 3UL << 32, words[4] = 0, words[6] = DATA1, words[7] = DATA1, words[8] = 0xfff00000fffUL;
    for (int i = 0; i < 16; i++) call_at(e, TCS0, STORE, tcs + 8 * i, words[i], 0);
    change = (struct modify){DYNAMIC + 2 * PAGE, PAGE, 1, 0, 0};
    HOLDS(ioctl(e->fd, IOC_MODIFY, &change) == 0, "MODIFY_TYPES: a TCS");
    HOLDS(call_at(e, TCS0, ACCEPT, TCS_ | MODIFIED, tcs, 0) == 0, "EACCEPT of the TCS");
    HOLDS(call_at(e, DYNAMIC + 2 * PAGE, ADD, 30, 3, 0) == 33, "it can be entered by");
}


static int tell(long rdi, long rsi, long rdx, long rsp, long r8, long r9, struct run *run) {
    (void)rsi, (void)rdx, (void)rsp, (void)r8, (void)r9;
    *(uint64_t *)run->data = rdi;
    return -(run->function != EEXIT);
}
static uint64_t by_vdso(uint64_t tcs, int function, uint64_t rsi, uint64_t rdx) {
    uint64_t answer = 0;
    struct run run = {.tcs = (uint64_t)main_enclave.base + tcs, .handler = (uint64_t)tell, .data = (uint64_t)&answer};
    return vdso(function, rsi, rdx, EENTER, &run) ? (uint64_t)-1 : answer;
}
static int again(long rdi, long rsi, long rdx, long rsp, long r8, long r9, struct run *run) {
    (void)rdi, (void)rsi, (void)rdx, (void)rsp, (void)r8, (void)r9;
    if (run->function == EEXIT) return -5;
    call_at(&main_enclave, TCS0, CHANGE_FRAME, 4096 - 184 + 136, 0, 2);
    return ERESUME;
}
static void *many(void *tcs) {
    uint64_t right = 1;
    for (uint64_t i = 0; i < 20000; i++) right &= by_vdso((uint64_t)tcs, ADD, i, 3) == i + 3;
    return (void *)right;
}

static void by_the_vdso(void) {
    struct enclave *e = &main_enclave;
    if (!have_vdso()) { printf("ok %d - the vDSO # SKIP the kernel has no __vdso_sgx_enter_enclave\n", ++number); return; }
    uint64_t place = 0;
    struct run run = {.tcs = (uint64_t)e->base + TCS0};
    HOLDS(vdso(STORE, (uint64_t)&place, 99, EENTER, &run) == 0 && place == 99, "vDSO: an entry");
    HOLDS(run.function == EEXIT, "vDSO: it tells of the EEXIT");
    HOLDS(by_vdso(TCS0, ADD, 5, 6) == 11, "vDSO: the handler sees the enclave's registers");
    HOLDS(vdso(ADD, 0, 0, 9, &run) == -EINVAL, "vDSO: another function than EENTER and ERESUME: EINVAL");
    run.reserved[215] = 1;
    HOLDS(vdso(ADD, 0, 0, EENTER, &run) == -EINVAL, "vDSO: reserved bytes: EINVAL");
    run.reserved[215] = 0;
    seen.signal = 0;
    HOLDS(vdso(UNDEFINED, 0, 0, EENTER, &run) == 0 && run.function == ERESUME && run.vector == 6 && !seen.signal,
          "vDSO: UD2 is told, without a signal");
    run.handler = (uint64_t)again;
    call_at(e, TCS0, CHANGE_FRAME, 4096 - 184 + 136, 0, 2);
    HOLDS(vdso(0, 0, 0, ERESUME, &run) == -5 && run.function == EEXIT, "vDSO: ERESUME, and what the handler returns");
    HOLDS(vdso(UNDEFINED, 0, 0, EENTER, &run) == -5, "vDSO: a handler that resumes");
    uint8_t *unmapped = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct run fault = {.tcs = (uint64_t)e->base + TCS1};
    HOLDS(vdso(LOAD, (uint64_t)unmapped + 16, 0, EENTER, &fault) == 0 && fault.function == ERESUME && fault.vector == 14 &&
          fault.address == (uint64_t)unmapped && fault.error & 4, "vDSO: #PF with its page");
    call_at(e, TCS1, CHANGE_FRAME, 4096 - 184 + 136, 0, 3);
    HOLDS(vdso(0, 0, 0, ERESUME, &fault) == 0, "vDSO: and it can be resumed");
    fault.tcs = (uint64_t)e->base + DATA0;
    HOLDS(vdso(ADD, 0, 0, EENTER, &fault) == 0 && fault.function == EENTER && fault.vector == 14,
          "vDSO: EENTER by what is no TCS is told");
    struct itimerval timer = {{0, 3000}, {0, 3000}}, off = {{0, 0}, {0, 0}};
    pthread_t thread;
    void *other;
    flag = alarms = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
    pthread_create(&thread, NULL, many, (void *)TCS1);
    void *mine = many((void *)TCS0);
    pthread_join(thread, &other);
    setitimer(ITIMER_REAL, &off, NULL);
    HOLDS(mine && other, "vDSO: many entries by two threads, with signals at any time");
    HOLDS(call_at(e, TCS0, ADD, 1, 1, 0) == 2 && by_vdso(TCS0, ADD, 1, 2) == 3, "vDSO: ENCLU and it by the same TCS");
    HOLDS(fs_base() == fs_base() && call_at(e, TCS0, BASES, 0, 0, 0) == (uint64_t)e->base + DATA0, "vDSO: bases are right after it");
}

static void devices(void) {
    char target[64] = {0};
    HOLDS(access("/dev/sgx_enclave", R_OK | W_OK) == 0, "/dev/sgx_enclave can be used");
    if (readlink("/dev/sgx/enclave", target, 63) < 0)
        printf("ok %d - /dev/sgx/enclave # SKIP no links here\n", ++number);
    else
        check(strcmp(target, "../sgx_enclave") == 0, "/dev/sgx/enclave leads to it");
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    devices();
    if (open_device() < 0) { printf("Bail out! /dev/sgx_enclave: %s\n", strerror(errno)); return 2; }
    catch(SIGSEGV), catch(SIGILL), catch(SIGFPE), catch(SIGTRAP), catch(SIGBUS);
    ioctls();
    provisioning();
    HOLDS(build(&main_enclave) == 0, "the suite's enclave is initialized");
    FAILS(ioctl(main_enclave.fd, IOC_INIT, &(struct init){(uint64_t)sigstruct()}), EINVAL, "INIT twice: EINVAL");
    entries();
    exceptions();
    interrupts();
    threads();
    by_the_vdso();
    processes();
    dynamic_memory();
    if (have_vdso()) HOLDS(by_vdso(TCS0, ADD, 2, 3) == 5, "vDSO: after changes of pages");
    destroy(&main_enclave);
    printf("1..%d\n", number);
    return failures != 0;
}
