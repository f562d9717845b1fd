/* Private to http_server.c, http_conn.c and http_answer.c. */
#pragma once

#include "net/http.h"

enum kt_conn_state {
    KT_CONN_HEAD,    /* reading a head, or idle before one */
    KT_CONN_BUSY,    /* a request is with the handler */
    KT_CONN_DISCARD, /* answered; reading the rest of the body to keep the connection */
    KT_CONN_LINGER,  /* answered and shut down; reading on until the client closes */
    KT_CONN_CLOSED   /* uv_close was called */
};

struct kt_conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct kt_http_server *server;
    struct kt_conn *prev, *next;
    enum kt_conn_state state;
    uint64_t deadline; /* uv_now of the loop; 0: none */
    uint32_t served;   /* requests */
    char remote[46];

    struct kt_http_parser parser;
    struct kt_http_req req;
    struct kt_buf in;   /* bytes read and not parsed: pipelined requests, an unwanted body */
    struct kt_buf body; /* decoded body bytes that the handler did not take */
    size_t body_seen;   /* of `body` when more was wanted */
    struct kt_error fault;
    uint64_t discarded;
    const char *cur; /* what the read callback holds and nobody took yet */
    size_t cur_len;
    bool live; /* req is with the handler: `end` is due */
    bool reading, wanting, advancing, input_ended, sent_continue, got_body;

    /* The answer. */
    bool started, keep_alive, bodyless, chunked_out;
    int64_t length_left; /* of a known length; -1: not known */
    struct kt_buf out, flight;
    uv_write_t write;
    uv_shutdown_t shutdown;
    bool writing, shutting, was_full;
    size_t last_queue;
    uint64_t write_deadline;
};

struct kt_http_server {
    uv_loop_t *loop;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } listener;
    uv_timer_t sweep;
    int handles; /* of the server itself that are not yet closed */
    bool has_listener, listening, sweeping, waiting_accept, draining, freed, emptied;
    bool is_pipe; /* connections are unix sockets */
    struct kt_http_limits limits;
    struct kt_http_handler handler;
    void *ud;
    struct kt_conn *conns;
    int count;
    uint64_t period; /* ms between sweeps */
    char *scratch;   /* one read buffer for all connections */
    struct kt_buf head_out;
    char id_prefix[20];
    uint64_t id_next;
    char date[40];
    int64_t date_second;
};

enum { KT_HTTP_READ_SIZE = 65536, KT_HTTP_IN_MAX = 65536, KT_HTTP_DISCARD_MAX = 65536 };

/* http_conn.c */
int kt_conn_new(struct kt_http_server *server, int fd, struct kt_error *err); /* fd -1: accept */
void kt_conn_close(struct kt_conn *conn, const struct kt_error *why);
void kt_conn_sweep(struct kt_conn *conn, uint64_t now);
/* The answer to the current request is complete (queued): go on with what comes next. */
void kt_conn_answered(struct kt_conn *conn);
/* Queue the bytes of n <= 3 buffers: tries the socket at once when nothing waits, copies the rest.
 * May close the connection (and so call `end`). */
void kt_conn_send(struct kt_conn *conn, const uv_buf_t *bufs, int n);
size_t kt_conn_queued(const struct kt_conn *conn);
void kt_conn_deadline(struct kt_conn *conn, double seconds);
struct kt_conn *kt_conn_of(const struct kt_http_req *req);

/* http_server.c */
void kt_server_conn_gone(struct kt_http_server *server);
const char *kt_server_date(struct kt_http_server *server);

/* http_answer.c: a refusal without a handler; the connection closes after it. */
void kt_conn_refuse(struct kt_conn *conn, const struct kt_error *problem);
