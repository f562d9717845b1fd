#include "vm/queue.h"

#include <stdio.h>
#include <stdlib.h>

#include "vm/hook.h"
#include "vm/task.h"

#define TURN_NS 8000000ull /* of one drain, then the loop gets its turn */

struct queue {
    uv_loop_t *loop;
    uv_check_t check; /* drains, after the loop has polled */
    uv_idle_t idle;   /* active while something is queued: the loop does not block */
    struct kt_task_list host;
    struct kt_share *first, *last; /* those with ready tasks, next to run first */
    int host_count, script_count;
    int open_handles;
    struct queue *next;
};

static struct queue *queues;

static void drain(uv_check_t *check);

static void queue_closed(uv_handle_t *handle) {
    struct queue *q = handle->data;
    if (--q->open_handles == 0)
        free(q);
}

static void idle(uv_idle_t *handle) {
    (void)handle; /* being active is its purpose */
}

static struct queue *queue_of(uv_loop_t *loop) {
    for (struct queue *q = queues; q != NULL; q = q->next)
        if (q->loop == loop)
            return q;
    struct queue *q = calloc(1, sizeof *q);
    if (q == NULL)
        abort(); /* 300 bytes when the loop starts */
    q->loop = loop;
    uv_check_init(loop, &q->check);
    uv_idle_init(loop, &q->idle);
    q->check.data = q->idle.data = q;
    q->open_handles = 2;
    uv_check_start(&q->check, drain);
    uv_unref((uv_handle_t *)&q->check);
    q->next = queues;
    queues = q;
    return q;
}

void kt_run_queue_free(uv_loop_t *loop) {
    for (struct queue **at = &queues; *at != NULL; at = &(*at)->next) {
        struct queue *q = *at;
        if (q->loop != loop)
            continue;
        *at = q->next;
        kt_hook_quick(false);
        uv_close((uv_handle_t *)&q->check, queue_closed);
        uv_close((uv_handle_t *)&q->idle, queue_closed);
        return;
    }
}

struct kt_share *kt_share_new(const char *name) {
    struct kt_share *share = calloc(1, sizeof *share);
    if (share != NULL) {
        snprintf(share->name, sizeof share->name, "%s", name);
        share->holders = 1;
    }
    return share;
}

void kt_share_release(struct kt_share *share) {
    if (share != NULL && --share->holders == 0)
        free(share);
}

static void list_push(struct kt_task_list *list, struct kt_task *task) {
    task->queue_prev = list->last;
    task->queue_next = NULL;
    if (list->last != NULL)
        list->last->queue_next = task;
    else
        list->first = task;
    list->last = task;
}

static void list_remove(struct kt_task_list *list, struct kt_task *task) {
    if (task->queue_next != NULL)
        task->queue_next->queue_prev = task->queue_prev;
    else
        list->last = task->queue_prev;
    if (task->queue_prev != NULL)
        task->queue_prev->queue_next = task->queue_next;
    else
        list->first = task->queue_next;
}

static void share_push(struct queue *q, struct kt_share *share) {
    share->queued = true;
    share->prev = q->last;
    share->next = NULL;
    if (q->last != NULL)
        q->last->next = share;
    else
        q->first = share;
    q->last = share;
}

static void share_remove(struct queue *q, struct kt_share *share) {
    share->queued = false;
    if (share->next != NULL)
        share->next->prev = share->prev;
    else
        q->last = share->prev;
    if (share->prev != NULL)
        share->prev->next = share->next;
    else
        q->first = share->next;
}

void kt_queue_push(struct kt_task *task) {
    struct queue *q = queue_of(task->vm->loop);
    struct kt_share *share = task->vm->share;
    if (task->queued)
        return;
    task->queued = true;
    if (q->host_count + q->script_count == 0)
        uv_idle_start(&q->idle, idle);
    if (share == NULL) {
        list_push(&q->host, task);
        q->host_count++;
        return;
    }
    list_push(&share->ready, task);
    q->script_count++;
    if (!share->queued)
        share_push(q, share);
}

void kt_queue_remove(struct kt_task *task) {
    struct queue *q = queue_of(task->vm->loop);
    struct kt_share *share = task->vm->share;
    if (!task->queued)
        return;
    task->queued = false;
    if (share == NULL) {
        list_remove(&q->host, task);
        q->host_count--;
    } else {
        list_remove(&share->ready, task);
        q->script_count--;
        if (share->ready.first == NULL)
            share_remove(q, share);
    }
    if (q->host_count + q->script_count == 0)
        uv_idle_stop(&q->idle);
}

/* The next task of the share whose turn it is, which then is the last one. */
static bool run_script(struct queue *q) {
    struct kt_share *share = q->first;
    struct kt_task *task = share->ready.first;
    kt_queue_remove(task);
    if (share->queued) {
        share_remove(q, share);
        share_push(q, share);
    }
    return kt_task_run(task);
}

static void drain(uv_check_t *check) {
    struct queue *q = check->data;
    uint64_t end = uv_hrtime() + TURN_NS;
    /* Only those queued now: what they queue waits for the loop's next turn. */
    for (int n = q->host_count; n > 0 && q->host.first != NULL; n--) {
        struct kt_task *task = q->host.first;
        kt_queue_remove(task);
        kt_task_run(task);
        if (uv_hrtime() >= end)
            break;
    }
    bool whole = false; /* one that burns its whole slice: others' events have waited long enough */
    for (int n = q->script_count; n > 0 && q->first != NULL && !whole; n--) {
        whole = run_script(q);
        if (uv_hrtime() >= end)
            break;
    }
    if (whole || q->script_count == 0)
        kt_hook_quick(q->script_count > 0);
}
