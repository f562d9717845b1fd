/* Tasks. Which goes on next is queue.c's. */
#include "vm/task.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "vm/hook.h"
#include "vm/queue.h"

#define GRACE_MS 2000 /* between soft and hard cancel */

static struct kt_task *tasks;
static int task_count;
static char mark;

static void finish(struct kt_task *task, const struct kt_error *err);

static void enqueue(struct kt_task *task) {
    if (!task->turn.queued)
        task->status = KT_TASK_READY;
    kt_queue_push(task);
}

void kt_task_push_mark(lua_State *L) {
    lua_pushlightuserdata(L, &mark);
}

/* Timers: one per task, first for its deadline, after a soft cancel for the grace period. */

static void timer_closed(uv_handle_t *handle) {
    free(handle);
}

static void close_timer(struct kt_task *task) {
    if (task->timer == NULL)
        return;
    uv_close((uv_handle_t *)task->timer, timer_closed);
    task->timer = NULL;
}

static void start_timer(struct kt_task *task, uv_timer_cb cb, uint64_t ms) {
    if (task->timer == NULL) {
        task->timer = malloc(sizeof *task->timer);
        if (task->timer == NULL)
            abort(); /* a deadline that is lost would be worse */
        uv_timer_init(task->vm->loop, task->timer);
        task->timer->data = task;
    }
    uv_update_time(task->vm->loop);
    uv_timer_start(task->timer, cb, ms, 0);
}

/* Take the op away from a waiting task, which then goes on with nil, {code}. */
static void take_op(struct kt_task *task, enum kt_code code, const char *why) {
    struct kt_op *op = task->op;
    if (op == NULL || task->status != KT_TASK_WAITING)
        return;
    task->op = NULL;
    kt_fail(&task->wake, code, "%s: %s", op->class->name, why);
    op->task = NULL;
    enqueue(task);
    if (op->class->cancel != NULL)
        op->class->cancel(op);
}

static void on_deadline(uv_timer_t *timer) {
    struct kt_task *task = timer->data;
    task->expired = true;
    take_op(task, KT_DEADLINE_EXCEEDED, "the task's deadline has passed");
}

static void on_grace_over(uv_timer_t *timer) {
    kt_task_kill(timer->data);
}

static void link_child(struct kt_task *task, struct kt_task *parent) {
    task->parent = parent;
    if (parent == NULL)
        return;
    task->sibling_next = parent->children;
    if (parent->children != NULL)
        parent->children->sibling_prev = task;
    parent->children = task;
}

static void unlink_child(struct kt_task *task) {
    if (task->parent == NULL)
        return;
    if (task->sibling_next != NULL)
        task->sibling_next->sibling_prev = task->sibling_prev;
    if (task->sibling_prev != NULL)
        task->sibling_prev->sibling_next = task->sibling_next;
    else
        task->parent->children = task->sibling_next;
    task->parent = task->sibling_prev = task->sibling_next = NULL;
}

struct kt_task *kt_task_spawn(struct kt_vm *vm, lua_State *L, int nargs, struct kt_task *parent,
                              kt_task_end_fn end, void *ud) {
    lua_State *co = lua_newthread(L);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    struct kt_task *task = calloc(1, sizeof *task);
    if (task == NULL || !lua_checkstack(co, nargs + 1)) {
        free(task);
        luaL_unref(L, LUA_REGISTRYINDEX, ref);
        luaL_error(L, "not enough memory");
        return NULL; /* not reached */
    }
    lua_xmove(L, co, nargs + 1);
    task->vm = vm;
    task->co = co;
    task->ref = ref;
    task->extra = LUA_NOREF;
    task->nargs = nargs;
    task->closers = LUA_NOREF;
    task->limit = UINT64_MAX;
    task->end = end;
    task->ud = ud;
    link_child(task, parent);
    task->next = tasks;
    if (tasks != NULL)
        tasks->prev = task;
    tasks = task;
    task_count++;
    vm->tasks++;
    if (parent != NULL && parent->deadline != 0)
        kt_task_set_deadline(task, kt_task_time_left(parent));
    enqueue(task);
    return task;
}

struct kt_task *kt_task_current(lua_State *L) {
    struct kt_vm *vm = kt_vm_of(L);
    return vm == NULL ? NULL : vm->current;
}

void kt_task_set_deadline(struct kt_task *task, double seconds) {
    if (seconds < 0)
        seconds = 0;
    uint64_t at = uv_hrtime() + (uint64_t)(seconds * 1e9);
    if (at == 0 || (task->deadline != 0 && task->deadline <= at))
        return;
    task->deadline = at;
    if (!task->cancelled)
        start_timer(task, on_deadline, (uint64_t)(seconds * 1e3 + 0.999));
}

