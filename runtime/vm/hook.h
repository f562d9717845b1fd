/* The late hook of a script VM: slices, budgets and kills. The only file that calls lua_sethook is
 * hook.c.
 *
 * While a run executes, nothing is hooked and nothing is paid. A timer signal at the end of the
 * slice (or the allocator under memory pressure) arms a count-1 hook; it fires at the next
 * instruction, does what is due (collect, charge, kill) and yields: the run queue goes on with
 * others. A killed run is never resumed. */
#pragma once

#include "vm/task.h"

/* Around lua_resume of a script VM's task, by task.c. After kt_hook_leave, task->sliced says that
 * the yield was a slice's end; task->verdict that the run is over. */
void kt_hook_enter(struct kt_task *task);
void kt_hook_leave(struct kt_task *task);
