/* Module kt.part: the file of an upload that comes in several requests.
 *
 *   part.open(path, hash?) -> part          does not yield; code conflict: someone else writes it
 *   part:size() -> bytes                    does not yield
 *   part:busy() -> bool                     does not yield; a call of a cancelled task still runs,
 *                                           until then nothing else may be called but close
 *   part:write(chunk) -> true               yields
 *   part:sync() -> {size, sha256?}          yields; on disk then; sha256 of what this part wrote,
 *                                           when it was opened with hash
 *   part:cut(size) -> true                  yields; drops what is behind
 *   part:remove() -> true                   yields; the file is gone, the part still to be closed
 *   part:close()                            lets go of it; belongs into a task.defer: a cancelled
 * task does not come back here. A call under way ends first.
 *
 * Each answers nil, err on failure; storage_full when the disk is. */
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "table/part.h"

#define PART "kt.part"
#define THREADS 2
#define QUEUE_MAX 256

enum what { WRITE, SYNC, CUT, REMOVE };

/* Held by its userdata and by a running op: a cancelled task may drop the one before the other. */
struct held {
    struct kt_part *part;
    int holders;
    bool busy;
};

struct part_op {
    struct kt_op op;
    struct kt_job job;
    struct held *held;
    enum what what;
    char *bytes;
    size_t len;
    long long size;
    struct kt_part_state state;
    int rc;
};

static struct part_op *of_job(struct kt_job *job) {
    return (struct part_op *)((char *)job - offsetof(struct part_op, job));
}

static void release(struct held *h) {
    if (--h->holders > 0)
        return;
    kt_part_close(h->part);
    free(h);
}

static void part_run(struct kt_job *job) {
    struct part_op *o = of_job(job);
    struct kt_part *part = o->held->part;
    struct kt_error *err = &o->op.error;
    switch (o->what) {
    case WRITE:
        o->rc = kt_part_write(part, o->bytes, o->len, err);
        break;
    case SYNC:
        o->rc = kt_part_sync(part, &o->state, err);
        break;
    case CUT:
        o->rc = kt_part_cut(part, o->size, err);
        break;
    case REMOVE:
        o->rc = kt_part_remove(part, err);
        break;
    }
}

static int push_true(lua_State *L, struct kt_op *op) {
    (void)op;
    lua_pushboolean(L, true);
    return 1;
}

static int push_state(lua_State *L, struct kt_op *op) {
    struct part_op *o = (struct part_op *)op;
    lua_createtable(L, 0, 2);
    lua_pushnumber(L, (lua_Number)o->state.size);
    lua_setfield(L, -2, "size");
    if (o->state.sha256[0] != '\0') {
        lua_pushstring(L, o->state.sha256);
        lua_setfield(L, -2, "sha256");
    }
    return 1;
}

static void part_done(struct kt_job *job) {
    struct part_op *o = of_job(job);
    o->held->busy = false;
    if (o->rc != 0) {
        struct kt_error err = o->op.error;
        kt_op_fail(&o->op, &err);
    } else
        kt_op_settle(&o->op, o->what == SYNC ? push_state : push_true);
}

static void part_free(struct kt_op *op) {
    struct part_op *o = (struct part_op *)op;
    free(o->bytes);
    if (o->held != NULL)
        release(o->held);
}

static const struct kt_op_class part_class = {"part", sizeof(struct part_op), NULL, part_free};

static int l_open(lua_State *L) {
    struct kt_error err;
    const char *path = luaL_checkstring(L, 1);
    bool hash = lua_toboolean(L, 2);
    kt_bind_pool(L, "part", THREADS, QUEUE_MAX);
    struct held **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, PART);
    lua_setmetatable(L, -2);
    struct held *h = calloc(1, sizeof *h);
    if (h == NULL) {
        kt_fail(&err, KT_NO_MEMORY, "no memory");
        return kt_push_error(L, &err);
    }
    h->holders = 1;
    *box = h;
    h->part = kt_part_open(path, hash, &err);
    return h->part == NULL ? kt_push_error(L, &err) : 1;
}

static struct held *check(lua_State *L) {
    struct held **box = luaL_checkudata(L, 1, PART);
    luaL_argcheck(L, *box != NULL && (*box)->part != NULL, 1, "a part that is open");
    luaL_argcheck(L, !(*box)->busy, 1, "a part without a call under way");
    return *box;
}

static int start(lua_State *L, enum what what, const char *bytes, size_t len, long long size) {
    struct kt_error err;
    struct held *h = check(L);
    struct kt_pool *pool = kt_bind_pool(L, "part", THREADS, QUEUE_MAX);
    struct part_op *o = kt_op_new(L, &part_class);
    int rc = 0;
    o->held = h;
    h->holders++;
    o->job.run = part_run;
    o->job.done = part_done;
    o->what = what;
    o->size = size;
    o->len = len;
    if (bytes != NULL) {
        o->bytes = malloc(len + 1);
        if (o->bytes != NULL)
            memcpy(o->bytes, bytes, len);
        else
            rc = kt_fail(&err, KT_NO_MEMORY, "no memory");
    }
    if (rc == 0)
        rc = kt_pool_submit(pool, &o->job, &err);
    if (rc != 0) {
        kt_op_drop(&o->op);
        return kt_push_error(L, &err);
    }
    h->busy = true;
    return kt_op_yield(&o->op);
}

static int l_size(lua_State *L) {
    lua_pushnumber(L, (lua_Number)kt_part_size(check(L)->part));
    return 1;
}

static int l_busy(lua_State *L) {
    struct held **box = luaL_checkudata(L, 1, PART);
    lua_pushboolean(L, *box != NULL && (*box)->busy);
    return 1;
}

static int l_write(lua_State *L) {
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    return start(L, WRITE, bytes, len, 0);
}

static int l_sync(lua_State *L) {
    return start(L, SYNC, NULL, 0, 0);
}

static int l_cut(lua_State *L) {
    long long size = kt_check_int(L, 2);
    luaL_argcheck(L, size >= 0 && size <= kt_part_size(check(L)->part), 2, "not behind its end");
    return start(L, CUT, NULL, 0, size);
}

static int l_remove(lua_State *L) {
    return start(L, REMOVE, NULL, 0, 0);
}

static int l_close(lua_State *L) {
    struct held **box = luaL_checkudata(L, 1, PART);
    if (*box != NULL)
        release(*box);
    *box = NULL;
    return 0;
}

static const luaL_Reg functions[] = {{"open", l_open}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"size", l_size},   {"busy", l_busy},  {"write", l_write},
                                   {"sync", l_sync},   {"cut", l_cut},    {"remove", l_remove},
                                   {"close", l_close}, {"__gc", l_close}, {NULL, NULL}};

int luaopen_kt_part(lua_State *L) {
    kt_class(L, PART, methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
