/* Calls from the loop to the engine's threads and back. */
#include "store/store.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIDY_MS 1000
#define SLOW_THREADS 2

/* The commits that wait for one database, or the lookups for one collection, and the job that takes
 * them, one batch after the other. Made by the first of them, freed when the job ended and nothing
 * waits. */
struct queue {
    struct kt_store *store;
    struct kt_pool *pool;
    char db[KT_NAME_MAX + 1];
    char coll[KT_NAME_MAX + 1]; /* of lookups; empty: commits */
    struct kt_job job;
    struct kt_call *first, **tail;       /* store->lock */
    int waiting;                         /* store->lock */
    struct kt_call *taken, **taken_tail; /* the job's thread */
    struct queue *next;
};

struct kt_store {
    uv_loop_t *loop;
    struct kt_engine *engine;
    struct kt_pool *readers, *writers, *slow;
    int queue_max, pending;
    struct queue *queues;
    bool closing, tidying;
    struct kt_job tidy;
    uv_timer_t timer;
    uv_async_t async;
    int handles;
    pthread_mutex_t lock;
    struct kt_call *ended, **ended_tail; /* lock: what of queues is to be answered */
};

static void finish(struct kt_call *call) {
    call->store->pending--;
    call->done(call);
}

/* ---- reads and everything rare ---- */

static void run_call(struct kt_job *job) {
    struct kt_call *call = (struct kt_call *)((char *)job - offsetof(struct kt_call, job));
    struct kt_engine *e = call->store->engine;
    struct kt_limit *limit = &call->read.limits;
    struct kt_error *err = &call->error;
    if ((call->rc = kt_limit_check(limit, err)) != 0)
        return;
    switch (call->kind) {
    case KT_CALL_READ:
        call->rc = e->class->read(e, call->db, &call->read, err);
        break;
    case KT_CALL_CREATE:
        call->rc = e->class->create(e, call->db, err);
        break;
    case KT_CALL_EXISTS:
        call->rc = e->class->exists(e, call->db, &call->yes, err);
        break;
    case KT_CALL_DROP:
        call->rc = e->class->drop(e, call->db, err);
        break;
    case KT_CALL_LIST:
        call->rc = e->class->list(e, &call->out, err);
        break;
    case KT_CALL_CHECK:
        call->summary = bson_new();
        call->rc = e->class->check(e, call->db, &call->out, call->summary, err);
        break;
    case KT_CALL_BLOB_PUT:
        call->rc = kt_blob_put(e, call, limit);
        break;
    case KT_CALL_BLOB_GET:
        call->rc = kt_blob_get(e, call, limit);
        break;
    case KT_CALL_BLOB_TO_FILE:
        call->rc = kt_blob_to_file(e, call, limit);
        break;
    case KT_CALL_EXPORT:
        call->rc = kt_dump(e, call, limit);
        break;
    case KT_CALL_VERIFY:
    case KT_CALL_IMPORT:
        call->rc = kt_load(e, call, limit);
        break;
    case KT_CALL_COMMIT:
        call->rc = kt_fail(err, KT_INTERNAL, "a commit outside its queue");
        break;
    }
}

static void call_done(struct kt_job *job) {
    finish((struct kt_call *)((char *)job - offsetof(struct kt_call, job)));
}

/* ---- commits and lookups ---- */

static struct kt_call *take_call(struct queue *q) {
    struct kt_store *s = q->store;
    pthread_mutex_lock(&s->lock);
    struct kt_call *call = q->first;
    if (call != NULL) {
        q->first = call->next;
        if (q->first == NULL)
            q->tail = &q->first;
        q->waiting--;
    }
    pthread_mutex_unlock(&s->lock);
    if (call == NULL)
        return NULL;
    call->next = NULL;
    *q->taken_tail = call;
    q->taken_tail = &call->next;
    return call;
}

static struct kt_commit *take(void *ud) {
    struct kt_call *call = take_call(ud);
    return call != NULL ? &call->commit : NULL;
}

static int look_up(struct queue *q) {
    struct kt_engine *e = q->store->engine;
    struct kt_lookup list[KT_LOOKUPS];
    struct kt_call *call;
    int n = 0;
    while (n < KT_LOOKUPS && (call = take_call(q)) != NULL)
        list[n++] = (struct kt_lookup){&call->read, &call->rc, &call->error};
    if (n > 0)
        e->class->lookup(e, q->db, list, n);
    return n;
}