double kt_task_time_left(const struct kt_task *task) {
    if (task->deadline == 0)
        return 0;
    uint64_t now = uv_hrtime();
    return task->deadline <= now ? 1e-9 : (double)(task->deadline - now) / 1e9;
}

void kt_task_cancel(struct kt_task *task) {
    if (task->cancelled)
        return;
    task->cancelled = true;
    for (struct kt_task *child = task->children; child != NULL;) {
        if (child->cancelled) {
            child = child->sibling_next;
            continue;
        }
        kt_task_cancel(child); /* may end it at once: begin anew */
        child = task->children;
    }
    if (!task->started) {
        kt_task_kill(task);
        return;
    }
    start_timer(task, on_grace_over, GRACE_MS);
    take_op(task, KT_CANCELLED, "the task was cancelled");
}

void kt_task_kill(struct kt_task *task) {
    struct kt_error err;
    task->killed = true;
    if (task->status == KT_TASK_RUNNING)
        return; /* run() ends it */
    struct kt_op *op = task->op;
    if (op != NULL) {
        task->op = NULL;
        op->task = NULL;
        if (op->settled)
            kt_op_drop(op);
        else if (op->class->cancel != NULL)
            op->class->cancel(op);
    }
    kt_fail(&err, KT_CANCELLED, "the task was cancelled");
    finish(task, task->verdict.code != KT_OK ? &task->verdict : &err);
}

void kt_task_kill_all(struct kt_vm *vm) {
    for (bool again = true; again;) {
        again = false;
        for (struct kt_task *task = tasks; task != NULL; task = task->next)
            if (task->vm == vm) {
                kt_task_kill(task);
                again = true; /* the list has changed under us */
                break;
            }
    }
}

struct kt_task *kt_task_largest(struct kt_vm *vm, const struct kt_task *but) {
    struct kt_task *largest = NULL;
    for (struct kt_task *task = tasks; task != NULL; task = task->next)
        if (task->vm == vm && task != but && task->co != NULL &&
            (largest == NULL || task->bytes > largest->bytes))
            largest = task;
    return largest;
}

void kt_task_abandon(struct kt_task *task, lua_State *L) {
    int refs[] = {task->ref, task->extra};
    for (int i = 0; i < 2; i++) {
        if (refs[i] == LUA_NOREF)
            continue;
        lua_pushboolean(L, false); /* finish() gives the slots back */
        lua_rawseti(L, LUA_REGISTRYINDEX, refs[i]);
    }
    task->co = NULL;
}

void kt_task_kill_abandoned(struct kt_vm *vm) {
    for (bool again = true; again;) {
        again = false;
        for (struct kt_task *task = tasks; task != NULL && !again; task = task->next)
            if (task->vm == vm && task->co == NULL) {
                kt_task_kill(task);
                again = true;
            }
    }
}

void kt_task_wake(struct kt_task *task) {
    enqueue(task);
}

int kt_task_count(void) {
    return task_count;
}

/* Closers */

void kt_task_defer(struct kt_task *task, lua_State *L) {
    if (task->closers == LUA_NOREF) {
        lua_newtable(L);
        task->closers = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->closers);
    lua_insert(L, -2);
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_pop(L, 1);
}

static int run_closer(lua_State *L, void *ud) {
    struct kt_task *task = ud;
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->closers);
    int n = (int)lua_objlen(L, -1);
    lua_rawgeti(L, -1, n);
    lua_pushnil(L);
    lua_rawseti(L, -3, n); /* gone before it runs: a failing one runs once too */
    if (n == 0) {
        luaL_unref(L, LUA_REGISTRYINDEX, task->closers);
        task->closers = LUA_NOREF;
        return 0;
    }
    lua_call(L, 0, 0);
    return 0;
}

static void run_closers(struct kt_task *task) {
    struct kt_error err;
    while (task->closers != LUA_NOREF)
        if (kt_vm_call(task->vm, run_closer, task, &err) != 0)
            kt_log(KT_ERROR, "task.closer_failed", "msg", err.message, NULL);
}

/* Running */

struct push_call {
    struct kt_task *task;
    struct kt_op *op;
    int n;
};

/* On the main state, which may raise; the parked coroutine only receives. */
static int push_results(lua_State *L, void *ud) {
    struct push_call *call = ud;
    struct kt_op *op = call->op;
    lua_settop(L, 0);
    int n = op->push == NULL ? 0 : op->push(L, op);
    if (!lua_checkstack(call->task->co, n))
        return luaL_error(L, "%s: too many results", op->class->name);
    lua_xmove(L, call->task->co, n);
    call->n = n;
    return 0;
}

