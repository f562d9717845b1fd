/* Connections over socket pairs: the client's end is a plain socket, the loop is turned by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/http.h"

/* What the handler does with a request is chosen by its path. */
struct world {
    uv_loop_t loop;
    struct kt_http_server *server;
    struct kt_http_limits limits;
    int requests, active, ends, cancelled, drained, empties;
    struct kt_http_req *last;
    char last_id[80];
    enum kt_code fault;
    int64_t left; /* bytes that /stream still has to write */
    int detached;
    struct kt_buf rest;
};

static struct world w;

static bool path_is(struct kt_http_req *req, const char *path) {
    return req->head->path.len == strlen(path) &&
           memcmp(req->head->path.data, path, strlen(path)) == 0;
}

static void stream(struct kt_http_req *req) {
    static char block[65536];
    memset(block, 's', sizeof block);
    while (w.left > 0) {
        assert_int_equal(kt_http_write(req, block, sizeof block, NULL), 0);
        w.left -= (int64_t)sizeof block;
        if (w.left > 0 && kt_http_full(req))
            return;
    }
    assert_int_equal(kt_http_finish(req, NULL), 0);
}

static void on_request(struct kt_http_req *req, void *ud) {
    assert_ptr_equal(ud, &w);
    w.requests++;
    w.active++;
    assert_int_equal(w.active, 1);
    w.last = req;
    snprintf(w.last_id, sizeof w.last_id, "%s", req->id);
    struct kt_buf lines = KT_BUF_INIT;
    if (path_is(req, "/hello")) {
        assert_int_equal(kt_http_line(&lines, "X-A", 3, "b", 1, NULL), 0);
        assert_int_equal(kt_http_respond(req, 200, &lines, "hello", 5, NULL), 0);
    } else if (path_is(req, "/none")) {
        assert_int_equal(kt_http_respond(req, 204, NULL, "ignored", 7, NULL), 0);
    } else if (path_is(req, "/echo") || path_is(req, "/collect")) {
        kt_http_want(req);
    } else if (path_is(req, "/stream")) {
        assert_int_equal(kt_http_start(req, 200, NULL, -1, NULL), 0);
        stream(req);
    } else if (path_is(req, "/sized")) {
        assert_int_equal(kt_http_start(req, 200, NULL, 4, NULL), 0);
        assert_int_equal(kt_http_write(req, "ab", 2, NULL), 0);
        assert_int_equal(kt_http_write(req, "cde", 3, NULL), -KT_INVALID_STATE);
        assert_int_equal(kt_http_write(req, "cd", 2, NULL), 0);
        assert_int_equal(kt_http_finish(req, NULL), 0);
    } else if (path_is(req, "/short")) {
        assert_int_equal(kt_http_start(req, 200, NULL, 4, NULL), 0);
        assert_int_equal(kt_http_finish(req, NULL), -KT_INVALID_STATE);
    } else if (path_is(req, "/detach")) {
        assert_int_equal(kt_http_detach(req, &w.detached, &w.rest, NULL), 0);
    } /* else: the test answers */
    kt_buf_free(&lines);
}

static void on_body(struct kt_http_req *req) {
    const struct kt_error *fault = kt_http_fault(req);
    if (fault != NULL) {
        w.fault = fault->code;
        assert_int_equal(kt_http_problem(req, fault), 0);
        return;
    }
    struct kt_buf *body = kt_http_body(req);
    if (path_is(req, "/collect")) { /* the body comes back as one answer */
        if (!kt_http_body_ended(req))
            kt_http_want(req);
        else
            assert_int_equal(kt_http_respond(req, 200, NULL, body->data, body->len, NULL), 0);
        return;
    }
    if (!kt_http_started(req))
        assert_int_equal(kt_http_start(req, 200, NULL, -1, NULL), 0);
    assert_int_equal(kt_http_write(req, body->data, body->len, NULL), 0);
    kt_buf_clear(body);
    if (kt_http_body_ended(req))
        assert_int_equal(kt_http_finish(req, NULL), 0);
    else
        kt_http_want(req);
}

