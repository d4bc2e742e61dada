/*
 * Launch an enclave out of an SGXS file through Linux, enter it, and let it add numbers: a whole SGX program in one
 * file, with nothing but the C library. It knows the kernel's interface (Linux, arch/x86/include/uapi/asm/sgx.h), the
 * SGXS format, and what the sample enclave expects in its registers.
 *
 *     cc -static -O2 -o launch launch.c
 *     launch sample.sgxs sample.sigstruct 20 22
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define PAGE 4096
#define SIGSTRUCT_SIZE 1808
#define MAX_PAGES 256
#define MAX_NUMBERS 64
#define MEASURE 1
#define ADD 0
#define INIT_BIT 1

struct create { uint64_t secs; };
struct add_pages { uint64_t source, offset, length, secinfo, flags, count; };
struct init { uint64_t sigstruct; };
#define CREATE _IOW(0xA4, 0, struct create)
#define ADD_PAGES _IOWR(0xA4, 1, struct add_pages)
#define INIT _IOW(0xA4, 2, struct init)

struct page { uint64_t offset; uint64_t secinfo[8]; int measured; };
struct exit_registers { uint64_t rdi, rsi; };

static uint8_t contents[MAX_PAGES][PAGE] __attribute__((aligned(PAGE)));
static struct page pages[MAX_PAGES] __attribute__((aligned(64)));

/* EENTER with RDI, RSI and RDX as the caller has them; the enclave leaves to the instruction behind ENCLU. */
extern void enter(void *tcs, uint64_t rdi, void *rsi, uint64_t rdx, struct exit_registers *left);
__asm__(
    ".text\n"
    "enter:\n"
    "    pushq %rbx\n    pushq %rbp\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
    "    pushq %r8\n"
    "    movq %rdi, %rbx\n"
    "    movq %rsi, %rdi\n"
    "    movq %rdx, %rsi\n"
    "    movq %rcx, %rdx\n"
    "    leaq 1f(%rip), %rcx\n"
    "    movl $2, %eax\n"
    "1:  .byte 0x0f, 0x01, 0xd7\n" /* ENCLU; after an interruption the kernel returns here, with ERESUME in EAX */
    "    popq %r8\n"
    "    movq %rdi, (%r8)\n"
    "    movq %rsi, 8(%r8)\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbp\n    popq %rbx\n"
    "    ret\n");

static void fail(const char *what)
{
    fprintf(stderr, "launch: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void refuse(const char *what)
{
    fprintf(stderr, "launch: %s\n", what);
    exit(1);
}

static void read_file(const char *name, void *data, size_t size)
{
    FILE *file = fopen(name, "rb");
    if (!file)
        fail(name);
    if (fread(data, 1, size, file) != size)
        refuse("a file is too short");
    fclose(file);
}

/* Read pages and size of the image; returns the number of pages. */
static int read_sgxs(const char *name, uint64_t *size, uint32_t *ssaframesize)
{
    uint64_t record[8];
    int count = 0;
    FILE *file = fopen(name, "rb");
    if (!file)
        fail(name);
    while (fread(record, 1, sizeof record, file) == sizeof record) {
        if (!memcmp(record, "ECREATE", 8)) {
            memcpy(ssaframesize, (char *)record + 8, 4);
            memcpy(size, (char *)record + 12, 8);
        } else if (!memcmp(record, "EADD\0\0\0", 8)) {
            if (count == MAX_PAGES)
                refuse("the image has more pages than this program takes");
            pages[count].offset = record[1];
            memcpy(pages[count].secinfo, record + 2, 48);
            count++;
        } else if (!memcmp(record, "EEXTEND", 8) && count) {
            uint64_t within = record[1] - pages[count - 1].offset;
            if (within >= PAGE || fread(contents[count - 1] + within, 1, 256, file) != 256)
                refuse("the image is not SGXS");
            pages[count - 1].measured = 1;
        } else {
            refuse("the image is not SGXS");
        }
    }
    fclose(file);
    return count;
}

int main(int argc, char **argv)
{
    static uint8_t secs[PAGE] __attribute__((aligned(PAGE))), sigstruct[PAGE] __attribute__((aligned(PAGE)));
    static uint64_t numbers[MAX_NUMBERS];
    uint64_t size = 0, base, attributes[2], given = argc - 3;
    uint32_t ssaframesize = 0;
    struct exit_registers left;

    if (argc < 4 || given > MAX_NUMBERS)
        refuse("usage: launch IMAGE.sgxs SIGSTRUCT NUMBER...");
    int count = read_sgxs(argv[1], &size, &ssaframesize);
    read_file(argv[2], sigstruct, SIGSTRUCT_SIZE);
    if (!size || !count)
        refuse("the image is empty");

    int device = open("/dev/sgx_enclave", O_RDWR);
    if (device < 0)
        fail("/dev/sgx_enclave");

    /* An enclave lies at a multiple of its size. */
    void *room = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        fail("mmap");
    base = ((uint64_t)room + size - 1) / size * size;

    memcpy(attributes, sigstruct + 928, 16);
    attributes[0] &= ~(uint64_t)INIT_BIT;
    memcpy(secs, &size, 8);
    memcpy(secs + 8, &base, 8);
    memcpy(secs + 16, &ssaframesize, 4);
    memcpy(secs + 20, sigstruct + 900, 4); /* MISCSELECT */
    memcpy(secs + 48, attributes, 16);
    struct create create = {(uint64_t)secs};
    if (ioctl(device, CREATE, &create))
        fail("SGX_IOC_ENCLAVE_CREATE");

    for (int i = 0; i < count; i++) {
        struct add_pages add = {(uint64_t)contents[i], pages[i].offset, PAGE, (uint64_t)pages[i].secinfo,
                                pages[i].measured ? MEASURE : 0, 0};
        if (ioctl(device, ADD_PAGES, &add))
            fail("SGX_IOC_ENCLAVE_ADD_PAGES");
    }
    struct init init = {(uint64_t)sigstruct};
    int status = ioctl(device, INIT, &init);
    if (status < 0)
        fail("SGX_IOC_ENCLAVE_INIT");
    if (status > 0) {
        fprintf(stderr, "launch: EINIT answered %#x\n", status);
        return 1;
    }

    void *tcs = NULL;
    for (int i = 0; i < count; i++) {
        uint64_t flags = pages[i].secinfo[0];
        int is_tcs = (flags >> 8 & 0xff) == 1;
        int protection = is_tcs ? PROT_READ | PROT_WRITE
                                : (flags & 1 ? PROT_READ : 0) | (flags & 2 ? PROT_WRITE : 0) | (flags & 4 ? PROT_EXEC : 0);
        void *address = (void *)(base + pages[i].offset);
        if (mmap(address, PAGE, protection, MAP_SHARED | MAP_FIXED, device, 0) != address)
            fail("mmap of the enclave");
        if (is_tcs && !tcs)
            tcs = address;
    }
    if (!tcs)
        refuse("the image has no TCS");

    for (uint64_t i = 0; i < given; i++)
        numbers[i] = strtoull(argv[3 + i], NULL, 0);
    enter(tcs, ADD, numbers, 8 * given, &left);
    if (left.rdi)
        refuse("the enclave refused");
    printf("the enclave says: %llu\n", (unsigned long long)numbers[0]);
    return 0;
}
