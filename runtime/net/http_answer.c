/* The response writer: status line, fields, framing; problem+json for refusals. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "net/http_conn.h"

static const struct {
    int status;
    const char *phrase;
} phrases[] = {{200, "OK"},
               {201, "Created"},
               {202, "Accepted"},
               {204, "No Content"},
               {301, "Moved Permanently"},
               {302, "Found"},
               {303, "See Other"},
               {304, "Not Modified"},
               {307, "Temporary Redirect"},
               {308, "Permanent Redirect"},
               {400, "Bad Request"},
               {401, "Unauthorized"},
               {403, "Forbidden"},
               {404, "Not Found"},
               {405, "Method Not Allowed"},
               {406, "Not Acceptable"},
               {408, "Request Timeout"},
               {409, "Conflict"},
               {410, "Gone"},
               {411, "Length Required"},
               {412, "Precondition Failed"},
               {413, "Content Too Large"},
               {414, "URI Too Long"},
               {415, "Unsupported Media Type"},
               {422, "Unprocessable Content"},
               {426, "Upgrade Required"},
               {428, "Precondition Required"},
               {429, "Too Many Requests"},
               {431, "Request Header Fields Too Large"},
               {500, "Internal Server Error"},
               {501, "Not Implemented"},
               {502, "Bad Gateway"},
               {503, "Service Unavailable"},
               {504, "Gateway Timeout"},
               {507, "Insufficient Storage"}};

static const char *phrase_of(int status) {
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (phrases[i].status == status)
            return phrases[i].phrase;
    return "Status";
}

static bool token(const char *s, size_t n) {
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == '\0' || strchr(others, c) == NULL))
            return false;
    }
    return n > 0;
}

int kt_http_line(struct kt_buf *lines, const char *name, size_t name_len, const char *value,
                 size_t value_len, struct kt_error *err) {
    static const char *const own[] = {"content-length", "transfer-encoding", "connection",
                                      "keep-alive",     "trailer",           "date",
                                      "x-request-id"};
    if (!token(name, name_len))
        return kt_fail(err, KT_INVALID_ARGUMENT, "not the name of a header field");
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strlen(own[i]) == name_len && strncasecmp(own[i], name, name_len) == 0)
            return kt_fail(err, KT_INVALID_ARGUMENT, "the server itself sends %s", own[i]);
    for (size_t i = 0; i < value_len; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return kt_fail(err, KT_INVALID_ARGUMENT, "a control character in the header %.*s",
                           (int)name_len, name);
    }
    kt_buf_add(lines, name, name_len);
    kt_buf_add(lines, ": ", 2);
    kt_buf_add(lines, value, value_len);
    kt_buf_add(lines, "\r\n", 2);
    return lines->failed ? kt_fail(err, KT_NO_MEMORY, "out of memory") : 0;
}

/* Whether the connection can serve another request after this answer. What is left of an unread
 * body is read and thrown away when it is small; a client that still waits for 100 Continue may
 * send its body or not, so that connection ends. */
static bool may_continue(const struct kt_conn *conn) {
    const struct kt_http_parser *p = &conn->parser;
    if (!conn->keep_alive || conn->server->draining || conn->server->freed ||
        conn->fault.code != KT_OK)
        return false;
    if (p->body_done)
        return true;
    if (p->expect_continue && !conn->sent_continue && !conn->got_body)
        return false;
    return p->chunked || p->llhttp.content_length <= KT_HTTP_DISCARD_MAX;
}

static int begin_answer(struct kt_conn *conn, int status, struct kt_error *err) {
    if (conn->state != KT_CONN_BUSY)
        return kt_fail(err, KT_CANCELLED, "the client went away");
    if (conn->started)
        return kt_fail(err, KT_INVALID_STATE, "the request is already answered");
    if (status < 200 || status > 599)
        return kt_fail(err, KT_INVALID_ARGUMENT, "%d is not the status of an answer", status);
    conn->started = true;
    conn->keep_alive = may_continue(conn);
    bool is_head = conn->parser.method != NULL && strcmp(conn->parser.method, "HEAD") == 0;
    conn->bodyless = is_head || status == 204 || status == 304;
    conn->chunked_out = false;
    conn->length_left = -1;
    return 0;
}

/* The head into the server's scratch buffer. length -1: not known. */
static struct kt_buf *compose(struct kt_conn *conn, int status, const struct kt_buf *lines,
                              int64_t length) {
    struct kt_buf *b = &conn->server->head_out;
    int minor = conn->parser.head_done ? conn->parser.minor : 1;
    kt_buf_clear(b);
    kt_buf_addf(b, "HTTP/1.1 %d %s\r\nDate: %s\r\nX-Request-Id: %s\r\n", status, phrase_of(status),
                kt_server_date(conn->server), conn->req.id);
    if (lines != NULL)
        kt_buf_add(b, lines->data, lines->len);
    if (length >= 0 && status != 204 && status != 304)
        kt_buf_addf(b, "Content-Length: %lld\r\n", (long long)length);
    if (length < 0 && status != 204 && status != 304) {
        if (minor == 1) {
            kt_buf_adds(b, "Transfer-Encoding: chunked\r\n");
            conn->chunked_out = !conn->bodyless;
        } else {
            conn->keep_alive = false;
        }
    }
    if (!conn->keep_alive)
        kt_buf_adds(b, "Connection: close\r\n");
    else if (minor == 0)
        kt_buf_adds(b, "Connection: keep-alive\r\n");
    kt_buf_adds(b, "\r\n");
    return b;
}

static uv_buf_t view(const char *data, size_t len) {
    return uv_buf_init((char *)data, (unsigned)len);
}

