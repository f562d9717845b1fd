/* What code in a state may see. */
#include "vm/sandbox.h"

#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "vm/embed.h"
#include "vm/hook.h"
#include "vm/order.h"
#include "vm/strlib.h"
#include "vm/task.h"
#include "vm/value.h"

void kt_sandbox_load(lua_State *L, const unsigned char *source, size_t len, const char *name) {
    if (luaL_loadbuffer(L, (const char *)source, len, name) != 0)
        lua_error(L);
}

static int l_never(lua_State *L) {
    lua_pushboolean(L, false);
    return 1;
}

int kt_sandbox_sliced(lua_State *L) {
    lua_pushboolean(L, kt_hook_take_inner(L));
    return 1;
}

static int l_error_tostring(lua_State *L) {
    lua_getfield(L, 1, "code");
    lua_getfield(L, 1, "message");
    const char *code = lua_tostring(L, -2), *message = lua_tostring(L, -1);
    lua_pushfstring(L, "%s: %s", code != NULL ? code : "error", message != NULL ? message : "");
    return 1;
}

/* Stock tostring shows addresses, which differ from run to run. */
static int l_plain_tostring(lua_State *L) {
    luaL_checkany(L, 1);
    switch (lua_type(L, 1)) {
    case LUA_TLIGHTUSERDATA:
        lua_pushstring(L, lua_touserdata(L, 1) == NULL ? "null" : "userdata");
        return 1;
    case LUA_TTABLE:
    case LUA_TFUNCTION:
    case LUA_TTHREAD:
    case LUA_TUSERDATA:
        lua_pushstring(L, luaL_typename(L, 1));
        return 1;
    default: /* scalars, 64-bit numbers */
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);
        return 1;
    }
}

/* meta(v, name) -> the field of v's metatable, whatever __metatable says, or nil */
static int l_meta(lua_State *L) {
    luaL_checkany(L, 1);
    if (!luaL_getmetafield(L, 1, luaL_checkstring(L, 2)))
        lua_pushnil(L);
    return 1;
}

/* setmetatable(t, json.array_mt) marks an array: scripts have a token for it, so that they cannot
 * change the metatable that all arrays share; and a marked array may get another metatable. */
static int l_setmetatable(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argcheck(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table expected");
    lua_settop(L, 2);
    luaL_getmetatable(L, "kt.array");
    if (luaL_getmetafield(L, 1, "__metatable")) {
        lua_getmetatable(L, 1);
        if (!lua_rawequal(L, -1, 3))
            return luaL_error(L, "cannot change a protected metatable");
    }
    lua_settop(L, 3);
    lua_getfield(L, 3, "__metatable");
    lua_settop(L, 4);
    lua_pushvalue(L, lua_rawequal(L, 2, 4) ? 3 : 2);
    lua_setmetatable(L, 1);
    lua_settop(L, 1);
    return 1;
}

/* coroutine.resume and wrap replaced; sliced as in coroutine.lua. */
static void wrap_coroutines(lua_State *L, lua_CFunction sliced) {
    lua_getglobal(L, "coroutine"); /* the stock one stays for prelude.lua's scheduler */
    lua_getfield(L, -1, "resume");
    lua_setfield(L, LUA_REGISTRYINDEX, "kt.raw_resume");
    lua_pop(L, 1);
    kt_sandbox_load(L, kt_lua_coroutine, kt_lua_coroutine_len, "=coroutine");
    kt_task_push_mark(L);
    lua_pushcfunction(L, sliced);
    lua_call(L, 2, 2);
    lua_getglobal(L, "coroutine");
    lua_insert(L, -3);
    lua_setfield(L, -3, "wrap");
    lua_setfield(L, -2, "resume");
    lua_pop(L, 1);
}

void kt_sandbox_push_copy(lua_State *L, int idx) {
    if (idx < 0 && idx > LUA_REGISTRYINDEX)
        idx = lua_gettop(L) + idx + 1;
    lua_newtable(L);
    lua_pushnil(L);
    while (lua_next(L, idx) != 0) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);
    }
    if (lua_getmetatable(L, idx)) /* tool is called, too */
        lua_setmetatable(L, -2);
}

/* The allow-lists. What is not here does not exist for a script. */
static const char *const base_names[] = {"assert",   "error",  "getmetatable", "ipairs", "pcall",
                                         "rawequal", "rawget", "rawset",       "select", "tonumber",
                                         "type",     "unpack", "_VERSION",     NULL};
static const char *const string_names[] = {"byte",    "char", "find",  "format", "gmatch",
                                           "gsub",    "len",  "lower", "match",  "rep",
                                           "reverse", "sub",  "upper", NULL};
static const char *const table_names[] = {"concat", "insert", "maxn", "remove", "sort", NULL};
static const char *const math_names[] = {
    "abs",   "acos", "asin",  "atan", "atan2", "ceil", "cos",   "cosh", "deg", "exp",
    "floor", "fmod", "frexp", "huge", "ldexp", "log",  "log10", "max",  "min", "modf",
    "pi",    "pow",  "rad",   "sin",  "sinh",  "sqrt", "tan",   "tanh", NULL};
static const char *const bit_names[] = {"tobit", "tohex",  "bnot",   "band",    "bor",
                                        "bxor",  "lshift", "rshift", "arshift", "rol",
                                        "ror",   "bswap",  NULL};
static const char *const coroutine_names[] = {"create", "isyieldable", "resume", "running",
                                              "status", "wrap",        "yield",  NULL};