static void drain(struct kt_job *job) {
    struct queue *q = (struct queue *)((char *)job - offsetof(struct queue, job));
    struct kt_store *s = q->store;
    for (;;) {
        q->taken = NULL;
        q->taken_tail = &q->taken;
        int n =
            q->coll[0] != '\0' ? look_up(q) : s->engine->class->write(s->engine, q->db, take, q);
        if (n == 0)
            return;
        pthread_mutex_lock(&s->lock);
        *s->ended_tail = q->taken;
        s->ended_tail = q->taken_tail;
        pthread_mutex_unlock(&s->lock);
        uv_async_send(&s->async);
    }
}

static void answer(struct kt_store *s) {
    pthread_mutex_lock(&s->lock);
    struct kt_call *call = s->ended;
    s->ended = NULL;
    s->ended_tail = &s->ended;
    pthread_mutex_unlock(&s->lock);
    while (call != NULL) {
        struct kt_call *next = call->next; /* done may free the call */
        if (call->kind == KT_CALL_COMMIT) {
            call->rc = call->commit.rc;
            call->error = call->commit.error;
        }
        finish(call);
        call = next;
    }
}

static void on_async(uv_async_t *async) {
    answer(async->data);
}

static void fail_waiting(struct queue *q, int rc, const struct kt_error *err) {
    struct kt_call *call;
    while (take_call(q) != NULL)
        ;
    for (call = q->taken; call != NULL;) {
        struct kt_call *next = call->next;
        call->rc = rc;
        call->error = *err;
        finish(call);
        call = next;
    }
}

static void drain_done(struct kt_job *job) {
    struct queue *q = (struct queue *)((char *)job - offsetof(struct queue, job));
    struct kt_store *s = q->store;
    struct kt_error err;
    answer(s);
    pthread_mutex_lock(&s->lock);
    bool more = q->waiting > 0;
    pthread_mutex_unlock(&s->lock);
    if (more) {
        int rc = kt_pool_submit(q->pool, &q->job, &err);
        if (rc == 0)
            return;
        q->taken = NULL;
        q->taken_tail = &q->taken;
        if (s->closing) { /* accepted, so they are made: here, as the threads are gone */
            drain(job);
            answer(s);
        } else
            fail_waiting(q, rc, &err);
    }
    struct queue **at = &s->queues;
    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
    free(q);
}

/* `coll` empty: it is a commit. */
static int submit_queued(struct kt_store *s, struct kt_call *call, const char *coll,
                         struct kt_error *err) {
    struct queue *q = s->queues;
    while (q != NULL && (strcmp(q->db, call->db) != 0 || strcmp(q->coll, coll) != 0))
        q = q->next;
    call->next = NULL;
    if (q != NULL) {
        pthread_mutex_lock(&s->lock);
        bool full = q->waiting >= s->queue_max;
        if (!full) {
            *q->tail = call;
            q->tail = &call->next;
            q->waiting++;
        }
        pthread_mutex_unlock(&s->lock);
        return full ? kt_fail(err, KT_OVERLOADED, "too many %s wait for %s",
                              coll[0] != '\0' ? "reads" : "writes", call->db)
                    : 0;
    }
    if ((q = calloc(1, sizeof *q)) == NULL)
        return kt_fail(err, KT_NO_MEMORY, "queue");
    q->store = s;
    q->pool = coll[0] != '\0' ? s->readers : s->writers;
    memcpy(q->db, call->db, sizeof q->db);
    snprintf(q->coll, sizeof q->coll, "%s", coll);
    q->first = call;
    q->tail = &call->next;
    q->waiting = 1;
    q->job.run = drain;
    q->job.done = drain_done;
    int rc = kt_pool_submit(q->pool, &q->job, err);
    if (rc != 0) {
        free(q);
        return rc;
    }
    q->next = s->queues;
    s->queues = q;
    return 0;
}

int kt_store_submit(struct kt_store *s, struct kt_call *call, double seconds,
                    struct kt_error *err) {
    int rc;
    if (s->closing)
        return kt_fail(err, KT_DRAINING, "the store is closing");
    call->store = s;
    call->rc = 0;
    call->submitted_ns = kt_now_ns();
    struct kt_limit *limit =
        call->kind == KT_CALL_COMMIT ? &call->commit.limits : &call->read.limits;
    limit->until_ns = seconds > 0 ? call->submitted_ns + (int64_t)(seconds * 1e9) : 0;
    call->job.run = run_call;
    call->job.done = call_done;
    if (call->kind == KT_CALL_COMMIT)
        rc = submit_queued(s, call, "", err);
    else if (call->kind == KT_CALL_READ && s->engine->class->lookup != NULL &&
             kt_is_lookup(&call->read))
        rc = submit_queued(s, call, call->read.coll, err);
    else
        rc = kt_pool_submit(call->kind == KT_CALL_READ ? s->readers : s->slow, &call->job, err);
    if (rc == 0)
        s->pending++;
    return rc;
}

