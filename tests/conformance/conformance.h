/* Layout of the suite's enclave and numbers of the interface (Intel SDM Vol. 3D; <asm/sgx.h>). */
#pragma once
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096UL
#define SIZE 0x40000UL
#define CODE 0x0UL /* two pages, R and X */
#define TCS0 0x2000UL
#define TCS1 0x3000UL
#define SSA0 0x4000UL /* three frames of one page */
#define DATA0 0xA000UL
#define SSA1 0x10000UL
#define DATA1 0x16000UL
#define READ_ONLY 0x20000UL
#define DYNAMIC 0x30000UL /* no pages at first */

enum function {
    ADD, REPORT, GET_KEY, LOAD, STORE, UNDEFINED, CPUID, SYSCALL_, INT3, DIVIDE, SPIN, ACCEPT, EXTEND, ACCEPT_COPY,
    FRAME_WORD, CHANGE_FRAME, HALT, JUMP, ENTER, BASES, LEAF, KEY_FLAGS
};

#define EENTER 2
#define ERESUME 3
#define EEXIT 4
#define R 1UL
#define W 2UL
#define X 4UL
#define PENDING 8UL
#define MODIFIED 16UL
#define PR 32UL
#define REG 0x200UL
#define TCS_ 0x100UL
#define TRIM 0x400UL

struct create { uint64_t src; };
struct add_pages { uint64_t src, offset, length, secinfo, flags, count; };
struct init { uint64_t sigstruct; };
struct provision { uint64_t fd; };
struct modify { uint64_t offset, length, value, result, count; };
struct remove_pages { uint64_t offset, length, count; };
#define IOC_CREATE _IOW(0xA4, 0, struct create)
#define IOC_ADD _IOWR(0xA4, 1, struct add_pages)
#define IOC_INIT _IOW(0xA4, 2, struct init)
#define IOC_PROVISION _IOW(0xA4, 3, struct provision)
#define IOC_RESTRICT _IOWR(0xA4, 5, struct modify)
#define IOC_MODIFY _IOWR(0xA4, 6, struct modify)
#define IOC_REMOVE _IOWR(0xA4, 7, struct remove_pages)

struct call { uint64_t leaf, tcs, rdi, rsi, rdx, r8, out_rdi, out_rsi, out_rax, out_rcx, aex; };
extern char enclave_code[], enclave_code_end[], async_exit[], enter_exit[];
unsigned long enter(struct call *);

struct run { uint64_t tcs; uint32_t function; uint16_t vector, error; uint64_t address, handler, data; uint8_t reserved[216]; };
/* __vdso_sgx_enter_enclave, or NULL. The suite's enclave keeps no registers: these save what C expects to be kept. */
int have_vdso(void);
int vdso(unsigned long rdi, unsigned long rsi, unsigned long rdx, unsigned function, struct run *);

struct enclave { int fd; uint8_t *base; };

extern int debug_enclave;

int open_device(void);
void make_secs(uint8_t *secs, uint8_t *base);
uint8_t *reserve(void);
int add(int fd, const void *source, uint64_t offset, uint64_t pages, uint64_t secinfo, int measure);
int add_all(int fd);
int map_all(struct enclave *);
int build(struct enclave *);
void destroy(struct enclave *);
const uint8_t *sigstruct(void);
uint64_t call_at(struct enclave *, uint64_t tcs, int function, uint64_t rsi, uint64_t rdx, uint64_t r8);
