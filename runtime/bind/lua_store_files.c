/* Methods of a kt.store database that move bytes: blobs, and the whole database as files. */
#include <string.h>

#include "bind/lua_store.h"
#include "bind/store_args.h"

/* ---- blobs ---- */

static int copy_path(struct kt_call *call, const char *path, struct kt_error *err) {
    call->path = strdup(path);
    return call->path != NULL ? 0 : kt_fail(err, KT_NO_MEMORY, "path");
}

static int l_blob_put(lua_State *L) {
    struct kt_error err;
    size_t len = 0;
    const char *bytes = NULL, *path = NULL;
    int rc = 0;
    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, "path");
        path = luaL_checkstring(L, lua_gettop(L));
    } else
        bytes = luaL_checklstring(L, 2, &len);
    struct store_op *s = kt_store_begin(L, KT_CALL_BLOB_PUT, ANSWER_BLOB);
    if (path != NULL)
        rc = copy_path(&s->call, path, &err);
    else {
        kt_buf_add(&s->call.out, bytes, len);
        if (s->call.out.failed)
            rc = kt_fail(&err, KT_NO_MEMORY, "blob");
    }
    return kt_store_end(L, s, rc, &err);
}

static struct store_op *begin_hash(lua_State *L, enum kt_call_kind kind, enum answer answer) {
    size_t len;
    const char *hash = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, len == 64 && strspn(hash, "0123456789abcdef") == 64, 2, "a sha256 expected");
    struct store_op *s = kt_store_begin(L, kind, answer);
    memcpy(s->call.hash, hash, 65);
    return s;
}

static int l_blob_get(lua_State *L) {
    struct kt_error err;
    long long max = lua_isnoneornil(L, 3) ? 0 : kt_check_int(L, 3);
    struct store_op *s = begin_hash(L, KT_CALL_BLOB_GET, ANSWER_BYTES);
    s->call.size = max;
    return kt_store_end(L, s, 0, &err);
}

static int l_blob_to_file(lua_State *L) {
    struct kt_error err;
    const char *path = luaL_checkstring(L, 3);
    struct store_op *s = begin_hash(L, KT_CALL_BLOB_TO_FILE, ANSWER_TRUE);
    int rc = copy_path(&s->call, path, &err);
    return kt_store_end(L, s, rc, &err);
}

/* ---- as files ---- */

static int l_export(lua_State *L) {
    struct kt_error err;
    const char *path = luaL_checkstring(L, 2);
    struct store_op *s = kt_store_begin(L, KT_CALL_EXPORT, ANSWER_SUMMARY);
    return kt_store_end(L, s, copy_path(&s->call, path, &err), &err);
}

static int load(lua_State *L, enum kt_call_kind kind) {
    struct kt_error err;
    struct kt_buf doc = KT_BUF_INIT;
    const char *path = luaL_checkstring(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    struct store_op *s = kt_store_begin(L, kind, ANSWER_TRUE);
    int rc = copy_path(&s->call, path, &err);
    if (rc == 0)
        rc = kt_arg_doc(L, 3, &doc, &err);
    if (rc == 0 &&
        (s->call.summary = bson_new_from_data((const uint8_t *)doc.data, doc.len)) == NULL)
        rc = kt_fail(&err, KT_NO_MEMORY, "summary");
    kt_buf_free(&doc);
    return kt_store_end(L, s, rc, &err);
}

static int l_verify(lua_State *L) {
    return load(L, KT_CALL_VERIFY);
}

static int l_import(lua_State *L) {
    return load(L, KT_CALL_IMPORT);
}

const luaL_Reg kt_store_file_methods[] = {{"blob_put", l_blob_put},
                                          {"blob_get", l_blob_get},
                                          {"blob_to_file", l_blob_to_file},
                                          {"export", l_export},
                                          {"verify", l_verify},
                                          {"import", l_import},
                                          {NULL, NULL}};
