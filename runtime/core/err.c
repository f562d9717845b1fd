/* The table of error codes and the one way to fail. */
#include "core/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    short status;
    bool retryable;
} codes[KT_CODE_COUNT] = {
    [KT_OK] = {"ok", 200, false},
#define X(id, name, status, retryable) [KT_##id] = {name, status, retryable},
    KT_CODES(X)
#undef X
};

int kt_fail(struct kt_error *err, enum kt_code code, const char *fmt, ...) {
    if (err != NULL) {
        va_list args;
        err->code = code;
        va_start(args, fmt);
        vsnprintf(err->message, sizeof err->message, fmt, args);
        va_end(args);
    }
    return -(int)code;
}

static bool known(enum kt_code code) {
    return (int)code >= 0 && code < KT_CODE_COUNT;
}

const char *kt_code_name(enum kt_code code) {
    return known(code) ? codes[code].name : codes[KT_INTERNAL].name;
}

int kt_code_status(enum kt_code code) {
    return known(code) ? codes[code].status : 500;
}

bool kt_code_retryable(enum kt_code code) {
    return known(code) && codes[code].retryable;
}

enum kt_code kt_code_of_name(const char *name) {
    for (int code = 1; code < KT_CODE_COUNT; code++)
        if (strcmp(codes[code].name, name) == 0)
            return (enum kt_code)code;
    return KT_OK;
}

enum kt_code kt_code_of_errno(int errnum) {
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return KT_STORAGE_FULL;
    case ENOENT:
        return KT_NOT_FOUND;
    case ENOMEM:
        return KT_NO_MEMORY;
    default:
        return KT_INTERNAL;
    }
}
