/* The listener: accepts up to a bound, sweeps deadlines, drains. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "net/http_conn.h"

const struct kt_http_limits kt_http_default_limits = {
    .headers = 16384,
    .target = 8192,
    .body = 0,
    .write_queue = 262144,
    .connections = 10000,
    .header_s = 10,
    .body_s = 30,
    .idle_s = 60,
    .write_s = 60,
    .linger_s = 5,
};

enum { BACKLOG = 1024, SWEEP_MIN_MS = 20, SWEEP_MAX_MS = 1000, DRAIN_IDLE_MS = 250 };

static void check_empty(struct kt_http_server *server) {
    if (server->count > 0)
        return;
    if (server->draining && !server->emptied && !server->freed) {
        server->emptied = true;
        server->handler.empty(server, server->ud);
    }
    if (server->freed && server->handles == 0) {
        server->handler.empty(server, server->ud);
        kt_buf_free(&server->head_out);
        free(server->scratch);
        free(server);
    }
}

static void on_sweep(uv_timer_t *timer) {
    struct kt_http_server *server = timer->data;
    uint64_t now = uv_now(server->loop);
    for (struct kt_conn *conn = server->conns, *next; conn != NULL; conn = next) {
        next = conn->next;
        kt_conn_sweep(conn, now);
    }
}

/* Deadlines are looked at a few times within the shortest of them. */
static uint64_t sweep_period(const struct kt_http_limits *l) {
    double shortest = l->header_s;
    shortest = l->body_s < shortest ? l->body_s : shortest;
    shortest = l->idle_s < shortest ? l->idle_s : shortest;
    shortest = l->write_s < shortest ? l->write_s : shortest;
    shortest = l->linger_s < shortest ? l->linger_s : shortest;
    double ms = shortest * 1000 / 8;
    return ms < SWEEP_MIN_MS ? SWEEP_MIN_MS : ms > SWEEP_MAX_MS ? SWEEP_MAX_MS : (uint64_t)ms;
}

static void sweep_on(struct kt_http_server *server, uint64_t period) {
    if (server->freed || (server->sweeping && server->period <= period))
        return;
    server->sweeping = true;
    server->period = period;
    uv_timer_start(&server->sweep, on_sweep, period, period);
}

static int open_conn(struct kt_http_server *server, int fd, struct kt_error *err) {
    int rc = kt_conn_new(server, fd, err);
    if (rc == 0)
        sweep_on(server, sweep_period(&server->limits));
    return rc;
}

static void accept_one(struct kt_http_server *server) {
    struct kt_error err;
    if (open_conn(server, -1, &err) != 0)
        kt_log(KT_WARN, "http.accept_failed", "msg", err.message, NULL);
}

static void on_connection(uv_stream_t *listener, int status) {
    struct kt_http_server *server = listener->data;
    if (status < 0) {
        kt_log(KT_WARN, "http.accept_failed", "msg", uv_strerror(status), NULL);
        return;
    }
    /* libuv stops polling the socket until the connection that it holds is taken. */
    if (server->count >= server->limits.connections) {
        server->waiting_accept = true;
        return;
    }
    accept_one(server);
}

void kt_server_conn_gone(struct kt_http_server *server) {
    server->count--;
    if (server->count == 0 && server->sweeping) {
        server->sweeping = false;
        uv_timer_stop(&server->sweep);
    }
    if (server->waiting_accept && server->listening) {
        server->waiting_accept = false;
        accept_one(server);
    }
    check_empty(server);
}

static void on_handle_closed(uv_handle_t *handle) {
    struct kt_http_server *server = handle->data;
    server->handles--;
    check_empty(server);
}

static void stop_listening(struct kt_http_server *server) {
    if (!server->has_listener)
        return;
    server->has_listener = server->listening = server->waiting_accept = false;
    uv_close(&server->listener.handle, on_handle_closed);
}

/* Inherited by what is accepted (Linux). A client that vanished without a FIN is noticed in two
 * minutes, also by a handler that only waits or sends a little now and then. */
static void notice_dead_peers(int fd) {
    int on = 1, idle_s = 60, interval_s = 15, probes = 4;
    unsigned unacknowledged_ms = 120000;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms, sizeof unacknowledged_ms);
}

