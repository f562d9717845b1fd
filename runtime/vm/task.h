/* A task is a coroutine that the run queue drives: the only file that calls lua_resume is task.c.
 *
 * Structured: a child ends with its parent. A deadline lives on the task and children inherit it.
 * Cancel is soft first (the pending op and every later one answers cancelled), then hard (never
 * resumed again; its closers run). */
#pragma once

#include <lua.h>
#include <uv.h>

#include "core/err.h"
#include "vm/op.h"
#include "vm/vm.h"

enum kt_task_status { KT_TASK_READY, KT_TASK_RUNNING, KT_TASK_WAITING, KT_TASK_DONE, KT_TASK_FAILED };

/* Called once on the loop when the task has ended, in no VM. On success the results are on top of
 * `co`'s stack (lua_gettop values); on failure err says why, and err->message has the traceback's
 * first lines; the error value itself is at the top of the stack. */
typedef void (*kt_task_end_fn)(struct kt_task *task, lua_State *co, const struct kt_error *err,
                               void *ud);

/* Takes the function and its nargs arguments from the top of L's stack (L: main state or a task of
 * vm). The new task starts on the run queue, never inside this call. parent NULL: a root. */
struct kt_task *kt_task_spawn(struct kt_vm *vm, lua_State *L, int nargs, struct kt_task *parent,
                              kt_task_end_fn end, void *ud);
struct kt_task *kt_task_current(lua_State *L); /* NULL outside a task */
void kt_task_set_deadline(struct kt_task *task, double seconds_from_now); /* only ever nearer */
double kt_task_time_left(const struct kt_task *task);                     /* <= 0: none set */
void kt_task_cancel(struct kt_task *task);      /* soft; hard after the grace period (2 s) */
void kt_task_kill(struct kt_task *task);        /* hard, now */
int kt_task_count(void);

/* The run queue of a loop: made with the first task, drained between loop events, a bounded slice
 * per turn so that the loop goes on. Free it when the loop ends. */
void kt_run_queue_free(uv_loop_t *loop);
