/* The base of every asynchronous call that a Lua task waits for.
 *
 *     static int l_sleep(lua_State *L) {
 *         double seconds = kt_check_duration(L, 1);            -- raises on bad input
 *         struct sleep_op *op = kt_op_new(L, &sleep_class);    -- raises outside a task
 *         … start …
 *         return kt_op_yield(&op->op);                         -- the only lua_yield
 *     }
 *
 * An op settles once, on the loop's thread, from wherever the work ends. Settling queues the task;
 * the run queue resumes it. An op that cannot be stopped at once (a job on a thread) stays alive
 * after its task went on: `cancel` only asks, and the class's own end calls kt_op_settle, which
 * then frees it without waking anyone. */
#pragma once

#include <lua.h>

#include "core/err.h"

struct kt_task;
struct kt_op;

struct kt_op_class {
    const char *name;               /* "timer.sleep", seen by the console */
    size_t size;                    /* of the structure that begins with struct kt_op */
    void (*cancel)(struct kt_op *); /* stop the work soon; idempotent; NULL: nothing to stop */
    void (*free)(struct kt_op *);   /* release what the op holds, not the op itself; may be NULL */
};

/* Pushes the results on L and returns how many. Runs just before the task goes on, protected. */
typedef int (*kt_push_fn)(lua_State *L, struct kt_op *op);

struct kt_op {
    const struct kt_op_class *class;
    struct kt_task *task; /* NULL once nobody waits any more */
    lua_State *L;         /* the thread that called; dead once task is NULL */
    kt_push_fn push;
    struct kt_error error; /* what the ready-made kt_op_fail pushes */
    bool settled;
    struct kt_op *prev, *next; /* the list of live ops, for counting and the console */
};

/* Zeroed structure of class->size. Raises when L is not a task that may yield here, when its task
 * was cancelled ({code="cancelled"}) or is past its deadline ({code="deadline_exceeded"}). */
void *kt_op_new(lua_State *L, const struct kt_op_class *class);
/* Give a new op up before kt_op_yield (its start failed): frees it. */
void kt_op_drop(struct kt_op *op);
/* Hand the task over to the op: `return kt_op_yield(op)`. An op settled before is fine. */
int kt_op_yield(struct kt_op *op);
/* The work ended. push NULL: no result values. The op may be freed before this returns. */
void kt_op_settle(struct kt_op *op, kt_push_fn push);
/* The work failed: the task gets nil, {code, message, retryable}. */
void kt_op_fail(struct kt_op *op, const struct kt_error *err);
/* Seconds that the op may take: the smaller of `wanted` (0 or less: no wish) and what is left to
 * the task. 0 or less: no limit. The task's own deadline cancels the op in any case. */
double kt_op_time_left(const struct kt_op *op, double wanted);

/* Push nil, {code=, message=, retryable=} (the last two results of a failed call); returns 2. */
int kt_push_error(lua_State *L, const struct kt_error *err);
/* Raise that table. For the door and for programming mistakes. */
int kt_raise(lua_State *L, const struct kt_error *err);

int kt_op_count(void); /* live ops of this process, for leftovers */
