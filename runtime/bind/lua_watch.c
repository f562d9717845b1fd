/* Module kt.watch: changed files of a tree (development mode). Nothing here yields.
 *
 *   watch.dir(path, fn) -> w | nil, err      fn(relative path) as a task of its own, per file
 *   w:close()                                no call any more
 *
 * The registry holds an open watch: letting go of w does not end it. */
#include "bind/bind.h"
#include "core/log.h"
#include "core/watch.h"

#define WATCH "kt.watch"

struct watch {
    struct kt_watch *watch; /* NULL once closed */
    struct kt_vm *vm;
    int fn, self; /* registry refs */
};

static void task_ended(struct kt_task *task, lua_State *co, const struct kt_error *err, void *ud) {
    (void)task;
    (void)co;
    (void)ud;
    if (err != NULL)
        kt_log(KT_ERROR, "watch.failed", "code", kt_code_name(err->code), "msg", err->message, NULL);
}

struct change {
    struct watch *w;
    const char *path;
};

static int start_task(lua_State *L, void *ud) {
    struct change *change = ud;
    lua_rawgeti(L, LUA_REGISTRYINDEX, change->w->fn);
    lua_pushstring(L, change->path);
    kt_task_spawn(change->w->vm, L, 1, NULL, task_ended, NULL);
    return 0;
}

static void changed(void *ud, const char *path) {
    struct watch *w = ud;
    struct change change = {w, path};
    struct kt_error err;
    if (kt_vm_call(w->vm, start_task, &change, &err) != 0)
        kt_log(KT_ERROR, "watch.failed", "msg", err.message, NULL);
}

static int l_dir(lua_State *L) {
    struct kt_error err;
    const char *path = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    struct watch *w = lua_newuserdata(L, sizeof *w);
    *w = (struct watch){NULL, kt_vm_of(L), LUA_NOREF, LUA_NOREF};
    luaL_getmetatable(L, WATCH);
    lua_setmetatable(L, -2);
    w->watch = kt_watch_open(w->vm->loop, path, changed, w, &err);
    if (w->watch == NULL)
        return kt_push_error(L, &err);
    lua_pushvalue(L, 2);
    w->fn = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, -1);
    w->self = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

static int l_close(lua_State *L) {
    struct watch *w = luaL_checkudata(L, 1, WATCH);
    if (w->watch == NULL)
        return 0;
    kt_watch_close(w->watch);
    w->watch = NULL;
    luaL_unref(L, LUA_REGISTRYINDEX, w->fn);
    luaL_unref(L, LUA_REGISTRYINDEX, w->self);
    return 0;
}

static const luaL_Reg functions[] = {{"dir", l_dir}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"close", l_close}, {"__gc", l_close}, {NULL, NULL}};

int luaopen_kt_watch(lua_State *L) {
    kt_class(L, WATCH, methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
