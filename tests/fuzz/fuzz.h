/* What the fuzz targets share: a check that stops the run, and a reader that makes decisions of the
 * input's bytes (it gives zeros when they are used up). */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_CHECK(cond, ...)                                                                      \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #cond);              \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct fuzz_in {
    const uint8_t *p, *end;
};

static inline uint8_t fuzz_byte(struct fuzz_in *in) {
    return in->p < in->end ? *in->p++ : 0;
}

static inline uint64_t fuzz_u64(struct fuzz_in *in) {
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | fuzz_byte(in);
    return v;
}

static inline int fuzz_below(struct fuzz_in *in, int n) {
    return fuzz_byte(in) % n;
}
