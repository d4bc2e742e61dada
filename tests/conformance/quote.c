/* A quote by hand: EREPORT in the suite's enclave, the quote from the AESM daemon's socket. `quote FILE` writes it. */
#include "conformance.h"
#include <sys/socket.h>
#include <sys/un.h>

/* AESM's messages are protobuf; these write and read the few fields that are needed. */
static uint8_t message[1 << 16];
static size_t put_varint(uint8_t *at, uint64_t value) {
    size_t size = 0;
    for (; value >= 0x80; value >>= 7) at[size++] = value | 0x80;
    at[size++] = value;
    return size;
}
static size_t put_bytes(uint8_t *at, int field, const void *data, size_t size) {
    size_t head = put_varint(at, field << 3 | 2);
    head += put_varint(at + head, size);
    memcpy(at + head, data, size);
    return head + size;
}
static size_t put_number(uint8_t *at, int field, uint64_t value) {
    size_t head = put_varint(at, field << 3);
    return head + put_varint(at + head, value);
}
static uint64_t get_varint(const uint8_t **at) {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        value |= (uint64_t)(**at & 0x7f) << shift;
        if (!(*(*at)++ & 0x80)) return value;
    }
}
static const uint8_t *find(const uint8_t *at, const uint8_t *end, int field, size_t *size) {
    while (at < end) {
        uint64_t key = get_varint(&at);
        uint64_t value = get_varint(&at);
        if ((key & 7) == 2) {
            if ((int)(key >> 3) == field) { *size = value; return at; }
            at += value;
        } else if ((int)(key >> 3) == field) {
            *size = value;
            return NULL;
        }
    }
    *size = 0;
    return NULL;
}

/* Send one request inside its envelope, and return the response inside its own. */
static const uint8_t *ask(int number, const uint8_t *request, size_t size, size_t *answered) {
    static uint8_t reply[1 << 16];
    struct sockaddr_un address = {AF_UNIX, "/var/run/aesmd/aesm.socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) { perror("AESM"); exit(1); }
    uint32_t length = put_bytes(message, number, request, size);
    if (write(fd, &length, 4) != 4 || write(fd, message, length) != (ssize_t)length) exit(1);
    if (recv(fd, &length, 4, MSG_WAITALL) != 4 || length > sizeof reply) exit(1);
    if (recv(fd, reply, length, MSG_WAITALL) != (ssize_t)length) exit(1);
    close(fd);
    return find(reply, reply + length, number, answered);
}

int main(int argc, char **argv) {
    static uint8_t target[512] __attribute__((aligned(512))), data[64] = "from an unmodified program", report[432];
    static uint8_t request[8192];
    struct enclave e;
    size_t size, part, at;
    const uint8_t *answer, *field;

    debug_enclave = 0;
    if (build(&e)) { perror("the enclave"); return 1; }
    /* An ECDSA P-256 key of Intel's quoting enclave: struct sgx_ql_att_key_id_t */
    static const uint8_t qe_signer[32] = {0x8c, 0x4f, 0x57, 0x75, 0xd7, 0x96, 0x50, 0x3e, 0x96, 0x13, 0x7f, 0x77, 0xc6, 0x8a, 0x82, 0x9a,
        0x00, 0x56, 0xac, 0x8d, 0xed, 0x70, 0x14, 0x0b, 0x08, 0x1b, 0x09, 0x44, 0x90, 0xc5, 0x7b, 0xff};
    uint8_t id[256] = {0};
    *(uint16_t *)(id + 4) = 32;
    memcpy(id + 6, qe_signer, 32);
    *(uint32_t *)(id + 54) = 1;
    *(uint32_t *)(id + 154) = 2;
    /* 15: init_quote_ex, which gives the target and, the second time, makes the key; 17: get_quote_ex */
    at = put_bytes(request, 1, id, sizeof id);
    at += put_number(request + at, 3, 0);
    at += put_number(request + at, 9, 5000000);
    answer = ask(15, request, at, &size);
    field = answer ? find(answer, answer + size, 2, &part) : NULL;
    if (!field || part != 512) { fprintf(stderr, "no target\n"); return 1; }
    memcpy(target, field, 512);
    at = put_bytes(request, 1, id, sizeof id);
    at += put_number(request + at, 3, 1);
    at += put_number(request + at, 4, 4096);
    at += put_number(request + at, 9, 5000000);
    if (!ask(15, request, at, &size)) { fprintf(stderr, "no key\n"); return 1; }
    if (call_at(&e, TCS0, REPORT, (uint64_t)target, (uint64_t)data, (uint64_t)report)) return 1;
    at = put_bytes(request, 1, report, sizeof report);
    at += put_bytes(request + at, 2, id, sizeof id);
    at += put_number(request + at, 4, 16384);
    at += put_number(request + at, 9, 5000000);
    answer = ask(17, request, at, &size);
    field = answer ? find(answer, answer + size, 2, &part) : NULL;
    if (!field) { fprintf(stderr, "no quote\n"); return 1; }
    FILE *file = argc > 1 ? fopen(argv[1], "wb") : stdout;
    fwrite(field, 1, part, file);
    fclose(file);
    return 0;
}
