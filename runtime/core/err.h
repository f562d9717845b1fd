/* Errors: one table of codes for C, Lua and HTTP.
 *
 * A C function that can fail returns int: 0, or the negative kt_code; the text goes into the
 * caller's struct kt_error when one is given. Lua gets nil, {code=, message=, retryable=}.
 * The names are those of api.md section 7; a new code is added here and nowhere else. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* enum suffix, name, HTTP status, retryable */
#define KT_CODES(X)                                                                                \
    X(INVALID_JSON, "invalid_json", 400, false)                                                    \
    X(MALFORMED_REQUEST, "malformed_request", 400, false)                                          \
    X(UNAUTHENTICATED, "unauthenticated", 401, false)                                              \
    X(FORBIDDEN, "forbidden", 403, false)                                                          \
    X(ORIGIN_REFUSED, "origin_refused", 403, false)                                                \
    X(QUOTA_EXCEEDED, "quota_exceeded", 403, false)                                                \
    X(NOT_FOUND, "not_found", 404, false)                                                          \
    X(METHOD_NOT_ALLOWED, "method_not_allowed", 405, false)                                        \
    X(NOT_ACCEPTABLE, "not_acceptable", 406, false)                                                \
    X(REQUEST_TIMEOUT, "request_timeout", 408, true)                                               \
    X(ALREADY_EXISTS, "already_exists", 409, false)                                                \
    X(INVALID_STATE, "invalid_state", 409, false)                                                  \
    X(ARCHIVED, "archived", 409, false)                                                            \
    X(DATASET_OPEN, "dataset_open", 409, false)                                                    \
    X(DATASET_SEALED, "dataset_sealed", 409, false)                                                \
    X(IDEMPOTENCY_IN_PROGRESS, "idempotency_in_progress", 409, true)                               \
    X(CONFLICT, "conflict", 409, false)                                                            \
    X(GONE, "gone", 410, false)                                                                    \
    X(LENGTH_REQUIRED, "length_required", 411, false)                                              \
    X(VERSION_MISMATCH, "version_mismatch", 412, false)                                            \
    X(BODY_TOO_LARGE, "body_too_large", 413, false)                                                \
    X(URI_TOO_LONG, "uri_too_long", 414, false)                                                    \
    X(UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", 415, false)                                \
    X(VALIDATION_FAILED, "validation_failed", 422, false)                                          \
    X(INVALID_CURSOR, "invalid_cursor", 422, false)                                                \
    X(IDEMPOTENCY_MISMATCH, "idempotency_mismatch", 422, false)                                    \
    X(TEMPLATE_ERROR, "template_error", 422, false)                                                \
    X(SCRIPT_ERROR, "script_error", 422, false)                                                    \
    X(DATA_REJECTED, "data_rejected", 422, false)                                                  \
    X(UPGRADE_REQUIRED, "upgrade_required", 426, false)                                            \
    X(RATE_LIMITED, "rate_limited", 429, true)                                                     \
    X(CONCURRENCY_LIMITED, "concurrency_limited", 429, true)                                       \
    X(QUEUE_FULL, "queue_full", 429, true)                                                         \
    X(BUDGET_EXCEEDED, "budget_exceeded", 429, false)                                              \
    X(HEADERS_TOO_LARGE, "headers_too_large", 431, false)                                          \
    X(INTERNAL, "internal", 500, false)                                                            \
    X(STORE_CORRUPT, "store_corrupt", 500, false)                                                  \
    X(UPSTREAM_FAILED, "upstream_failed", 502, true)                                               \
    X(OVERLOADED, "overloaded", 503, true)                                                         \
    X(STORE_UNAVAILABLE, "store_unavailable", 503, true)                                           \
    X(OUTCOME_UNKNOWN, "outcome_unknown", 503, true)                                               \
    X(DRAINING, "draining", 503, true)                                                             \
    X(DEADLINE_EXCEEDED, "deadline_exceeded", 504, true)                                           \
    X(STORAGE_FULL, "storage_full", 507, false)                                                    \
    X(TOO_SLOW, "too_slow", 503, true)                                                             \
    X(CANCELLED, "cancelled", 499, false)                                                          \
    X(MEMORY_LIMIT, "memory_limit", 422, false)                                                    \
    X(INSTRUCTION_LIMIT, "instruction_limit", 422, false)                                          \
    X(OUTPUT_LIMIT, "output_limit", 422, false)                                                    \
    X(NO_MEMORY, "no_memory", 503, true)                                                           \
    X(INVALID_ARGUMENT, "invalid_argument", 500, false)

enum kt_code {
    KT_OK = 0,
#define X(id, name, status, retryable) KT_##id,
    KT_CODES(X)
#undef X
    KT_CODE_COUNT
};

struct kt_error {
    enum kt_code code;
    char message[500]; /* always terminated; cut when longer */
};

/* Fill *err (may be NULL) and return -code, so that a failing path is one statement:
 *     return kt_fail(err, KT_NOT_FOUND, "no database %s", name); */
int kt_fail(struct kt_error *err, enum kt_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

const char *kt_code_name(enum kt_code code);      /* "not_found"; never NULL */
int kt_code_status(enum kt_code code);            /* HTTP status */
bool kt_code_retryable(enum kt_code code);
enum kt_code kt_code_of_name(const char *name);   /* KT_OK when unknown */
/* The code for an errno value: ENOSPC and EDQUOT -> storage_full, ENOENT -> not_found, ENOMEM ->
 * no_memory, else internal. */
enum kt_code kt_code_of_errno(int errnum);
