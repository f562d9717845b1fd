/* From Lua tables to the store's requests. */
#include "bind/store_args.h"

#include <stdlib.h>
#include <string.h>

static int bad(struct kt_error *err, const char *what) {
    return kt_fail(err, KT_INVALID_ARGUMENT, "store: %s", what);
}

/* The value at idx, owned: bson_value_destroy it. */
static int arg_value(lua_State *L, int idx, bson_value_t *out, struct kt_error *err) {
    struct kt_buf blob = KT_BUF_INIT;
    bson_t doc;
    bson_iter_t it;
    int rc = kt_value_encode(L, idx, &blob, err);
    if (rc == 0) {
        if (!bson_init_static(&doc, (const uint8_t *)blob.data, blob.len) ||
            !bson_iter_init_find(&it, &doc, "v"))
            rc = kt_fail(err, KT_NO_MEMORY, "value");
        else
            bson_value_copy(bson_iter_value(&it), out);
    }
    kt_buf_free(&blob);
    return rc;
}

int kt_arg_coll(lua_State *L, int idx, char out[KT_NAME_MAX + 1], struct kt_error *err) {
    size_t len;
    if (lua_type(L, idx) != LUA_TSTRING)
        return bad(err, "the collection is no string");
    const char *name = lua_tolstring(L, idx, &len);
    int rc = kt_coll_name_check(name, len, err);
    if (rc == 0)
        memcpy(out, name, len + 1);
    return rc;
}

static int arg_cond(lua_State *L, int item, struct kt_filter *f, struct kt_error *err) {
    size_t len;
    bson_value_t value;
    lua_rawgeti(L, item, 1);
    lua_rawgeti(L, item, 2);
    lua_rawgeti(L, item, 3);
    int top = lua_gettop(L), rc;
    if (lua_type(L, top - 2) != LUA_TSTRING || lua_type(L, top - 1) != LUA_TSTRING ||
        lua_isnil(L, top))
        rc = bad(err, "a condition is {path, operator, value}");
    else {
        const char *path = lua_tolstring(L, top - 2, &len);
        int op = kt_cmp_of_name(lua_tostring(L, top - 1));
        if (op < 0)
            rc = kt_fail(err, KT_INVALID_ARGUMENT, "store: no operator %s",
                         lua_tostring(L, top - 1));
        else if ((rc = arg_value(L, top, &value, err)) == 0) {
            rc = kt_filter_add(f, path, len, (enum kt_cmp)op, &value, err);
            bson_value_destroy(&value);
        }
    }
    lua_settop(L, top - 3);
    return rc;
}

static int arg_conds(lua_State *L, int idx, struct kt_filter *f, bool top_level,
                     struct kt_error *err);

static int arg_or(lua_State *L, int item, struct kt_filter *f, bool top_level,
                  struct kt_error *err) {
    int rc = 0, n = (int)lua_objlen(L, item);
    if (!top_level || f->branch_count > 0)
        return bad(err, "one `or`, at the top of a filter");
    if (n < 2)
        return bad(err, "an `or` without branches");
    for (int i = 2; rc == 0 && i <= n; i++) {
        struct kt_filter *branch = kt_filter_or(f, err);
        if (branch == NULL)
            return -(int)err->code;
        lua_rawgeti(L, item, i);
        rc = arg_conds(L, lua_gettop(L), branch, false, err);
        lua_pop(L, 1);
    }
    return rc;
}

static int arg_conds(lua_State *L, int idx, struct kt_filter *f, bool top_level,
                     struct kt_error *err) {
    int rc = 0;
    if (lua_type(L, idx) != LUA_TTABLE)
        return bad(err, "a filter is no table");
    lua_pushnil(L);
    while (rc == 0 && lua_next(L, idx) != 0) {
        int value = lua_gettop(L);
        bson_value_t v;
        if (lua_type(L, value - 1) == LUA_TSTRING) {
            size_t len;
            const char *path = lua_tolstring(L, value - 1, &len);
            if ((rc = arg_value(L, value, &v, err)) == 0) {
                rc = kt_filter_add(f, path, len, KT_EQ, &v, err);
                bson_value_destroy(&v);
            }
        } else if (lua_type(L, value) != LUA_TTABLE)
            rc = bad(err, "a condition is {path, operator, value}");
        else {
            lua_rawgeti(L, value, 1);
            bool is_or = lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), "or") == 0;
            lua_rawgeti(L, value, 2);
            is_or = is_or && lua_istable(L, -1);
            lua_pop(L, 2);
            rc = is_or ? arg_or(L, value, f, top_level, err) : arg_cond(L, value, f, err);
        }
        lua_settop(L, value - (rc == 0 ? 1 : 2)); /* keep the key for lua_next */
    }
    return rc;
}

