/* Module value: values that cross a border (vm/value.h). Nothing here yields.
 *
 *   value.encode(v) -> blob            raises on what cannot be stored, with the path
 *   value.decode(blob) -> v            value.json(blob) -> JSON text
 *   value.hash(blob) -> sha256 in hex
 *   value.date(ms) -> date (.ms, ==, <, tostring: RFC 3339 in ms UTC)
 *   value.parse_date(text) -> date | nil, err     RFC 3339, or a day alone
 *   value.int64("123") -> number within +-2^53, else a boxed int64; also takes a number
 *   value.binary(bytes) -> binary (#b, tostring: the bytes)
 *   value.is_text(s) -> are these bytes UTF-8?
 *   value.type(v) -> "date" | "int64" | "binary" | "null" | type(v)
 *   value.doc(table) -> BSON document  value.doc_decode(bytes) -> table
 *   value.view{ {from, to=from, as="nano_usd"?, sub=view?}, … } -> view, for store reads; made
 *       once, when a module loads: a view lives as long as the process. from "" with a sub: the
 *       document itself. {"", to, text={literal, field, literal, …}}: a string put together
 *   value.doc_json(docbytes, view?) -> JSON text */
#include <errno.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "core/clock.h"
#include "core/json.h"

static int l_encode(lua_State *L) {
    struct kt_error err;
    luaL_checkany(L, 1);
    luaL_checkstack(L, KT_VALUE_STACK, "value");
    struct kt_buf *out = kt_scratch();
    if (kt_value_encode(L, 1, out, &err) != 0)
        return kt_raise(L, &err);
    lua_pushlstring(L, out->data, out->len);
    return 1;
}

static int l_decode(lua_State *L) {
    size_t len;
    const char *blob = luaL_checklstring(L, 1, &len);
    kt_value_push_blob(L, blob, len);
    return 1;
}

static int l_json(lua_State *L) {
    size_t len;
    struct kt_error err;
    const char *blob = luaL_checklstring(L, 1, &len);
    struct kt_buf *out = kt_scratch();
    if (kt_value_blob_json(blob, len, out, &err) != 0)
        return kt_raise(L, &err);
    lua_pushlstring(L, out->data, out->len);
    return 1;
}

static int l_hash(lua_State *L) {
    size_t len;
    const char *blob = luaL_checklstring(L, 1, &len);
    unsigned char digest[32];
    char hex[65];
    if (EVP_Digest(blob, len, digest, NULL, EVP_sha256(), NULL) != 1)
        return luaL_error(L, "value.hash: sha256 is not available");
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    lua_pushlstring(L, hex, 64);
    return 1;
}

static int l_doc(lua_State *L) {
    struct kt_error err;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkstack(L, KT_VALUE_STACK, "value");
    struct kt_buf *out = kt_scratch();
    bson_t doc;
    bson_init(&doc);
    int rc = kt_value_to_doc(L, 1, &doc, &err);
    if (rc == 0)
        kt_buf_add(out, bson_get_data(&doc), doc.len);
    bson_destroy(&doc);
    if (rc != 0)
        return kt_raise(L, &err);
    if (out->failed)
        return luaL_error(L, "value.doc: not enough memory");
    lua_pushlstring(L, out->data, out->len);
    return 1;
}

static void check_doc(lua_State *L, int arg, bson_t *doc) {
    size_t len;
    const char *bytes = luaL_checklstring(L, arg, &len);
    luaL_argcheck(L, bson_init_static(doc, (const uint8_t *)bytes, len), arg, "a BSON document");
}

static int l_doc_decode(lua_State *L) {
    bson_t doc;
    check_doc(L, 1, &doc);
    kt_value_push_doc(L, &doc);
    return 1;
}

static int l_doc_json(lua_State *L) {
    bson_t doc;
    struct kt_error err;
    check_doc(L, 1, &doc);
    const struct kt_view *view = lua_isnoneornil(L, 2) ? NULL : kt_check_view(L, 2);
    struct kt_buf *out = kt_scratch();
    if (kt_value_json(&doc, view, out, &err) != 0)
        return kt_raise(L, &err);
    lua_pushlstring(L, out->data, out->len);
    return 1;
}

static int l_date(lua_State *L) {
    kt_value_push_date(L, kt_check_int(L, 1));
    return 1;
}

static int l_parse_date(lua_State *L) {
    size_t len;
    int64_t ms;
    struct kt_error err;
    const char *text = luaL_checklstring(L, 1, &len);
    if (!kt_time_parse(text, len, &ms)) {
        kt_fail(&err, KT_VALIDATION_FAILED, "not a time in RFC 3339: %.40s", text);
        return kt_push_error(L, &err);
    }
    kt_value_push_date(L, ms);
    return 1;
}

static int l_int64(lua_State *L) {
    int64_t i;
    if (lua_type(L, 1) == LUA_TSTRING) {
        const char *text = lua_tostring(L, 1);
        char *end;
        errno = 0;
        i = strtoll(text, &end, 10);
        luaL_argcheck(L, end != text && *end == '\0' && errno == 0, 1, "an integer of 64 bits");
    } else {
        luaL_argcheck(L, kt_value_get_int64(L, 1, &i), 1, "an integer of 64 bits");
    }
    kt_value_push_int64(L, i);
    return 1;
}

