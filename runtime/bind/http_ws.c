/* WebSockets as Lua objects; see lua_http.c. Yield: ws:send when the queue is full, ws:wait_closed.
 */
#include "bind/http_bind.h"

#include <stdlib.h>
#include <string.h>

#include "net/websocket.h"
#include "net/ws_handshake.h"

struct ws_box {
    struct kt_ws *ws;           /* NULL: released */
    struct http_server *server; /* NULL once the socket is gone */
    double send_s;
    struct ws_op *waiting;
};

/* A send that waits for room, or a wait for the end (whole). */
struct ws_op {
    struct kt_op op;
    struct ws_box *box;
    struct kt_vm *vm;
    int anchor; /* registry: the box, which a waiting task's stack need not hold */
    bool for_end;
    struct kt_buf text;
    uv_timer_t *timer;
    struct ws_op *next;
};

static int push_true(lua_State *L, struct kt_op *op) {
    (void)op;
    lua_pushboolean(L, true);
    return 1;
}

static void leave(struct ws_op *wait) {
    if (wait->box == NULL)
        return;
    struct ws_op **at = &wait->box->waiting;
    while (*at != wait)
        at = &(*at)->next;
    *at = wait->next;
    wait->box = NULL;
}

static void timer_closed(uv_handle_t *handle) {
    free(handle);
}

static void ws_op_cancel(struct kt_op *op) {
    kt_op_settle(op, NULL);
}

static void ws_op_free(struct kt_op *op) {
    struct ws_op *wait = (struct ws_op *)op;
    leave(wait);
    kt_buf_free(&wait->text);
    luaL_unref(wait->vm->L, LUA_REGISTRYINDEX, wait->anchor);
    if (wait->timer != NULL)
        uv_close((uv_handle_t *)wait->timer, timer_closed);
}

static const struct kt_op_class send_class = {"ws.send", sizeof(struct ws_op), ws_op_cancel,
                                              ws_op_free};
static const struct kt_op_class end_class = {"ws.wait_closed", sizeof(struct ws_op), ws_op_cancel,
                                             ws_op_free};

static void too_slow(uv_timer_t *timer) {
    struct ws_op *wait = timer->data;
    struct kt_error err;
    kt_fail(&err, KT_TOO_SLOW, "the client does not read its messages in time");
    leave(wait);
    kt_op_fail(&wait->op, &err);
}

/* Those that waited for room are served in the order of their coming. */
static struct ws_op *next_sender(struct ws_box *box) {
    struct ws_op *first = NULL;
    for (struct ws_op *wait = box->waiting; wait != NULL; wait = wait->next)
        if (!wait->for_end)
            first = wait; /* the list is last in, first */
    return first;
}

static void on_drained(struct kt_ws *ws, void *ud) {
    struct ws_box *box = ud;
    struct ws_op *wait;
    struct kt_error err;
    while (!kt_ws_full(ws) && (wait = next_sender(box)) != NULL) {
        int rc = kt_ws_send(ws, wait->text.data, wait->text.len, &err);
        leave(wait);
        if (rc == 0)
            kt_op_settle(&wait->op, push_true);
        else
            kt_op_fail(&wait->op, &err);
    }
}

static void on_closed(struct kt_ws *ws, void *ud) {
    struct ws_box *box = ud;
    struct http_server *server = box->server;
    struct kt_error err;
    (void)ws;
    box->server = NULL;
    kt_fail(&err, KT_CANCELLED, "the WebSocket is closed");
    while (box->waiting != NULL) {
        struct ws_op *wait = box->waiting;
        leave(wait);
        if (wait->for_end)
            kt_op_settle(&wait->op, push_true);
        else
            kt_op_fail(&wait->op, &err);
    }
    kt_http_lua_drained(server);
}

static const struct kt_ws_handler handler = {on_drained, on_closed};

static struct ws_box *check_ws(lua_State *L) {
    return luaL_checkudata(L, 1, "kt.websocket");
}

static struct ws_op *wait_on(lua_State *L, struct ws_box *box, bool for_end) {
    struct ws_op *wait = kt_op_new(L, for_end ? &end_class : &send_class);
    wait->vm = wait->op.task->vm;
    lua_pushvalue(L, 1);
    wait->anchor = luaL_ref(L, LUA_REGISTRYINDEX);
    wait->box = box;
    wait->for_end = for_end;
    wait->next = box->waiting;
    box->waiting = wait;
    return wait;
}

