/* Threads with one queue in and one list out; the loop hears of the list by uv_async. */
#include "core/pool.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kt_pool {
    uv_loop_t *loop;
    uv_async_t async;
    pthread_mutex_t lock;
    sem_t more; /* a post for each thread that is to look again: a job came, or stop */
    struct kt_job *queue, **tail;    /* under lock */
    struct kt_job *ended, **ended_tail; /* under lock */
    int waiting, queue_max;          /* under lock */
    int idle;                        /* under lock: threads that sleep, those that are being woken too */
    bool waking;                     /* under lock: a thread was woken that has not looked yet */
    bool stop;                       /* under lock */
    int pending;                     /* loop thread */
    int threads;
    pthread_t thread[];
};

/* Wake one thread when there is something to do. One at a time: it wakes the next when it finds more
 * than it takes, so a burst of short jobs costs a few wake-ups and not one each, and yet none waits
 * behind a long one while a thread sleeps. */
static bool must_wake(struct kt_pool *p) {
    if (p->queue == NULL || p->idle == 0 || p->waking)
        return false;
    p->waking = true;
    return true;
}

static void *work(void *arg) {
    struct kt_pool *p = arg;
    /* On a processor that the loop is using, a woken thread waits until it is through with its turn: the
     * jobs of a turn are done in one go, without two switches each. An idle processor takes it at once. */
    struct sched_param none = {0};
    pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->queue == NULL && !p->stop) {
            p->idle++;
            pthread_mutex_unlock(&p->lock);
            /* No condition variable: whoever wakes from one leaves the lock marked as fought for. */
            while (sem_wait(&p->more) != 0)
                ;
            pthread_mutex_lock(&p->lock);
            p->idle--;
            p->waking = false;
        }
        struct kt_job *job = p->queue;
        if (job == NULL)
            break; /* stopping, and nothing is left */
        p->queue = job->next;
        if (p->queue == NULL)
            p->tail = &p->queue;
        p->waiting--;
        bool wake = must_wake(p);
        pthread_mutex_unlock(&p->lock);
        if (wake)
            sem_post(&p->more);
        job->run(job);
        pthread_mutex_lock(&p->lock);
        job->next = NULL;
        bool first = p->ended == NULL;
        *p->ended_tail = job;
        p->ended_tail = &job->next;
        if (first)
            uv_async_send(&p->async);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void call_done(struct kt_pool *p) {
    pthread_mutex_lock(&p->lock);
    struct kt_job *job = p->ended;
    p->ended = NULL;
    p->ended_tail = &p->ended;
    pthread_mutex_unlock(&p->lock);
    while (job != NULL) {
        struct kt_job *next = job->next; /* done may free the job */
        p->pending--;
        job->done(job);
        job = next;
    }
    /* An idle pool does not keep the loop running. */
    if (p->pending == 0 && !uv_is_closing((uv_handle_t *)&p->async))
        uv_unref((uv_handle_t *)&p->async);
}

static void on_async(uv_async_t *async) {
    call_done(async->data);
}

struct kt_pool *kt_pool_new(uv_loop_t *loop, const char *name, int threads, int queue_max,
                            struct kt_error *err) {
    struct kt_pool *p = calloc(1, sizeof *p + sizeof(pthread_t) * (size_t)threads);
    if (p == NULL) {
        kt_fail(err, KT_NO_MEMORY, "no memory for pool %s", name);
        return NULL;
    }
    p->loop = loop;
    p->queue_max = queue_max;
    p->tail = &p->queue;
    p->ended_tail = &p->ended;
    pthread_mutex_init(&p->lock, NULL);
    sem_init(&p->more, 0, 0);
    int rc = uv_async_init(loop, &p->async, on_async);
    if (rc != 0) {
        kt_fail(err, KT_INTERNAL, "pool %s: %s", name, uv_strerror(rc));
        free(p);
        return NULL;
    }
    p->async.data = p;
    uv_unref((uv_handle_t *)&p->async);

    /* Signals belong to the loop's thread (the slice timer's to the one that runs Lua). */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (; p->threads < threads; p->threads++) {
        rc = pthread_create(&p->thread[p->threads], NULL, work, p);
        if (rc != 0)
            break;
        char label[16];
        snprintf(label, sizeof label, "%.9s-%d", name, p->threads);
        pthread_setname_np(p->thread[p->threads], label);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        kt_fail(err, KT_INTERNAL, "pool %s: cannot start a thread: %s", name, strerror(rc));
        kt_pool_free(p);
        return NULL;
    }
    return p;
}

int kt_pool_submit(struct kt_pool *p, struct kt_job *job, struct kt_error *err) {
    int rc = 0;
    bool wake = false;
    job->next = NULL;
    pthread_mutex_lock(&p->lock);
    if (p->stop)
        rc = kt_fail(err, KT_DRAINING, "the pool is closing");
    else if (p->waiting >= p->queue_max)
        rc = kt_fail(err, KT_OVERLOADED, "%d jobs are waiting", p->waiting);
    else {
        *p->tail = job;
        p->tail = &job->next;
        p->waiting++;
        wake = must_wake(p);
    }
    pthread_mutex_unlock(&p->lock);
    if (wake)
        sem_post(&p->more);
    if (rc == 0 && p->pending++ == 0)
        uv_ref((uv_handle_t *)&p->async);
    return rc;
}

int kt_pool_pending(const struct kt_pool *p) {
    return p->pending;
}

static void on_closed(uv_handle_t *handle) {
    free(handle->data);
}

void kt_pool_free(struct kt_pool *p) {
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->threads; i++)
        sem_post(&p->more);
    for (int i = 0; i < p->threads; i++)
        pthread_join(p->thread[i], NULL);
    call_done(p);
    pthread_mutex_destroy(&p->lock);
    sem_destroy(&p->more);
    uv_close((uv_handle_t *)&p->async, on_closed);
}