void kt_call_cancel(struct kt_call *call) {
    atomic_store(&call->read.limits.cancelled, true);
    atomic_store(&call->commit.limits.cancelled, true);
}

void kt_call_free(struct kt_call *call) {
    kt_read_free(&call->read);
    kt_commit_free(&call->commit);
    kt_buf_free(&call->out);
    if (call->summary != NULL)
        bson_destroy(call->summary);
    call->summary = NULL;
    free(call->path);
    call->path = NULL;
}

void kt_store_load(struct kt_store *s, struct kt_store_load *out) {
    memset(out, 0, sizeof *out);
    s->engine->class->stats(s->engine, &out->engine);
    out->name = s->engine->class->name;
    out->pending = s->pending;
    pthread_mutex_lock(&s->lock);
    for (struct queue *q = s->queues; q != NULL; q = q->next)
        out->writes_waiting += q->coll[0] == '\0' ? q->waiting : 0;
    pthread_mutex_unlock(&s->lock);
}

int64_t kt_store_version(struct kt_store *s, const char *db) {
    const struct kt_engine_class *class = s->engine->class;
    return s->closing || class->version == NULL ? -1 : class->version(s->engine, db);
}

/* ---- life ---- */

static void run_tidy(struct kt_job *job) {
    struct kt_store *s = (struct kt_store *)((char *)job - offsetof(struct kt_store, tidy));
    s->engine->class->tidy(s->engine);
}

static void tidy_done(struct kt_job *job) {
    struct kt_store *s = (struct kt_store *)((char *)job - offsetof(struct kt_store, tidy));
    s->tidying = false;
}

static void on_timer(uv_timer_t *timer) {
    struct kt_store *s = timer->data;
    if (s->tidying)
        return;
    s->tidying = kt_pool_submit(s->slow, &s->tidy, NULL) == 0; /* when full, the next second does */
}

static void on_closed(uv_handle_t *handle) {
    struct kt_store *s = handle->data;
    if (--s->handles == 0) {
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
}

static int or_else(int value, int fallback) {
    return value > 0 ? value : fallback;
}

struct kt_store *kt_store_open(uv_loop_t *loop, const struct kt_store_config *config,
                               struct kt_error *err) {
    const struct kt_engine_class *class = kt_engine_of(config, err);
    struct kt_engine *engine = class != NULL ? class->open(config, err) : NULL;
    if (engine == NULL)
        return NULL;
    struct kt_store *s = calloc(1, sizeof *s);
    if (s == NULL) {
        class->close(engine);
        kt_fail(err, KT_NO_MEMORY, "store");
        return NULL;
    }
    s->loop = loop;
    s->engine = engine;
    s->queue_max = or_else(config->queue_max, 1024);
    s->ended_tail = &s->ended;
    pthread_mutex_init(&s->lock, NULL);
    s->tidy.run = run_tidy;
    s->tidy.done = tidy_done;
    uv_async_init(loop, &s->async, on_async);
    uv_timer_init(loop, &s->timer);
    s->async.data = s->timer.data = s;
    s->handles = 2;
    uv_timer_start(&s->timer, on_timer, TIDY_MS, TIDY_MS);
    uv_unref((uv_handle_t *)&s->timer);
    uv_unref((uv_handle_t *)&s->async); /* calls keep the loop alive by their pool's handle */
    s->readers = kt_pool_new(loop, "store-read", or_else(config->readers, 4), s->queue_max, err);
    if (s->readers != NULL)
        s->writers = kt_pool_new(loop, "store-write", or_else(config->writers, 4), 1024, err);
    if (s->writers != NULL)
        s->slow = kt_pool_new(loop, "store-slow", SLOW_THREADS, 256, err);
    if (s->slow == NULL) {
        kt_store_close(s);
        return NULL;
    }
    return s;
}

void kt_store_close(struct kt_store *s) {
    s->closing = true;
    if (s->readers != NULL)
        kt_pool_free(s->readers);
    if (s->slow != NULL)
        kt_pool_free(s->slow);
    if (s->writers != NULL)
        kt_pool_free(s->writers);
    answer(s);
    s->engine->class->close(s->engine);
    uv_close((uv_handle_t *)&s->async, on_closed);
    uv_close((uv_handle_t *)&s->timer, on_closed);
}