int kt_arg_filter(lua_State *L, int idx, struct kt_filter *f, struct kt_error *err) {
    return lua_isnoneornil(L, idx) ? 0 : arg_conds(L, idx, f, true, err);
}

/* push and add_to_set: {each={…}} or one value, as an array. */
static int arg_items(lua_State *L, int idx, bson_value_t *out, struct kt_error *err) {
    bson_value_t one;
    int rc;
    if (lua_istable(L, idx)) {
        lua_pushliteral(L, "each");
        lua_rawget(L, idx);
        bool each = lua_istable(L, -1);
        rc = each ? arg_value(L, lua_gettop(L), out, err) : 0;
        bool empty = each && rc == 0 && out->value_type == BSON_TYPE_DOCUMENT &&
                     lua_objlen(L, -1) == 0; /* an unmarked {} */
        lua_pop(L, 1);
        if (empty)
            out->value_type = BSON_TYPE_ARRAY;
        if (each)
            return rc;
    }
    if ((rc = arg_value(L, idx, &one, err)) != 0)
        return rc;
    bson_t list;
    bson_init(&list);
    bson_append_value(&list, "0", 1, &one);
    bson_value_destroy(&one);
    out->value_type = BSON_TYPE_ARRAY;
    out->value.v_doc.data_len = list.len;
    out->value.v_doc.data = bson_malloc(list.len);
    memcpy(out->value.v_doc.data, bson_get_data(&list), list.len);
    bson_destroy(&list);
    return 0;
}

static int arg_changes(lua_State *L, int idx, enum kt_change op, struct kt_update *u,
                       struct kt_error *err) {
    int rc = 0;
    lua_pushnil(L);
    while (rc == 0 && lua_next(L, idx) != 0) {
        int value = lua_gettop(L), name = op == KT_UNSET ? value : value - 1;
        bson_value_t v = {.value_type = BSON_TYPE_NULL};
        size_t len;
        if (lua_type(L, name) != LUA_TSTRING)
            rc = bad(err, "a change has no path");
        else {
            const char *path = lua_tolstring(L, name, &len);
            if (op == KT_PUSH || op == KT_ADD_TO_SET)
                rc = arg_items(L, value, &v, err);
            else if (op != KT_UNSET)
                rc = arg_value(L, value, &v, err);
            if (rc == 0) {
                rc = kt_update_add(u, op, path, len, &v, err);
                bson_value_destroy(&v);
            }
        }
        lua_settop(L, value - (rc == 0 ? 1 : 2));
    }
    return rc;
}

int kt_arg_update(lua_State *L, int idx, struct kt_update *u, struct kt_error *err) {
    int rc = 0;
    if (lua_type(L, idx) != LUA_TTABLE)
        return bad(err, "an update is no table");
    lua_pushnil(L);
    while (rc == 0 && lua_next(L, idx) != 0) {
        int value = lua_gettop(L);
        int op = lua_type(L, value - 1) == LUA_TSTRING
                     ? kt_change_of_name(lua_tostring(L, value - 1))
                     : -1;
        if (op < 0)
            rc = bad(
                err,
                "an update has set, unset, inc, min, max, set_on_insert, push, add_to_set, pull");
        else if (!lua_istable(L, value))
            rc = bad(err, "a change is a table of paths");
        else
            rc = arg_changes(L, value, (enum kt_change)op, u, err);
        lua_settop(L, value - (rc == 0 ? 1 : 2));
    }
    return rc;
}

int kt_arg_sort(lua_State *L, int idx, struct kt_sort *s, struct kt_error *err) {
    int rc = 0;
    if (lua_isnoneornil(L, idx))
        return 0;
    if (!lua_istable(L, idx))
        return bad(err, "a sort is a list of {path, 1 or -1}");
    for (int i = 1, n = (int)lua_objlen(L, idx); rc == 0 && i <= n; i++) {
        size_t len;
        int top = lua_gettop(L);
        lua_rawgeti(L, idx, i);
        if (lua_istable(L, -1)) {
            lua_rawgeti(L, top + 1, 1);
            lua_rawgeti(L, top + 1, 2);
        }
        double dir = lua_tonumber(L, -1);
        if (lua_gettop(L) != top + 3 || lua_type(L, -2) != LUA_TSTRING || (dir != 1 && dir != -1))
            rc = bad(err, "a sort is a list of {path, 1 or -1}");
        else {
            const char *path = lua_tolstring(L, -2, &len);
            rc = kt_sort_add(s, path, len, dir < 0, err);
        }
        lua_settop(L, top);
    }
    return rc;
}

