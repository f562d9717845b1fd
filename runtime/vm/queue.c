#include "vm/queue.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "vm/cut.h"
#include "vm/task.h"

#define TURN_NS 8000000ull  /* of one drain, then the loop gets its turn */
#define SLICE_NS 8000000ull /* about what a whole slice is */

struct queue {
    uv_loop_t *loop;
    uv_check_t check; /* drains, after the loop has polled */
    uv_idle_t idle;   /* active while something is queued: the loop does not block */
    struct kt_turns host, shares;
    int script_count;   /* tasks of all shares */
    bool whole;         /* the last turn ended with a slice of one that burns */
    uint64_t owed;      /* ns that the host has had more than the scripts which are ready */
    struct kt_cut *cut; /* made for the first one that burns */
    bool cut_tried;
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
        kt_cut_free(q->cut);
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

/* Who has waited goes before those that have had up to a slice less than it, and did not. */
static void push(struct kt_turns *turns, struct kt_turn *turn, bool waited) {
    if (turn->used < turns->floor)
        turn->used = turns->floor;
    turn->at = !waited                                ? turn->used
               : turn->used - turns->floor > SLICE_NS ? turn->used - SLICE_NS
                                                      : turns->floor;
    struct kt_turn *before = turns->last;
    while (before != NULL && before->at > turn->at)
        before = before->prev;
    turn->prev = before;
    turn->next = before != NULL ? before->next : turns->first;
    *(turn->next != NULL ? &turn->next->prev : &turns->last) = turn;
    *(before != NULL ? &before->next : &turns->first) = turn;
    turn->queued = true;
    turns->count++;
}

static void take(struct kt_turns *turns, struct kt_turn *turn) {
    *(turn->next != NULL ? &turn->next->prev : &turns->last) = turn->prev;
    *(turn->prev != NULL ? &turn->prev->next : &turns->first) = turn->next;
    turn->queued = false;
    turns->count--;
}

static struct kt_task *task_of(struct kt_turn *turn) {
    return (struct kt_task *)((char *)turn - offsetof(struct kt_task, turn));
}

/* Where its first task belongs among those of the others. */
static void place(struct queue *q, struct kt_share *share) {
    if (share->turn.queued)
        take(&q->shares, &share->turn);
    if (share->ready.count > 0)
        push(&q->shares, &share->turn, !task_of(share->ready.first)->sliced);
}

void kt_queue_push(struct kt_task *task) {
    struct queue *q = queue_of(task->vm->loop);
    struct kt_share *share = task->vm->share;
    if (task->turn.queued)
        return;
    if (q->host.count + q->script_count == 0)
        uv_idle_start(&q->idle, idle);
    push(share == NULL ? &q->host : &share->ready, &task->turn, !task->sliced);
    if (share == NULL)
        return;
    q->script_count++;
    place(q, share);
}

void kt_queue_remove(struct kt_task *task) {
    struct queue *q = queue_of(task->vm->loop);
    struct kt_share *share = task->vm->share;
    if (!task->turn.queued)
        return;
    take(share == NULL ? &q->host : &share->ready, &task->turn);
    if (share != NULL) {
        q->script_count--;
        place(q, share);
    }
    if (q->host.count + q->script_count == 0)
        uv_idle_stop(&q->idle);
}

static struct kt_cut *cut_of(struct queue *q) {
    if (!q->cut_tried)
        q->cut = kt_cut_new(q->loop);
    q->cut_tried = true;
    return q->cut;
}

/* The first task of the share, and where the share then stands. */
static bool run_script(struct queue *q, struct kt_share *share, bool due) {
    struct kt_task *task = task_of(share->ready.first);
    struct kt_cut *cut = share->burns && !due ? cut_of(q) : NULL;
    q->shares.floor = share->turn.at;
    share->ready.floor = task->turn.at;
    kt_queue_remove(task);
    if (cut != NULL)
        kt_cut_begin(cut);
    share->burns = kt_task_run(task);
    if (cut != NULL)
        kt_cut_end(cut);
    place(q, share); /* what it has used has changed */
    return share->burns;
}

static void drain(uv_check_t *check) {
    struct queue *q = check->data;
    uint64_t start = uv_hrtime(), now = start;
    /* Only those queued now: what they queue waits for the loop's next turn. */
    for (int n = q->host.count; n > 0 && q->host.count > 0 && now - start < TURN_NS; n--) {
        struct kt_task *task = task_of(q->host.first);
        kt_queue_remove(task);
        kt_task_run(task);
        now = uv_hrtime();
    }
    q->owed = q->script_count > 0 ? q->owed + (now - start) : 0;
    bool due = q->owed >= TURN_NS, rest = q->whole;
    q->whole = false;
    for (int n = q->script_count; n > 0 && q->shares.count > 0 && !q->whole; n--) {
        struct kt_share *share = (struct kt_share *)q->shares.first; /* its first member */
        uint64_t before = now;
        if (share->burns && !due && (rest || q->host.count > 0))
            break;
        q->whole = run_script(q, share, due);
        now = uv_hrtime();
        q->owed -= q->owed < now - before ? q->owed : now - before;
        if (now - start >= TURN_NS)
            break;
    }
}