static void on_drained(struct kt_http_req *req) {
    w.drained++;
    stream(req);
}

static void on_end(struct kt_http_req *req, const struct kt_error *err) {
    assert_ptr_equal(req, w.last);
    w.active--;
    w.ends++;
    w.last = NULL;
    if (err != NULL) {
        assert_int_equal(err->code, KT_CANCELLED);
        w.cancelled++;
    }
}

static void on_empty(struct kt_http_server *server, void *ud) {
    (void)server;
    (void)ud;
    w.empties++;
}

static const struct kt_http_handler handler = {on_request, on_body, on_drained, on_end, on_empty};

static int setup(void **state) {
    (void)state;
    memset(&w, 0, sizeof w);
    w.detached = -1;
    uv_loop_init(&w.loop);
    w.limits = kt_http_default_limits;
    return 0;
}

static void serve(int fd) {
    struct kt_error err;
    w.server = kt_http_server_new(&w.loop, fd, &w.limits, &handler, &w, &err);
    assert_non_null(w.server);
}

static int teardown(void **state) {
    (void)state;
    kt_http_server_free(w.server);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    kt_buf_free(&w.rest);
    assert_int_equal(w.requests, w.ends);
    assert_int_equal(w.active, 0);
    assert_true(w.empties >= 1);
    assert_int_equal(uv_loop_close(&w.loop), 0);
    return 0;
}

static int client(void) {
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    if (w.server == NULL)
        serve(-1);
    assert_int_equal(kt_http_adopt(w.server, pair[1], NULL), 0);
    return pair[0];
}

static void turn(void) {
    uv_run(&w.loop, UV_RUN_NOWAIT);
    usleep(500);
}

static void put(int fd, const char *text, size_t len) {
    for (int i = 0; len > 0 && i < 20000; i++) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        } else {
            turn();
        }
    }
    assert_int_equal(len, 0);
}

/* What the client gets until `until` was seen, or until the end of the connection when NULL. Turns
 * the loop; gives up after many turns. */
static char got[1 << 20];

static const char *get(int fd, const char *until) {
    size_t len = 0;
    for (int i = 0; i < 20000; i++) {
        turn();
        ssize_t n = recv(fd, got + len, sizeof got - 1 - len, 0);
        if (n > 0)
            len += (size_t)n;
        got[len] = '\0';
        if (until != NULL && strstr(got, until) != NULL)
            return got;
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            if (until != NULL)
                fail_msg("closed before %s: %s", until, got);
            return got;
        }
    }
    fail_msg("no %s in: %s", until ? until : "end of the connection", got);
    return got;
}

static const char *ask(int fd, const char *text, const char *until) {
    put(fd, text, strlen(text));
    return get(fd, until);
}

static void has(const char *text, const char *part) {
    if (strstr(text, part) == NULL)
        fail_msg("no %s in: %s", part, text);
}

static void has_not(const char *text, const char *part) {
    if (strstr(text, part) != NULL)
        fail_msg("%s in: %s", part, text);
}

#define H " HTTP/1.1\r\nHost: a\r\n"

static void test_keep_alive(void **state) {
    (void)state;
    int fd = client();
    for (int i = 0; i < 3; i++) {
        const char *a = ask(fd, "GET /hello" H "X-Request-Id: my-id_1.2\r\n\r\n", "\r\n\r\nhello");
        has(a, "HTTP/1.1 200 OK\r\n");
        has(a, "Content-Length: 5\r\n");
        has(a, "X-A: b\r\n");
        has(a, "X-Request-Id: my-id_1.2\r\n");
        has(a, "Date: ");
        has_not(a, "Connection:");
    }
    ask(fd, "GET /hello" H "X-Request-Id: bad id\r\n\r\n", "hello");
    assert_string_not_equal(w.last_id, "bad id");
    assert_true(strlen(w.last_id) > 10);
    has(ask(fd, "GET /hello" H "Connection: close\r\n\r\n", NULL), "Connection: close\r\n");
    assert_int_equal(w.requests, 5);
    close(fd);
}

