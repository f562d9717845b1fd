/* One connection: what is read when, what is written when, and when it ends. */
#include "net/http_conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void advance(struct kt_conn *conn);
static void linger(struct kt_conn *conn);

struct kt_conn *kt_conn_of(const struct kt_http_req *req) {
    return (struct kt_conn *)((char *)req - offsetof(struct kt_conn, req));
}

void kt_conn_deadline(struct kt_conn *conn, double seconds) {
    conn->deadline = uv_now(conn->server->loop) + (uint64_t)(seconds * 1000) + 1;
}

size_t kt_conn_queued(const struct kt_conn *conn) {
    return conn->out.len + (conn->writing ? uv_stream_get_write_queue_size(&conn->uv.stream) : 0);
}

/* ---- closing ---- */

static void on_closed(uv_handle_t *handle) {
    struct kt_conn *conn = handle->data;
    struct kt_http_server *server = conn->server;
    kt_http_parser_free(&conn->parser);
    kt_buf_free(&conn->in);
    kt_buf_free(&conn->body);
    kt_buf_free(&conn->out);
    kt_buf_free(&conn->flight);
    free(conn);
    kt_server_conn_gone(server);
}

void kt_conn_close(struct kt_conn *conn, const struct kt_error *why) {
    if (conn->state == KT_CONN_CLOSED)
        return;
    conn->state = KT_CONN_CLOSED;
    struct kt_http_server *server = conn->server;
    /* conn->next stays: a sweep may stand on this connection. */
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        server->conns = conn->next;
    if (conn->live) {
        conn->live = false;
        server->handler.end(&conn->req, why);
    }
    uv_close(&conn->uv.handle, on_closed);
}

static void cut(struct kt_conn *conn, const char *why) {
    struct kt_error err;
    kt_fail(&err, KT_CANCELLED, "%s", why);
    kt_conn_close(conn, &err);
}

/* Both ways are done: close when the answer is out, after the client has read it. Closing a socket
 * with unread input would reset it and might take the answer with it. */
static void on_shutdown(uv_shutdown_t *req, int status) {
    (void)req;
    (void)status; /* the read side or the deadline ends it either way */
}

static void linger(struct kt_conn *conn) {
    if (conn->state != KT_CONN_LINGER) {
        conn->state = KT_CONN_LINGER;
        kt_buf_free(&conn->in);
        conn->cur_len = 0;
        conn->deadline = 0;
    }
    if (conn->writing)
        return;
    if (conn->input_ended) {
        kt_conn_close(conn, NULL);
        return;
    }
    if (conn->shutting)
        return;
    conn->shutting = true;
    kt_conn_deadline(conn, conn->server->limits.linger_s);
    if (uv_shutdown(&conn->shutdown, &conn->uv.stream, on_shutdown) != 0)
        kt_conn_close(conn, NULL);
}

/* ---- writing ---- */

static void flush(struct kt_conn *conn);

static void on_written(uv_write_t *req, int status) {
    struct kt_conn *conn = req->data;
    conn->writing = false;
    if (conn->state == KT_CONN_CLOSED)
        return;
    if (conn->flight.cap > 4096)
        kt_buf_free(&conn->flight);
    else
        kt_buf_clear(&conn->flight);
    if (status < 0) {
        cut(conn, "the client went away");
        return;
    }
    flush(conn);
    if (conn->was_full && kt_conn_queued(conn) <= conn->server->limits.write_queue / 2) {
        conn->was_full = false;
        if (conn->live)
            conn->server->handler.drained(&conn->req);
    }
    if (conn->state == KT_CONN_LINGER)
        linger(conn);
    else
        advance(conn);
}

