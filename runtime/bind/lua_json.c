/* Module json (also cjson), with lua-cjson's interface on Jansson. Nothing here yields.
 *
 *   json.encode(v [, {sort=true, indent=n}]) -> text; raises on what JSON cannot say, with the
 * path. Keys are sorted bytewise, or as json.ordered says; sort=false: as the table has them.
 *   json.decode(text) -> v | nil, err   err.line, err.column, err.code = "invalid_json"
 *   json.null, json.empty_array, json.array_mt (setmetatable(t, json.array_mt): always an array)
 *   json.array(t) -> t, marked          json.ordered(t, {"k1", …}) -> t, these keys first
 *
 * Strict: UTF-8, no duplicate keys, no NaN, at most 64 levels. Integers are exact: beyond +-2^53
 * they come as value.int64, beyond 64 bits they are refused. Decoded arrays keep their mark, so
 * [] stays []. A date is written in RFC 3339. No metamethod runs. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "core/clock.h"
#include "core/json.h"
#include "vm/hook.h"

#define SCRIPT_TEXT_MAX (1 << 20)

struct out {
    lua_State *L;
    struct kt_buf *buf;
    struct kt_error err;
    int indent; /* 0: one line */
    size_t max; /* bytes: a small table that is used over and over must not grow without bound */
    bool sort;
};

struct path { /* for errors */
    const struct path *up;
    const char *key;
    size_t index;
};

static int fail_at(struct out *o, const struct path *path, const char *what) {
    char where[200] = "", room[200];
    for (; path != NULL; path = path->up) {
        if (path->key != NULL)
            snprintf(room, sizeof room, "%s%.64s%s", path->up ? "." : "", path->key, where);
        else
            snprintf(room, sizeof room, "[%zu]%s", path->index, where);
        snprintf(where, sizeof where, "%s", room);
    }
    return kt_fail(&o->err, KT_VALIDATION_FAILED, "json.encode: %s%s%s", where,
                   where[0] ? ": " : "", what);
}

static void newline(struct out *o, int depth) {
    if (o->indent == 0)
        return;
    kt_buf_addc(o->buf, '\n');
    for (int i = 0; i < depth * o->indent; i++)
        kt_buf_addc(o->buf, ' ');
}

static int put(struct out *o, int idx, int depth, const struct path *path);

static int put_pair(struct out *o, const char *key, size_t len, int idx, bool first, int depth,
                    const struct path *path) {
    struct path here = {path, key, 0};
    if (!kt_utf8_valid(key, len))
        return fail_at(o, path, "a key is not UTF-8");
    if (!first)
        kt_buf_addc(o->buf, ',');
    newline(o, depth);
    kt_json_string(o->buf, key, len);
    kt_buf_adds(o->buf, o->indent ? ": " : ":");
    return put(o, idx, depth, &here);
}

/* The list of json.ordered on the stack, or nothing and false. */
static bool push_order(lua_State *L, int idx) {
    if (!lua_getmetatable(L, idx))
        return false;
    lua_pushliteral(L, "kt.order");
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (lua_istable(L, -1))
        return true;
    lua_pop(L, 1);
    return false;
}

static int put_map_sorted(struct out *o, int idx, size_t n, int depth, const struct path *path) {
    lua_State *L = o->L;
    struct kt_key *keys = kt_value_keys(L, idx, n);
    bool first = true;
    int rc = keys == NULL ? kt_fail(&o->err, KT_NO_MEMORY, "json.encode: no memory") : 0;
    if (rc == 0 && push_order(L, idx)) {
        int order = lua_gettop(L), count = (int)lua_objlen(L, order);
        for (int i = 1; rc == 0 && i <= count; i++) {
            size_t len;
            lua_rawgeti(L, order, i);
            const char *key = lua_tolstring(L, -1, &len);
            lua_pushvalue(L, -1);
            lua_rawget(L, idx);
            if (!lua_isnil(L, -1)) {
                rc = put_pair(o, key, len, lua_gettop(L), first, depth + 1, path);
                first = false;
                for (size_t k = 0; k < n; k++) /* interned: one text, one address */
                    if (keys[k].s == key)
                        keys[k].s = NULL;
            }
            lua_pop(L, 2);
        }
        lua_pop(L, 1);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (keys[i].s == NULL)
            continue;
        lua_pushlstring(L, keys[i].s, keys[i].len);
        lua_rawget(L, idx);
        rc = put_pair(o, keys[i].s, keys[i].len, lua_gettop(L), first, depth + 1, path);
        first = false;
        lua_pop(L, 1);
    }
    free(keys);
    return rc;
}

