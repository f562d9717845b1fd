/* The run queue of a loop: which task goes on next. Loop thread only.
 *
 * The service's own tasks (host VM) are short and come first, in order. Scripts get what is left of
 * a turn, share by share, and the share that has had the least processor time first; within a share
 * so the tasks. A share is what one project runs, whatever number of VMs and runs that is. Who had
 * nothing to do meanwhile saves nothing up, but goes before those that used up their slices, until
 * it has had a slice more than they: so a run that mostly waits is not held up by ones that burn.
 *
 * One that burns has its turn when the service's own tasks are through, and its slice is cut short
 * when the loop has something to do (cut.h). Then the loop has two turns: in the first it hears
 * what has come, in the second what that has made it wait for. A service that is never through owes
 * the scripts as much time as it took: then a slice comes all the same, and whole.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct kt_task;

/* A place in a list that is ordered by what each has used, first come first where it is the same.
 */
struct kt_turn {
    uint64_t used; /* ns of CPU time (hook.c), raised to the list's floor when it joins */
    uint64_t at;   /* what it is ordered by */
    bool queued;
    struct kt_turn *prev, *next;
};

struct kt_turns {
    struct kt_turn *first, *last;
    uint64_t floor; /* where the last one that went stood: nobody stands before that */
    int count;
};

/* Held by the script VMs of one project. Those without a name have one each. */
struct kt_share {
    struct kt_turn turn; /* among those with ready tasks */
    char name[64];
    int holders;
    bool burns; /* its last task used up its slice */
    struct kt_turns ready;
};

struct kt_share *kt_share_new(const char *name); /* one holder; NULL: no memory */
void kt_share_release(struct kt_share *share);   /* none of its VMs has a task any more */

/* Idempotent. Pushing never runs the task: that is done after the loop has polled. */
void kt_queue_push(struct kt_task *task);
void kt_queue_remove(struct kt_task *task);
/* When the loop ends: nothing is queued any more. */
void kt_run_queue_free(uv_loop_t *loop);
