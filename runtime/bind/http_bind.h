/* Private to lua_http.c, http_request.c and http_ws.c: what a served request is on the Lua side. */
#pragma once

#include "bind/bind.h"
#include "net/http.h"

struct drain_op;
struct kt_ws_context;

/* A running server. Freed when its last handle is closed, which may be after the Lua state. */
struct http_server {
    struct kt_http_server *http;
    struct kt_vm *vm;
    int handler, self; /* registry: the handler function, the userdata while it is open */
    const char *via;   /* "tcp" or "unix" */
    bool closing;
    int parts; /* while closing: what is not yet closed */
    struct drain_op *drains;
    struct kt_ws_context *ws; /* made with the first upgrade */
};

/* One request: held by its connection (req), its task and its Lua object; freed with the last. */
struct exchange {
    struct http_server *server; /* as long as req is there */
    struct kt_http_req *req;    /* NULL once it is answered or the client is gone */
    struct kt_task *task;       /* the handler's; NULL once it ended */
    bool boxed;                 /* the Lua object lives */
    bool held;                  /* a function of ours is still at it */
    bool counted;               /* among those that are being answered */
    bool body_taken;
    bool news; /* on_body was called and nobody looked yet */
    struct read_op *reader;
    struct write_op *writer;
    struct kt_error gone; /* why req is NULL; code 0: it was answered */
    char id[KT_HTTP_ID_MAX + 1];
};

extern const struct kt_http_handler kt_http_lua_handler; /* of every server; ud: http_server */
/* http_server.empty; in lua_http.c. */
void kt_http_lua_empty(struct kt_http_server *server, void *ud);
/* A connection or WebSocket is gone: whoever drains may be done. */
void kt_http_lua_drained(struct http_server *server);
/* The exchange of the request object at 1. Raises when it is none. */
struct exchange *kt_check_exchange(lua_State *L);
/* Its req, or NULL with nil, err pushed (2 values) when the request is over. */
struct kt_http_req *kt_live_request(lua_State *L, struct exchange *ex);
int kt_http_upgrade(lua_State *L); /* req:upgrade */
int kt_http_active(lua_State *L);  /* http.active */
/* The metatables of requests and WebSockets. */
void kt_http_request_class(lua_State *L);
void kt_http_ws_class(lua_State *L);
