/* A task is a coroutine that the run queue drives: the only file that calls lua_resume is task.c.
 *
 * Structured: a child ends with its parent (it is cancelled when the parent ends). A deadline lives
 * on the task and children inherit it. Cancel is soft first (the pending op answers cancelled,
 * every later one raises it), then hard (never resumed again; its closers run). All of it belongs
 * to the loop's thread. */
#pragma once

#include <lua.h>
#include <stdint.h>
#include <uv.h>

#include "core/err.h"
#include "vm/op.h"
#include "vm/queue.h"
#include "vm/vm.h"

enum kt_task_status {
    KT_TASK_READY,
    KT_TASK_RUNNING,
    KT_TASK_WAITING,
    KT_TASK_DONE,
    KT_TASK_FAILED
};

/* Called once on the loop when the task has ended, in no VM. On success the results are on top of
 * `co`'s stack (lua_gettop values); on failure err says why, and err->message has the traceback's
 * first lines; the error value itself is at the top of the stack when the code raised one
 * (lua_gettop > 0); co is NULL when the task was given up for its memory. It may start tasks, not
 * free the task's vm. The task is freed when this returns. */
typedef void (*kt_task_end_fn)(struct kt_task *task, lua_State *co, const struct kt_error *err,
                               void *ud);

/* Fields are read by op.c and hook.c, written by task.c unless said. */
struct kt_task {
    struct kt_vm *vm;
    lua_State *co;
    int ref;   /* registry anchor of co */
    int extra; /* one more registry ref that goes with the task; set by who made it */
    enum kt_task_status status;
    int nargs; /* values on co for the next resume */
    bool started, cancelled, expired, killed;
    bool sliced;             /* hook.c: this yield was a slice's end, not a wait */
    int inner_slices;        /* hook.c: such yields of coroutines inside, not yet passed on */
    int passed;              /* hook.c: coroutines that the last slice's end went out of */
    uint64_t spent, limit;   /* hook.c: instructions; limit set by who made the task */
    uint64_t cpu;            /* hook.c: ns of CPU time */
    int64_t bytes;           /* hook.c: how much the state has grown while it ran */
    struct kt_error verdict; /* hook.c: code set = the run is over, never resume */
    struct kt_op *op;        /* what it waits for */
    struct kt_error wake;    /* code set: the op was taken away, answer this instead */
    struct kt_task *parent, *children, *sibling_prev, *sibling_next;
    uint64_t deadline; /* uv_hrtime; 0: none */
    uv_timer_t *timer; /* deadline, then grace; its own memory, freed when closed */
    int closers;       /* registry ref of the list of functions, LUA_NOREF: none */
    kt_task_end_fn end;
    void *ud;
    void *owner; /* free for who made the task (a script run) */
    struct kt_turn turn; /* queue.c; used: hook.c */
    struct kt_task *prev, *next;
};

/* Takes the function and its nargs arguments from the top of L's stack (L: main state or a task of
 * vm). The new task starts on the run queue, never inside this call. parent NULL: a root. */
struct kt_task *kt_task_spawn(struct kt_vm *vm, lua_State *L, int nargs, struct kt_task *parent,
                              kt_task_end_fn end, void *ud);
struct kt_task *kt_task_current(lua_State *L);                            /* NULL outside a task */
void kt_task_set_deadline(struct kt_task *task, double seconds_from_now); /* only ever nearer */
double kt_task_time_left(const struct kt_task *task);                     /* <= 0: none set */
void kt_task_cancel(struct kt_task *task); /* soft; hard after the grace period (2 s) */
void kt_task_kill(struct kt_task *task);   /* hard, now; a running one when it stops next */
void kt_task_kill_all(struct kt_vm *vm);   /* not while one of them runs */
/* Takes the function on top of L's stack: called when the task ends, however it ends, last added
 * first, outside of any task (it may not wait). Its failure is logged. */
void kt_task_defer(struct kt_task *task, lua_State *L);
/* The parked task of vm, other than `but`, with the most bytes; NULL: none. */
struct kt_task *kt_task_largest(struct kt_vm *vm, const struct kt_task *but);
/* Let go of all values of a parked task, from inside another one of its vm; kill it later. */
void kt_task_abandon(struct kt_task *task, lua_State *L);
void kt_task_kill_abandoned(struct kt_vm *vm);
void kt_task_wake(struct kt_task *task); /* op.c: put a waiting task on the run queue */
int kt_task_count(void);

/* What a waiting task yields; see coroutine.lua. */
void kt_task_push_mark(lua_State *L);

/* queue.c: resume a task that has left the run queue. True when it used its whole slice up. */
bool kt_task_run(struct kt_task *task);
