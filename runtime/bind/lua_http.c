/* Module kt.http: the HTTP server. Yield: server:drain; of a request body, read, write; of a
 * WebSocket send, wait_closed.
 *
 *   http.serve{fd=N, handler=function(req) … end, limits={…}?, via="tcp"|"unix"?} -> server
 *       fd: a listening socket, the server's from now on. Each request runs handler(req) as a new
 *       root task; when the client goes away that task is cancelled. A handler that ends without
 *       an answer answers 500; what is wrong with a request's framing is answered before.
 *       limits: headers, target, body, write_queue (bytes), connections, header_time, body_time,
 *       idle_time, write_time, linger_time (seconds); the defaults are those of net/http.h.
 *   http.listen("127.0.0.1:0") -> fd, port | nil, err
 *   http.listen("unix:PATH") -> fd | nil, err      0600; a file that is there is removed
 *   server:drain(seconds) -> bool    accept no more, finish what runs; true: all are gone,
 *       also the WebSockets, which the handlers close (1001)
 *   server:close()    cuts every connection      server:connections() -> n
 *
 *   req.method .target .path .query .headers .id .remote .via .version
 *       headers: lower-case names; path and query as sent
 *   req:body(max?) -> string | nil, err
 *       the whole of it; max 1 MiB unless said
 *   req:read() -> chunk | nil at the end | nil, err
 *   req:respond(status, headers?, body?) -> true | nil, err
 *   req:start(status, headers?), req:write(chunk), req:finish(chunk?) -> true | nil, err
 *       headers: name -> string, number or list. content-length in start announces the length,
 *       connection="close" ends the connection; the other framing fields raise.
 *   req:answered() -> bool
 *   http.active() -> n   requests whose handlers run, but for those that said req:streaming()
 *
 *   req:upgrade{max_frame=, queue=, queue_count=, ping_time=, send_time=, close_time=}? -> ws |
 *       nil, err   the request becomes a WebSocket. upgrade_required: answer 426 with
 *       sec-websocket-version = "13" and upgrade = "websocket"; malformed_request: 400; draining.
 *   ws:send(text) -> true | nil, err   too_slow: the queue stayed full for send_time (10 s);
 *       cancelled: closed
 *   ws:close(code?, reason?)   1000 and 1001 after what is queued, other codes at once
 *   ws:closed() -> bool        ws:wait_closed() -> true
 *   What a client sends is read and ignored, frames of at most max_frame bytes. A ws that nobody
 *   holds any more closes with 1000.
 *
 * err.code: body_too_large, request_timeout, malformed_request (of the body), cancelled (the client
 * is gone), invalid_state (answered already). */
#include <stdlib.h>
#include <string.h>

#include "bind/http_bind.h"
#include "core/listen.h"
#include "net/websocket.h"

struct drain_op {
    struct kt_op op;
    struct http_server *server;
    uv_timer_t *timer;
    bool empty;
    struct drain_op *next;
};

static int push_empty(lua_State *L, struct kt_op *op) {
    lua_pushboolean(L, ((struct drain_op *)op)->empty);
    return 1;
}

static void timer_closed(uv_handle_t *handle) {
    free(handle);
}

static void drain_leave(struct drain_op *drain) {
    if (drain->server == NULL)
        return;
    struct drain_op **at = &drain->server->drains;
    while (*at != drain)
        at = &(*at)->next;
    *at = drain->next;
    drain->server = NULL;
}

static void drain_over(uv_timer_t *timer) {
    kt_op_settle(timer->data, push_empty);
}

static void drain_cancel(struct kt_op *op) {
    kt_op_settle(op, NULL);
}

static void drain_free(struct kt_op *op) {
    struct drain_op *drain = (struct drain_op *)op;
    drain_leave(drain);
    if (drain->timer != NULL)
        uv_close((uv_handle_t *)drain->timer, timer_closed);
}

static const struct kt_op_class drain_class = {"http.drain", sizeof(struct drain_op), drain_cancel,
                                               drain_free};

static bool is_empty(const struct http_server *server) {
    return kt_http_connections(server->http) == 0 &&
           (server->ws == NULL || kt_ws_context_open(server->ws) == 0);
}

static void settle_drains(struct http_server *server) {
    while (server->drains != NULL) {
        struct drain_op *drain = server->drains;
        drain_leave(drain);
        drain->empty = true;
        kt_op_settle(&drain->op, push_empty);
    }
}

void kt_http_lua_drained(struct http_server *server) {
    if (server->drains != NULL && !server->closing && is_empty(server))
        settle_drains(server);
}

static void part_closed(void *ud) {
    struct http_server *server = ud;
    if (--server->parts == 0)
        free(server);
}

void kt_http_lua_empty(struct kt_http_server *http, void *ud) {
    struct http_server *server = ud;
    (void)http;
    if (server->closing)
        part_closed(server);
    else
        kt_http_lua_drained(server);
}

static struct http_server *check_server(lua_State *L) {
    struct http_server **box = luaL_checkudata(L, 1, "kt.http.server");
    return *box;
}