int kt_http_respond(struct kt_http_req *req, int status, const struct kt_buf *lines,
                    const char *body, size_t len, struct kt_error *err) {
    struct kt_conn *conn = kt_conn_of(req);
    if (len > UINT32_MAX / 2)
        return kt_fail(err, KT_INVALID_ARGUMENT, "an answer of this size must be streamed");
    int rc = begin_answer(conn, status, err);
    if (rc != 0)
        return rc;
    struct kt_buf *head = compose(conn, status, lines, (int64_t)len);
    if (head->failed)
        return kt_fail(err, KT_NO_MEMORY, "out of memory");
    uv_buf_t bufs[2] = {view(head->data, head->len), view(body, len)};
    kt_conn_send(conn, bufs, conn->bodyless || len == 0 ? 1 : 2);
    if (conn->state == KT_CONN_CLOSED)
        return kt_fail(err, KT_CANCELLED, "the client went away");
    kt_conn_answered(conn);
    return 0;
}

int kt_http_start(struct kt_http_req *req, int status, const struct kt_buf *lines, int64_t length,
                  struct kt_error *err) {
    struct kt_conn *conn = kt_conn_of(req);
    int rc = begin_answer(conn, status, err);
    if (rc != 0)
        return rc;
    conn->length_left = length;
    struct kt_buf *head = compose(conn, status, lines, length);
    if (head->failed)
        return kt_fail(err, KT_NO_MEMORY, "out of memory");
    uv_buf_t buf = view(head->data, head->len);
    kt_conn_send(conn, &buf, 1);
    return conn->state == KT_CONN_CLOSED ? kt_fail(err, KT_CANCELLED, "the client went away") : 0;
}

static int check_streaming(struct kt_conn *conn, struct kt_error *err) {
    if (conn->state != KT_CONN_BUSY)
        return kt_fail(err, KT_CANCELLED, "the client went away");
    if (!conn->started)
        return kt_fail(err, KT_INVALID_STATE, "the answer is not started");
    return 0;
}

int kt_http_write(struct kt_http_req *req, const char *data, size_t len, struct kt_error *err) {
    struct kt_conn *conn = kt_conn_of(req);
    int rc = check_streaming(conn, err);
    if (rc != 0)
        return rc;
    if (conn->length_left >= 0) {
        if ((uint64_t)conn->length_left < len)
            return kt_fail(err, KT_INVALID_STATE, "more bytes than the announced length");
        conn->length_left -= (int64_t)len;
    }
    if (len == 0 || conn->bodyless)
        return 0;
    if (conn->chunked_out) {
        char size[20];
        int n = snprintf(size, sizeof size, "%zx\r\n", len);
        uv_buf_t bufs[3] = {view(size, (size_t)n), view(data, len), view("\r\n", 2)};
        kt_conn_send(conn, bufs, 3);
    } else {
        uv_buf_t buf = view(data, len);
        kt_conn_send(conn, &buf, 1);
    }
    return conn->state == KT_CONN_CLOSED ? kt_fail(err, KT_CANCELLED, "the client went away") : 0;
}

int kt_http_finish(struct kt_http_req *req, struct kt_error *err) {
    struct kt_conn *conn = kt_conn_of(req);
    int rc = check_streaming(conn, err);
    if (rc != 0)
        return rc;
    if (conn->length_left > 0 && !conn->bodyless) {
        /* The client must not take what came for the whole. */
        kt_http_abort(req);
        return kt_fail(err, KT_INVALID_STATE, "fewer bytes than the announced length");
    }
    if (conn->chunked_out) {
        uv_buf_t buf = view("0\r\n\r\n", 5);
        kt_conn_send(conn, &buf, 1);
    }
    if (conn->state == KT_CONN_CLOSED)
        return kt_fail(err, KT_CANCELLED, "the client went away");
    kt_conn_answered(conn);
    return 0;
}

static void add_json_text(struct kt_buf *b, const char *s) {
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            kt_buf_addc(b, '\\');
            kt_buf_addc(b, (char)c);
        } else if (c < 0x20 || c >= 0x7f) {
            kt_buf_addf(b, "\\u%04x", c);
        } else {
            kt_buf_addc(b, (char)c);
        }
    }
}

int kt_http_problem(struct kt_http_req *req, const struct kt_error *problem) {
    struct kt_conn *conn = kt_conn_of(req);
    int status = kt_code_status(problem->code);
    const char *name = kt_code_name(problem->code);
    struct kt_buf body = KT_BUF_INIT, lines = KT_BUF_INIT;
    static const char type[] = "content-type", value[] = "application/problem+json";
    struct kt_error err;
    kt_buf_addf(&body, "{\"type\":\"urn:kontor:error:%s\",\"title\":\"%s\",\"status\":%d,", name,
                phrase_of(status), status);
    kt_buf_addf(&body, "\"code\":\"%s\",\"detail\":\"", name);
    add_json_text(&body, problem->message);
    kt_buf_addf(&body, "\",\"retryable\":%s,\"request_id\":\"%s\"}",
                kt_code_retryable(problem->code) ? "true" : "false", conn->req.id);
    int rc = kt_http_line(&lines, type, sizeof type - 1, value, sizeof value - 1, &err);
    if (rc == 0 && body.failed)
        rc = kt_fail(&err, KT_NO_MEMORY, "out of memory");
    if (rc == 0)
        rc = kt_http_respond(req, status, &lines, body.data, body.len, &err);
    kt_buf_free(&body);
    kt_buf_free(&lines);
    return rc;
}

void kt_conn_refuse(struct kt_conn *conn, const struct kt_error *problem) {
    conn->keep_alive = false;
    if (kt_http_problem(&conn->req, problem) != 0)
        kt_conn_close(conn, NULL);
}