static int put_map_unsorted(struct out *o, int idx, int depth, const struct path *path) {
    lua_State *L = o->L;
    bool first = true;
    int rc = 0;
    lua_pushnil(L);
    while (lua_next(L, idx) != 0) {
        size_t len;
        const char *key = lua_tolstring(L, -2, &len);
        rc = put_pair(o, key, len, lua_gettop(L), first, depth + 1, path);
        first = false;
        lua_pop(L, rc == 0 ? 1 : 2);
        if (rc != 0)
            break;
    }
    return rc;
}

static int put_table(struct out *o, int idx, int depth, const struct path *path) {
    lua_State *L = o->L;
    struct kt_error why;
    size_t n;
    int rc = 0;
    if (depth >= KT_VALUE_DEPTH)
        return fail_at(o, path, "nested more than 64 levels deep");
    enum kt_shape shape = kt_value_shape(L, idx, &n, &why);
    if (shape == KT_SHAPE_BAD)
        return fail_at(o, path, why.message);
    if (n == 0) {
        kt_buf_adds(o->buf, shape == KT_SHAPE_ARRAY ? "[]" : "{}");
        return 0;
    }
    if (shape == KT_SHAPE_MAP) {
        kt_buf_addc(o->buf, '{');
        rc = o->sort ? put_map_sorted(o, idx, n, depth, path)
                     : put_map_unsorted(o, idx, depth, path);
        newline(o, depth);
        kt_buf_addc(o->buf, '}');
        return rc;
    }
    kt_buf_addc(o->buf, '[');
    for (size_t i = 1; rc == 0 && i <= n; i++) {
        struct path here = {path, NULL, i};
        if (i > 1)
            kt_buf_addc(o->buf, ',');
        newline(o, depth + 1);
        lua_rawgeti(L, idx, (int)i);
        rc = put(o, lua_gettop(L), depth + 1, &here);
        lua_pop(L, 1);
    }
    newline(o, depth);
    kt_buf_addc(o->buf, ']');
    return rc;
}

static int put(struct out *o, int idx, int depth, const struct path *path) {
    lua_State *L = o->L;
    if (o->buf->len > o->max)
        return fail_at(o, path, "the text is too large");
    int64_t i;
    size_t len;
    const char *s;
    switch (lua_type(L, idx)) {
    case LUA_TNIL:
        kt_buf_adds(o->buf, "null");
        return 0;
    case LUA_TBOOLEAN:
        kt_buf_adds(o->buf, lua_toboolean(L, idx) ? "true" : "false");
        return 0;
    case LUA_TNUMBER:
        if (!isfinite(lua_tonumber(L, idx)))
            return fail_at(o, path, "NaN or infinity");
        if (kt_value_get_int64(L, idx, &i))
            kt_json_int(o->buf, i);
        else
            kt_json_double(o->buf, lua_tonumber(L, idx));
        return 0;
    case LUA_TSTRING:
        s = lua_tolstring(L, idx, &len);
        if (!kt_utf8_valid(s, len))
            return fail_at(o, path, "text is not UTF-8");
        kt_json_string(o->buf, s, len);
        return 0;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, idx) == NULL)
            kt_buf_adds(o->buf, "null");
        else if (kt_value_is_empty_array(L, idx))
            kt_buf_adds(o->buf, "[]");
        else
            return fail_at(o, path, "a userdata is not JSON");
        return 0;
    case LUA_TTABLE:
        return put_table(o, idx, depth, path);
    case LUA_TUSERDATA:
        if (kt_value_get_int64(L, idx, &i)) {
            kt_json_int(o->buf, i);
            return 0;
        }
        if (kt_value_get_date(L, idx, &i)) {
            char text[KT_RFC3339_SIZE];
            size_t n = kt_time_format(i, text);
            if (n == 0)
                return fail_at(o, path, "a date outside the years 0 to 9999");
            kt_json_string(o->buf, text, n);
            return 0;
        }
        return fail_at(o, path, "a userdata is not JSON");
    default: {
        char what[64];
        snprintf(what, sizeof what, "a %s is not JSON", luaL_typename(L, idx));
        return fail_at(o, path, what);
    }
    }
}

static int l_encode(lua_State *L) {
    luaL_checkany(L, 1);
    struct kt_vm *vm = kt_vm_of(L);
    struct out o = {.L = L,
                    .indent = (int)kt_opt_number(L, 2, "indent", 0),
                    .sort = kt_opt_bool(L, 2, "sort", true),
                    .max = vm != NULL && vm->cap != 0 ? vm->cap / 4 : (size_t)1 << 30};
    luaL_argcheck(L, o.indent >= 0 && o.indent <= 16, 2, "indent from 0 to 16");
    luaL_checkstack(L, KT_VALUE_STACK + 4 * KT_VALUE_DEPTH, "json");
    o.buf = kt_scratch();
    if (put(&o, 1, 0, NULL) != 0)
        return luaL_error(L, "%s", o.err.message);
    if (o.buf->failed)
        return luaL_error(L, "json.encode: not enough memory");
    kt_hook_charge(L, o.buf->len / 4);
    lua_pushlstring(L, o.buf->data, o.buf->len);
    return 1;
}