static int l_send(lua_State *L) {
    struct ws_box *box = check_ws(L);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    struct kt_error err;
    if (box->ws == NULL || kt_ws_closed(box->ws)) {
        kt_fail(&err, KT_CANCELLED, "the WebSocket is closed");
        return kt_push_error(L, &err);
    }
    if (!kt_ws_full(box->ws) && next_sender(box) == NULL) {
        if (kt_ws_send(box->ws, text, len, &err) != 0)
            return kt_push_error(L, &err);
        lua_pushboolean(L, true);
        return 1;
    }
    struct ws_op *wait = wait_on(L, box, false);
    kt_buf_add(&wait->text, text, len);
    wait->timer = wait->text.failed ? NULL : malloc(sizeof *wait->timer);
    if (wait->timer == NULL) {
        kt_op_drop(&wait->op);
        return luaL_error(L, "not enough memory");
    }
    uv_timer_init(wait->op.task->vm->loop, wait->timer);
    wait->timer->data = wait;
    uv_timer_start(wait->timer, too_slow, (uint64_t)(box->send_s * 1000), 0);
    return kt_op_yield(&wait->op);
}

static int l_close(lua_State *L) {
    struct ws_box *box = check_ws(L);
    int code = (int)luaL_optinteger(L, 2, 1000);
    const char *reason = luaL_optstring(L, 3, "");
    luaL_argcheck(L, code >= 1000 && code <= 4999, 2, "a close code");
    if (box->ws != NULL)
        kt_ws_close(box->ws, code, reason);
    return 0;
}

static int l_closed(lua_State *L) {
    struct ws_box *box = check_ws(L);
    lua_pushboolean(L, box->ws == NULL || kt_ws_closed(box->ws));
    return 1;
}

static int l_wait_closed(lua_State *L) {
    struct ws_box *box = check_ws(L);
    if (box->server == NULL) {
        lua_pushboolean(L, true);
        return 1;
    }
    return kt_op_yield(&wait_on(L, box, true)->op);
}

static int l_ws_gc(lua_State *L) {
    struct ws_box *box = check_ws(L);
    if (box->ws != NULL)
        kt_ws_release(box->ws);
    box->ws = NULL;
    return 0;
}

int kt_http_upgrade(lua_State *L) {
    struct exchange *ex = kt_check_exchange(L);
    struct kt_http_req *req = kt_live_request(L, ex);
    struct kt_ws_limits limits = kt_ws_default_limits;
    struct kt_error err;
    struct kt_buf rest = KT_BUF_INIT;
    char key[KT_WS_KEY_LEN + 1];
    int fd;
    if (req == NULL)
        return 2;
    lua_settop(L, 2);
    limits.frame = (size_t)kt_opt_number(L, 2, "max_frame", (double)limits.frame);
    limits.queue = (size_t)kt_opt_number(L, 2, "queue", (double)limits.queue);
    limits.queue_count = (int)kt_opt_number(L, 2, "queue_count", limits.queue_count);
    limits.ping_s = kt_opt_number(L, 2, "ping_time", limits.ping_s);
    limits.close_s = kt_opt_number(L, 2, "close_time", limits.close_s);
    double send_s = kt_opt_number(L, 2, "send_time", 10);
    if (kt_ws_handshake(req->head, key, &err) != 0)
        return kt_push_error(L, &err);
    struct http_server *server = ex->server;
    if (kt_http_draining(server->http)) {
        kt_fail(&err, KT_DRAINING, "the service drains");
        return kt_push_error(L, &err);
    }
    if (server->ws == NULL && (server->ws = kt_ws_context_new(server->vm->loop, &err)) == NULL)
        return kt_push_error(L, &err);
    struct ws_box *box = lua_newuserdata(L, sizeof *box);
    *box = (struct ws_box){.send_s = send_s};
    luaL_getmetatable(L, "kt.websocket");
    lua_setmetatable(L, -2);
    if (kt_http_detach(req, &fd, &rest, &err) != 0)
        return kt_push_error(L, &err);
    box->ws =
        kt_ws_open(server->ws, fd, key, ex->id, rest.data, rest.len, &limits, &handler, box, &err);
    kt_buf_free(&rest);
    if (box->ws == NULL)
        return kt_push_error(L, &err);
    box->server = server;
    return 1;
}

static const luaL_Reg methods[] = {{"send", l_send},     {"close", l_close},
                                   {"closed", l_closed}, {"wait_closed", l_wait_closed},
                                   {"__gc", l_ws_gc},    {NULL, NULL}};

void kt_http_ws_class(lua_State *L) {
    kt_class(L, "kt.websocket", methods);
}