static int push_wake(lua_State *L, void *ud) {
    struct push_call *call = ud;
    kt_push_error(L, &call->task->wake);
    lua_xmove(L, call->task->co, 2);
    call->n = 2;
    return 0;
}

/* Put what the task waited for on its stack; returns the number of values. */
static int take_results(struct kt_task *task) {
    struct kt_op *op = task->op;
    struct push_call call = {task, op, 0};
    struct kt_error err;
    if (op != NULL) {
        task->op = NULL;
        int rc = kt_vm_call(task->vm, push_results, &call, &err);
        kt_op_drop(op);
        if (rc == 0)
            return call.n;
        task->wake = err;
        if (err.code == KT_SCRIPT_ERROR)
            task->wake.code = KT_INTERNAL; /* it was our push that failed */
    }
    if (task->wake.code != KT_OK) {
        if (kt_vm_call(task->vm, push_wake, &call, &err) != 0)
            kt_log(KT_ERROR, "task.wake_failed", "msg", err.message, NULL);
        task->wake.code = KT_OK;
    }
    return call.n;
}

struct trace_call {
    lua_State *co;
    struct kt_error *err;
};

static int add_traceback(lua_State *L, void *ud) {
    struct trace_call *call = ud;
    luaL_traceback(L, call->co, call->err->message, 0);
    kt_fail(call->err, call->err->code, "%s", lua_tostring(L, -1));
    return 0;
}

static void finish(struct kt_task *task, const struct kt_error *err) {
    kt_queue_remove(task);
    close_timer(task);
    task->status = err == NULL ? KT_TASK_DONE : KT_TASK_FAILED;
    while (task->children != NULL) {
        struct kt_task *child = task->children;
        unlink_child(child);
        kt_task_cancel(child);
    }
    run_closers(task);
    unlink_child(task);
    if (task->next != NULL)
        task->next->prev = task->prev;
    if (task->prev != NULL)
        task->prev->next = task->next;
    else
        tasks = task->next;
    task_count--;
    task->vm->tasks--;
    if (task->end != NULL)
        task->end(task, task->co, err, task->ud);
    luaL_unref(task->vm->L, LUA_REGISTRYINDEX, task->ref);
    luaL_unref(task->vm->L, LUA_REGISTRYINDEX, task->extra);
    free(task);
}

bool kt_task_run(struct kt_task *task) {
    struct kt_vm *vm = task->vm;
    bool script = vm->kind == KT_VM_SCRIPT;
    struct kt_error err;
    int nargs = task->started ? take_results(task) : task->nargs;
    task->started = true;
    task->sliced = false;
    task->status = KT_TASK_RUNNING;
    struct kt_task *outer = vm->current;
    vm->current = task;
    if (script)
        kt_hook_enter(task);
    int rc = lua_resume(task->co, nargs);
    if (script)
        kt_hook_leave(task);
    vm->current = outer;

    if (task->verdict.code != KT_OK) {
        finish(task, &task->verdict);
    } else if (rc == 0) {
        finish(task, NULL);
    } else if (task->killed) {
        kt_fail(&err, KT_CANCELLED, "the task was cancelled");
        finish(task, &err);
    } else if (rc == LUA_YIELD && task->op != NULL) {
        lua_settop(task->co, 0); /* the mark */
        task->status = KT_TASK_WAITING;
        if (task->op->settled) {
            enqueue(task);
        } else if (task->cancelled) { /* by itself or a sibling, while it ran */
            take_op(task, KT_CANCELLED, "the task was cancelled");
        }
    } else if (rc == LUA_YIELD && task->sliced) {
        enqueue(task);
        return true;
    } else if (rc == LUA_YIELD) {
        kt_fail(&err, KT_SCRIPT_ERROR, "coroutine.yield outside a coroutine");
        lua_settop(task->co, 0);
        finish(task, &err);
    } else {
        kt_vm_error(task->co, -1, &err);
        if (!script && lua_type(task->co, -1) != LUA_TTABLE && err.code == KT_SCRIPT_ERROR)
            err.code = KT_INTERNAL; /* our own mistake, not a script's */
        if (!script && err.code == KT_INTERNAL) { /* others say themselves what is wrong */
            struct trace_call call = {task->co, &err};
            kt_vm_call(vm, add_traceback, &call, NULL);
        }
        finish(task, &err);
    }
    return false;
}