static void test_http10(void **state) {
    (void)state;
    int fd = client();
    has(ask(fd, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "hello"),
        "Connection: keep-alive\r\n");
    w.left = 65536;
    const char *a = ask(fd, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", NULL);
    has(a, "Connection: close\r\n");
    has_not(a, "chunked");
    assert_int_equal(strlen(strstr(a, "\r\n\r\n") + 4), 65536);
    close(fd);
}

static void test_head_and_no_content(void **state) {
    (void)state;
    int fd = client();
    const char *a = ask(fd, "HEAD /hello" H "\r\n", "\r\n\r\n");
    has(a, "Content-Length: 5\r\n");
    has_not(a, "hello");
    a = ask(fd, "GET /none" H "\r\n", "\r\n\r\n");
    has(a, "HTTP/1.1 204 No Content\r\n");
    has_not(a, "Content-Length");
    has_not(a, "ignored");
    has(ask(fd, "HEAD /sized" H "\r\n", "\r\n\r\n"), "Content-Length: 4\r\n");
    has(ask(fd, "GET /sized" H "\r\n", "\r\n\r\nabcd"), "Content-Length: 4\r\n");
    close(fd);
}

static void test_pipelining(void **state) {
    (void)state;
    int fd = client();
    put(fd,
        "GET /later" H "\r\nPOST /collect" H "Content-Length: 3\r\n\r\noneGET /hello" H
        "\r\nPOST /collect" H "Content-Length: 3\r\nConnection: close\r\n\r\ntwoGET /hello" H
        "\r\n",
        strlen("GET /later" H "\r\nPOST /collect" H "Content-Length: 3\r\n\r\noneGET /hello" H
               "\r\nPOST /collect" H "Content-Length: 3\r\nConnection: close\r\n\r\ntwoGET /hello" H
               "\r\n"));
    for (int i = 0; i < 20; i++)
        turn();
    assert_int_equal(w.requests, 1);
    assert_int_equal(kt_http_respond(w.last, 200, NULL, "first", 5, NULL), 0);
    const char *a = get(fd, NULL);
    const char *first = strstr(a, "first"), *one = strstr(a, "one"), *hello = strstr(a, "hello"),
               *two = strstr(a, "two");
    assert_true(first && one && hello && two);
    assert_true(first < one && one < hello && hello < two);
    assert_int_equal(w.requests, 4); /* nothing after Connection: close */
    close(fd);
}

static void test_bodies(void **state) {
    (void)state;
    int fd = client();
    has(ask(fd, "POST /collect" H "Content-Length: 5\r\n\r\nabcde", "\r\n\r\nabcde"), " 200 ");
    ask(fd, "POST /collect" H "Content-Length: 5\r\n\r\n", "");
    ask(fd, "12", "");
    ask(fd, "345", "\r\n\r\n12345");
    has(ask(fd,
            "POST /echo" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: "
            "u\r\n\r\n",
            "0\r\n\r\n"),
        "\r\n\r\n5\r\nabcde\r\n0\r\n\r\n");
    has(ask(fd, "POST /collect" H "\r\n", "\r\n\r\n"), "Content-Length: 0\r\n");
    const char *a =
        ask(fd, "POST /collect" H "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n", "\r\n\r\n");
    assert_string_equal(a, "HTTP/1.1 100 Continue\r\n\r\n");
    has(ask(fd, "ok", "\r\n\r\nok"), " 200 ");
    /* A body that is already there needs no invitation. */
    a = ask(fd, "POST /collect" H "Content-Length: 2\r\nExpect: 100-continue\r\n\r\nok",
            "\r\n\r\nok");
    has_not(a, "100 Continue");
    close(fd);
}

static void test_bad_body(void **state) {
    (void)state;
    int fd = client();
    const char *a = ask(fd, "POST /collect" H "Transfer-Encoding: chunked\r\n\r\nzz\r\n", NULL);
    has(a, "HTTP/1.1 400 Bad Request\r\n");
    has(a, "Connection: close\r\n");
    assert_int_equal(w.fault, KT_MALFORMED_REQUEST);
    close(fd);
}

static void test_unread_bodies(void **state) {
    (void)state;
    int fd = client();
    has_not(ask(fd, "POST /hello" H "Content-Length: 10\r\n\r\n12345", "hello"), "Connection:");
    has(ask(fd, "67890GET /hello" H "\r\n", "hello"), " 200 ");
    has(ask(fd, "POST /hello" H "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", NULL),
        "Connection: close");
    close(fd);
    /* A large one: the client is still sending when the answer comes, and can read it after. */
    fd = client();
    static char large[1 << 20];
    put(fd, "POST /hello" H "Content-Length: 1048576\r\n\r\n",
        strlen("POST /hello" H "Content-Length: 1048576\r\n\r\n"));
    put(fd, large, sizeof large);
    has(get(fd, NULL), "hello");
    close(fd);
    fd = client(); /* chunked: only found too large on the way */
    put(fd, "POST /hello" H "Transfer-Encoding: chunked\r\n\r\n100000\r\n",
        strlen("POST /hello" H "Transfer-Encoding: chunked\r\n\r\n100000\r\n"));
    put(fd, large, sizeof large);
    has(get(fd, NULL), "hello");
    close(fd);
}

static void test_refusals(void **state) {
    (void)state;
    w.limits.body = 10;
    static const struct {
        const char *request, *status, *code;
    } cases[] = {
        {"POST /echo" H "Content-Length: 11\r\n\r\n", "HTTP/1.1 413 Content Too Large",
         "body_too_large"},
        {"GET /" H "Host: b\r\n\r\n", "HTTP/1.1 400 Bad Request", "malformed_request"},
        {"PUT / HTTP/1.0\r\n\r\n", "HTTP/1.1 411 Length Required", "length_required"},
        {"\x16\x03\x01\x02", "HTTP/1.1 400 Bad Request", "malformed_request"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = client();
        const char *a = ask(fd, cases[i].request, NULL);
        char part[100];
        has(a, cases[i].status);
        has(a, "content-type: application/problem+json\r\n");
        has(a, "Connection: close\r\n");
        has(a, "X-Request-Id: ");
        snprintf(part, sizeof part, "\"type\":\"urn:kontor:error:%s\"", cases[i].code);
        has(a, part);
        snprintf(part, sizeof part, "\"code\":\"%s\"", cases[i].code);
        has(a, part);
        close(fd);
    }
    assert_int_equal(w.requests, 0);
}

static void test_slow_clients(void **state) {
    (void)state;
    w.limits.header_s = w.limits.body_s = w.limits.idle_s = 0.1;
    int fd = client();
    has(ask(fd, "GET /hello HT", NULL), "HTTP/1.1 408 Request Timeout\r\n");
    close(fd);
    fd = client();
    assert_string_equal(get(fd, NULL), ""); /* said nothing, gets nothing */
    close(fd);
    fd = client();
    has(ask(fd, "GET /hello" H "\r\n", NULL), "hello"); /* idle after it */
    close(fd);
    fd = client();
    const char *a = ask(fd, "POST /collect" H "Content-Length: 5\r\n\r\nab", NULL);
    has(a, "HTTP/1.1 408 Request Timeout\r\n");
    has(a, "\"retryable\":true");
    assert_int_equal(w.fault, KT_REQUEST_TIMEOUT);
    close(fd);
    fd = client(); /* a handler may take longer than any of these limits */
    put(fd, "GET /later" H "\r\n", strlen("GET /later" H "\r\n"));
    for (int i = 0; i < 400; i++)
        turn();
    assert_non_null(w.last);
    assert_int_equal(kt_http_respond(w.last, 200, NULL, "late", 4, NULL), 0);
    has(get(fd, "late"), " 200 ");
    close(fd);
}

static void test_slow_reader_is_cut(void **state) {
    (void)state;
    w.limits.write_s = 0.1;
    int fd = client();
    w.left = 64 << 20;
    put(fd, "GET /stream" H "\r\n", strlen("GET /stream" H "\r\n"));
    for (int i = 0; i < 5000 && w.ends == 0; i++)
        turn();
    assert_int_equal(w.cancelled, 1);
    close(fd);
}

static void test_back_pressure(void **state) {
    (void)state;
    int fd = client();
    w.left = 8 << 20;
    put(fd, "GET /stream" H "\r\n", strlen("GET /stream" H "\r\n"));
    for (int i = 0; i < 50; i++)
        turn();
    assert_true(w.left > 6 << 20); /* the handler was told to wait */
    size_t total = 0;
    bool ended = false;
    for (int i = 0; i < 20000 && !ended; i++) {
        turn();
        ssize_t n;
        while ((n = recv(fd, got, sizeof got, 0)) > 0) {
            total += (size_t)n;
            ended = n >= 5 && memcmp(got + n - 5, "0\r\n\r\n", 5) == 0;
        }
    }
    assert_true(ended);
    assert_true(total > 8 << 20);
    assert_true(w.drained > 0);
    has(ask(fd, "GET /hello" H "\r\n", "hello"), " 200 ");
    close(fd);
}

/* A client that sends requests and reads no answers is served until the write queue is full. */
static void test_pipelining_without_reading(void **state) {
    (void)state;
    w.limits.write_queue = 20000;
    int fd = client();
    static const char one[] = "GET /hello" H "\r\n";
    int sent = 0;
    for (int idle = 0; idle < 100;) {
        if (send(fd, one, sizeof one - 1, MSG_NOSIGNAL) == (ssize_t)sizeof one - 1) {
            sent++;
            idle = 0;
        } else {
            idle++;
            uv_run(&w.loop, UV_RUN_NOWAIT);
        }
    }
    assert_true(w.requests < sent);
    close(fd);
}

static void test_client_goes_away(void **state) {
    (void)state;
    int fd = client();
    put(fd, "GET /later" H "\r\n", strlen("GET /later" H "\r\n"));
    for (int i = 0; i < 1000 && w.last == NULL; i++)
        turn();
    assert_non_null(w.last);
    close(fd);
    for (int i = 0; i < 1000 && w.ends == 0; i++)
        turn();
    assert_int_equal(w.cancelled, 1);
    fd = client(); /* in the middle of a body */
    put(fd, "POST /collect" H "Content-Length: 5\r\n\r\nab",
        strlen("POST /collect" H "Content-Length: 5\r\n\r\nab"));
    for (int i = 0; i < 1000 && w.last == NULL; i++)
        turn();
    close(fd);
    for (int i = 0; i < 1000 && w.ends == 1; i++)
        turn();
    assert_int_equal(w.cancelled, 2);
}

static void test_short_answer_is_cut(void **state) {
    (void)state;
    int fd = client();
    const char *a = ask(fd, "GET /short" H "\r\n", NULL);
    has(a, "Content-Length: 4\r\n");
    assert_int_equal(w.cancelled, 1);
    close(fd);
}

static void test_drain(void **state) {
    (void)state;
    int idle = client(), busy = client(), late = client();
    ask(idle, "GET /hello" H "\r\n", "hello");
    ask(late, "GET /hello" H "\r\n", "hello");
    put(busy, "GET /later" H "\r\n", strlen("GET /later" H "\r\n"));
    for (int i = 0; i < 1000 && w.last == NULL; i++)
        turn();
    struct kt_http_req *waiting = w.last;
    kt_http_drain(w.server);
    assert_int_equal(w.empties, 0);
    w.active = 0; /* two connections: the check of on_request does not hold here */
    has(ask(late, "GET /hello" H "\r\n", NULL), "Connection: close\r\n");
    w.active = 1;
    assert_string_equal(get(idle, NULL), "");
    w.last = waiting;
    assert_int_equal(kt_http_respond(waiting, 200, NULL, "done", 4, NULL), 0);
    has(get(busy, NULL), "Connection: close\r\n");
    close(idle);
    close(busy);
    close(late);
    for (int i = 0; i < 5000 && w.empties == 0; i++)
        turn();
    assert_int_equal(w.empties, 1);
    assert_int_equal(kt_http_connections(w.server), 0);
}

static void test_free_with_open_requests(void **state) {
    (void)state;
    int fd = client();
    w.left = 64 << 20;
    put(fd, "GET /stream" H "\r\n", strlen("GET /stream" H "\r\n"));
    for (int i = 0; i < 1000 && w.last == NULL; i++)
        turn();
    kt_http_server_free(w.server);
    assert_int_equal(w.cancelled, 1);
    close(fd);
}

static void test_detach(void **state) {
    (void)state;
    int fd = client();
    put(fd, "GET /detach" H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\nmore",
        strlen("GET /detach" H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\nmore"));
    for (int i = 0; i < 1000 && w.detached < 0; i++)
        turn();
    assert_true(w.detached >= 0);
    assert_int_equal(w.rest.len, 4);
    assert_memory_equal(w.rest.data, "more", 4);
    assert_int_equal(fcntl(w.detached, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    for (int i = 0; i < 20; i++)
        turn();
    assert_int_equal(send(w.detached, "mine", 4, 0), 4);
    has(get(fd, "mine"), "mine");
    close(w.detached);
    close(fd);
}

/* Beyond the bound a connection waits in the socket's queue until another one ends. */
static void test_connection_bound(void **state) {
    (void)state;
    char dir[] = "/tmp/kontor-http-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s/s", dir);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(listener, 16), 0);
    w.limits.connections = 2;
    serve(listener);
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&addr, sizeof addr), 0);
        put(fds[i], "GET /hello" H "\r\n", strlen("GET /hello" H "\r\n"));
    }
    for (int i = 0; i < 50; i++)
        turn();
    assert_int_equal(kt_http_connections(w.server), 2);
    assert_int_equal(w.requests, 2);
    close(fds[0]);
    close(fds[1]);
    has(get(fds[2], "hello"), " 200 ");
    has(get(fds[3], "hello"), " 200 ");
    close(fds[2]);
    close(fds[3]);
    unlink(addr.sun_path);
    rmdir(dir);
}

static void test_not_a_socket(void **state) {
    (void)state;
    struct kt_error err;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_null(kt_http_server_new(&w.loop, fd, NULL, &handler, &w, &err));
    assert_int_equal(err.code, KT_INVALID_ARGUMENT);
    serve(-1);
}

static void test_header_lines(void **state) {
    (void)state;
    struct kt_buf lines = KT_BUF_INIT;
    assert_int_equal(kt_http_line(&lines, "A", 1, "b\r\nC: d", 7, NULL), -KT_INVALID_ARGUMENT);
    assert_int_equal(kt_http_line(&lines, "A b", 3, "c", 1, NULL), -KT_INVALID_ARGUMENT);
    assert_int_equal(kt_http_line(&lines, "", 0, "c", 1, NULL), -KT_INVALID_ARGUMENT);
    assert_int_equal(kt_http_line(&lines, "Content-Length", 14, "1", 1, NULL),
                     -KT_INVALID_ARGUMENT);
    assert_int_equal(lines.len, 0);
    assert_int_equal(kt_http_line(&lines, "A", 1, "\tb c", 4, NULL), 0);
    assert_int_equal(lines.len, 9);
    kt_buf_free(&lines);
    serve(-1);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_keep_alive),
        T(test_http10),
        T(test_head_and_no_content),
        T(test_pipelining),
        T(test_bodies),
        T(test_bad_body),
        T(test_unread_bodies),
        T(test_refusals),
        T(test_slow_clients),
        T(test_slow_reader_is_cut),
        T(test_back_pressure),
        T(test_pipelining_without_reading),
        T(test_client_goes_away),
        T(test_short_answer_is_cut),
        T(test_drain),
        T(test_free_with_open_requests),
        T(test_detach),
        T(test_connection_bound),
        T(test_not_a_socket),
        T(test_header_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
