/* A byte buffer that grows by doubling. */
#include "core/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kt_buf_free(struct kt_buf *b) {
    free(b->data);
    *b = (struct kt_buf)KT_BUF_INIT;
}

void kt_buf_clear(struct kt_buf *b) {
    b->len = 0;
    b->failed = false;
}

char *kt_buf_reserve(struct kt_buf *b, size_t more) {
    if (b->failed)
        return NULL;
    if (b->cap - b->len >= more)
        return b->data + b->len;
    size_t cap = b->cap ? b->cap : 64;
    while (cap - b->len < more) {
        if (cap > (size_t)-1 / 2) {
            b->failed = true;
            return NULL;
        }
        cap *= 2;
    }
    char *data = realloc(b->data, cap);
    if (data == NULL) {
        b->failed = true;
        return NULL;
    }
    b->data = data;
    b->cap = cap;
    return b->data + b->len;
}

void kt_buf_add(struct kt_buf *b, const void *bytes, size_t n) {
    if (n == 0)
        return;
    char *to = kt_buf_reserve(b, n);
    if (to == NULL)
        return;
    memcpy(to, bytes, n);
    b->len += n;
}

void kt_buf_adds(struct kt_buf *b, const char *s) {
    kt_buf_add(b, s, strlen(s));
}

void kt_buf_addc(struct kt_buf *b, char c) {
    kt_buf_add(b, &c, 1);
}

void kt_buf_addf(struct kt_buf *b, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0)
        b->failed = true;
    else {
        char *to = kt_buf_reserve(b, (size_t)n + 1);
        if (to != NULL) {
            vsnprintf(to, (size_t)n + 1, fmt, again);
            b->len += (size_t)n;
        }
    }
    va_end(again);
}

void kt_buf_consume(struct kt_buf *b, size_t n) {
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

const char *kt_buf_cstr(struct kt_buf *b) {
    if (kt_buf_reserve(b, 1) == NULL)
        return "";
    b->data[b->len] = '\0';
    return b->data;
}
