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

#include "bind/held.h"
#include "table/part.h"

#define PART "kt.part"
#define THREADS 2
#define QUEUE_MAX 256

enum what { WRITE, SYNC, CUT, REMOVE };

struct part {
    struct kt_held held;
    struct kt_part *file;
};

struct part_op {
    struct kt_held_op base;
    enum what what;
    char *bytes;
    size_t len;
    long long size;
    struct kt_part_state state;
};

static void part_release(struct kt_held *held) {
    kt_part_close(((struct part *)held)->file);
    free(held);
}

static int part_run(struct kt_held_op *base, struct kt_error *err) {
    struct part_op *o = (struct part_op *)base;
    struct kt_part *file = ((struct part *)base->held)->file;
    switch (o->what) {
    case WRITE:
        return kt_part_write(file, o->bytes, o->len, err);
    case SYNC:
        return kt_part_sync(file, &o->state, err);
    case CUT:
        return kt_part_cut(file, o->size, err);
    case REMOVE:
        return kt_part_remove(file, err);
    }
    return 0;
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

static void part_free(struct kt_op *op) {
    free(((struct part_op *)op)->bytes);
    kt_held_op_free(op);
}

static const struct kt_op_class part_class = {"part", sizeof(struct part_op), NULL, part_free};

static int l_open(lua_State *L) {
    struct kt_error err;
    const char *path = luaL_checkstring(L, 1);
    bool hash = lua_toboolean(L, 2);
    kt_bind_pool(L, "part", THREADS, QUEUE_MAX);
    struct kt_held **box = kt_held_box(L, PART);
    struct part *p = calloc(1, sizeof *p);
    if (p == NULL) {
        kt_fail(&err, KT_NO_MEMORY, "no memory");
        return kt_push_error(L, &err);
    }
    p->held.free = part_release;
    kt_held_keep(box, &p->held);
    p->file = kt_part_open(path, hash, &err);
    return p->file == NULL ? kt_push_error(L, &err) : 1;
}

static struct part *check(lua_State *L) {
    struct part *p = (struct part *)kt_held_of(L, PART);
    luaL_argcheck(L, p != NULL && p->file != NULL, 1, "a part that is open");
    luaL_argcheck(L, !p->held.busy, 1, "a part without a call under way");
    return p;
}

static int start(lua_State *L, enum what what, const char *bytes, size_t len, long long size) {
    struct kt_error err;
    struct part *p = check(L);
    struct kt_pool *pool = kt_bind_pool(L, "part", THREADS, QUEUE_MAX);
    struct part_op *o =
        kt_held_begin(L, &part_class, &p->held, part_run, what == SYNC ? push_state : push_true);
    o->what = what;
    o->size = size;
    o->len = len;
    if (bytes != NULL && (o->bytes = malloc(len + 1)) == NULL) {
        kt_fail(&err, KT_NO_MEMORY, "no memory");
        kt_op_drop(&o->base.op);
        return kt_push_error(L, &err);
    }
    if (bytes != NULL)
        memcpy(o->bytes, bytes, len);
    return kt_held_start(L, pool, &o->base);
}

static int l_size(lua_State *L) {
    lua_pushnumber(L, (lua_Number)kt_part_size(check(L)->file));
    return 1;
}

static int l_busy(lua_State *L) {
    struct kt_held *held = kt_held_of(L, PART);
    lua_pushboolean(L, held != NULL && held->busy);
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
    luaL_argcheck(L, size >= 0 && size <= kt_part_size(check(L)->file), 2, "not behind its end");
    return start(L, CUT, NULL, 0, size);
}

static int l_remove(lua_State *L) {
    return start(L, REMOVE, NULL, 0, 0);
}

static int l_close(lua_State *L) {
    return kt_held_close(L, PART);
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
