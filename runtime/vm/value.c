/* Lua values <-> BSON. */
#include "vm/value.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

/* Where in the value we are, for errors. */
struct path {
    const struct path *up;
    const char *key;
    size_t index; /* when key is NULL */
};

static void path_text(const struct path *p, char *out, size_t size) {
    const struct path *at[KT_VALUE_DEPTH + 2];
    int n = 0;
    for (; p != NULL && n < KT_VALUE_DEPTH + 2; p = p->up)
        at[n++] = p;
    size_t len = 0;
    out[0] = '\0';
    while (n-- > 0 && len < size) {
        int w = at[n]->key != NULL
                    ? snprintf(out + len, size - len, "%s%.64s", len ? "." : "", at[n]->key)
                    : snprintf(out + len, size - len, "[%zu]", at[n]->index);
        len += w > 0 ? (size_t)w : 0;
    }
}

static int fail_at(struct kt_error *err, const struct path *path, const char *what) {
    char where[200];
    path_text(path, where, sizeof where);
    return kt_fail(err, KT_VALIDATION_FAILED, "%s%s%s", where, where[0] ? ": " : "", what);
}

enum kt_shape kt_value_shape(lua_State *L, int idx, size_t *n, struct kt_error *err) {
    size_t strings = 0, ints = 0;
    double max = 0;
    bool marked = false;
    if (lua_getmetatable(L, idx)) {
        luaL_getmetatable(L, "kt.array");
        marked = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    lua_pushnil(L);
    while (lua_next(L, idx) != 0) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            strings++;
            continue;
        }
        double key = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0.5;
        if (key < 1 || key != floor(key)) {
            kt_fail(err, KT_VALIDATION_FAILED, "a key is a %s; keys are text or 1..n",
                    lua_type(L, -1) == LUA_TNUMBER ? "number outside 1..n" : luaL_typename(L, -1));
            lua_pop(L, 1);
            return KT_SHAPE_BAD;
        }
        ints++;
        if (key > max)
            max = key;
    }
    if (strings != 0 && (ints != 0 || marked)) {
        kt_fail(err, KT_VALIDATION_FAILED, "keys of an array and of a map in one table");
        return KT_SHAPE_BAD;
    }
    if (ints != 0 && max != (double)ints) {
        kt_fail(err, KT_VALIDATION_FAILED, "an array with holes (use json.null)");
        return KT_SHAPE_BAD;
    }
    *n = ints != 0 ? ints : strings;
    return ints != 0 || marked ? KT_SHAPE_ARRAY : KT_SHAPE_MAP;
}

static int by_bytes(const void *a, const void *b) {
    const struct kt_key *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int c = memcmp(x->s, y->s, n);
    return c != 0 ? c : (x->len > y->len) - (x->len < y->len);
}

struct kt_key *kt_value_keys(lua_State *L, int idx, size_t n) {
    struct kt_key *keys = malloc((n + 1) * sizeof *keys);
    size_t i = 0;
    if (keys == NULL)
        return NULL;
    lua_pushnil(L);
    while (lua_next(L, idx) != 0) {
        lua_pop(L, 1);
        keys[i].s = lua_tolstring(L, -1, &keys[i].len);
        i++;
    }
    qsort(keys, n, sizeof *keys, by_bytes);
    return keys;
}

/* One encoding: what it may still write, so that a small value which is used over and over cannot
 * grow without bound, and where its error goes. */
struct encoding {
    size_t max, left;
    struct kt_error *err;
};

static int too_large(struct encoding *e, const struct path *path) {
    char where[200];
    path_text(path, where, sizeof where);
    return kt_fail(e->err, KT_OUTPUT_LIMIT, "%s%sthe value is larger than %zu KiB", where,
                   where[0] ? ": " : "", e->max >> 10);
}

static bool spend(struct encoding *e, size_t n) {
    if (n > e->left)
        return false;
    e->left -= n;
    return true;
}

static int put(lua_State *L, int idx, bson_t *out, const char *key, int key_len, int depth,
               const struct path *path, struct encoding *e);

static int put_fields(lua_State *L, int idx, size_t n, bson_t *out, int depth,
                      const struct path *path, struct encoding *e) {
    struct kt_key *keys = kt_value_keys(L, idx, n);
    int rc = keys == NULL ? kt_fail(e->err, KT_NO_MEMORY, "no memory for a value") : 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct path here = {path, keys[i].s, 0};
        if (memchr(keys[i].s, '\0', keys[i].len) != NULL) {
            rc = fail_at(e->err, &here, "a key with a NUL byte");
        } else if (!kt_utf8_valid(keys[i].s, keys[i].len)) {
            rc = fail_at(e->err, path, "a key is not UTF-8");
        } else {
            lua_pushlstring(L, keys[i].s, keys[i].len); /* interned already: no allocation */
            lua_rawget(L, idx);
            rc = put(L, lua_gettop(L), out, keys[i].s, (int)keys[i].len, depth, &here, e);
            lua_pop(L, 1);
        }
    }
    free(keys);
    return rc;
}

