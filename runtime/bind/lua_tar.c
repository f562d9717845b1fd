/* Module kt.tar: files as a tar and back (store/tar.h), on threads of its own. All but size, busy
 * and close yield.
 *
 *   tar.pack(folder, {name, …}) -> pack    those files below the folder, which do not change
 *   pack:size() -> bytes of the whole tar
 *   pack:read() -> some of it | nil at its end
 *   tar.open(path) -> reader               a tar, or one in gzip
 *   reader:next() -> {name, kind, size} | nil at its end
 *                                          name as it is there, kind "file", "dir" or what else
 *                                          it is in words, size as announced
 *   reader:extract(path, max) -> {size, sha256}
 *                                          the bytes of that entry into a new file;
 *                                          body_too_large: more than max, which is what it has then
 *   pack|reader:busy() -> bool             a call of a cancelled task still runs
 *   pack|reader:close()                    belongs into a task.defer: a cancelled task does not
 *                                          come back here. A call under way ends first, and soon
 *
 * Each answers nil, err on failure; data_rejected: that is no tar, or a damaged one. */
#include <stdlib.h>
#include <string.h>

#include "bind/held.h"
#include "core/module.h"
#include "store/tar.h"

#define PACK "kt.tar.pack"
#define READER "kt.tar.reader"
#define THREADS 2
#define QUEUE_MAX 64

enum what { MAKE, READ, OPEN, NEXT, EXTRACT };

struct held {
    struct kt_held base;
    const struct kt_tar_class *class;
    struct kt_tar_pack *pack; /* one of the two */
    struct kt_tar *tar;
    atomic_bool cancelled;
};

struct tar_op {
    struct kt_held_op base;
    enum what what;
    char *path;
    struct kt_buf names, out;
    int64_t max, size;
    char sha256[65];
    struct kt_tar_entry entry;
};

static struct held *held_by(const struct tar_op *o) {
    return (struct held *)o->base.held;
}

static void tar_release(struct kt_held *base) {
    struct held *h = (struct held *)base;
    if (h->pack != NULL)
        h->class->pack_free(h->pack);
    if (h->tar != NULL)
        h->class->free(h->tar);
    free(h);
}

static int make(struct tar_op *o, struct kt_error *err) {
    struct held *h = held_by(o);
    h->class = kt_module("kontor-tar", "kt_tar_libarchive", err);
    if (h->class != NULL && o->what == MAKE)
        h->pack = h->class->pack(o->path, o->names.data, err);
    else if (h->class != NULL)
        h->tar = h->class->open(o->path, &h->cancelled, err);
    return h->pack != NULL || h->tar != NULL ? 0 : -(int)err->code;
}

static int tar_run(struct kt_held_op *base, struct kt_error *err) {
    struct tar_op *o = (struct tar_op *)base;
    struct held *h = held_by(o);
    switch (o->what) {
    case MAKE:
    case OPEN:
        return make(o, err);
    case READ:
        return h->class->read(h->pack, &o->out, err);
    case NEXT:
        return h->class->next(h->tar, &o->entry, err);
    case EXTRACT:
        return h->class->extract(h->tar, o->path, o->max, &o->size, o->sha256, err);
    }
    return 0;
}

static int push_held(lua_State *L, struct tar_op *o) {
    kt_held_keep(kt_held_box(L, o->what == MAKE ? PACK : READER), o->base.held);
    return 1;
}

static int push_entry(lua_State *L, const struct kt_tar_entry *e) {
    lua_createtable(L, 0, 3);
    lua_pushstring(L, e->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, e->kind);
    lua_setfield(L, -2, "kind");
    lua_pushnumber(L, (lua_Number)e->size);
    lua_setfield(L, -2, "size");
    return 1;
}

static int tar_push(lua_State *L, struct kt_op *op) {
    struct tar_op *o = (struct tar_op *)op;
    switch (o->what) {
    case MAKE:
    case OPEN:
        return push_held(L, o);
    case READ:
        if (o->out.len == 0)
            lua_pushnil(L);
        else
            lua_pushlstring(L, o->out.data, o->out.len);
        return 1;
    case NEXT:
        if (o->base.rc == 1)
            return push_entry(L, &o->entry);
        lua_pushnil(L);
        return 1;
    case EXTRACT:
        lua_createtable(L, 0, 2);
        lua_pushnumber(L, (lua_Number)o->size);
        lua_setfield(L, -2, "size");
        lua_pushstring(L, o->sha256);
        lua_setfield(L, -2, "sha256");
        return 1;
    }
    return 0;
}

static void tar_cancel(struct kt_op *op) {
    atomic_store(&held_by((struct tar_op *)op)->cancelled, true);
}

static void tar_free(struct kt_op *op) {
    struct tar_op *o = (struct tar_op *)op;
    free(o->path);
    kt_buf_free(&o->names);
    kt_buf_free(&o->out);
    kt_held_op_free(op);
}

