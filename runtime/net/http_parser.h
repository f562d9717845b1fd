/* Bytes -> one HTTP/1.1 request. llhttp reads the grammar; this adds what a server on a public port
 * must refuse and llhttp lets pass, the bounds, and a table of the header fields.
 *
 * The head is collected in one buffer until it is complete and is parsed once: fields are offsets
 * into it, nothing is copied. The body is parsed only when someone wants it. No loop, no socket. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include <llhttp.h>

#include "core/buf.h"
#include "core/err.h"

enum { KT_HTTP_FIELDS_MAX = 100 };

/* One header field: offsets into the head's bytes. The name is in lower case. */
struct kt_http_field {
    uint16_t name, name_len, value, value_len;
};

struct kt_http_span {
    const char *data;
    size_t len;
};

struct kt_http_parser {
    llhttp_t llhttp;
    size_t target_max, headers_max; /* bounds in bytes; their sum stays below 64 KiB */

    struct kt_buf head; /* the head's bytes; names and fields refer to it */
    struct kt_http_field fields[KT_HTTP_FIELDS_MAX];
    int field_count;

    /* Scanner: the line that is being read. */
    size_t line_start, first_line;
    uint8_t blank_lines;
    bool after_cr, in_value;

    bool head_done, body_done;
    /* Valid once head_done. */
    const char *method;
    struct kt_http_span target, path, query; /* query.data NULL: no `?` */
    int minor;                               /* 0 or 1 */
    bool keep_alive, chunked, expect_continue, wants_upgrade;
    int64_t length; /* of the body: Content-Length; 0 when there is none; -1 for chunked */

    struct kt_buf *body_out; /* during kt_http_parse_body */
    size_t extras;           /* bytes of chunk extensions and trailers so far */
    size_t column;           /* in a trailer line */
    bool in_trailers, failed;
};

void kt_http_parser_init(struct kt_http_parser *p, size_t target_max, size_t headers_max);
void kt_http_parser_free(struct kt_http_parser *p);
/* Ready for the next request of the connection; keeps small memory. */
void kt_http_parser_reset(struct kt_http_parser *p);

/* Take head bytes. Returns how many of n were taken: all, unless the head ended before (head_done).
 * A negative code when the request is refused (malformed_request, uri_too_long,
 * headers_too_large, length_required): answer it and close. */
ssize_t kt_http_parse_head(struct kt_http_parser *p, const char *data, size_t n,
                           struct kt_error *err);
/* Take body bytes and append what they carry to `out`. Returns how many were taken; less than n
 * only when the body ended (body_done). */
ssize_t kt_http_parse_body(struct kt_http_parser *p, const char *data, size_t n, struct kt_buf *out,
                           struct kt_error *err);

/* First field of that name (lower case), or NULL. */
const struct kt_http_field *kt_http_find(const struct kt_http_parser *p, const char *name);
struct kt_http_span kt_http_value(const struct kt_http_parser *p, const struct kt_http_field *f);