int kt_arg_fields(lua_State *L, int idx, char **fields, struct kt_error *err) {
    struct kt_buf out = KT_BUF_INIT;
    if (lua_isnoneornil(L, idx))
        return 0;
    if (!lua_istable(L, idx))
        return bad(err, "a projection is a list of top-level names");
    for (int i = 1, n = (int)lua_objlen(L, idx); i <= n; i++) {
        size_t len;
        lua_rawgeti(L, idx, i);
        const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
        if (name == NULL || kt_path_check(name, len, NULL) != 0 || memchr(name, '.', len) != NULL) {
            lua_pop(L, 1);
            kt_buf_free(&out);
            return bad(err, "a projection is a list of top-level names");
        }
        kt_buf_add(&out, name, len + 1);
        lua_pop(L, 1);
    }
    kt_buf_addc(&out, '\0');
    if (out.failed) {
        kt_buf_free(&out);
        return kt_fail(err, KT_NO_MEMORY, "projection");
    }
    *fields = out.data;
    return 0;
}

int kt_arg_doc(lua_State *L, int idx, struct kt_buf *out, struct kt_error *err) {
    bson_t doc;
    if (!lua_istable(L, idx))
        return bad(err, "a document is no table");
    bson_init(&doc);
    int rc = kt_value_to_doc(L, idx, &doc, err);
    if (rc == 0)
        kt_buf_add(out, bson_get_data(&doc), doc.len);
    bson_destroy(&doc);
    return rc == 0 && out->failed ? kt_fail(err, KT_NO_MEMORY, "document") : rc;
}

int kt_arg_docs(lua_State *L, int idx, struct kt_buf *out, struct kt_error *err) {
    int rc = 0, n = lua_istable(L, idx) ? (int)lua_objlen(L, idx) : 0;
    if (n == 0)
        return kt_arg_doc(L, idx, out, err);
    for (int i = 1; rc == 0 && i <= n; i++) {
        lua_rawgeti(L, idx, i);
        rc = kt_arg_doc(L, lua_gettop(L), out, err);
        lua_pop(L, 1);
    }
    return rc;
}

int kt_arg_values(lua_State *L, int idx, bson_t **out, struct kt_error *err) {
    bson_value_t v;
    int rc = 0;
    if (lua_isnoneornil(L, idx))
        return 0;
    if (!lua_istable(L, idx))
        return bad(err, "`after` is a list of values");
    *out = bson_new();
    for (int i = 1, n = (int)lua_objlen(L, idx); rc == 0 && i <= n; i++) {
        char text[16];
        const char *key;
        size_t len = bson_uint32_to_string((uint32_t)i - 1, &key, text, sizeof text);
        lua_rawgeti(L, idx, i);
        if ((rc = arg_value(L, lua_gettop(L), &v, err)) == 0) {
            bson_append_value(*out, key, (int)len, &v);
            bson_value_destroy(&v);
        }
        lua_pop(L, 1);
    }
    return rc;
}

static int group_name(lua_State *L, int idx, char out[KT_PATH_MAX + 1], struct kt_error *err) {
    size_t len;
    if (lua_type(L, idx) != LUA_TSTRING)
        return bad(err, "a group's name or path is no string");
    const char *s = lua_tolstring(L, idx, &len);
    int rc = kt_path_check(s, len, err);
    if (rc == 0)
        memcpy(out, s, len + 1);
    return rc;
}

static int group_item(lua_State *L, int key, int value, bool keys, struct kt_group *g,
                      struct kt_error *err) {
    static const char *const folds[] = {"count", "sum", "min", "max"};
    int *count = keys ? &g->key_count : &g->value_count;
    if (*count == (keys ? KT_GROUP_KEYS : KT_GROUP_VALUES))
        return bad(err, "too many keys or values in a group");
    struct kt_group_item *item = &(keys ? g->keys : g->values)[*count];
    int rc = group_name(L, key, item->alias, err);
    if (rc == 0 && strchr(item->alias, '.') != NULL)
        rc = bad(err, "an alias has no dot");
    if (rc != 0)
        return rc;
    ++*count;
    if (keys)
        return group_name(L, value, item->path, err);
    if (!lua_istable(L, value))
        return bad(err, "a group's value is {\"sum\", path} or {\"count\"}");
    lua_rawgeti(L, value, 1);
    lua_rawgeti(L, value, 2);
    int how = -1;
    for (int i = 0; lua_type(L, -2) == LUA_TSTRING && i < 4; i++)
        if (strcmp(lua_tostring(L, -2), folds[i]) == 0)
            how = i;
    item->fold = (enum kt_fold)how;
    if (how < 0)
        return bad(err, "a group's value is {\"sum\"|\"min\"|\"max\", path} or {\"count\"}");
    return how == KT_COUNT_ROWS ? 0 : group_name(L, lua_gettop(L), item->path, err);
}