static const struct {
    const char *name;
    const char *const *fields;
} libraries[] = {{"string", string_names},
                 {"table", table_names},
                 {"math", math_names},
                 {"bit", bit_names},
                 {"coroutine", coroutine_names}};

/* from[name] of the table at `from` into the table on top. */
static void take(lua_State *L, int from, const char *const *names) {
    for (; *names != NULL; names++) {
        lua_getfield(L, from, *names);
        if (lua_isnil(L, -1))
            luaL_error(L, "sandbox: no %s in this Lua", *names);
        lua_setfield(L, -2, *names);
    }
}

/* The pairs of the table on top into the table at `to`; pops it. */
static void merge(lua_State *L, int to) {
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, to);
    }
    lua_pop(L, 1);
}

/* registry["kt.base"], registry["kt.libs"] out of the state's libraries. */
static void build(lua_State *L, bool script) {
    lua_settop(L, 0);
    lua_newtable(L); /* 1: parts for sandbox.lua */
    lua_getglobal(L, "tostring");
    lua_pushcclosure(L, l_plain_tostring, 1);
    lua_setfield(L, 1, "plain_tostring");
    lua_pushcfunction(L, l_meta);
    lua_setfield(L, 1, "meta");
    lua_pushcfunction(L, kt_order_keys);
    lua_setfield(L, 1, "keys");
    if (script)
        kt_strlib_open(L);

    kt_sandbox_load(L, kt_lua_sandbox, kt_lua_sandbox_len, "=sandbox");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1); /* 2: replacements */
    if (script) {      /* methods of strings are these, too */
        lua_getglobal(L, "string");
        lua_getfield(L, 2, "string");
        merge(L, 3);
        lua_settop(L, 2);
    }

    lua_newtable(L); /* 3: base */
    take(L, LUA_GLOBALSINDEX, base_names);
    lua_getfield(L, 2, "base");
    merge(L, 3);
    lua_pushcfunction(L, kt_order_next);
    lua_setfield(L, 3, "next");
    lua_pushcfunction(L, l_setmetatable);
    lua_setfield(L, 3, "setmetatable");

    lua_newtable(L); /* 4: libs */
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        lua_getglobal(L, libraries[i].name); /* 5 */
        lua_newtable(L);                     /* 6 */
        take(L, 5, libraries[i].fields);
        lua_getfield(L, 2, libraries[i].name);
        if (lua_istable(L, -1))
            merge(L, 6);
        else
            lua_pop(L, 1);
        lua_setfield(L, 4, libraries[i].name);
        lua_settop(L, 4);
    }
    lua_setfield(L, LUA_REGISTRYINDEX, "kt.libs");
    lua_setfield(L, LUA_REGISTRYINDEX, "kt.base");
    lua_settop(L, 0);
}

/* "".x:f() must not lead to the table that all strings share. */
static void guard_strings(lua_State *L) {
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_settop(L, 0);
}

void kt_sandbox_push_base(lua_State *L) {
    lua_getfield(L, LUA_REGISTRYINDEX, "kt.base");
}

void kt_sandbox_push_libs(lua_State *L) {
    lua_getfield(L, LUA_REGISTRYINDEX, "kt.libs");
}

void kt_sandbox_push_env(lua_State *L) {
    kt_sandbox_push_base(L);
    if (lua_isnil(L, -1)) { /* a host state, where specs try rules */
        build(L, false);
        kt_sandbox_push_base(L);
    }
    kt_sandbox_push_copy(L, -1);
    lua_replace(L, -2);
    int env = lua_gettop(L);
    kt_sandbox_push_libs(L);
    lua_pushnil(L);
    while (lua_next(L, env + 1) != 0) {
        kt_sandbox_push_copy(L, -1);
        lua_setfield(L, env, lua_tostring(L, -3));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_pushvalue(L, env);
    lua_setfield(L, env, "_G");
}

int kt_sandbox_open_host(lua_State *L, bool analyst) {
    kt_value_open(L);
    luaL_newmetatable(L, "kt.error");
    lua_pushcfunction(L, l_error_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
    wrap_coroutines(L, l_never);
    if (analyst) {
        lua_getglobal(L, "string");
        lua_pushnil(L); /* bytecode can do anything */
        lua_setfield(L, -2, "dump");
        build(L, false);
        guard_strings(L);
    }
    return 0;
}

int kt_sandbox_open_script(lua_State *L) {
    static const luaL_Reg opened[] = {{"", luaopen_base},
                                      {LUA_TABLIBNAME, luaopen_table},
                                      {LUA_STRLIBNAME, luaopen_string},
                                      {LUA_MATHLIBNAME, luaopen_math},
                                      {LUA_BITLIBNAME, luaopen_bit},
                                      {NULL, NULL}};
    for (const luaL_Reg *lib = opened; lib->name != NULL; lib++) {
        lua_pushcfunction(L, lib->func);
        lua_pushstring(L, lib->name);
        lua_call(L, 1, 0);
    }
    kt_value_open(L);
    luaL_getmetatable(L, "kt.array");
    lua_newtable(L); /* the token that scripts know as json.array_mt */
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    wrap_coroutines(L, kt_sandbox_sliced);
    build(L, true);
    guard_strings(L);
    kt_hook_init(kt_vm_of(L));
    lua_gc(L, LUA_GCSETPAUSE, 150);
    return 0;
}
