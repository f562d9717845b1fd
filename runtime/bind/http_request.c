/* A request as a Lua object: a table with the facts, methods for body and answer. See lua_http.c.
 * Yield: body, read, write. */
#include "bind/http_bind.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/log.h"

enum { BODY_MAX = 1 << 20 };

struct read_op {
    struct kt_op op;
    struct exchange *ex;
    bool whole;
    size_t max;
    struct kt_buf data;
};

struct write_op {
    struct kt_op op;
    struct exchange *ex;
};

static int active; /* exchanges that are counted */

static void uncount(struct exchange *ex) {
    if (ex->counted)
        active--;
    ex->counted = false;
}

int kt_http_active(lua_State *L) {
    lua_pushinteger(L, active);
    return 1;
}

static void release(struct exchange *ex) {
    if (ex->req == NULL && ex->task == NULL && !ex->boxed && !ex->held)
        free(ex);
}

struct exchange *kt_check_exchange(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_rawgeti(L, 1, 1);
    struct exchange **box = luaL_checkudata(L, -1, "kt.http.exchange");
    lua_pop(L, 1);
    return *box;
}

struct kt_http_req *kt_live_request(lua_State *L, struct exchange *ex) {
    if (ex->req != NULL)
        return ex->req;
    struct kt_error err = ex->gone;
    if (err.code == KT_OK)
        kt_fail(&err, KT_INVALID_STATE, "the request is already answered");
    kt_push_error(L, &err);
    return NULL;
}

/* ---- reading the body ---- */

static void read_cancel(struct kt_op *op) {
    kt_op_settle(op, NULL);
}

static void read_free(struct kt_op *op) {
    struct read_op *read = (struct read_op *)op;
    if (read->ex != NULL)
        read->ex->reader = NULL;
    kt_buf_free(&read->data);
}

static const struct kt_op_class read_class = {"http.read", sizeof(struct read_op), read_cancel,
                                              read_free};

static int push_data(lua_State *L, struct kt_op *op) {
    struct read_op *read = (struct read_op *)op;
    lua_pushlstring(L, read->data.len > 0 ? read->data.data : "", read->data.len);
    return 1;
}

static int push_end(lua_State *L, struct kt_op *op) {
    (void)op;
    lua_pushnil(L);
    return 1;
}

enum outcome { MORE, DATA, END, FAILED };

/* What there is to give to a reader now. */
static enum outcome look(struct exchange *ex, bool whole, size_t max, struct kt_error *err) {
    struct kt_http_req *req = ex->req;
    const struct kt_error *fault = kt_http_fault(req);
    size_t len = kt_http_body(req)->len;
    int64_t announced = req->head->length;
    if (fault != NULL) {
        *err = *fault;
        return FAILED;
    }
    if (whole && (len > max || (announced > 0 && (uint64_t)announced > max))) {
        kt_fail(err, KT_BODY_TOO_LARGE, "the body is larger than %zu bytes", max);
        if (req->head->chunked) /* who knows how much of it is still to come */
            kt_http_close_after(req);
        return FAILED;
    }
    if (kt_http_body_ended(req))
        return whole || len > 0 ? DATA : END;
    return whole || len == 0 ? MORE : DATA;
}

static void detach_reader(struct read_op *read) {
    read->ex->reader = NULL;
    read->ex = NULL;
}

static void on_body(struct kt_http_req *req) {
    struct exchange *ex = req->ud;
    struct read_op *read = ex->reader;
    struct kt_error err;
    ex->news = true;
    if (read == NULL)
        return;
    switch (look(ex, read->whole, read->max, &err)) {
    case MORE:
        kt_http_want(req);
        break;
    case DATA: {
        struct kt_buf *body = kt_http_body(req);
        read->data = *body;
        *body = (struct kt_buf)KT_BUF_INIT;
        detach_reader(read);
        kt_op_settle(&read->op, push_data);
        break;
    }
    case END:
        detach_reader(read);
        kt_op_settle(&read->op, push_end);
        break;
    case FAILED:
        detach_reader(read);
        kt_op_fail(&read->op, &err);
        break;
    }
}

