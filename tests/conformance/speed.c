/* How long an entry and exit takes: `speed vdso`, `speed enclu`; `speed signal`: a fault that the program handles. */
#include "conformance.h"
#include <time.h>

static void skip(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

int main(int argc, char **argv) {
    const char *way = argc > 1 ? argv[1] : "";
    struct enclave e = {0};
    struct run run = {0};
    long rounds = strcmp(way, "enclu") ? 100000 : 3000;
    if (!strcmp(way, "signal")) {
        struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
        sigaction(SIGILL, &action, NULL);
    } else {
        if (build(&e)) { perror("the enclave"); return 1; }
        run.tcs = (uint64_t)e.base + TCS0;
        if (!have_vdso() && !strcmp(way, "vdso")) { fprintf(stderr, "no vDSO\n"); return 1; }
    }
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long i = 0; i < rounds; i++) {
        if (!strcmp(way, "vdso")) vdso(ADD, 1, 2, EENTER, &run);
        else if (!strcmp(way, "enclu")) call_at(&e, TCS0, ADD, 1, 2, 0);
        else __asm__ volatile("ud2");
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%f\n", ((end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec)) / 1e3 / rounds);
    return 0;
}