static int put_table(lua_State *L, int idx, bson_t *out, const char *key, int key_len, int depth,
                     const struct path *path, struct encoding *e) {
    bson_t child;
    size_t n;
    struct kt_error why;
    int rc = 0;
    if (depth >= KT_VALUE_DEPTH)
        return fail_at(e->err, path, "nested more than 64 levels deep");
    switch (kt_value_shape(L, idx, &n, &why)) {
    case KT_SHAPE_BAD:
        return fail_at(e->err, path, why.message);
    case KT_SHAPE_MAP:
        if (!bson_append_document_begin(out, key, key_len, &child))
            return too_large(e, path);
        rc = put_fields(L, idx, n, &child, depth + 1, path, e);
        if (!bson_append_document_end(out, &child) && rc == 0)
            rc = too_large(e, path);
        return rc;
    case KT_SHAPE_ARRAY:
        break;
    }
    if (!bson_append_array_begin(out, key, key_len, &child))
        return too_large(e, path);
    for (size_t i = 1; rc == 0 && i <= n; i++) {
        struct path here = {path, NULL, i};
        char room[16];
        const char *name;
        size_t len = bson_uint32_to_string((uint32_t)(i - 1), &name, room, sizeof room);
        lua_rawgeti(L, idx, (int)i);
        rc = put(L, lua_gettop(L), &child, name, (int)len, depth + 1, &here, e);
        lua_pop(L, 1);
    }
    if (!bson_append_array_end(out, &child) && rc == 0)
        rc = too_large(e, path);
    return rc;
}

static int put_userdata(lua_State *L, int idx, bson_t *out, const char *key, int key_len,
                        const struct path *path, struct encoding *e) {
    int64_t i;
    size_t len;
    const char *bytes;
    bool ok;
    if (kt_value_get_date(L, idx, &i))
        ok = bson_append_date_time(out, key, key_len, i);
    else if (kt_value_get_int64(L, idx, &i))
        ok = bson_append_int64(out, key, key_len, i);
    else if ((bytes = kt_value_get_binary(L, idx, &len)) != NULL)
        ok = spend(e, len) && bson_append_binary(out, key, key_len, BSON_SUBTYPE_BINARY,
                                                 (const uint8_t *)bytes, (uint32_t)len);
    else
        return fail_at(e->err, path, "a userdata cannot be stored");
    return ok ? 0 : too_large(e, path);
}

static int put(lua_State *L, int idx, bson_t *out, const char *key, int key_len, int depth,
               const struct path *path, struct encoding *e) {
    bool ok = true;
    if (!spend(e, (size_t)key_len + 8))
        return too_large(e, path);
    switch (lua_type(L, idx)) {
    case LUA_TNIL:
        ok = bson_append_null(out, key, key_len);
        break;
    case LUA_TBOOLEAN:
        ok = bson_append_bool(out, key, key_len, lua_toboolean(L, idx));
        break;
    case LUA_TNUMBER: {
        double d = lua_tonumber(L, idx);
        if (!isfinite(d))
            return fail_at(e->err, path, "NaN or infinity");
        ok = d == floor(d) && fabs(d) <= KT_EXACT_MAX
                 ? bson_append_int64(out, key, key_len, (int64_t)d)
                 : bson_append_double(out, key, key_len, d);
        break;
    }
    case LUA_TSTRING: {
        size_t len;
        const char *s = lua_tolstring(L, idx, &len);
        if (!kt_utf8_valid(s, len))
            return fail_at(e->err, path, "text is not UTF-8 (bytes go in value.binary)");
        ok = len <= INT32_MAX - 64 && spend(e, len) &&
             bson_append_utf8(out, key, key_len, s, (int)len);
        break;
    }
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, idx) == NULL)
            ok = bson_append_null(out, key, key_len);
        else if (kt_value_is_empty_array(L, idx)) {
            bson_t child;
            ok = bson_append_array_begin(out, key, key_len, &child) &&
                 bson_append_array_end(out, &child);
        } else
            return fail_at(e->err, path, "a userdata cannot be stored");
        break;
    case LUA_TTABLE:
        return put_table(L, idx, out, key, key_len, depth, path, e);
    case LUA_TUSERDATA:
        return put_userdata(L, idx, out, key, key_len, path, e);
    default: {
        char what[64];
        snprintf(what, sizeof what, "a %s cannot be stored", luaL_typename(L, idx));
        return fail_at(e->err, path, what);
    }
    }
    return ok ? 0 : too_large(e, path);
}

static int absolute(lua_State *L, int idx) {
    return idx < 0 && idx > LUA_REGISTRYINDEX ? lua_gettop(L) + idx + 1 : idx;
}

