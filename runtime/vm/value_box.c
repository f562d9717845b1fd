/* The boxed types of values: date, int64, binary; the array mark; null. */
#include <inttypes.h>
#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "core/clock.h"
#include "vm/value.h"

static char empty_array;

void kt_value_push_null(lua_State *L) {
    lua_pushlightuserdata(L, NULL);
}

void kt_value_push_empty_array(lua_State *L) {
    lua_pushlightuserdata(L, &empty_array);
}

bool kt_value_is_empty_array(lua_State *L, int idx) {
    return lua_type(L, idx) == LUA_TLIGHTUSERDATA && lua_touserdata(L, idx) == &empty_array;
}

static void push_box(lua_State *L, const char *kind, int64_t v) {
    *(int64_t *)lua_newuserdata(L, sizeof v) = v;
    luaL_getmetatable(L, kind);
    lua_setmetatable(L, -2);
}

void kt_value_push_int64(lua_State *L, int64_t i) {
    if (i >= -(int64_t)KT_EXACT_MAX && i <= (int64_t)KT_EXACT_MAX)
        lua_pushnumber(L, (double)i);
    else
        push_box(L, "kt.int64", i);
}

void kt_value_push_date(lua_State *L, int64_t ms) {
    push_box(L, "kt.date", ms);
}

void kt_value_push_binary(lua_State *L, const void *bytes, size_t len) {
    memcpy(lua_newuserdata(L, len), bytes, len);
    luaL_getmetatable(L, "kt.binary");
    lua_setmetatable(L, -2);
}

void kt_value_mark_array(lua_State *L, int idx) {
    if (idx < 0)
        idx = lua_gettop(L) + idx + 1;
    luaL_getmetatable(L, "kt.array");
    lua_setmetatable(L, idx);
}

bool kt_value_get_date(lua_State *L, int idx, int64_t *ms) {
    int64_t *box = luaL_testudata(L, idx, "kt.date");
    if (box != NULL)
        *ms = *box;
    return box != NULL;
}

bool kt_value_get_int64(lua_State *L, int idx, int64_t *i) {
    if (lua_type(L, idx) == LUA_TNUMBER) {
        double d = lua_tonumber(L, idx);
        if (d != floor(d) || fabs(d) > KT_EXACT_MAX)
            return false;
        *i = (int64_t)d;
        return true;
    }
    int64_t *box = luaL_testudata(L, idx, "kt.int64");
    if (box != NULL)
        *i = *box;
    return box != NULL;
}

const char *kt_value_get_binary(lua_State *L, int idx, size_t *len) {
    const char *bytes = luaL_testudata(L, idx, "kt.binary");
    if (bytes != NULL)
        *len = lua_objlen(L, idx);
    return bytes;
}

/* Metamethods. The two operands of __eq, __lt and __le have the same type of box: Lua asks the
 * metamethod only then for __eq; for the others luaL_checkudata refuses a mix. */

static int l_date_index(lua_State *L) {
    int64_t *ms = luaL_checkudata(L, 1, "kt.date");
    if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "ms") == 0)
        lua_pushnumber(L, (double)*ms);
    else
        lua_pushnil(L);
    return 1;
}

static int l_date_tostring(lua_State *L) {
    char text[KT_RFC3339_SIZE];
    int64_t *ms = luaL_checkudata(L, 1, "kt.date");
    if (kt_time_format(*ms, text) == 0)
        return luaL_error(L, "a date outside the years 0 to 9999");
    lua_pushstring(L, text);
    return 1;
}

static int l_int64_tostring(lua_State *L) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, *(int64_t *)luaL_checkudata(L, 1, "kt.int64"));
    lua_pushstring(L, text);
    return 1;
}

static int l_binary_tostring(lua_State *L) {
    char *bytes = luaL_checkudata(L, 1, "kt.binary");
    lua_pushlstring(L, bytes, lua_objlen(L, 1));
    return 1;
}

static int l_binary_len(lua_State *L) {
    luaL_checkudata(L, 1, "kt.binary");
    lua_pushnumber(L, (double)lua_objlen(L, 1));
    return 1;
}

static int l_binary_eq(lua_State *L) {
    char *a = luaL_checkudata(L, 1, "kt.binary"), *b = luaL_checkudata(L, 2, "kt.binary");
    size_t n = lua_objlen(L, 1);
    lua_pushboolean(L, n == lua_objlen(L, 2) && memcmp(a, b, n) == 0);
    return 1;
}

#define COMPARE(kind, name, op)                                                                    \
    static int l_##kind##_##name(lua_State *L) {                                                   \
        int64_t *a = luaL_checkudata(L, 1, "kt." #kind), *b = luaL_checkudata(L, 2, "kt." #kind);  \
        lua_pushboolean(L, *a op *b);                                                              \
        return 1;                                                                                  \
    }
COMPARE(date, eq, ==)
COMPARE(date, lt, <)
COMPARE(date, le, <=)
COMPARE(int64, eq, ==)
COMPARE(int64, lt, <)
COMPARE(int64, le, <=)

static const luaL_Reg date_methods[] = {{"__index", l_date_index}, {"__tostring", l_date_tostring},
                                        {"__eq", l_date_eq},       {"__lt", l_date_lt},
                                        {"__le", l_date_le},       {NULL, NULL}};
static const luaL_Reg int64_methods[] = {{"__tostring", l_int64_tostring},
                                         {"__eq", l_int64_eq},
                                         {"__lt", l_int64_lt},
                                         {"__le", l_int64_le},
                                         {NULL, NULL}};
static const luaL_Reg binary_methods[] = {{"__tostring", l_binary_tostring},
                                          {"__len", l_binary_len},
                                          {"__eq", l_binary_eq},
                                          {NULL, NULL}};

static void metatable(lua_State *L, const char *kind, const luaL_Reg *methods) {
    luaL_newmetatable(L, kind);
    if (methods != NULL)
        luaL_setfuncs(L, methods, 0);
    lua_pushstring(L, kind);
    lua_setfield(L, -2, "__metatable"); /* scripts see the kind, not the table */
    lua_pop(L, 1);
}

void kt_value_open(lua_State *L) {
    metatable(L, "kt.date", date_methods);
    metatable(L, "kt.int64", int64_methods);
    metatable(L, "kt.binary", binary_methods);
    luaL_newmetatable(L, "kt.array"); /* json.array_mt: its identity is the mark */
    lua_pop(L, 1);
}
