/* Module kt.task: tasks of the host. Yield: sleep, yield, join, event:wait.
 *
 *   task.spawn(fn, …) -> t     child of the current task (a root outside one)
 *   task.detach(fn, …) -> t    a root task: nobody's end ends it; its failure is logged
 *   t:join() -> results… | nil, err      t:cancel()      t:done() -> bool
 *   task.sleep(seconds) -> true | nil, err    task.yield() lets others run
 *   task.deadline(seconds)  of the current task, only ever nearer; children inherit it
 *   task.time_left() -> seconds | nil         task.cancelled() -> bool
 *   task.defer(fn)          called when the current task ends, however it ends; may not wait
 *   task.event() -> ev; ev:wait(timeout?) -> true | nil, {code="deadline_exceeded"};
 *       ev:signal() wakes all that wait now
 *   task.counts() -> {tasks, ops, vms, handles} of this process, for leftovers
 *
 * A pending call of a cancelled task answers nil, {code="cancelled"}; later ones raise it. */
#include <stdlib.h>

#include "bind/bind.h"
#include "core/log.h"

/* Timers have their own memory, so that an op can end before libuv has closed them. */

static void timer_closed(uv_handle_t *handle) {
    free(handle);
}

static uv_timer_t *start_timer(struct kt_op *op, double seconds, uv_timer_cb cb) {
    uv_timer_t *timer = malloc(sizeof *timer);
    if (timer == NULL) {
        lua_State *L = op->L;
        kt_op_drop(op);
        luaL_error(L, "not enough memory");
        return NULL; /* not reached */
    }
    uv_loop_t *loop = op->task->vm->loop;
    uv_timer_init(loop, timer);
    uv_update_time(loop);
    timer->data = op;
    uv_timer_start(timer, cb, (uint64_t)(seconds * 1e3 + 0.5), 0);
    return timer;
}

static void stop_timer(uv_timer_t **timer) {
    if (*timer != NULL)
        uv_close((uv_handle_t *)*timer, timer_closed);
    *timer = NULL;
}

static int push_true(lua_State *L, struct kt_op *op) {
    (void)op;
    lua_pushboolean(L, true);
    return 1;
}

/* sleep */

struct sleep_op {
    struct kt_op op;
    uv_timer_t *timer;
};

static void sleep_done(uv_timer_t *timer) {
    kt_op_settle(timer->data, push_true);
}

static void sleep_cancel(struct kt_op *op) {
    kt_op_settle(op, NULL);
}

static void sleep_free(struct kt_op *op) {
    stop_timer(&((struct sleep_op *)op)->timer);
}

static const struct kt_op_class sleep_class = {"task.sleep", sizeof(struct sleep_op), sleep_cancel,
                                               sleep_free};

static int l_sleep(lua_State *L) {
    double seconds = kt_check_duration(L, 1);
    struct sleep_op *sleep = kt_op_new(L, &sleep_class);
    if (seconds == 0)
        kt_op_settle(&sleep->op, push_true);
    else
        sleep->timer = start_timer(&sleep->op, seconds, sleep_done);
    return kt_op_yield(&sleep->op);
}

static int l_yield(lua_State *L) {
    lua_settop(L, 0);
    lua_pushnumber(L, 0);
    return l_sleep(L);
}

/* Task handles. While its task runs or someone waits for it the registry holds the handle. */

struct join_op;
struct handle {
    struct kt_task *task; /* NULL once it ended */
    struct kt_vm *vm;
    int anchor;
    int results; /* registry ref of {…, n=}; LUA_NOREF when it failed without an error table */
    int n;
    bool failed, joined, detached;
    struct kt_error err;
    struct join_op *joins;
};

struct join_op {
    struct kt_op op;
    struct handle *handle;
    struct join_op *next;
};

static void release(struct handle *h) {
    if (h->task != NULL || h->joins != NULL || h->anchor == LUA_NOREF)
        return;
    luaL_unref(h->vm->L, LUA_REGISTRYINDEX, h->anchor);
    h->anchor = LUA_NOREF;
}

struct keep {
    struct handle *handle;
    lua_State *co;
};