static int l_drain(lua_State *L) {
    struct http_server *server = check_server(L);
    double seconds = kt_check_duration(L, 2);
    if (server == NULL) {
        lua_pushboolean(L, true);
        return 1;
    }
    struct drain_op *drain = kt_op_new(L, &drain_class);
    uv_timer_t *timer = malloc(sizeof *timer);
    if (timer == NULL) {
        kt_op_drop(&drain->op);
        return luaL_error(L, "not enough memory");
    }
    drain->timer = timer;
    uv_timer_init(server->vm->loop, timer);
    timer->data = drain;
    uv_timer_start(timer, drain_over, (uint64_t)(seconds * 1000), 0);
    drain->server = server;
    drain->next = server->drains;
    server->drains = drain;
    kt_http_drain(server->http);
    kt_http_lua_drained(server);
    return kt_op_yield(&drain->op);
}

static void close_server(lua_State *L, struct http_server **box) {
    struct http_server *server = *box;
    if (server == NULL)
        return;
    *box = NULL;
    luaL_unref(L, LUA_REGISTRYINDEX, server->handler);
    luaL_unref(L, LUA_REGISTRYINDEX, server->self);
    settle_drains(server);
    server->closing = true;
    server->parts = server->ws != NULL ? 2 : 1;
    kt_http_server_free(server->http);
    if (server->ws != NULL)
        kt_ws_context_free(server->ws, part_closed, server);
}

static int l_close(lua_State *L) {
    close_server(L, luaL_checkudata(L, 1, "kt.http.server"));
    return 0;
}

static int l_connections(lua_State *L) {
    struct http_server *server = check_server(L);
    lua_pushinteger(L, server == NULL ? 0 : kt_http_connections(server->http));
    return 1;
}

static int l_serve(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    int fd = (int)kt_opt_number(L, 1, "fd", -1);
    luaL_argcheck(L, fd >= 0, 1, "fd is missing");
    const char *via = kt_opt_string(L, 1, "via", "tcp");
    luaL_argcheck(L, strcmp(via, "tcp") == 0 || strcmp(via, "unix") == 0, 1, "via: tcp or unix");
    struct kt_http_limits limits = kt_http_default_limits;
    lua_getfield(L, 1, "limits");
    limits.headers = (size_t)kt_opt_number(L, 2, "headers", (double)limits.headers);
    limits.target = (size_t)kt_opt_number(L, 2, "target", (double)limits.target);
    limits.body = (int64_t)kt_opt_number(L, 2, "body", (double)limits.body);
    limits.write_queue = (size_t)kt_opt_number(L, 2, "write_queue", (double)limits.write_queue);
    limits.connections = (int)kt_opt_number(L, 2, "connections", limits.connections);
    limits.header_s = kt_opt_number(L, 2, "header_time", limits.header_s);
    limits.body_s = kt_opt_number(L, 2, "body_time", limits.body_s);
    limits.idle_s = kt_opt_number(L, 2, "idle_time", limits.idle_s);
    limits.write_s = kt_opt_number(L, 2, "write_time", limits.write_s);
    limits.linger_s = kt_opt_number(L, 2, "linger_time", limits.linger_s);
    luaL_argcheck(L, limits.headers + limits.target <= 60000, 1,
                  "limits: headers and target together are at most 60000 bytes");
    lua_getfield(L, 1, "handler");
    luaL_argcheck(L, lua_isfunction(L, 3), 1, "handler is missing");

    struct http_server **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, "kt.http.server");
    lua_setmetatable(L, -2);
    struct kt_error err;
    struct http_server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return luaL_error(L, "not enough memory");
    server->vm = kt_vm_of(L);
    server->via = strcmp(via, "unix") == 0 ? "unix" : "tcp";
    server->http =
        kt_http_server_new(server->vm->loop, fd, &limits, &kt_http_lua_handler, server, &err);
    if (server->http == NULL) {
        free(server);
        return kt_push_error(L, &err);
    }
    *box = server;
    lua_pushvalue(L, 3);
    server->handler = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, 4);
    server->self = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

static int l_listen(lua_State *L) {
    const char *address = luaL_checkstring(L, 1);
    int fd, port;
    struct kt_error err;
    if (strncmp(address, "unix:", 5) == 0) {
        fd = kt_listen_unix(address + 5, &err);
        if (fd < 0)
            return kt_push_error(L, &err);
        lua_pushinteger(L, fd);
        return 1;
    }
    if (kt_listen_tcp(address, 1, &fd, &port, &err) != 0)
        return kt_push_error(L, &err);
    lua_pushinteger(L, fd);
    lua_pushinteger(L, port);
    return 2;
}

static const luaL_Reg functions[] = {
    {"serve", l_serve}, {"listen", l_listen}, {"active", kt_http_active}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"drain", l_drain},
                                   {"close", l_close},
                                   {"connections", l_connections},
                                   {"__gc", l_close},
                                   {NULL, NULL}};

int luaopen_kt_http(lua_State *L) {
    kt_http_request_class(L);
    kt_http_ws_class(L);
    kt_class(L, "kt.http.server", methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