/* Decoding: Jansson's tree, kept by a userdata so that running out of memory in a capped state
 * frees it, is pushed value by value. */

static void push_json(lua_State *L, const json_t *v, int depth) {
    switch (json_typeof(v)) {
    case JSON_NULL:
        kt_value_push_null(L);
        return;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(v));
        return;
    case JSON_INTEGER:
        kt_value_push_int64(L, json_integer_value(v));
        return;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(v));
        return;
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(v), json_string_length(v));
        return;
    default:
        break;
    }
    if (depth > KT_VALUE_DEPTH)
        luaL_error(L, "nested more than %d levels deep", KT_VALUE_DEPTH);
    luaL_checkstack(L, 6, "json");
    if (json_is_array(v)) {
        size_t n = json_array_size(v);
        lua_createtable(L, (int)n, 0);
        for (size_t i = 0; i < n; i++) {
            push_json(L, json_array_get(v, i), depth + 1);
            lua_rawseti(L, -2, (int)i + 1);
        }
        kt_value_mark_array(L, -1);
        return;
    }
    lua_createtable(L, 0, (int)json_object_size(v));
    const char *key;
    json_t *field, *map = (json_t *)v; /* the iterator wants it not const, and changes nothing */
    json_object_foreach(map, key, field) {
        lua_pushstring(L, key);
        push_json(L, field, depth + 1);
        lua_rawset(L, -3);
    }
}

static int depth_of(const char *s, size_t n) {
    int depth = 0, deepest = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted) {
            if (s[i] == '\\')
                i++;
            else if (s[i] == '"')
                quoted = false;
        } else if (s[i] == '"') {
            quoted = true;
        } else if (s[i] == '[' || s[i] == '{') {
            if (++depth > deepest)
                deepest = depth;
        } else if (s[i] == ']' || s[i] == '}') {
            depth--;
        }
    }
    return deepest;
}

static int decode_failed(lua_State *L, const char *message, int line, int column) {
    struct kt_error err;
    kt_fail(&err, KT_INVALID_JSON, "%s at line %d, column %d", message, line, column);
    kt_push_error(L, &err);
    lua_pushinteger(L, line);
    lua_setfield(L, -2, "line");
    lua_pushinteger(L, column);
    lua_setfield(L, -2, "column");
    return 2;
}

static int l_decode(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    json_error_t err;
    /* Jansson's tree is outside of a script's memory, and takes up to 50 bytes for one of text. */
    if (kt_vm_of(L)->cap != 0 && len > SCRIPT_TEXT_MAX)
        return decode_failed(L, "the text is larger than 1 MiB", 1, 1);
    kt_hook_charge(L, len);
    if (depth_of(text, len) > KT_VALUE_DEPTH)
        return decode_failed(L, "nested more than 64 levels deep", 1, 1);
    json_t **held = lua_newuserdata(L, sizeof *held);
    *held = NULL;
    luaL_getmetatable(L, "kt.json_tree");
    lua_setmetatable(L, -2);
    *held = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &err);
    if (*held == NULL)
        return decode_failed(L, err.text, err.line, err.column);
    push_json(L, *held, 1);
    json_decref(*held);
    *held = NULL;
    return 1;
}

static int l_tree_gc(lua_State *L) {
    json_t **held = luaL_checkudata(L, 1, "kt.json_tree");
    json_decref(*held);
    *held = NULL;
    return 0;
}

static int l_array(lua_State *L) {
    if (lua_isnoneornil(L, 1))
        lua_newtable(L);
    else
        luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    kt_value_mark_array(L, 1);
    return 1;
}

static int l_ordered(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t n = lua_objlen(L, 2);
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, 2, (int)i);
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 2, "a list of keys (text)");
        lua_pop(L, 1);
    }
    lua_settop(L, 2);
    lua_createtable(L, 0, 1);
    lua_insert(L, 2);
    lua_setfield(L, 2, "kt.order");
    lua_setmetatable(L, 1);
    return 1;
}

static const luaL_Reg functions[] = {{"encode", l_encode},
                                     {"decode", l_decode},
                                     {"array", l_array},
                                     {"ordered", l_ordered},
                                     {NULL, NULL}};

int luaopen_json(lua_State *L) {
    luaL_newmetatable(L, "kt.json_tree");
    lua_pushcfunction(L, l_tree_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    kt_value_push_null(L);
    lua_setfield(L, -2, "null");
    kt_value_push_empty_array(L);
    lua_setfield(L, -2, "empty_array");
    luaL_getmetatable(L, "kt.array");
    lua_setfield(L, -2, "array_mt");
    return 1;
}

/* The same module under the name that scripts written for lua-cjson require. */
int luaopen_cjson(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "json");
    lua_call(L, 1, 1);
    return 1;
}
