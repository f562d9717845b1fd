/* The HTTP/1.1 server: connections of one listening socket on one loop.
 *
 * A request is handed to `request` when its head has come. The parser then rests until the handler
 * wants the body, and until the answer is out: answers leave in the order of the requests. Every
 * request ends with exactly one call of `end`; the pointer is dead after it. What is wrong with a
 * request's framing is answered here, as problem+json, and the connection closes after it in a way
 * that lets the client read the answer.
 *
 * Everything here: the loop's thread only, never yields, never enters Lua. Callbacks may call any
 * function of this header, also on the request that they were called for. */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "core/buf.h"
#include "core/err.h"
#include "net/http_parser.h"

struct kt_http_server;

struct kt_http_limits {
    size_t headers; /* bytes of all header lines; more: 431 */
    size_t target;  /* bytes of the request target; more: 414 */
    int64_t body;   /* a larger Content-Length is refused unread, 413; 0: the handler's matter */
    size_t write_queue; /* bytes of answers waiting for the socket before a writer should wait */
    int connections;    /* more are left in the listening socket's queue; at most 3/4 of the
                         * process's descriptors */
    double header_s;    /* from a connection's or request's first moment to the end of its head */
    double body_s;      /* without a byte while the handler wants the body; then 408 */
    double idle_s;      /* between requests */
    double write_s;     /* without progress of a pending answer; then the connection is cut */
    double linger_s;    /* reading on after the last answer, so that the client gets it */
};
extern const struct kt_http_limits kt_http_default_limits;

enum { KT_HTTP_ID_MAX = 64 };

struct kt_http_req {
    const struct kt_http_parser *head; /* method, target, fields …; until `end` */
    char id[KT_HTTP_ID_MAX + 1];       /* X-Request-Id, taken or made */
    const char *remote;                /* "127.0.0.1", "::1", "" for a unix socket */
    struct kt_http_server *server;
    void *ud; /* the handler's */
};

struct kt_http_handler {
    /* A head has come. Answer now or later. */
    void (*request)(struct kt_http_req *req, void *ud);
    /* The answer to kt_http_want, once for each: there are body bytes, or the body ended, or
     * kt_http_fault says what went wrong. May come inside kt_http_want. */
    void (*body)(struct kt_http_req *req);
    /* Less than half of write_queue waits; called after kt_http_full said true. */
    void (*drained)(struct kt_http_req *req);
    /* The last call for req. err NULL: the answer is written or queued. Else the client went away
     * or was cut off (cancelled). */
    void (*end)(struct kt_http_req *req, const struct kt_error *err);
    /* The last connection of a server that drains, or of one that was freed, is gone. */
    void (*empty)(struct kt_http_server *server, void *ud);
};

/* fd: a listening TCP or unix socket, owned by the server from now on also on failure; -1: none
 * (kt_http_adopt). limits and handler are copied. */
struct kt_http_server *kt_http_server_new(uv_loop_t *loop, int fd,
                                          const struct kt_http_limits *limits,
                                          const struct kt_http_handler *handler, void *ud,
                                          struct kt_error *err);
/* Serve a connected stream socket; the fd is the server's from now on. */
int kt_http_adopt(struct kt_http_server *server, int fd, struct kt_error *err);
/* Accept no more, answer what runs with `Connection: close`; an idle connection gets a moment for
 * a request that is already on its way. `empty` is called when the last one is gone. */
void kt_http_drain(struct kt_http_server *server);
/* Cut all connections (`end` with cancelled for each request) and free. The memory goes when the
 * loop has closed the handles; `empty` is called just before, the handler's ud is dead after. */
void kt_http_server_free(struct kt_http_server *server);
int kt_http_connections(const struct kt_http_server *server);
bool kt_http_draining(const struct kt_http_server *server);

/* Ask for more body bytes than kt_http_body holds now: answered by one call of `body`. Sends 100
 * Continue where the client waits for it. */
void kt_http_want(struct kt_http_req *req);
/* The bytes that came and were not yet consumed (kt_buf_consume, kt_buf_clear). */
struct kt_buf *kt_http_body(struct kt_http_req *req);
bool kt_http_body_ended(const struct kt_http_req *req); /* nothing beyond kt_http_body */
const struct kt_error *kt_http_fault(const struct kt_http_req *req); /* NULL: none */

/* Append "name: value\r\n" to `lines`. Refused (invalid_argument): what is no header field, and
 * the fields that are the server's own (content-length, transfer-encoding, connection, date …). */
int kt_http_line(struct kt_buf *lines, const char *name, size_t name_len, const char *value,
                 size_t value_len, struct kt_error *err);
/* The whole answer. `lines`: from kt_http_line, may be NULL. No body for HEAD, 204 and 304. */
int kt_http_respond(struct kt_http_req *req, int status, const struct kt_buf *lines,
                    const char *body, size_t len, struct kt_error *err);
/* problem+json for err->code. */
int kt_http_problem(struct kt_http_req *req, const struct kt_error *problem);
/* A streamed answer: start, writes, finish. length -1: not known, chunked (or until close, for
 * HTTP/1.0). Bytes beyond or short of a known length are an error. */
int kt_http_start(struct kt_http_req *req, int status, const struct kt_buf *lines, int64_t length,
                  struct kt_error *err);
int kt_http_write(struct kt_http_req *req, const char *data, size_t len, struct kt_error *err);
int kt_http_finish(struct kt_http_req *req, struct kt_error *err);
/* More than write_queue waits: `drained` will be called when it is time to go on. */
bool kt_http_full(struct kt_http_req *req);
bool kt_http_started(const struct kt_http_req *req); /* an answer was begun */
/* Close the connection after this answer. */
void kt_http_close_after(struct kt_http_req *req);
/* Cut the connection: `end` is called with cancelled. */
void kt_http_abort(struct kt_http_req *req);
/* Take the socket out of HTTP (an upgrade): the fd is the caller's, `rest` gets the bytes that came
 * after the head. `end` is called with err NULL before this returns. */
int kt_http_detach(struct kt_http_req *req, int *fd, struct kt_buf *rest, struct kt_error *err);
