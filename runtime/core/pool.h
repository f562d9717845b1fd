/* A bounded pool of threads for work that blocks. Jobs are embedded in their owner's structure:
 * nothing is allocated here per job, and libuv's own four threads are never used. */
#pragma once

#include <uv.h>

#include "core/err.h"

struct kt_pool;

struct kt_job {
    void (*run)(struct kt_job *job);  /* on a pool thread */
    void (*done)(struct kt_job *job); /* on the loop's thread, always, exactly once */
    struct kt_job *next;              /* the pool's */
};

/* `threads` workers, at most `queue_max` jobs waiting. NULL and *err on failure. */
struct kt_pool *kt_pool_new(uv_loop_t *loop, const char *name, int threads, int queue_max,
                            struct kt_error *err);
/* KT_OVERLOADED when the queue is full, KT_DRAINING while the pool is freed; then neither run nor
 * done is called. Loop thread only. */
int kt_pool_submit(struct kt_pool *pool, struct kt_job *job, struct kt_error *err);
int kt_pool_pending(const struct kt_pool *pool); /* submitted, done not yet called */
/* Runs what was submitted to its end, calls every done, joins the threads, closes its handle. The
 * loop must turn afterwards for the handle to close. */
void kt_pool_free(struct kt_pool *pool);
