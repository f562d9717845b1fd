/* Iteration in a defined order. */
#include "vm/order.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "vm/hook.h"

struct key {
    int type; /* LUA_TNUMBER < LUA_TSTRING here: see rank */
    double number;
    const char *s;
    size_t len;
};

static int rank(int type) {
    return type == LUA_TNUMBER ? 0 : type == LUA_TSTRING ? 1 : 2;
}

static int compare(const void *x, const void *y) {
    const struct key *a = x, *b = y;
    if (a->type != b->type)
        return rank(a->type) - rank(b->type);
    if (a->type != LUA_TSTRING)
        return (a->number > b->number) - (a->number < b->number);
    size_t n = a->len < b->len ? a->len : b->len;
    int c = memcmp(a->s, b->s, n);
    return c != 0 ? c : (a->len > b->len) - (a->len < b->len);
}

static struct key key_at(lua_State *L, int idx) {
    struct key key = {lua_type(L, idx), 0, NULL, 0};
    if (key.type == LUA_TNUMBER)
        key.number = lua_tonumber(L, idx);
    else if (key.type == LUA_TSTRING)
        key.s = lua_tolstring(L, idx, &key.len);
    else if (key.type == LUA_TBOOLEAN)
        key.number = lua_toboolean(L, idx);
    else
        luaL_error(L, "pairs: a key is a %s, which has no order; keep a list beside the table",
                   luaL_typename(L, idx));
    return key;
}

static void push_key(lua_State *L, const struct key *key) {
    if (key->type == LUA_TNUMBER)
        lua_pushnumber(L, key->number);
    else if (key->type == LUA_TSTRING)
        lua_pushlstring(L, key->s, key->len); /* interned already */
    else
        lua_pushboolean(L, key->number != 0);
}

/* Pushes the array of the keys of the table at index 1. */
static size_t push_keys(lua_State *L) {
    static struct kt_buf buf; /* outlives an error raised while it is in use */
    size_t n = 0;
    bool sequence = true; /* 1..n as lua_next gives them: already in order */
    if (buf.cap > 4 << 20)
        kt_buf_free(&buf);
    kt_buf_clear(&buf);
    lua_pushnil(L);
    while (lua_next(L, 1) != 0) {
        lua_pop(L, 1);
        struct key key = key_at(L, -1);
        n++;
        if (key.type != LUA_TNUMBER || key.number != (double)n)
            sequence = false;
        kt_buf_add(&buf, &key, sizeof key);
    }
    if (buf.failed)
        luaL_error(L, "not enough memory");
    struct key *keys = (struct key *)buf.data;
    if (!sequence)
        qsort(keys, n, sizeof *keys, compare);
    kt_hook_charge(L, n * 4);
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        push_key(L, &keys[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return n;
}

int kt_order_keys(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_pushinteger(L, (lua_Integer)push_keys(L));
    return 2;
}

/* The smallest key, without sorting: next(t) is how scripts ask whether a table is empty. */
static int first(lua_State *L) {
    struct key least = {0, 0, NULL, 0};
    bool any = false;
    lua_pushnil(L);
    while (lua_next(L, 1) != 0) {
        lua_pop(L, 1);
        struct key key = key_at(L, -1);
        if (!any || compare(&key, &least) < 0)
            least = key;
        any = true;
    }
    if (!any) {
        lua_pushnil(L);
        return 1;
    }
    push_key(L, &least);
    lua_pushvalue(L, -1);
    lua_rawget(L, 1);
    return 2;
}

/* The walk under way is remembered in the registry: {table, keys, position}. One at a time is
 * enough; another one in between only costs the keys again. */
static const char walk;

static void begin_walk(lua_State *L) {
    lua_createtable(L, 3, 0);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    push_keys(L);
    lua_rawseti(L, -2, 2);
    lua_pushlightuserdata(L, (void *)&walk);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

/* Where key (index 2) is in the keys at `keys`; 0: nowhere. */
static int position(lua_State *L, int keys) {
    int n = (int)lua_objlen(L, keys);
    struct key key = key_at(L, 2);
    int low = 1, high = n;
    while (low <= high) {
        int middle = low + (high - low) / 2;
        lua_rawgeti(L, keys, middle);
        struct key other = key_at(L, -1);
        lua_pop(L, 1);
        int c = compare(&key, &other);
        if (c == 0)
            return middle;
        if (c < 0)
            high = middle - 1;
        else
            low = middle + 1;
    }
    return 0;
}

int kt_order_next(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_isnil(L, 2))
        return first(L);
    lua_pushlightuserdata(L, (void *)&walk);
    lua_rawget(L, LUA_REGISTRYINDEX);
    bool known = false;
    if (lua_istable(L, 3)) {
        lua_rawgeti(L, 3, 1);
        known = lua_rawequal(L, -1, 1);
        lua_pop(L, 1);
    }
    int at = 0;
    for (int attempt = 0; attempt < 2 && at == 0; attempt++) {
        if (!known || attempt == 1) {
            lua_settop(L, 2);
            begin_walk(L);
        }
        lua_settop(L, 3);
        lua_rawgeti(L, 3, 2);
        at = position(L, 4);
        if (known && attempt == 0 && at == 0)
            continue;
        if (at == 0)
            return luaL_error(L, "next: the key is not in the table");
    }
    for (;;) { /* what was taken out since the walk began is left out */
        lua_rawgeti(L, 4, ++at);
        if (lua_isnil(L, -1))
            return 1;
        lua_pushvalue(L, -1);
        lua_rawget(L, 1);
        if (!lua_isnil(L, -1))
            return 2;
        lua_pop(L, 2);
    }
}
