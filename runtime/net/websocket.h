/* WebSockets on sockets that HTTP handed over. websocket.c is the only file that knows
 * libwebsockets; what 4.1.6 does wrong on a public port is kept from it: it sees a request that we
 * write ourselves, and extensions are off. (It takes unmasked client frames; what a client sends is
 * read and ignored.)
 *
 * The loop's thread only; never yields, never enters Lua. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "core/err.h"

struct kt_ws_context; /* libwebsockets on one loop */
struct kt_ws;         /* one socket */

struct kt_ws_limits {
    size_t frame;    /* bytes of a client's frame; more closes with 1009 */
    size_t queue;    /* bytes that wait to be sent before a sender should wait */
    int queue_count; /* and messages */
    double ping_s;   /* between pings; two without a pong: the peer is dead */
    double close_s;  /* for the closing handshake and what is still queued */
};
extern const struct kt_ws_limits kt_ws_default_limits;

struct kt_ws_handler {
    /* At most half of a queue that was full waits (kt_ws_full said true before). */
    void (*drained)(struct kt_ws *ws, void *ud);
    /* The last call: the socket is gone, whoever closed it. */
    void (*closed)(struct kt_ws *ws, void *ud);
};

struct kt_ws_context *kt_ws_context_new(uv_loop_t *loop, struct kt_error *err);
/* Cuts what is open (`closed` is called), then frees over some turns of the loop; `freed` (may be
 * NULL) is called when its handles are gone. */
void kt_ws_context_free(struct kt_ws_context *context, void (*freed)(void *ud), void *ud);
int kt_ws_context_open(const struct kt_ws_context *context); /* sockets not yet gone */

/* fd: the upgraded socket, owned from here on also on failure; key: of kt_ws_handshake; rest: what
 * the client sent after its request. Answers the handshake with X-Request-Id. */
struct kt_ws *kt_ws_open(struct kt_ws_context *context, int fd, const char *key,
                         const char *request_id, const void *rest, size_t rest_len,
                         const struct kt_ws_limits *limits, const struct kt_ws_handler *handler,
                         void *ud, struct kt_error *err);
/* Queue a text message (UTF-8, copied). cancelled: the socket is closed or closing. */
int kt_ws_send(struct kt_ws *ws, const char *text, size_t len, struct kt_error *err);
bool kt_ws_full(struct kt_ws *ws);
bool kt_ws_closed(const struct kt_ws *ws); /* no message can be sent any more */
/* Start the closing handshake: 1000 and 1001 after what is queued, other codes at once. reason:
 * at most 123 bytes are sent. */
void kt_ws_close(struct kt_ws *ws, int code, const char *reason);
/* The owner lets go: no more callbacks; an open socket is closed with 1000. */
void kt_ws_release(struct kt_ws *ws);
