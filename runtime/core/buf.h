/* A byte buffer that grows. Zero-initialised is empty; every append may fail only by memory, then
 * `failed` stays set and later appends do nothing: check once, at the end. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct kt_buf {
    char *data; /* not terminated, see kt_buf_cstr */
    size_t len;
    size_t cap;
    bool failed;
};

#define KT_BUF_INIT {0}

void kt_buf_free(struct kt_buf *b);                              /* also resets to empty */
void kt_buf_clear(struct kt_buf *b);                             /* keeps the memory */
char *kt_buf_reserve(struct kt_buf *b, size_t more);             /* room at data+len, or NULL */
void kt_buf_add(struct kt_buf *b, const void *bytes, size_t n);
void kt_buf_adds(struct kt_buf *b, const char *s);
void kt_buf_addc(struct kt_buf *b, char c);
void kt_buf_addf(struct kt_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void kt_buf_consume(struct kt_buf *b, size_t n);                 /* drop n bytes from the front */
const char *kt_buf_cstr(struct kt_buf *b);                       /* "" when it failed */
