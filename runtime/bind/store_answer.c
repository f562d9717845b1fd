/* What a task gets for a store call: documents, counts, texts, or the error with its place. */
#include "bind/store_answer.h"

#include <string.h>

static void push_array(lua_State *L, const bson_t *array) {
    bson_t doc;
    bson_init(&doc);
    bson_append_array(&doc, "v", 1, array);
    kt_value_push_blob(L, bson_get_data(&doc), doc.len);
    bson_destroy(&doc);
}

static void push_docs(lua_State *L, const struct kt_buf *out, bool one) {
    size_t at = 0;
    int n = 0;
    if (!one) {
        lua_newtable(L);
        kt_value_mark_array(L, lua_gettop(L));
    } else if (out->len == 0)
        lua_pushnil(L);
    while (out->len - at >= 5) {
        bson_t doc;
        uint32_t len;
        memcpy(&len, out->data + at, sizeof len);
        len = BSON_UINT32_FROM_LE(len);
        if (!bson_init_static(&doc, (const uint8_t *)out->data + at, len))
            break;
        kt_value_push_doc(L, &doc);
        at += len;
        if (one)
            return;
        lua_rawseti(L, -2, ++n);
    }
}

static void push_write(lua_State *L, const struct kt_write *w) {
    bson_iter_t it;
    lua_createtable(L, 0, 3);
    kt_value_push_int64(L, w->matched);
    lua_setfield(L, -2, "matched");
    kt_value_push_int64(L, w->modified);
    lua_setfield(L, -2, "modified");
    if (w->upserted != NULL && bson_iter_init_find(&it, w->upserted, "_id")) {
        kt_value_push_doc(L, w->upserted);
        lua_getfield(L, -1, "_id");
        lua_setfield(L, -3, "upserted_id");
        lua_pop(L, 1);
    }
}

static void push_names(lua_State *L, struct kt_buf *names, char end) {
    int n = 0;
    lua_newtable(L);
    kt_value_mark_array(L, lua_gettop(L));
    for (size_t at = 0; at < names->len;) {
        const char *stop = memchr(names->data + at, end, names->len - at);
        size_t len = stop ? (size_t)(stop - names->data) - at : names->len - at;
        lua_pushlstring(L, names->data + at, len);
        lua_rawseti(L, -2, ++n);
        at += len + 1;
    }
}

static int push_failure(lua_State *L, const struct kt_call *call) {
    kt_push_error(L, &call->error);
    if (call->kind == KT_CALL_COMMIT) {
        if (call->commit.failed_at >= 0) {
            lua_pushinteger(L, call->commit.failed_at + 1);
            lua_setfield(L, -2, "index");
        }
        if (call->commit.failed_key[0] != '\0') {
            lua_pushstring(L, call->commit.failed_key);
            lua_setfield(L, -2, "key");
        }
        if (call->commit.number != 0) {
            lua_pushinteger(L, call->commit.number);
            lua_setfield(L, -2, "number");
        }
    }
    return 2;
}

int kt_store_push_answer(lua_State *L, struct kt_op *op) {
    struct store_op *s = (struct store_op *)op;
    struct kt_call *call = &s->call;
    struct kt_write *w = call->commit.writes;
    if (call->rc != 0)
        return push_failure(L, call);
    switch (s->answer) {
    case ANSWER_TRUE:
        lua_pushboolean(L, 1);
        return 1;
    case ANSWER_YES:
        lua_pushboolean(L, call->yes);
        return 1;
    case ANSWER_DOC:
        push_docs(L, &call->read.out, true);
        return 1;
    case ANSWER_DOCS:
        push_docs(L, &call->read.out, false);
        return 1;
    case ANSWER_LIST: {
        bson_t list;
        if (!bson_init_static(&list, (const uint8_t *)call->read.out.data, call->read.out.len))
            return luaL_error(L, "distinct: no list");
        push_array(L, &list);
        return 1;
    }
    case ANSWER_COUNT:
        kt_value_push_int64(L, call->read.count);
        return 1;
    case ANSWER_JSON:
        lua_pushlstring(L, call->read.out.data, call->read.out.len);
        kt_value_push_int64(L, call->read.count);
        if (call->read.last == NULL)
            return 2;
        push_array(L, call->read.last);
        return 3;
    case ANSWER_JSON_ONE:
        if (call->read.count == 0)
            lua_pushnil(L);
        else
            lua_pushlstring(L, call->read.out.data, call->read.out.len);
        return 1;
    case ANSWER_WRITE:
        push_write(L, w);
        return 1;
    case ANSWER_MODIFIED:
        kt_value_push_int64(L, w->modified);
        return 1;
    case ANSWER_WRITES:
        lua_createtable(L, call->commit.count, 0);
        for (int i = 0; i < call->commit.count; i++) {
            push_write(L, &w[i]);
            lua_rawseti(L, -2, i + 1);
        }
        return 1;
    case ANSWER_WRITE_DOC:
        if (w->doc == NULL)
            lua_pushnil(L);
        else
            kt_value_push_doc(L, w->doc);
        return 1;
    case ANSWER_NAMES:
        push_names(L, &call->out, '\0');
        return 1;
    case ANSWER_CHECK:
        lua_createtable(L, 0, 2);
        push_names(L, &call->out, '\n');
        lua_setfield(L, -2, "problems");
        kt_value_push_doc(L, call->summary);
        lua_setfield(L, -2, "collections");
        return 1;
    case ANSWER_SUMMARY:
        kt_value_push_doc(L, call->summary);
        return 1;
    case ANSWER_BLOB:
        lua_createtable(L, 0, 2);
        lua_pushstring(L, call->hash);
        lua_setfield(L, -2, "sha256");
        kt_value_push_int64(L, call->size);
        lua_setfield(L, -2, "bytes");
        return 1;
    case ANSWER_BYTES:
        lua_pushlstring(L, call->out.len ? call->out.data : "", call->out.len);
        return 1;
    }
    return 0;
}
