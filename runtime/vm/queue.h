/* The run queue of a loop: which task goes on next. Loop thread only.
 *
 * The service's own tasks (host VM) are short and come first, in order. Scripts get what is left of
 * a turn, one slice at least: share by share in turn, whatever number of VMs and runs a share has.
 * A share is what one project runs, so no project waits longer than one slice for each other one.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

struct kt_task;
struct kt_vm;

struct kt_task_list {
    struct kt_task *first, *last;
};

/* Held by the script VMs of one project. Those without a name have one each. */
struct kt_share {
    char name[64];
    int holders;
    struct kt_task_list ready;
    bool queued;
    struct kt_share *prev, *next; /* among those with ready tasks */
};

struct kt_share *kt_share_new(const char *name); /* one holder; NULL: no memory */
void kt_share_release(struct kt_share *share);   /* none of its VMs has a task any more */

/* Idempotent. Pushing never runs the task: that is done after the loop has polled. */
void kt_queue_push(struct kt_task *task);
void kt_queue_remove(struct kt_task *task);
/* When the loop ends: nothing is queued any more. */
void kt_run_queue_free(uv_loop_t *loop);