static void flush(struct kt_conn *conn) {
    if (conn->writing || conn->out.len == 0)
        return;
    struct kt_buf empty = conn->flight;
    conn->flight = conn->out;
    conn->out = empty;
    conn->write.data = conn;
    uv_buf_t buf = uv_buf_init(conn->flight.data, (unsigned)conn->flight.len);
    int rc = uv_write(&conn->write, &conn->uv.stream, &buf, 1, on_written);
    if (rc != 0) {
        cut(conn, "the client went away");
        return;
    }
    conn->writing = true;
    conn->last_queue = 0; /* the next sweep starts the clock */
}

void kt_conn_send(struct kt_conn *conn, const uv_buf_t *bufs, int n) {
    if (conn->state == KT_CONN_CLOSED)
        return;
    size_t sent = 0;
    if (!conn->writing) {
        int rc = uv_try_write(&conn->uv.stream, bufs, (unsigned)n);
        if (rc < 0 && rc != UV_EAGAIN) {
            cut(conn, "the client went away");
            return;
        }
        sent = rc > 0 ? (size_t)rc : 0;
    }
    for (int i = 0; i < n; i++) {
        if (sent >= bufs[i].len) {
            sent -= bufs[i].len;
            continue;
        }
        kt_buf_add(&conn->out, bufs[i].base + sent, bufs[i].len - sent);
        sent = 0;
    }
    if (conn->out.failed)
        cut(conn, "out of memory");
    else
        flush(conn);
}

/* ---- reading ---- */

static void input(const struct kt_conn *conn, const char **data, size_t *len) {
    *data = conn->in.len > 0 ? conn->in.data : conn->cur;
    *len = conn->in.len > 0 ? conn->in.len : conn->cur_len;
}

static void took(struct kt_conn *conn, size_t n) {
    if (conn->in.len > 0) {
        kt_buf_consume(&conn->in, n);
        if (conn->in.len == 0 && conn->in.cap > 4096)
            kt_buf_free(&conn->in);
    } else {
        conn->cur += n;
        conn->cur_len -= n;
    }
}