static int start_read(lua_State *L, bool whole, size_t max) {
    struct exchange *ex = kt_check_exchange(L);
    struct kt_http_req *req = kt_live_request(L, ex);
    struct kt_error err;
    if (req == NULL)
        return 2;
    if (ex->reader != NULL)
        return luaL_error(L, "req:read: another task reads this body");
    for (;;) {
        switch (look(ex, whole, max, &err)) {
        case MORE:
            break;
        case DATA: {
            struct kt_buf *body = kt_http_body(req);
            lua_pushlstring(L, body->len > 0 ? body->data : "", body->len);
            kt_buf_free(body);
            return 1;
        }
        case END:
            lua_pushnil(L);
            return 1;
        case FAILED:
            return kt_push_error(L, &err);
        }
        ex->news = false;
        kt_http_want(req); /* may end the request */
        if (ex->req == NULL)
            return kt_live_request(L, ex) == NULL ? 2 : 0;
        if (!ex->news)
            break;
    }
    struct read_op *read = kt_op_new(L, &read_class);
    read->ex = ex;
    read->whole = whole;
    read->max = max;
    ex->reader = read;
    return kt_op_yield(&read->op);
}

static int l_body(lua_State *L) {
    struct exchange *ex = kt_check_exchange(L);
    long long max = lua_isnoneornil(L, 2) ? BODY_MAX : kt_check_int(L, 2);
    luaL_argcheck(L, max >= 0, 2, "bytes");
    if (ex->body_taken && ex->req != NULL) {
        struct kt_error err;
        kt_fail(&err, KT_INVALID_STATE, "the body was already read");
        return kt_push_error(L, &err);
    }
    ex->body_taken = true;
    return start_read(L, true, (size_t)max);
}

static int l_read(lua_State *L) {
    kt_check_exchange(L)->body_taken = true;
    return start_read(L, false, 0);
}

/* ---- answering ---- */

static void add_line(lua_State *L, struct kt_buf *lines, int key, int value) {
    struct kt_error err;
    size_t name_len, value_len;
    if (lua_type(L, key) != LUA_TSTRING ||
        (lua_type(L, value) != LUA_TSTRING && lua_type(L, value) != LUA_TNUMBER))
        luaL_error(L, "a header field is a name and a string, number or list of these");
    const char *name = lua_tolstring(L, key, &name_len);
    lua_pushvalue(L, value); /* a number is converted in the copy */
    const char *text = lua_tolstring(L, -1, &value_len);
    if (kt_http_line(lines, name, name_len, text, value_len, &err) != 0)
        kt_raise(L, &err);
    lua_pop(L, 1);
}

static bool is_name(lua_State *L, int key, const char *name) {
    size_t len;
    const char *s = lua_type(L, key) == LUA_TSTRING ? lua_tolstring(L, key, &len) : NULL;
    return s != NULL && len == strlen(name) && strncasecmp(s, name, len) == 0;
}

/* The table of header fields at arg -> lines. Two names are not sent but obeyed: `connection =
 * "close"`, and `content-length` where length is asked for. */
static struct kt_buf *check_headers(lua_State *L, int arg, struct kt_http_req *req,
                                    int64_t *length) {
    struct kt_buf *lines = kt_scratch();
    if (lua_isnoneornil(L, arg))
        return lines;
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, arg) != 0) {
        int key = lua_gettop(L) - 1, value = key + 1;
        if (is_name(L, key, "connection") && lua_type(L, value) == LUA_TSTRING &&
            strcmp(lua_tostring(L, value), "close") == 0) {
            kt_http_close_after(req);
        } else if (length != NULL && is_name(L, key, "content-length") && lua_isnumber(L, value)) {
            *length = (int64_t)lua_tonumber(L, value);
        } else if (lua_istable(L, value)) {
            int n = (int)lua_objlen(L, value);
            for (int i = 1; i <= n; i++) {
                lua_rawgeti(L, value, i);
                add_line(L, lines, key, value + 1);
                lua_pop(L, 1);
            }
        } else {
            add_line(L, lines, key, value);
        }
        lua_settop(L, key);
    }
    return lines;
}

static int push_result(lua_State *L, int rc, const struct kt_error *err) {
    if (rc != 0 && err->code == KT_INVALID_ARGUMENT)
        return kt_raise(L, err);
    if (rc != 0)
        return kt_push_error(L, err);
    lua_pushboolean(L, true);
    return 1;
}

static int l_respond(lua_State *L) {
    struct exchange *ex = kt_check_exchange(L);
    int status = (int)luaL_checkinteger(L, 2);
    size_t len = 0;
    const char *body = lua_isnoneornil(L, 4) ? "" : luaL_checklstring(L, 4, &len);
    struct kt_http_req *req = kt_live_request(L, ex);
    struct kt_error err;
    if (req == NULL)
        return 2;
    struct kt_buf *lines = check_headers(L, 3, req, NULL);
    return push_result(L, kt_http_respond(req, status, lines, body, len, &err), &err);
}

static int l_start(lua_State *L) {
    struct exchange *ex = kt_check_exchange(L);
    int status = (int)luaL_checkinteger(L, 2);
    struct kt_http_req *req = kt_live_request(L, ex);
    struct kt_error err;
    int64_t length = -1;
    if (req == NULL)
        return 2;
    struct kt_buf *lines = check_headers(L, 3, req, &length);
    return push_result(L, kt_http_start(req, status, lines, length, &err), &err);
}