static int l_binary(lua_State *L) {
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    kt_value_push_binary(L, bytes, len);
    return 1;
}

static int l_type(lua_State *L) {
    int64_t i;
    size_t len;
    luaL_checkany(L, 1);
    if (lua_type(L, 1) == LUA_TLIGHTUSERDATA && lua_touserdata(L, 1) == NULL)
        lua_pushliteral(L, "null");
    else if (kt_value_get_date(L, 1, &i))
        lua_pushliteral(L, "date");
    else if (lua_type(L, 1) == LUA_TUSERDATA && kt_value_get_int64(L, 1, &i))
        lua_pushliteral(L, "int64");
    else if (kt_value_get_binary(L, 1, &len) != NULL)
        lua_pushliteral(L, "binary");
    else
        lua_pushstring(L, luaL_typename(L, 1));
    return 1;
}

/* Views. They are read by store threads while the Lua side may be anywhere: so they are never
 * freed, and this list keeps them. */
struct view {
    struct kt_view view;
    struct view *next;
};
static struct view *views;

const struct kt_view *kt_check_view(lua_State *L, int arg) {
    return *(struct kt_view **)luaL_checkudata(L, arg, "kt.view");
}

static const char *field_text(lua_State *L, int idx, int pos, const char *name) {
    if (name != NULL)
        lua_getfield(L, idx, name);
    else
        lua_rawgeti(L, idx, pos);
    const char *s = lua_isnil(L, -1) ? NULL : luaL_checkstring(L, -1);
    lua_pop(L, 1);
    return s;
}

/* Everything that may raise comes before the first allocation. */
static void check_view_field(lua_State *L, int i) {
    if (!lua_istable(L, -1) || field_text(L, lua_gettop(L), 1, NULL) == NULL)
        luaL_error(L, "value.view: field %d is not {from, to}", i);
    field_text(L, lua_gettop(L), 2, NULL);
    const char *as = field_text(L, lua_gettop(L), 0, "as");
    if (as != NULL && strcmp(as, "nano_usd") != 0)
        luaL_error(L, "value.view: field %d: as is \"nano_usd\" or absent", i);
    lua_getfield(L, -1, "sub");
    if (!lua_isnil(L, -1))
        kt_check_view(L, lua_gettop(L));
    lua_pop(L, 1);
    lua_getfield(L, -1, "text");
    if (!lua_isnil(L, -1)) {
        luaL_checktype(L, lua_gettop(L), LUA_TTABLE);
        for (int k = 1; k <= (int)lua_objlen(L, -1); k++)
            field_text(L, lua_gettop(L), k, NULL);
    }
    lua_pop(L, 1);
}

/* The list of strings at the top; NULL when there is none, or no memory. Pops it. */
static const char *const *view_text(lua_State *L) {
    int n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
    const char **parts = n > 0 ? calloc((size_t)n + 1, sizeof *parts) : NULL;
    for (int i = 0; parts != NULL && i < n; i++)
        parts[i] = strdup(field_text(L, lua_gettop(L), i + 1, NULL));
    lua_pop(L, 1);
    return parts;
}

static int l_view(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    int n = (int)lua_objlen(L, 1);
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, 1, i);
        check_view_field(L, i);
        lua_pop(L, 1);
    }
    struct kt_view **box = lua_newuserdata(L, sizeof *box);
    luaL_getmetatable(L, "kt.view");
    lua_setmetatable(L, -2);

    struct view *v = calloc(1, sizeof *v);
    struct kt_view_field *fields = calloc((size_t)n + 1, sizeof *fields);
    if (v == NULL || fields == NULL) {
        free(v);
        free(fields);
        return luaL_error(L, "not enough memory");
    }
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 1, i + 1);
        const char *from = field_text(L, 3, 1, NULL), *to = field_text(L, 3, 2, NULL);
        fields[i].from = strdup(from);
        fields[i].to = to == NULL ? fields[i].from : strdup(to);
        fields[i].as = field_text(L, 3, 0, "as") != NULL ? KT_AS_NANO_USD : KT_AS_IS;
        lua_getfield(L, 3, "sub");
        fields[i].sub = lua_isnil(L, -1) ? NULL : kt_check_view(L, 4);
        lua_getfield(L, 3, "text");
        fields[i].text = view_text(L);
        lua_settop(L, 2);
    }
    v->view.fields = fields;
    v->view.count = n;
    v->next = views;
    views = v;
    *box = &v->view;
    return 1;
}

static int l_is_text(lua_State *L) {
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);
    lua_pushboolean(L, kt_utf8_valid(s, len));
    return 1;
}

static const luaL_Reg functions[] = {
    {"encode", l_encode},     {"decode", l_decode}, {"json", l_json},
    {"hash", l_hash},         {"doc", l_doc},       {"doc_decode", l_doc_decode},
    {"doc_json", l_doc_json}, {"date", l_date},     {"parse_date", l_parse_date},
    {"int64", l_int64},       {"binary", l_binary}, {"type", l_type},
    {"view", l_view},         {"is_text", l_is_text},
    {NULL, NULL}};

int luaopen_value(lua_State *L) {
    luaL_newmetatable(L, "kt.view");
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
