/* Module kt.fetch: a function that makes one HTTP request with libcurl. Yields.
 *
 *   local fetch = require "kt.fetch"
 *   fetch{url=, method="GET"?, headers={Name="value"}?, body=string?, unix="/path.sock"?,
 *         timeout=30?, max=16777216?, egress=list?, once=false?, decode=false?}
 *       -> {status=, headers=, body=} | nil, err
 *
 * headers of the answer: lower-case names, repeated ones joined by ", ". timeout in seconds, of all
 * of it, and never beyond the task's deadline; max: bytes of the answer's body. No redirects are
 * followed. A status of 400 and more is an answer, not an error. egress: only public addresses and
 * those of the list (KONTOR_EGRESS_ALLOW), no proxy. once: over a connection of its own, so that
 * libcurl never sends it again. decode: take gzip and deflate; max counts what comes out.
 * err.code: upstream_failed (no answer, cut off, too large), forbidden (by the egress policy),
 * deadline_exceeded, cancelled; bad arguments raise. */
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "net/fetch.h"

struct fetch_op {
    struct kt_op op;
    struct kt_fetch *fetch;
    struct kt_fetch_answer answer;
};

static void push_headers(lua_State *L, const struct kt_buf *lines) {
    const char *at = lines->data, *end = at + lines->len;
    lua_newtable(L);
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *colon = memchr(at, ':', (size_t)(end - at));
        const char *last = stop != NULL ? stop : end;
        if (colon != NULL && colon < last) {
            luaL_Buffer name;
            luaL_buffinit(L, &name);
            for (const char *c = at; c < colon; c++)
                luaL_addchar(&name, (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c));
            luaL_pushresult(&name);
            const char *from = colon + 1, *to = last;
            while (from < to && (*from == ' ' || *from == '\t'))
                from++;
            while (to > from && (to[-1] == '\r' || to[-1] == ' ' || to[-1] == '\t'))
                to--;
            lua_pushvalue(L, -1);
            lua_rawget(L, -3);
            if (lua_isnil(L, -1)) {
                lua_pop(L, 1);
                lua_pushlstring(L, from, (size_t)(to - from));
            } else {
                lua_pushliteral(L, ", ");
                lua_pushlstring(L, from, (size_t)(to - from));
                lua_concat(L, 3);
            }
            lua_rawset(L, -3);
        }
        at = last + 1;
    }
}

static int push_answer(lua_State *L, struct kt_op *op) {
    struct fetch_op *f = (struct fetch_op *)op;
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, f->answer.status);
    lua_setfield(L, -2, "status");
    push_headers(L, &f->answer.headers);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, f->answer.body.len > 0 ? f->answer.body.data : "", f->answer.body.len);
    lua_setfield(L, -2, "body");
    return 1;
}

static void fetch_done(struct kt_fetch_answer *answer, const struct kt_error *err, void *ud) {
    struct fetch_op *f = ud;
    f->fetch = NULL;
    if (err != NULL) {
        kt_op_fail(&f->op, err);
        return;
    }
    f->answer = *answer;
    *answer = (struct kt_fetch_answer){0};
    kt_op_settle(&f->op, push_answer);
}

static void fetch_cancel(struct kt_op *op) {
    struct fetch_op *f = (struct fetch_op *)op;
    if (f->fetch != NULL)
        kt_fetch_cancel(f->fetch);
    f->fetch = NULL;
    kt_op_settle(op, NULL);
}

static void fetch_free(struct kt_op *op) {
    struct fetch_op *f = (struct fetch_op *)op;
    kt_buf_free(&f->answer.headers);
    kt_buf_free(&f->answer.body);
}

static const struct kt_op_class fetch_class = {"fetch", sizeof(struct fetch_op), fetch_cancel,
                                               fetch_free};

/* "Name: value" strings of the table at idx, in a userdata that is left on the stack with them. */
static const char **check_headers(lua_State *L, int idx) {
    if (lua_isnil(L, idx))
        return NULL;
    luaL_checktype(L, idx, LUA_TTABLE);
    int n = 0;
    for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1))
        n++;
    lua_newtable(L); /* holds the strings */
    int holder = lua_gettop(L);
    const char **list = lua_newuserdata(L, ((size_t)n + 1) * sizeof *list);
    int i = 0;
    for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
            luaL_error(L, "fetch: headers are names with strings");
        lua_pushvalue(L, -1);
        /* curl sends an empty value only when the line ends in a semicolon. */
        const char *format = lua_objlen(L, -1) == 0 ? "%s;%s" : "%s: %s";
        lua_pushfstring(L, format, lua_tostring(L, -3), lua_tostring(L, -1));
        list[i++] = lua_tostring(L, -1);
        lua_rawseti(L, holder, i);
        lua_pop(L, 1);
    }
    list[i] = NULL;
    return list;
}

static struct kt_fetcher *fetcher_of(lua_State *L) {
    struct kt_fetcher **box = lua_touserdata(L, lua_upvalueindex(1));
    struct kt_error err;
    if (*box == NULL && (*box = kt_fetcher_new(kt_vm_of(L)->loop, &err)) == NULL)
        kt_raise(L, &err);
    return *box;
}

static int l_fetch(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct kt_fetch_request request = {
        .method = kt_opt_string(L, 1, "method", "GET"),
        .url = kt_opt_string(L, 1, "url", NULL),
        .unix_path = kt_opt_string(L, 1, "unix", NULL),
        .timeout_s = kt_opt_number(L, 1, "timeout", 30),
        .max_body = (size_t)kt_opt_number(L, 1, "max", 16 << 20),
        .egress = kt_opt_string(L, 1, "egress", NULL),
        .once = kt_opt_bool(L, 1, "once", false),
        .decode = kt_opt_bool(L, 1, "decode", false),
    };
    luaL_argcheck(L, request.url != NULL, 1, "url is missing");
    lua_getfield(L, 1, "body");
    if (!lua_isnil(L, 2)) {
        luaL_argcheck(L, lua_type(L, 2) == LUA_TSTRING, 1, "body: a string");
        request.body = lua_tolstring(L, 2, &request.body_len);
    }
    lua_getfield(L, 1, "headers");
    request.headers = check_headers(L, 3);
    struct kt_fetcher *fetcher = fetcher_of(L);
    struct fetch_op *f = kt_op_new(L, &fetch_class);
    struct kt_error err;
    request.timeout_s = kt_op_time_left(&f->op, request.timeout_s);
    f->fetch = kt_fetch_start(fetcher, &request, fetch_done, f, &err);
    if (f->fetch == NULL) {
        kt_op_drop(&f->op);
        return kt_raise(L, &err);
    }
    return kt_op_yield(&f->op);
}

static int l_fetcher_gc(lua_State *L) {
    struct kt_fetcher **box = luaL_checkudata(L, 1, "kt.fetcher");
    if (*box != NULL)
        kt_fetcher_free(*box);
    *box = NULL;
    return 0;
}

static const luaL_Reg methods[] = {{"__gc", l_fetcher_gc}, {NULL, NULL}};

int luaopen_kt_fetch(lua_State *L) {
    luaL_newmetatable(L, "kt.fetcher");
    luaL_setfuncs(L, methods, 0);
    lua_pop(L, 1);
    struct kt_fetcher **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, "kt.fetcher");
    lua_setmetatable(L, -2);
    lua_pushcclosure(L, l_fetch, 1);
    return 1;
}