static void write_cancel(struct kt_op *op) {
    kt_op_settle(op, NULL);
}

static void write_free(struct kt_op *op) {
    struct write_op *write = (struct write_op *)op;
    if (write->ex != NULL)
        write->ex->writer = NULL;
}

static const struct kt_op_class write_class = {"http.write", sizeof(struct write_op), write_cancel,
                                               write_free};

static int push_true(lua_State *L, struct kt_op *op) {
    (void)op;
    lua_pushboolean(L, true);
    return 1;
}

static void on_drained(struct kt_http_req *req) {
    struct exchange *ex = req->ud;
    struct write_op *write = ex->writer;
    if (write == NULL)
        return;
    ex->writer = NULL;
    write->ex = NULL;
    kt_op_settle(&write->op, push_true);
}

static int l_write(lua_State *L) {
    struct exchange *ex = kt_check_exchange(L);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    struct kt_http_req *req = kt_live_request(L, ex);
    struct kt_error err;
    if (req == NULL)
        return 2;
    if (ex->writer != NULL)
        return luaL_error(L, "req:write: another task writes this answer");
    int rc = kt_http_write(req, data, len, &err);
    if (rc != 0 || ex->req == NULL || !kt_http_full(req))
        return push_result(L, rc, &err);
    struct write_op *write = kt_op_new(L, &write_class);
    write->ex = ex;
    ex->writer = write;
    return kt_op_yield(&write->op);
}

/* The last bytes with the end, without a wait between: a client that has all of an announced length
 * may go before the task comes back, and would be taken for one that broke off. */
static int l_finish(lua_State *L) {
    struct exchange *ex = kt_check_exchange(L);
    size_t len = 0;
    const char *data = luaL_optlstring(L, 2, NULL, &len);
    struct kt_http_req *req = kt_live_request(L, ex);
    struct kt_error err;
    if (req == NULL)
        return 2;
    if (ex->writer != NULL)
        return luaL_error(L, "req:finish: another task writes this answer");
    int rc = data != NULL ? kt_http_write(req, data, len, &err) : 0;
    if (rc == 0 && ex->req != NULL)
        rc = kt_http_finish(req, &err);
    return push_result(L, rc, &err);
}

static int l_streaming(lua_State *L) {
    uncount(kt_check_exchange(L));
    return 0;
}

static int l_answered(lua_State *L) {
    struct exchange *ex = kt_check_exchange(L);
    lua_pushboolean(L, ex->req == NULL || kt_http_started(ex->req));
    return 1;
}

static int l_exchange_gc(lua_State *L) {
    struct exchange **box = luaL_checkudata(L, 1, "kt.http.exchange");
    if (*box != NULL) {
        (*box)->boxed = false;
        release(*box);
        *box = NULL;
    }
    return 0;
}

/* ---- from the server ---- */

static void on_end(struct kt_http_req *req, const struct kt_error *err) {
    struct exchange *ex = req->ud;
    ex->req = NULL;
    struct kt_error over;
    if (err != NULL)
        ex->gone = *err;
    kt_fail(&over, KT_CANCELLED, "%s", err ? err->message : "the request was answered meanwhile");
    if (ex->reader != NULL) {
        struct read_op *read = ex->reader;
        detach_reader(read);
        kt_op_fail(&read->op, &over);
    }
    if (ex->writer != NULL) {
        struct write_op *write = ex->writer;
        ex->writer = NULL;
        write->ex = NULL;
        kt_op_fail(&write->op, &over);
    }
    if (err != NULL && ex->task != NULL)
        kt_task_cancel(ex->task);
    release(ex);
}

/* The handler is done. Whoever waits for an answer that it did not give gets one now; an answer
 * that was begun and not finished is cut, so that it is not taken for the whole. */
