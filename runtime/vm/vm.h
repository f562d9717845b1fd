/* A Lua state with its limits. The only file that makes a lua_State is vm.c.
 *
 * Memory: the cap holds only while script code runs (vm->enforce, set around lua_resume), so that
 * a host push never fails; a script at the cap gets Lua's "not enough memory", and its run ends
 * with memory_limit. Time: see hook.h. All of it belongs to the loop's thread. */
#pragma once

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "core/err.h"

enum kt_vm_kind {
    KT_VM_HOST,   /* trusted, JIT, all libraries, no cap */
    KT_VM_SCRIPT, /* a tenant's: no jit, ffi, io, os, debug, package; capped */
    KT_VM_ANALYST /* the one of an analyst process: JIT, no io, os, debug for rules */
};

struct kt_vm {
    lua_State *L;
    enum kt_vm_kind kind;
    uv_loop_t *loop;        /* NULL in an analyst: it has no tasks */
    size_t used, peak, cap; /* bytes; cap 0: none */
    bool enforce;           /* script code runs: the cap holds */
    bool denied;            /* an allocation was refused since this was last cleared */
    size_t pressure;        /* script VM: used above this calls on_pressure once; 0: never */
    void (*on_pressure)(struct kt_vm *vm); /* inside the allocator: may only set flags and hooks */
    int tasks;                             /* live tasks of this state */
    struct kt_share *share;                /* of the run queue; NULL: not a script VM */
    struct kt_task *current;               /* the task that runs now, NULL outside lua_resume */
    void *inner_ud;                        /* LuaJIT's own allocator, under the counting one */
    lua_Alloc inner;
    struct kt_vm *prev, *next;
};

/* cap in bytes, 0 for none. Libraries as the kind says, opened and sandboxed. */
struct kt_vm *kt_vm_new(uv_loop_t *loop, enum kt_vm_kind kind, size_t cap, struct kt_error *err);
/* Of a script VM without tasks: it takes turns together with the VMs of its loop that have this
 * name (a project's). Without it each VM has turns of its own. */
int kt_vm_set_share(struct kt_vm *vm, const char *name, struct kt_error *err);
/* Hard-cancels its tasks, then closes the state. Not from inside one of its tasks. */
void kt_vm_free(struct kt_vm *vm);
struct kt_vm *kt_vm_of(lua_State *L); /* the vm of any thread of its state */
/* Run fn(L, ud) protected. For every entry into a state that is not a task's resume. What fn leaves
 * on the stack is dropped. */
int kt_vm_call(struct kt_vm *vm, int (*fn)(lua_State *L, void *ud), void *ud, struct kt_error *err);
/* The error value at idx as code and message: a table with code and message, or any text. Runs no
 * metamethod. code is KT_SCRIPT_ERROR when the value names none, KT_NO_MEMORY for Lua's own. */
void kt_vm_error(lua_State *L, int idx, struct kt_error *err);
/* Host-driven collection: about `kib` of work; returns true when a cycle ended. */
bool kt_vm_gc_step(struct kt_vm *vm, int kib);
int kt_vm_count(void);
