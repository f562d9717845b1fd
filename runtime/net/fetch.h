/* Outgoing HTTP: libcurl's multi interface on the loop. The whole answer, bounded; streaming of
 * model answers builds on the same context later.
 *
 * The loop's thread only; never yields, never enters Lua. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "core/buf.h"
#include "core/err.h"

struct kt_fetcher; /* curl multi on one loop, with its cache of connections */
struct kt_fetch;   /* one request in flight */

struct kt_fetch_request {
    const char *method, *url;
    const char *unix_path;      /* NULL: TCP */
    const char *const *headers; /* "Name: value" or "Name;" (empty), closed by NULL; NULL: none */
    const char *body;           /* NULL: none; copied */
    size_t body_len;
    double timeout_s; /* of all of it; 0: none */
    size_t max_body;  /* bytes of the answer's body, after decoding; more is an error */
    /* The list of core/egress.h: an address that it does not allow is not connected to, nor used
     * when a connection to it is there; no proxy is asked. NULL: no policy. */
    const char *egress;
    bool once;   /* a connection of its own: curl sends again when a kept one turns out to be dead */
    bool decode; /* ask for gzip or deflate, and undo it */
};

struct kt_fetch_answer {
    int status;
    struct kt_buf headers; /* the final answer's lines "Name: value\r\n" as they came */
    struct kt_buf body;
};

/* Called once, from the loop, never inside kt_fetch_start. err NULL: *answer is the caller's, who
 * may take its buffers (they are freed after). Else upstream_failed (no answer, cut off, too
 * large), deadline_exceeded, or forbidden (by the egress policy; nothing was sent). */
typedef void (*kt_fetch_fn)(struct kt_fetch_answer *answer, const struct kt_error *err, void *ud);

struct kt_fetcher *kt_fetcher_new(uv_loop_t *loop, struct kt_error *err);
/* Drops what is in flight without a call, then frees. The loop must turn for its handles. */
void kt_fetcher_free(struct kt_fetcher *fetcher);
/* invalid_argument: the URL, a header or the egress list is none. */
struct kt_fetch *kt_fetch_start(struct kt_fetcher *fetcher, const struct kt_fetch_request *request,
                                kt_fetch_fn done, void *ud, struct kt_error *err);
/* Stop it and forget it: done is not called. Not inside a done. */
void kt_fetch_cancel(struct kt_fetch *fetch);
