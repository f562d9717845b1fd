/* Ops: what tasks wait for. Settled once; never resumes. */
#include "vm/op.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "vm/task.h"

static struct kt_op *ops;
static int op_count;

void *kt_op_new(lua_State *L, const struct kt_op_class *class) {
    struct kt_task *task = kt_task_current(L);
    struct kt_error err;
    if (task == NULL) {
        kt_fail(&err, KT_INVALID_ARGUMENT, "%s waits: call it in a task", class->name);
        kt_raise(L, &err);
    }
    if (!lua_isyieldable(L)) {
        kt_fail(&err, KT_INVALID_ARGUMENT,
                "%s waits: not possible inside a sort, gsub or metamethod callback", class->name);
        kt_raise(L, &err);
    }
    if (task->cancelled) {
        kt_fail(&err, KT_CANCELLED, "%s: the task was cancelled", class->name);
        kt_raise(L, &err);
    }
    if (task->expired || (task->deadline != 0 && uv_hrtime() >= task->deadline)) {
        kt_fail(&err, KT_DEADLINE_EXCEEDED, "%s: the task's deadline has passed", class->name);
        kt_raise(L, &err);
    }
    struct kt_op *op = calloc(1, class->size);
    if (op == NULL) {
        kt_fail(&err, KT_NO_MEMORY, "%s: no memory", class->name);
        kt_raise(L, &err);
        return NULL; /* not reached */
    }
    op->class = class;
    op->task = task;
    op->L = L;
    op->next = ops;
    if (ops != NULL)
        ops->prev = op;
    ops = op;
    op_count++;
    return op;
}

void kt_op_drop(struct kt_op *op) {
    if (op->class->free != NULL)
        op->class->free(op);
    if (op->next != NULL)
        op->next->prev = op->prev;
    if (op->prev != NULL)
        op->prev->next = op->next;
    else
        ops = op->next;
    op_count--;
    free(op);
}

int kt_op_yield(struct kt_op *op) {
    op->task->op = op;
    kt_task_push_mark(op->L);
    return lua_yield(op->L, 1);
}

void kt_op_settle(struct kt_op *op, kt_push_fn push) {
    if (op->settled)
        return;
    op->settled = true;
    op->push = push;
    if (op->task == NULL)
        kt_op_drop(op);
    else if (op->task->op == op)
        kt_task_wake(op->task);
}

static int push_failure(lua_State *L, struct kt_op *op) {
    return kt_push_error(L, &op->error);
}

void kt_op_fail(struct kt_op *op, const struct kt_error *err) {
    if (op->settled)
        return;
    op->error = *err;
    kt_op_settle(op, push_failure);
}

double kt_op_time_left(const struct kt_op *op, double wanted) {
    double left = op->task == NULL ? 0 : kt_task_time_left(op->task);
    if (left <= 0)
        return wanted;
    return wanted <= 0 || left < wanted ? left : wanted;
}

static void push_error_table(lua_State *L, const struct kt_error *err) {
    lua_createtable(L, 0, 3);
    lua_pushstring(L, kt_code_name(err->code));
    lua_setfield(L, -2, "code");
    lua_pushstring(L, err->message);
    lua_setfield(L, -2, "message");
    lua_pushboolean(L, kt_code_retryable(err->code));
    lua_setfield(L, -2, "retryable");
    luaL_getmetatable(L, "kt.error"); /* nil in a state without it: no metatable */
    lua_setmetatable(L, -2);
}

int kt_push_error(lua_State *L, const struct kt_error *err) {
    lua_pushnil(L);
    push_error_table(L, err);
    return 2;
}

int kt_raise(lua_State *L, const struct kt_error *err) {
    push_error_table(L, err);
    return lua_error(L);
}

int kt_op_count(void) {
    return op_count;
}