static int keep_results(lua_State *L, void *ud) {
    struct keep *keep = ud;
    struct handle *h = keep->handle;
    int n = lua_gettop(keep->co);
    if (h->failed) { /* the error value, when it is a table that says its code */
        if (n == 0 || !lua_istable(keep->co, n))
            return 0;
        lua_settop(keep->co, n);
        lua_xmove(keep->co, L, 1);
        h->results = luaL_ref(L, LUA_REGISTRYINDEX);
        return 0;
    }
    luaL_checkstack(L, n + 4, "results");
    lua_createtable(L, n, 0);
    lua_xmove(keep->co, L, n);
    for (int i = n; i >= 1; i--)
        lua_rawseti(L, 1, i);
    h->n = n;
    h->results = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static int push_outcome(lua_State *L, struct handle *h) {
    h->joined = true;
    if (h->failed && h->results != LUA_NOREF) {
        lua_pushnil(L);
        lua_rawgeti(L, LUA_REGISTRYINDEX, h->results);
        return 2;
    }
    if (h->failed)
        return kt_push_error(L, &h->err);
    luaL_checkstack(L, h->n + 4, "results");
    lua_rawgeti(L, LUA_REGISTRYINDEX, h->results);
    int table = lua_gettop(L);
    for (int i = 1; i <= h->n; i++)
        lua_rawgeti(L, table, i);
    lua_remove(L, table);
    return h->n;
}

static int push_joined(lua_State *L, struct kt_op *op) {
    return push_outcome(L, ((struct join_op *)op)->handle);
}

static void log_failure(const struct handle *h) {
    if (h->failed && h->err.code != KT_CANCELLED)
        kt_log(KT_ERROR, "task.failed", "code", kt_code_name(h->err.code), "msg", h->err.message,
               NULL);
}

static void task_ended(struct kt_task *task, lua_State *co, const struct kt_error *err, void *ud) {
    struct handle *h = ud;
    struct keep keep = {h, co};
    struct kt_error why;
    (void)task;
    h->task = NULL;
    h->failed = err != NULL;
    if (err != NULL)
        h->err = *err;
    if (kt_vm_call(h->vm, keep_results, &keep, &why) != 0) {
        h->failed = true;
        h->err = why;
    }
    if (h->detached) {
        log_failure(h);
        h->joined = true;
    }
    for (struct join_op *join = h->joins, *next; join != NULL; join = next) {
        next = join->next;
        kt_op_settle(&join->op, push_joined);
    }
    release(h);
}

static int spawn(lua_State *L, struct kt_task *parent, bool detached) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    int nargs = lua_gettop(L) - 1;
    struct handle *h = lua_newuserdata(L, sizeof *h);
    *h = (struct handle){.vm = kt_vm_of(L), .results = LUA_NOREF, .detached = detached};
    luaL_getmetatable(L, "kt.task");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    h->anchor = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_insert(L, 1);
    h->task = kt_task_spawn(h->vm, L, nargs, parent, task_ended, h);
    return 1;
}

static int l_spawn(lua_State *L) {
    return spawn(L, kt_task_current(L), false);
}

static int l_detach(lua_State *L) {
    return spawn(L, NULL, true);
}

static struct handle *check_handle(lua_State *L) {
    return luaL_checkudata(L, 1, "kt.task");
}

static void join_cancel(struct kt_op *op) {
    kt_op_settle(op, NULL);
}

static void join_free(struct kt_op *op) {
    struct join_op *join = (struct join_op *)op;
    struct join_op **at = &join->handle->joins;
    while (*at != join)
        at = &(*at)->next;
    *at = join->next;
    release(join->handle);
}

static const struct kt_op_class join_class = {"task.join", sizeof(struct join_op), join_cancel,
                                              join_free};

static int l_join(lua_State *L) {
    struct handle *h = check_handle(L);
    if (h->task == NULL)
        return push_outcome(L, h);
    if (h->task == kt_task_current(L))
        return luaL_error(L, "task:join: a task cannot wait for itself");
    struct join_op *join = kt_op_new(L, &join_class);
    join->handle = h;
    join->next = h->joins;
    h->joins = join;
    return kt_op_yield(&join->op);
}

static int l_cancel(lua_State *L) {
    struct handle *h = check_handle(L);
    if (h->task != NULL)
        kt_task_cancel(h->task);
    return 0;
}

static int l_done(lua_State *L) {
    lua_pushboolean(L, check_handle(L)->task == NULL);
    return 1;
}

static int l_task_gc(lua_State *L) {
    struct handle *h = check_handle(L);
    if (!h->joined)
        log_failure(h); /* nobody asked how it ended */
    luaL_unref(L, LUA_REGISTRYINDEX, h->results);
    h->results = LUA_NOREF;
    return 0;
}

/* Events. A waiting op holds its event by the registry. */

struct wait_op;
struct event {
    struct wait_op *waiting;
};

struct wait_op {
    struct kt_op op;
    struct kt_vm *vm;
    struct event *event;
    int anchor;
    uv_timer_t *timer;
    struct wait_op *next;
};

static void wait_timeout(uv_timer_t *timer) {
    struct kt_op *op = timer->data;
    struct kt_error err;
    kt_fail(&err, KT_DEADLINE_EXCEEDED, "event:wait: nothing happened in time");
    kt_op_fail(op, &err);
}