/* The store, children and requests to elsewhere need descriptors too. */
static int bounded_by_descriptors(int connections) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return connections;
    long room = (long)(limit.rlim_cur - limit.rlim_cur / 4);
    return connections < room ? connections : (int)room;
}

static int listen_on(struct kt_http_server *server, int fd, struct kt_error *err) {
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
        close(fd);
        return kt_fail(err, KT_INVALID_ARGUMENT, "fd %d is not a socket", fd);
    }
    server->is_pipe = addr.ss_family == AF_UNIX;
    if (!server->is_pipe)
        notice_dead_peers(fd);
    int rc = server->is_pipe ? uv_pipe_init(server->loop, &server->listener.pipe, 0)
                             : uv_tcp_init(server->loop, &server->listener.tcp);
    if (rc != 0) {
        close(fd);
        return kt_fail(err, KT_INTERNAL, "cannot make a handle: %s", uv_strerror(rc));
    }
    server->listener.handle.data = server;
    server->has_listener = true;
    server->handles++;
    rc = server->is_pipe ? uv_pipe_open(&server->listener.pipe, fd)
                         : uv_tcp_open(&server->listener.tcp, fd);
    if (rc != 0)
        close(fd);
    if (rc == 0)
        rc = uv_listen(&server->listener.stream, BACKLOG, on_connection);
    if (rc != 0)
        return kt_fail(err, KT_INTERNAL, "cannot listen on fd %d: %s", fd, uv_strerror(rc));
    server->listening = true;
    return 0;
}

static void no_empty(struct kt_http_server *server, void *ud) {
    (void)server;
    (void)ud;
}

struct kt_http_server *kt_http_server_new(uv_loop_t *loop, int fd,
                                          const struct kt_http_limits *limits,
                                          const struct kt_http_handler *handler, void *ud,
                                          struct kt_error *err) {
    struct kt_http_server *server = calloc(1, sizeof *server);
    uint8_t random[6];
    if (server == NULL || (server->scratch = malloc(KT_HTTP_READ_SIZE)) == NULL ||
        getrandom(random, sizeof random, 0) != sizeof random) {
        free(server);
        if (fd >= 0)
            close(fd);
        kt_fail(err, KT_NO_MEMORY, "out of memory");
        return NULL;
    }
    server->loop = loop;
    server->limits = limits ? *limits : kt_http_default_limits;
    server->limits.connections = bounded_by_descriptors(server->limits.connections);
    server->handler = *handler;
    server->ud = ud;
    snprintf(server->id_prefix, sizeof server->id_prefix, "%02x%02x%02x%02x%02x%02x-", random[0],
             random[1], random[2], random[3], random[4], random[5]);
    uv_timer_init(loop, &server->sweep);
    server->sweep.data = server;
    server->handles = 1;
    if (fd >= 0 && listen_on(server, fd, err) != 0) {
        server->handler.empty = no_empty; /* the caller gets NULL and no callback */
        kt_http_server_free(server);
        return NULL;
    }
    return server;
}

int kt_http_adopt(struct kt_http_server *server, int fd, struct kt_error *err) {
    return open_conn(server, fd, err);
}

void kt_http_drain(struct kt_http_server *server) {
    if (server->draining || server->freed)
        return;
    server->draining = true;
    stop_listening(server);
    uint64_t soon = uv_now(server->loop) + DRAIN_IDLE_MS;
    for (struct kt_conn *conn = server->conns; conn != NULL; conn = conn->next)
        if (conn->state == KT_CONN_HEAD && conn->parser.head.len == 0)
            conn->deadline = soon;
    if (server->count > 0)
        sweep_on(server, DRAIN_IDLE_MS / 5);
    check_empty(server);
}

void kt_http_server_free(struct kt_http_server *server) {
    if (server->freed)
        return;
    server->freed = true;
    stop_listening(server);
    struct kt_error why;
    kt_fail(&why, KT_CANCELLED, "the server was closed");
    while (server->conns != NULL)
        kt_conn_close(server->conns, &why);
    uv_close((uv_handle_t *)&server->sweep, on_handle_closed);
}

int kt_http_connections(const struct kt_http_server *server) {
    return server->count;
}

bool kt_http_draining(const struct kt_http_server *server) {
    return server->draining;
}

const char *kt_server_date(struct kt_http_server *server) {
    time_t now = time(NULL);
    if (now != server->date_second) {
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(server->date, sizeof server->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        server->date_second = now;
    }
    return server->date;
}