static int group_items(lua_State *L, int spec, const char *name, bool keys, struct kt_group *g,
                       struct kt_error *err) {
    int rc = 0;
    lua_pushstring(L, name);
    lua_rawget(L, spec);
    int idx = lua_gettop(L);
    if (lua_istable(L, idx)) {
        lua_pushnil(L);
        while (rc == 0 && lua_next(L, idx) != 0) {
            rc = group_item(L, idx + 1, idx + 2, keys, g, err);
            lua_settop(L, idx + 1);
        }
    } else if (!lua_isnil(L, idx))
        rc = bad(err, "keys and values of a group are tables");
    lua_settop(L, idx - 1);
    return rc;
}

int kt_arg_group(lua_State *L, int idx, struct kt_read *r, struct kt_error *err) {
    if (!lua_istable(L, idx))
        return bad(err, "a group is {filter, keys, values, sort, limit}");
    r->kind = KT_GROUP;
    if ((r->group = calloc(1, sizeof *r->group)) == NULL)
        return kt_fail(err, KT_NO_MEMORY, "group");
    lua_getfield(L, idx, "filter");
    int rc = kt_arg_filter(L, lua_gettop(L), &r->filter, err);
    lua_getfield(L, idx, "sort");
    if (rc == 0)
        rc = kt_arg_sort(L, lua_gettop(L), &r->sort, err);
    lua_getfield(L, idx, "limit");
    r->limit = (int64_t)lua_tonumber(L, -1);
    lua_pop(L, 3);
    if (rc == 0)
        rc = group_items(L, idx, "keys", true, r->group, err);
    if (rc == 0)
        rc = group_items(L, idx, "values", false, r->group, err);
    return rc;
}

static bool flag(lua_State *L, int idx, const char *name) {
    lua_getfield(L, idx, name);
    bool yes = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return yes;
}

int kt_arg_write(lua_State *L, int idx, struct kt_write *w, struct kt_error *err) {
    static const char *const kinds[] = {"insert", "update", "replace", "delete"};
    int top = lua_gettop(L), kind = -1, rc;
    if (!lua_istable(L, idx))
        return bad(err, "an op is a table");
    lua_getfield(L, idx, "op");
    for (int i = 0; lua_type(L, -1) == LUA_TSTRING && i < 4; i++)
        if (strcmp(lua_tostring(L, -1), kinds[i]) == 0)
            kind = i;
    if (kind < 0) {
        lua_settop(L, top);
        return bad(err, "op is insert, update, replace or delete");
    }
    w->kind = (enum kt_write_kind)kind;
    lua_getfield(L, idx, "coll");
    rc = kt_arg_coll(L, lua_gettop(L), w->coll, err);
    w->upsert = flag(L, idx, "upsert");
    w->many = flag(L, idx, "many");
    w->must_match = flag(L, idx, "must_match");
    lua_getfield(L, idx, "filter");
    int filter = lua_gettop(L);
    if (rc == 0 && kind != KT_INSERT)
        rc = lua_istable(L, filter) ? kt_arg_filter(L, filter, &w->filter, err)
                                    : bad(err, "the op has no filter");
    lua_getfield(L, idx, kind == KT_UPDATE ? "update" : "doc");
    int body = lua_gettop(L);
    if (rc == 0 && kind == KT_UPDATE)
        rc = kt_arg_update(L, body, &w->update, err);
    else if (rc == 0 && kind == KT_REPLACE)
        rc = kt_arg_doc(L, body, &w->docs, err);
    else if (rc == 0 && kind == KT_INSERT) {
        if (lua_isnil(L, body)) {
            lua_getfield(L, idx, "docs");
            body = lua_gettop(L);
        }
        rc = kt_arg_docs(L, body, &w->docs, err);
    }
    lua_settop(L, top);
    return rc;
}