static void wait_cancel(struct kt_op *op) {
    kt_op_settle(op, NULL);
}

static void wait_leave(struct wait_op *wait) {
    struct wait_op **at = &wait->event->waiting;
    while (*at != NULL && *at != wait)
        at = &(*at)->next;
    if (*at == wait)
        *at = wait->next;
}

static void wait_free(struct kt_op *op) {
    struct wait_op *wait = (struct wait_op *)op;
    stop_timer(&wait->timer);
    wait_leave(wait);
    luaL_unref(wait->vm->L, LUA_REGISTRYINDEX, wait->anchor);
}

static const struct kt_op_class wait_class = {"event.wait", sizeof(struct wait_op), wait_cancel,
                                              wait_free};

static int l_event(lua_State *L) {
    struct event *ev = lua_newuserdata(L, sizeof *ev);
    ev->waiting = NULL;
    luaL_getmetatable(L, "kt.event");
    lua_setmetatable(L, -2);
    return 1;
}

static int l_wait(lua_State *L) {
    struct event *ev = luaL_checkudata(L, 1, "kt.event");
    double timeout = lua_isnoneornil(L, 2) ? -1 : kt_check_duration(L, 2);
    struct wait_op *wait = kt_op_new(L, &wait_class);
    wait->vm = wait->op.task->vm;
    wait->event = ev;
    lua_pushvalue(L, 1);
    wait->anchor = luaL_ref(L, LUA_REGISTRYINDEX);
    wait->next = ev->waiting;
    ev->waiting = wait;
    if (timeout >= 0)
        wait->timer = start_timer(&wait->op, timeout, wait_timeout);
    return kt_op_yield(&wait->op);
}

static int l_signal(lua_State *L) {
    struct event *ev = luaL_checkudata(L, 1, "kt.event");
    struct wait_op *wait = ev->waiting;
    ev->waiting = NULL; /* who waits from now on waits for the next signal */
    for (struct wait_op *next; wait != NULL; wait = next) {
        next = wait->next;
        stop_timer(&wait->timer);
        kt_op_settle(&wait->op, push_true);
    }
    return 0;
}

/* The current task */

static struct kt_task *check_current(lua_State *L) {
    struct kt_task *task = kt_task_current(L);
    if (task == NULL)
        luaL_error(L, "not inside a task");
    return task;
}

static int l_deadline(lua_State *L) {
    kt_task_set_deadline(check_current(L), kt_check_duration(L, 1));
    return 0;
}

static int l_time_left(lua_State *L) {
    double left = kt_task_time_left(check_current(L));
    if (left <= 0)
        return 0;
    lua_pushnumber(L, left);
    return 1;
}

static int l_cancelled(lua_State *L) {
    struct kt_task *task = kt_task_current(L);
    lua_pushboolean(L, task != NULL && task->cancelled);
    return 1;
}

static int l_defer(lua_State *L) {
    struct kt_task *task = check_current(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    kt_task_defer(task, L);
    return 0;
}

static void count_handle(uv_handle_t *handle, void *ud) {
    /* The run queue's own two are not anyone's leftover. */
    if (handle->type != UV_CHECK && handle->type != UV_IDLE && !uv_is_closing(handle))
        ++*(int *)ud;
}

static int l_counts(lua_State *L) {
    int handles = 0;
    uv_walk(kt_vm_of(L)->loop, count_handle, &handles);
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, kt_task_count());
    lua_setfield(L, -2, "tasks");
    lua_pushinteger(L, kt_op_count());
    lua_setfield(L, -2, "ops");
    lua_pushinteger(L, kt_vm_count());
    lua_setfield(L, -2, "vms");
    lua_pushinteger(L, handles);
    lua_setfield(L, -2, "handles");
    return 1;
}

static const luaL_Reg functions[] = {{"spawn", l_spawn},
                                     {"detach", l_detach},
                                     {"sleep", l_sleep},
                                     {"yield", l_yield},
                                     {"deadline", l_deadline},
                                     {"time_left", l_time_left},
                                     {"cancelled", l_cancelled},
                                     {"defer", l_defer},
                                     {"event", l_event},
                                     {"counts", l_counts},
                                     {NULL, NULL}};
static const luaL_Reg task_methods[] = {
    {"join", l_join}, {"cancel", l_cancel}, {"done", l_done}, {"__gc", l_task_gc}, {NULL, NULL}};
static const luaL_Reg event_methods[] = {{"wait", l_wait}, {"signal", l_signal}, {NULL, NULL}};

int luaopen_kt_task(lua_State *L) {
    kt_class(L, "kt.task", task_methods);
    kt_class(L, "kt.event", event_methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