static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *buf) {
    struct kt_conn *conn = handle->data;
    (void)wanted;
    *buf = uv_buf_init(conn->server->scratch, KT_HTTP_READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct kt_conn *conn = stream->data;
    if (n == 0 || conn->state == KT_CONN_CLOSED)
        return;
    if (n < 0) {
        conn->input_ended = true;
        if (n != UV_EOF)
            cut(conn, "the client reset the connection");
        else if (conn->state == KT_CONN_BUSY)
            cut(conn, "the client closed the connection");
        else
            linger(conn);
        return;
    }
    if (conn->state == KT_CONN_LINGER)
        return;
    if (conn->in.len > 0) {
        kt_buf_add(&conn->in, buf->base, (size_t)n);
    } else {
        conn->cur = buf->base;
        conn->cur_len = (size_t)n;
    }
    if (conn->state == KT_CONN_BUSY && conn->wanting)
        kt_conn_deadline(conn, conn->server->limits.body_s);
    advance(conn);
    if (conn->state == KT_CONN_CLOSED)
        return;
    if (conn->cur_len > 0)
        kt_buf_add(&conn->in, conn->cur, conn->cur_len);
    conn->cur_len = 0;
    if (conn->in.failed)
        cut(conn, "out of memory");
    else if (conn->in.len >= KT_HTTP_IN_MAX && conn->reading) {
        conn->reading = false;
        uv_read_stop(stream);
    }
}

static void read_on(struct kt_conn *conn) {
    if (conn->reading || conn->state == KT_CONN_CLOSED || conn->in.len >= KT_HTTP_IN_MAX)
        return;
    conn->reading = uv_read_start(&conn->uv.stream, on_alloc, on_read) == 0;
    if (!conn->reading)
        cut(conn, "the connection cannot be read");
}

/* ---- requests ---- */

static void name_request(struct kt_conn *conn) {
    struct kt_http_server *server = conn->server;
    const struct kt_http_field *f = kt_http_find(&conn->parser, "x-request-id");
    if (f != NULL && f->value_len > 0 && f->value_len <= KT_HTTP_ID_MAX) {
        const char *v = conn->parser.head.data + f->value;
        size_t i = 0;
        while (i < f->value_len &&
               ((v[i] >= '0' && v[i] <= '9') || (v[i] >= 'a' && v[i] <= 'z') ||
                (v[i] >= 'A' && v[i] <= 'Z') || v[i] == '.' || v[i] == '_' || v[i] == '-'))
            i++;
        if (i == f->value_len) {
            memcpy(conn->req.id, v, i);
            conn->req.id[i] = '\0';
            return;
        }
    }
    snprintf(conn->req.id, sizeof conn->req.id, "%s%llx", server->id_prefix,
             (unsigned long long)server->id_next++);
}

static void begin(struct kt_conn *conn) {
    conn->state = KT_CONN_BUSY;
    conn->deadline = 0;
    conn->served++;
    conn->started = conn->sent_continue = conn->got_body = conn->wanting = false;
    conn->keep_alive = conn->parser.keep_alive;
    conn->fault.code = KT_OK;
    conn->discarded = 0;
    name_request(conn);
}

static void dispatch(struct kt_conn *conn) {
    struct kt_http_server *server = conn->server;
    begin(conn);
    int64_t max = server->limits.body;
    if (max > 0 && conn->parser.length > max) {
        struct kt_error err;
        kt_fail(&err, KT_BODY_TOO_LARGE, "the body is larger than %lld bytes", (long long)max);
        kt_conn_refuse(conn, &err);
        return;
    }
    conn->live = true;
    server->handler.request(&conn->req, server->ud);
}

static void refuse_head(struct kt_conn *conn, const struct kt_error *err) {
    begin(conn);
    kt_conn_refuse(conn, err);
}

/* Body bytes from what was read. Returns false when the connection has to wait for more. */
static bool feed_body(struct kt_conn *conn) {
    const char *data;
    size_t n;
    input(conn, &data, &n);
    if (n == 0 || conn->parser.body_done || conn->fault.code != KT_OK)
        return false;
    ssize_t used = kt_http_parse_body(&conn->parser, data, n, &conn->body, &conn->fault);
    conn->got_body = true;
    took(conn, used < 0 ? n : (size_t)used);
    if (used < 0)
        conn->keep_alive = false;
    return true;
}

static bool body_ready(const struct kt_conn *conn) {
    return conn->body.len > conn->body_seen || conn->parser.body_done || conn->fault.code != KT_OK;
}

static void next_request(struct kt_conn *conn) {
    kt_http_parser_reset(&conn->parser);
    conn->state = KT_CONN_HEAD;
    kt_conn_deadline(conn, conn->server->draining ? 0.25 : conn->server->limits.idle_s);
    read_on(conn);
}

/* Do what the bytes at hand allow. Never recurses: callbacks that answer at once come back to the
 * loop here. */
static void advance(struct kt_conn *conn) {
    if (conn->advancing)
        return;
    conn->advancing = true;
    bool more = true;
    while (more) {
        more = false;
        const char *data;
        size_t n;
        input(conn, &data, &n);
        switch (conn->state) {
        case KT_CONN_HEAD: {
            /* A client that does not read its answers gets no further requests served. */
            if (n == 0 || kt_conn_queued(conn) > conn->server->limits.write_queue)
                break;
            if (conn->parser.head.len == 0 && conn->served > 0)
                kt_conn_deadline(conn, conn->server->limits.header_s);
            struct kt_error err;
            ssize_t used = kt_http_parse_head(&conn->parser, data, n, &err);
            took(conn, used < 0 ? n : (size_t)used);
            if (used < 0)
                refuse_head(conn, &err);
            else if (conn->parser.head_done)
                dispatch(conn);
            more = true;
            break;
        }
        case KT_CONN_BUSY:
            while (conn->wanting && !body_ready(conn) && feed_body(conn))
                ;
            if (conn->wanting && body_ready(conn)) {
                conn->wanting = false;
                conn->deadline = 0;
                conn->server->handler.body(&conn->req);
                more = true;
            }
            break;
        case KT_CONN_DISCARD:
            more = feed_body(conn);
            conn->discarded += conn->body.len;
            kt_buf_clear(&conn->body);
            if (conn->fault.code != KT_OK || conn->discarded > KT_HTTP_DISCARD_MAX) {
                linger(conn);
            } else if (conn->parser.body_done) {
                next_request(conn);
                more = true;
            }
            break;
        case KT_CONN_LINGER:
        case KT_CONN_CLOSED:
            break;
        }
    }
    conn->advancing = false;
    read_on(conn);
}

void kt_conn_answered(struct kt_conn *conn) {
    if (conn->live) {
        conn->live = false;
        conn->server->handler.end(&conn->req, NULL);
    }
    if (conn->state == KT_CONN_CLOSED)
        return;
    conn->wanting = false;
    kt_buf_free(&conn->body);
    if (!conn->keep_alive) {
        linger(conn);
        read_on(conn);
        return;
    }
    if (conn->parser.body_done) {
        next_request(conn);
    } else {
        conn->state = KT_CONN_DISCARD;
        kt_conn_deadline(conn, conn->server->limits.linger_s);
    }
    advance(conn);
}

void kt_http_want(struct kt_http_req *req) {
    struct kt_conn *conn = kt_conn_of(req);
    conn->wanting = true;
    conn->body_seen = conn->body.len;
    if (!body_ready(conn)) {
        if (conn->parser.expect_continue && !conn->sent_continue && !conn->got_body &&
            conn->in.len + conn->cur_len == 0 && !conn->started) {
            static char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
            uv_buf_t buf = uv_buf_init(line, sizeof line - 1);
            conn->sent_continue = true;
            kt_conn_send(conn, &buf, 1);
        }
        kt_conn_deadline(conn, conn->server->limits.body_s);
    }
    advance(conn);
}

void kt_conn_sweep(struct kt_conn *conn, uint64_t now) {
    if (conn->writing) {
        size_t queue = uv_stream_get_write_queue_size(&conn->uv.stream);
        if (queue != conn->last_queue) {
            conn->last_queue = queue;
            conn->write_deadline = now + (uint64_t)(conn->server->limits.write_s * 1000);
        } else if (now >= conn->write_deadline) {
            cut(conn, "the client does not read");
            return;
        }
    }
    if (conn->deadline == 0 || now < conn->deadline)
        return;
    conn->deadline = 0;
    struct kt_error err;
    switch (conn->state) {
    case KT_CONN_HEAD:
        if (conn->parser.head.len == 0) {
            linger(conn);
        } else {
            kt_fail(&err, KT_REQUEST_TIMEOUT, "the request's head did not come in time");
            refuse_head(conn, &err);
        }
        break;
    case KT_CONN_BUSY:
        if (!conn->wanting)
            break;
        kt_fail(&conn->fault, KT_REQUEST_TIMEOUT, "the request's body did not come in time");
        conn->keep_alive = false;
        advance(conn);
        break;
    case KT_CONN_DISCARD:
        linger(conn);
        break;
    case KT_CONN_LINGER:
        kt_conn_close(conn, NULL);
        break;
    case KT_CONN_CLOSED:
        break;
    }
}

/* ---- opening ---- */

static void name_remote(struct kt_conn *conn) {
    struct sockaddr_storage addr;
    int len = sizeof addr;
    if (uv_tcp_getpeername(&conn->uv.tcp, (struct sockaddr *)&addr, &len) != 0)
        return;
    if (addr.ss_family == AF_INET)
        uv_ip4_name((struct sockaddr_in *)&addr, conn->remote, sizeof conn->remote);
    else if (addr.ss_family == AF_INET6)
        uv_ip6_name((struct sockaddr_in6 *)&addr, conn->remote, sizeof conn->remote);
}

static void on_failed_open(uv_handle_t *handle) {
    struct kt_conn *conn = handle->data;
    struct kt_http_server *server = conn->server;
    free(conn);
    kt_server_conn_gone(server);
}

int kt_conn_new(struct kt_http_server *server, int fd, struct kt_error *err) {
    struct kt_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL)
        return kt_fail(err, KT_NO_MEMORY, "out of memory");
    bool pipe = server->is_pipe;
    if (fd >= 0) {
        struct sockaddr_storage addr;
        socklen_t len = sizeof addr;
        pipe = getsockname(fd, (struct sockaddr *)&addr, &len) == 0 && addr.ss_family == AF_UNIX;
    }
    conn->server = server;
    int rc = pipe ? uv_pipe_init(server->loop, &conn->uv.pipe, 0)
                  : uv_tcp_init(server->loop, &conn->uv.tcp);
    if (rc != 0) {
        free(conn);
        return kt_fail(err, KT_INTERNAL, "cannot make a handle: %s", uv_strerror(rc));
    }
    conn->uv.handle.data = conn;
    server->count++;
    if (fd < 0)
        rc = uv_accept(&server->listener.stream, &conn->uv.stream);
    else
        rc = pipe ? uv_pipe_open(&conn->uv.pipe, fd) : uv_tcp_open(&conn->uv.tcp, fd);
    if (rc != 0) {
        uv_close(&conn->uv.handle, on_failed_open);
        return kt_fail(err, KT_INTERNAL, "cannot open a connection: %s", uv_strerror(rc));
    }
    if (!pipe) {
        uv_tcp_nodelay(&conn->uv.tcp, 1);
        name_remote(conn);
    }
    kt_http_parser_init(&conn->parser, server->limits.target, server->limits.headers);
    conn->req.head = &conn->parser;
    conn->req.remote = conn->remote;
    conn->req.server = server;
    conn->next = server->conns;
    if (conn->next != NULL)
        conn->next->prev = conn;
    server->conns = conn;
    kt_conn_deadline(conn, server->limits.header_s);
    read_on(conn);
    return 0;
}