static void task_ended(struct kt_task *task, lua_State *co, const struct kt_error *err, void *ud) {
    struct exchange *ex = ud;
    struct kt_error problem;
    (void)task;
    (void)co;
    ex->task = NULL;
    ex->held = true;
    uncount(ex);
    bool cancelled = err != NULL && err->code == KT_CANCELLED;
    if (err != NULL && !(cancelled && ex->req == NULL))
        kt_log(KT_ERROR, "http.handler_failed", "request_id", ex->id, "code",
               kt_code_name(err->code), "msg", err->message, NULL);
    else if (err == NULL && ex->req != NULL)
        kt_log(KT_ERROR, "http.handler_failed", "request_id", ex->id, "msg",
               "the handler ended without an answer", NULL);
    if (ex->req != NULL && kt_http_started(ex->req)) {
        kt_http_abort(ex->req);
    } else if (ex->req != NULL) {
        bool own =
            err != NULL && (err->code == KT_DEADLINE_EXCEEDED || err->code == KT_OVERLOADED ||
                            err->code == KT_DRAINING || err->code == KT_NO_MEMORY);
        kt_fail(&problem, own ? err->code : KT_INTERNAL, "%s",
                own ? "the request could not be handled in time"
                    : "the request's handler failed; the log has the reason");
        if (kt_http_problem(ex->req, &problem) != 0 && ex->req != NULL)
            kt_http_abort(ex->req);
    }
    ex->held = false;
    release(ex);
}

static void push_span(lua_State *L, struct kt_http_span s, const char *field) {
    if (s.data == NULL)
        return;
    lua_pushlstring(L, s.data, s.len);
    lua_setfield(L, -2, field);
}

static void push_headers(lua_State *L, const struct kt_http_parser *head) {
    lua_createtable(L, 0, head->field_count);
    for (int i = 0; i < head->field_count; i++) {
        const struct kt_http_field *f = &head->fields[i];
        struct kt_http_span value = kt_http_value(head, f);
        lua_pushlstring(L, head->head.data + f->name, f->name_len);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            lua_pushlstring(L, value.data, value.len);
        } else {
            bool cookie = strcmp(lua_tostring(L, -2), "cookie") == 0;
            lua_pushstring(L, cookie ? "; " : ", ");
            lua_pushlstring(L, value.data, value.len);
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
}

struct request_call {
    struct http_server *server;
    struct kt_http_req *req;
    struct exchange *ex;
};

static int start_request(lua_State *L, void *ud) {
    struct request_call *call = ud;
    struct kt_http_req *req = call->req;
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->server->handler);
    lua_createtable(L, 1, 12);
    struct exchange **box = lua_newuserdata(L, sizeof *box);
    *box = call->ex;
    call->ex->boxed = true;
    luaL_getmetatable(L, "kt.http.exchange");
    lua_setmetatable(L, -2);
    lua_rawseti(L, -2, 1);
    lua_pushstring(L, req->head->method);
    lua_setfield(L, -2, "method");
    push_span(L, req->head->target, "target");
    push_span(L, req->head->path, "path");
    push_span(L, req->head->query, "query");
    push_headers(L, req->head);
    lua_setfield(L, -2, "headers");
    lua_pushstring(L, req->id);
    lua_setfield(L, -2, "id");
    lua_pushstring(L, req->remote);
    lua_setfield(L, -2, "remote");
    lua_pushstring(L, call->server->via);
    lua_setfield(L, -2, "via");
    lua_pushstring(L, req->head->minor == 1 ? "1.1" : "1.0");
    lua_setfield(L, -2, "version");
    luaL_getmetatable(L, "kt.http.request");
    lua_setmetatable(L, -2);
    call->ex->task = kt_task_spawn(call->server->vm, L, 1, NULL, task_ended, call->ex);
    call->ex->counted = true;
    active++;
    return 0;
}

static void on_request(struct kt_http_req *req, void *ud) {
    struct request_call call = {ud, req, calloc(1, sizeof(struct exchange))};
    struct kt_error err;
    if (call.ex == NULL) {
        kt_http_abort(req);
        return;
    }
    call.ex->req = req;
    call.ex->server = ud;
    memcpy(call.ex->id, req->id, sizeof call.ex->id);
    req->ud = call.ex;
    if (kt_vm_call(call.server->vm, start_request, &call, &err) == 0)
        return;
    kt_log(KT_ERROR, "http.request_failed", "request_id", req->id, "msg", err.message, NULL);
    kt_http_abort(req);
}

const struct kt_http_handler kt_http_lua_handler = {on_request, on_body, on_drained, on_end,
                                                    kt_http_lua_empty};

static const luaL_Reg methods[] = {{"body", l_body},
                                   {"read", l_read},
                                   {"respond", l_respond},
                                   {"start", l_start},
                                   {"write", l_write},
                                   {"finish", l_finish},
                                   {"answered", l_answered},
                                   {"streaming", l_streaming},
                                   {"upgrade", kt_http_upgrade},
                                   {NULL, NULL}};
static const luaL_Reg box_methods[] = {{"__gc", l_exchange_gc}, {NULL, NULL}};

void kt_http_request_class(lua_State *L) {
    luaL_newmetatable(L, "kt.http.exchange");
    luaL_setfuncs(L, box_methods, 0);
    lua_pop(L, 1);
    luaL_newmetatable(L, "kt.http.request");
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