static const struct kt_op_class tar_class = {"tar", sizeof(struct tar_op), tar_cancel, tar_free};

/* An op that holds h, or what it makes when h is NULL. */
static struct tar_op *begin(lua_State *L, enum what what, struct held *h) {
    struct tar_op *o = kt_held_begin(L, &tar_class, (struct kt_held *)h, tar_run, tar_push);
    o->what = what;
    if (h != NULL)
        return o;
    if ((h = calloc(1, sizeof *h)) == NULL) {
        kt_op_drop(&o->base.op);
        luaL_error(L, "not enough memory");
    }
    h->base.free = tar_release;
    kt_held_keep(&o->base.held, &h->base);
    return o;
}

static int start(lua_State *L, struct kt_pool *pool, struct tar_op *o) {
    struct kt_error err;
    if (!o->names.failed)
        return kt_held_start(L, pool, &o->base);
    kt_fail(&err, KT_NO_MEMORY, "no memory");
    kt_op_drop(&o->base.op);
    return kt_push_error(L, &err);
}

static struct kt_pool *pool_of(lua_State *L) {
    return kt_bind_pool(L, "tar", THREADS, QUEUE_MAX);
}

static int l_pack(lua_State *L) {
    const char *folder = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    int n = (int)lua_objlen(L, 2);
    for (int i = 1; i <= n; i++) {
        size_t len;
        lua_rawgeti(L, 2, i);
        const char *name = lua_tolstring(L, -1, &len);
        luaL_argcheck(L, name != NULL && len > 0 && strlen(name) == len, 2, "names of files");
        lua_pop(L, 1);
    }
    struct kt_pool *pool = pool_of(L);
    struct tar_op *o = begin(L, MAKE, NULL);
    for (int i = 1; i <= n; i++) {
        size_t len;
        lua_rawgeti(L, 2, i);
        const char *name = lua_tolstring(L, -1, &len);
        kt_buf_add(&o->names, name, len + 1);
        lua_pop(L, 1);
    }
    kt_buf_addc(&o->names, '\0');
    o->names.failed |= (o->path = strdup(folder)) == NULL;
    return start(L, pool, o);
}

static int l_open(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    struct kt_pool *pool = pool_of(L);
    struct tar_op *o = begin(L, OPEN, NULL);
    o->names.failed = (o->path = strdup(path)) == NULL;
    return start(L, pool, o);
}

static struct held *check(lua_State *L, const char *class) {
    struct kt_held *h = kt_held_of(L, class);
    luaL_argcheck(L, h != NULL && !h->busy, 1, "open and without a call under way");
    return (struct held *)h;
}

static int l_size(lua_State *L) {
    struct held *h = check(L, PACK);
    lua_pushnumber(L, (lua_Number)h->class->size(h->pack));
    return 1;
}

static int l_read(lua_State *L) {
    struct held *h = check(L, PACK);
    return start(L, pool_of(L), begin(L, READ, h));
}

static int l_next(lua_State *L) {
    struct held *h = check(L, READER);
    return start(L, pool_of(L), begin(L, NEXT, h));
}

static int l_extract(lua_State *L) {
    struct held *h = check(L, READER);
    const char *path = luaL_checkstring(L, 2);
    long long max = kt_check_int(L, 3);
    luaL_argcheck(L, max >= 0, 3, "not negative");
    struct kt_pool *pool = pool_of(L);
    struct tar_op *o = begin(L, EXTRACT, h);
    o->max = max;
    o->names.failed = (o->path = strdup(path)) == NULL;
    return start(L, pool, o);
}

static int busy(lua_State *L, const char *class) {
    struct kt_held *h = kt_held_of(L, class);
    lua_pushboolean(L, h != NULL && h->busy);
    return 1;
}

static int l_pack_busy(lua_State *L) {
    return busy(L, PACK);
}
static int l_pack_close(lua_State *L) {
    return kt_held_close(L, PACK);
}
static int l_reader_busy(lua_State *L) {
    return busy(L, READER);
}
static int l_reader_close(lua_State *L) {
    return kt_held_close(L, READER);
}

static const luaL_Reg functions[] = {{"pack", l_pack}, {"open", l_open}, {NULL, NULL}};
static const luaL_Reg pack_methods[] = {{"size", l_size},       {"read", l_read},
                                        {"busy", l_pack_busy},  {"close", l_pack_close},
                                        {"__gc", l_pack_close}, {NULL, NULL}};
static const luaL_Reg reader_methods[] = {{"next", l_next},         {"extract", l_extract},
                                          {"busy", l_reader_busy},  {"close", l_reader_close},
                                          {"__gc", l_reader_close}, {NULL, NULL}};

int luaopen_kt_tar(lua_State *L) {
    kt_class(L, PACK, pack_methods);
    kt_class(L, READER, reader_methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
