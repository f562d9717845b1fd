/* Helpers of the bindings. */
#include "bind/bind.h"

#include <math.h>

double kt_check_duration(lua_State *L, int arg) {
    double seconds = luaL_checknumber(L, arg);
    luaL_argcheck(L, seconds >= 0 && seconds <= 366 * 86400.0, arg, "seconds, 0 to a year");
    return seconds;
}

long long kt_check_int(lua_State *L, int arg) {
    double d = luaL_checknumber(L, arg);
    luaL_argcheck(L, d == floor(d) && fabs(d) <= KT_EXACT_MAX, arg, "an integral number");
    return (long long)d;
}

void kt_class(lua_State *L, const char *name, const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

static int pool_gc(lua_State *L) {
    struct kt_pool **held = lua_touserdata(L, 1);
    kt_pool_free(*held);
    *held = NULL;
    return 0;
}

struct kt_pool *kt_bind_pool(lua_State *L, const char *name, int threads, int queue_max) {
    struct kt_error err;
    lua_pushfstring(L, "kt.pool.%s", name);
    lua_pushvalue(L, -1);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct kt_pool **held = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (held == NULL) {
        held = lua_newuserdata(L, sizeof *held);
        *held = NULL;
        if (luaL_newmetatable(L, "kt.pool")) {
            lua_pushcfunction(L, pool_gc);
            lua_setfield(L, -2, "__gc");
        }
        lua_setmetatable(L, -2);
        *held = kt_pool_new(kt_vm_of(L)->loop, name, threads, queue_max, &err);
        if (*held == NULL)
            kt_raise(L, &err);
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, LUA_REGISTRYINDEX);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return *held;
}

/* Push opts.<name>; false (and nothing pushed) when it is absent. */
static bool push_opt(lua_State *L, int arg, const char *name, int type) {
    if (lua_isnoneornil(L, arg))
        return false;
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_getfield(L, arg, name);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    if (lua_type(L, -1) != type)
        luaL_error(L, "bad option '%s' (%s expected, got %s)", name, lua_typename(L, type),
                   luaL_typename(L, -1));
    return true;
}

double kt_opt_number(lua_State *L, int arg, const char *name, double fallback) {
    if (!push_opt(L, arg, name, LUA_TNUMBER))
        return fallback;
    double d = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return d;
}

bool kt_opt_bool(lua_State *L, int arg, const char *name, bool fallback) {
    if (!push_opt(L, arg, name, LUA_TBOOLEAN))
        return fallback;
    bool b = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return b;
}

const char *kt_opt_string(lua_State *L, int arg, const char *name, const char *fallback) {
    if (!push_opt(L, arg, name, LUA_TSTRING))
        return fallback;
    const char *s = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table still holds it */
    return s;
}

struct kt_buf *kt_scratch(void) {
    static _Thread_local struct kt_buf buf;
    if (buf.cap > 1 << 20)
        kt_buf_free(&buf);
    kt_buf_clear(&buf);
    return &buf;
}
