/* Objects that Lua and a running op hold. */
#include "bind/held.h"

#include <stddef.h>

static void release(struct kt_held *held) {
    if (--held->holders == 0)
        held->free(held);
}

struct kt_held **kt_held_box(lua_State *L, const char *class) {
    struct kt_held **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, class);
    lua_setmetatable(L, -2);
    return box;
}

void kt_held_keep(struct kt_held **box, struct kt_held *held) {
    held->holders++;
    *box = held;
}

struct kt_held *kt_held_of(lua_State *L, const char *class) {
    return *(struct kt_held **)luaL_checkudata(L, 1, class);
}

int kt_held_close(lua_State *L, const char *class) {
    struct kt_held **box = luaL_checkudata(L, 1, class);
    if (*box != NULL)
        release(*box);
    *box = NULL;
    return 0;
}

static struct kt_held_op *of_job(struct kt_job *job) {
    return (struct kt_held_op *)((char *)job - offsetof(struct kt_held_op, job));
}

static void run(struct kt_job *job) {
    struct kt_held_op *o = of_job(job);
    o->rc = o->run(o, &o->op.error);
}

static void done(struct kt_job *job) {
    struct kt_held_op *o = of_job(job);
    o->held->busy = false;
    if (o->rc < 0) {
        struct kt_error err = o->op.error;
        kt_op_fail(&o->op, &err);
    } else
        kt_op_settle(&o->op, o->push);
}

void *kt_held_begin(lua_State *L, const struct kt_op_class *class, struct kt_held *held,
                    int (*call)(struct kt_held_op *, struct kt_error *), kt_push_fn push) {
    struct kt_held_op *o = kt_op_new(L, class);
    if ((o->held = held) != NULL)
        held->holders++;
    o->job.run = run;
    o->job.done = done;
    o->run = call;
    o->push = push;
    return o;
}

int kt_held_start(lua_State *L, struct kt_pool *pool, struct kt_held_op *o) {
    struct kt_error err;
    if (kt_pool_submit(pool, &o->job, &err) != 0) {
        kt_op_drop(&o->op);
        return kt_push_error(L, &err);
    }
    o->held->busy = true;
    return kt_op_yield(&o->op);
}

void kt_held_op_free(struct kt_op *op) {
    struct kt_held_op *o = (struct kt_held_op *)op;
    if (o->held != NULL)
        release(o->held);
}