int kt_value_to_doc(lua_State *L, int idx, bson_t *out, struct kt_error *err) {
    size_t n;
    struct kt_error why;
    struct encoding e = {KT_VALUE_MAX, KT_VALUE_MAX, err};
    idx = absolute(L, idx);
    if (lua_type(L, idx) != LUA_TTABLE)
        return kt_fail(err, KT_VALIDATION_FAILED, "a document is a table, not a %s",
                       luaL_typename(L, idx));
    switch (kt_value_shape(L, idx, &n, &why)) {
    case KT_SHAPE_MAP:
        return put_fields(L, idx, n, out, 1, NULL, &e);
    case KT_SHAPE_ARRAY:
        return kt_fail(err, KT_VALIDATION_FAILED, "a document is a map, not an array");
    case KT_SHAPE_BAD:
        break;
    }
    return kt_fail(err, why.code, "%s", why.message);
}

int kt_value_encode(lua_State *L, int idx, struct kt_buf *out, struct kt_error *err) {
    return kt_value_encode_max(L, idx, KT_VALUE_MAX, out, err);
}

int kt_value_encode_max(lua_State *L, int idx, size_t max, struct kt_buf *out,
                        struct kt_error *err) {
    bson_t doc;
    struct encoding e = {max, max, err};
    bson_init(&doc);
    int rc = put(L, absolute(L, idx), &doc, "v", 1, 1, NULL, &e);
    if (rc == 0) {
        kt_buf_add(out, bson_get_data(&doc), doc.len);
        if (out->failed)
            rc = kt_fail(err, KT_NO_MEMORY, "no memory for a value");
    }
    bson_destroy(&doc);
    return rc;
}

/* BSON -> Lua */

static void push_container(lua_State *L, bson_iter_t *it, bool array, int depth);

static void push_iter(lua_State *L, bson_iter_t *it, int depth) {
    switch (bson_iter_type(it)) {
    case BSON_TYPE_NULL:
        kt_value_push_null(L);
        return;
    case BSON_TYPE_BOOL:
        lua_pushboolean(L, bson_iter_bool(it));
        return;
    case BSON_TYPE_INT32:
        lua_pushnumber(L, bson_iter_int32(it));
        return;
    case BSON_TYPE_INT64:
        kt_value_push_int64(L, bson_iter_int64(it));
        return;
    case BSON_TYPE_DOUBLE:
        lua_pushnumber(L, bson_iter_double(it));
        return;
    case BSON_TYPE_DATE_TIME:
        kt_value_push_date(L, bson_iter_date_time(it));
        return;
    case BSON_TYPE_UTF8: {
        uint32_t len;
        const char *s = bson_iter_utf8(it, &len);
        lua_pushlstring(L, s, len);
        return;
    }
    case BSON_TYPE_BINARY: {
        uint32_t len;
        const uint8_t *bytes;
        bson_iter_binary(it, NULL, &len, &bytes);
        kt_value_push_binary(L, bytes, len);
        return;
    }
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY: {
        bson_iter_t child;
        if (depth >= KT_VALUE_DEPTH)
            luaL_error(L, "%s: nested more than %d levels deep", bson_iter_key(it), KT_VALUE_DEPTH);
        if (!bson_iter_recurse(it, &child))
            luaL_error(L, "%s: damaged document", bson_iter_key(it));
        push_container(L, &child, bson_iter_type(it) == BSON_TYPE_ARRAY, depth + 1);
        return;
    }
    default:
        luaL_error(L, "%s: BSON type 0x%d is not supported", bson_iter_key(it),
                   (int)bson_iter_type(it));
    }
}

static void push_container(lua_State *L, bson_iter_t *it, bool array, int depth) {
    int i = 0;
    luaL_checkstack(L, 8, "value");
    lua_newtable(L);
    while (bson_iter_next(it)) {
        if (array) {
            push_iter(L, it, depth);
            lua_rawseti(L, -2, ++i);
        } else {
            lua_pushlstring(L, bson_iter_key(it), bson_iter_key_len(it));
            push_iter(L, it, depth);
            lua_rawset(L, -3);
        }
    }
    if (it->err_off != 0)
        luaL_error(L, "damaged document");
    if (array)
        kt_value_mark_array(L, -1);
}

void kt_value_push_doc(lua_State *L, const bson_t *doc) {
    bson_iter_t it;
    if (!bson_iter_init(&it, doc))
        luaL_error(L, "damaged document");
    push_container(L, &it, false, 1);
}

void kt_value_push_blob(lua_State *L, const void *blob, size_t len) {
    bson_t doc;
    bson_iter_t it;
    if (!bson_init_static(&doc, blob, len) || !bson_iter_init(&it, &doc) || !bson_iter_next(&it) ||
        strcmp(bson_iter_key(&it), "v") != 0)
        luaL_error(L, "not an encoded value");
    luaL_checkstack(L, 8, "value");
    push_iter(L, &it, 1);
}
