/* The late hook of a script VM: slices, budgets and kills. The only file that calls lua_sethook is
 * hook.c.
 *
 * While a run executes, nothing is hooked and nothing is paid. A CPU timer of the loop's thread at
 * the end of the slice (or the allocator under memory pressure) arms a count-1 hook; it fires at
 * the next instruction, does what is due (collect garbage, charge, kill) and yields: the run queue
 * goes on with others. A killed run is never resumed. Where Lua cannot yield (inside a callback of
 * a C function) a kill raises at every instruction until the run is out of there.
 *
 * A run's budget is counted in instructions. A small one (at most KT_EXACT_MAX_STEPS) is counted
 * exactly, by a hook that is there from the start; a larger one by CPU time at a nominal
 * KT_STEP_NS each, so that it costs nothing. Work of C helpers is charged to it by size; what they
 * do beyond that ends an exactly counted run after KT_EXACT_STEP_NS for each instruction it may do.
 */
#pragma once

#include <pthread.h>

#include "vm/task.h"

#define KT_EXACT_MAX_STEPS 10000000ull
#define KT_STEP_NS 2
#define KT_EXACT_STEP_NS 400

/* Around lua_resume of a script VM's task, by task.c. After kt_hook_leave, task->sliced says that
 * the yield was a slice's end; task->verdict that the run is over. */
void kt_hook_enter(struct kt_task *task);
void kt_hook_leave(struct kt_task *task);
/* By cut.c: whether the next slice may be cut, on the loop's thread, before and after it; then cut
 * it, from any thread. */
void kt_hook_cuttable(bool on);
void kt_hook_cut(pthread_t loop_thread);
/* For tests: a slice ends after every `count` instructions; 0: by time again. */
#define KT_HOOK_UNTIL_CUT (-1) /* only by kt_hook_cut */
void kt_hook_slice_every(int count);
/* Set up memory pressure for a new script VM. */
void kt_hook_init(struct kt_vm *vm);
/* Charge the running task; raises once its budget is spent. Costs nothing outside a script VM. */
void kt_hook_charge(lua_State *L, uint64_t steps);
/* What is left to the running task's budget; a large number outside a script VM. */
uint64_t kt_hook_left(lua_State *L);
/* True once for every slice that ended inside a coroutine of the running task: see coroutine.lua.
 */
bool kt_hook_take_inner(lua_State *L);