int kt_http_detach(struct kt_http_req *req, int *fd, struct kt_buf *rest, struct kt_error *err) {
    struct kt_conn *conn = kt_conn_of(req);
    if (conn->writing || conn->out.len > 0)
        return kt_fail(err, KT_INVALID_STATE, "an earlier answer is still being sent");
    uv_os_fd_t own;
    int rc = uv_fileno(&conn->uv.handle, &own);
    if (rc != 0)
        return kt_fail(err, KT_INTERNAL, "%s", uv_strerror(rc));
    *fd = fcntl(own, F_DUPFD_CLOEXEC, 3);
    if (*fd < 0)
        return kt_fail(err, kt_code_of_errno(errno), "cannot duplicate a socket");
    kt_buf_add(rest, conn->in.data, conn->in.len);
    kt_buf_add(rest, conn->cur, conn->cur_len);
    conn->cur_len = 0;
    kt_conn_close(conn, NULL);
    return 0;
}

void kt_http_abort(struct kt_http_req *req) {
    cut(kt_conn_of(req), "the connection was cut");
}

struct kt_buf *kt_http_body(struct kt_http_req *req) {
    return &kt_conn_of(req)->body;
}

bool kt_http_body_ended(const struct kt_http_req *req) {
    return kt_conn_of(req)->parser.body_done;
}

const struct kt_error *kt_http_fault(const struct kt_http_req *req) {
    const struct kt_conn *conn = kt_conn_of(req);
    return conn->fault.code != KT_OK ? &conn->fault : NULL;
}

bool kt_http_full(struct kt_http_req *req) {
    struct kt_conn *conn = kt_conn_of(req);
    conn->was_full = kt_conn_queued(conn) > conn->server->limits.write_queue;
    return conn->was_full;
}

bool kt_http_started(const struct kt_http_req *req) {
    return kt_conn_of(req)->started;
}

void kt_http_close_after(struct kt_http_req *req) {
    kt_conn_of(req)->keep_alive = false;
}
