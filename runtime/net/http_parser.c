/* The parser driver: a line scanner for the head, llhttp for the grammar, and the rules of RFC 9112
 * that decide where a request ends. */
#include "net/http_parser.h"

#include <string.h>
#include <strings.h>

enum { METHOD_MAX = 32, BLANK_LINES_MAX = 2 };

static int on_url(llhttp_t *l, const char *at, size_t n) {
    struct kt_http_parser *p = l->data;
    p->target = (struct kt_http_span){at, n};
    return 0;
}

static int on_field(llhttp_t *l, const char *at, size_t n) {
    struct kt_http_parser *p = l->data;
    if (p->field_count == KT_HTTP_FIELDS_MAX)
        return HPE_USER;
    struct kt_http_field *f = &p->fields[p->field_count++];
    *f = (struct kt_http_field){.name = (uint16_t)(at - p->head.data), .name_len = (uint16_t)n};
    for (size_t i = 0; i < n; i++) {
        char *c = &p->head.data[f->name + i];
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c + ('a' - 'A'));
    }
    return 0;
}

static int on_value(llhttp_t *l, const char *at, size_t n) {
    struct kt_http_parser *p = l->data;
    struct kt_http_field *f = &p->fields[p->field_count - 1];
    if (f->value == 0)
        f->value = (uint16_t)(at - p->head.data);
    size_t end = (size_t)(at + n - p->head.data);
    while (end > f->value && (p->head.data[end - 1] == ' ' || p->head.data[end - 1] == '\t'))
        end--;
    f->value_len = (uint16_t)(end - f->value);
    return 0;
}

static int on_extension(llhttp_t *l, const char *at, size_t n) {
    struct kt_http_parser *p = l->data;
    (void)at;
    p->extras += n;
    return p->extras > p->headers_max ? HPE_USER : 0;
}

/* A request with a body stops here until someone wants the body. Upgrades are ours to decide, so
 * llhttp must not leave HTTP by itself. */
static int on_headers_complete(llhttp_t *l) {
    l->upgrade = 0;
    return (l->flags & F_CHUNKED) || l->content_length > 0 ? HPE_PAUSED : 0;
}

/* Behind the last chunk come trailers, which llhttp reads as loosely as it reads a head. */
static int on_chunk_header(llhttp_t *l) {
    struct kt_http_parser *p = l->data;
    p->in_trailers = l->content_length == 0;
    return p->in_trailers ? HPE_PAUSED : 0;
}

static int on_body(llhttp_t *l, const char *at, size_t n) {
    struct kt_http_parser *p = l->data;
    kt_buf_add(p->body_out, at, n);
    return p->body_out->failed ? HPE_USER : 0;
}

static int on_message_complete(llhttp_t *l) {
    struct kt_http_parser *p = l->data;
    p->body_done = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_chunk_extension_name = on_extension,
    .on_chunk_extension_value = on_extension,
    .on_chunk_header = on_chunk_header,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

void kt_http_parser_init(struct kt_http_parser *p, size_t target_max, size_t headers_max) {
    memset(p, 0, sizeof *p);
    p->target_max = target_max;
    p->headers_max = headers_max;
    kt_http_parser_reset(p);
}

void kt_http_parser_free(struct kt_http_parser *p) {
    kt_buf_free(&p->head);
}

void kt_http_parser_reset(struct kt_http_parser *p) {
    if (p->head.cap > 4096)
        kt_buf_free(&p->head);
    else
        kt_buf_clear(&p->head);
    /* All that follows the bounds, the buffer and the field table (which field_count guards). */
    memset(&p->field_count, 0, sizeof *p - offsetof(struct kt_http_parser, field_count));
    llhttp_init(&p->llhttp, HTTP_REQUEST, &settings);
    p->llhttp.data = p;
}

static int refuse(struct kt_http_parser *p, struct kt_error *err, enum kt_code code,
                  const char *what) {
    p->failed = true;
    return kt_fail(err, code, "%s", what);
}

#define MALFORMED(what) refuse(p, err, KT_MALFORMED_REQUEST, what)

/* One byte of the head. Returns 1 when the head is complete, 0 to go on, or a refusal. llhttp takes
 * a bare LF, a folded line and a NUL in some places; every one of them has been used to smuggle. */
static int scan(struct kt_http_parser *p, unsigned char c, struct kt_error *err) {
    size_t column = p->head.len - p->line_start; /* of c, which is not yet appended */
    bool request_line = p->first_line == 0;
    if (c == '\n') {
        if (!p->after_cr)
            return MALFORMED("a line ends with a bare LF");
        p->after_cr = false;
        if (column == 1) { /* an empty line */
            if (!request_line)
                return 1;
            if (++p->blank_lines > BLANK_LINES_MAX)
                return MALFORMED("empty lines before the request line");
            kt_buf_clear(&p->head);
            return 0;
        }
        if (!request_line && !p->in_value)
            return MALFORMED("a header line has no colon");
        p->line_start = p->head.len + 1;
        p->in_value = false;
        if (request_line)
            p->first_line = p->line_start;
        return 0;
    }
    if (p->after_cr)
        return MALFORMED("CR without LF");
    if (c == '\r') {
        p->after_cr = true;
        return 0;
    }
    if ((c < 0x20 && c != '\t') || c == 0x7f)
        return MALFORMED("a control character in the head");
    if (request_line) {
        if (column == METHOD_MAX && memchr(p->head.data + p->line_start, ' ', column) == NULL)
            return MALFORMED("the method is unknown");
        if (column > p->target_max + METHOD_MAX + sizeof " HTTP/1.1")
            return refuse(p, err, KT_URI_TOO_LONG, "the request target is too long");
        return 0;
    }
    if (!p->in_value) {
        if (c == ' ' || c == '\t')
            return MALFORMED(column == 0 ? "a folded header line"
                                         : "white space before the colon of a header");
        if (c == ':' && column == 0)
            return MALFORMED("a header without a name");
        if (c == ':')
            p->in_value = true;
    }
    if (p->head.len - p->first_line >= p->headers_max)
        return refuse(p, err, KT_HEADERS_TOO_LARGE, "the header fields are too large");
    return 0;
}

static bool equals(struct kt_http_span s, const char *text) {
    return s.len == strlen(text) && strncasecmp(s.data, text, s.len) == 0;
}

/* The values of every field `name` together: how many, and whether `token` is in their lists. */
static int list_has(const struct kt_http_parser *p, const char *name, const char *token,
                    bool *found) {
    int count = 0;
    *found = false;
    for (int i = 0; i < p->field_count; i++) {
        const struct kt_http_field *f = &p->fields[i];
        if (f->name_len != strlen(name) || memcmp(p->head.data + f->name, name, f->name_len) != 0)
            continue;
        count++;
        const char *at = p->head.data + f->value, *end = at + f->value_len;
        while (at < end) {
            const char *comma = memchr(at, ',', (size_t)(end - at));
            const char *stop = comma ? comma : end;
            while (at < stop && (*at == ' ' || *at == '\t'))
                at++;
            const char *last = stop;
            while (last > at && (last[-1] == ' ' || last[-1] == '\t'))
                last--;
            if (equals((struct kt_http_span){at, (size_t)(last - at)}, token))
                *found = true;
            at = stop + 1;
        }
    }
    return count;
}

static bool host_ok(struct kt_http_span host) {
    static const char others[] = "-._~%!$&'()*+,;=:[]";
    for (size_t i = 0; i < host.len; i++) {
        char c = host.data[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && strchr(others, c) == NULL)
            return false;
    }
    return host.len > 0;
}

static struct kt_http_field *find_nth(struct kt_http_parser *p, const char *name, int nth) {
    size_t len = strlen(name);
    for (int i = 0; i < p->field_count; i++) {
        struct kt_http_field *f = &p->fields[i];
        if (f->name_len == len && memcmp(p->head.data + f->name, name, len) == 0 && nth-- == 0)
            return f;
    }
    return NULL;
}

static int check_target(struct kt_http_parser *p, struct kt_http_field *host,
                        struct kt_error *err) {
    struct kt_http_span t = p->target;
    if ((size_t)(t.data - p->head.data) != strlen(p->method) + 1)
        return MALFORMED("more than one space before the request target");
    if (t.len > p->target_max)
        return refuse(p, err, KT_URI_TOO_LONG, "the request target is too long");
    for (size_t i = 0; i < t.len; i++) {
        unsigned char c = (unsigned char)t.data[i];
        if (c <= 0x20 || c >= 0x7f || c == '#')
            return MALFORMED("a character in the request target that must be percent-encoded");
    }
    size_t scheme = t.len > 7 && strncasecmp(t.data, "http://", 7) == 0    ? 7
                    : t.len > 8 && strncasecmp(t.data, "https://", 8) == 0 ? 8
                                                                           : 0;
    if (scheme > 0) { /* RFC 9112 3.2.2: the target's authority replaces Host */
        const char *start = t.data + scheme, *end = t.data + t.len, *stop = start;
        while (stop < end && *stop != '/' && *stop != '?')
            stop++;
        if (host != NULL) {
            host->value = (uint16_t)(start - p->head.data);
            host->value_len = (uint16_t)(stop - start);
        }
        t = (struct kt_http_span){stop, (size_t)(end - stop)};
    }
    if (equals(t, "*") && strcmp(p->method, "OPTIONS") == 0) {
        p->path = t;
        return 0;
    }
    if (t.len == 0 || t.data[0] != '/')
        return MALFORMED("the request target is not a path");
    const char *mark = memchr(t.data, '?', t.len);
    size_t path_len = mark ? (size_t)(mark - t.data) : t.len;
    p->path = (struct kt_http_span){t.data, path_len};
    if (mark != NULL)
        p->query = (struct kt_http_span){mark + 1, t.len - path_len - 1};
    return 0;
}

static int check_length(struct kt_http_parser *p, struct kt_error *err) {
    struct kt_http_field *length = find_nth(p, "content-length", 0);
    bool chunked;
    int codings = list_has(p, "transfer-encoding", "chunked", &chunked);
    if (codings > 0) {
        struct kt_http_field *te = find_nth(p, "transfer-encoding", 0);
        if (p->minor == 0)
            return MALFORMED("Transfer-Encoding in an HTTP/1.0 request");
        if (length != NULL)
            return MALFORMED("both Content-Length and Transfer-Encoding");
        if (codings > 1 || !equals(kt_http_value(p, te), "chunked"))
            return MALFORMED("a Transfer-Encoding other than chunked");
        p->chunked = true;
        p->length = -1;
        return 0;
    }
    if (length != NULL) {
        struct kt_http_span v = kt_http_value(p, length);
        if (find_nth(p, "content-length", 1) != NULL)
            return MALFORMED("more than one Content-Length");
        if (v.len == 0 || v.len > 18)
            return MALFORMED("Content-Length is not a number");
        for (size_t i = 0; i < v.len; i++) {
            if (v.data[i] < '0' || v.data[i] > '9')
                return MALFORMED("Content-Length is not a number");
            p->length = p->length * 10 + (v.data[i] - '0');
        }
    } else if (p->minor == 0 && (strcmp(p->method, "POST") == 0 || strcmp(p->method, "PUT") == 0)) {
        return refuse(p, err, KT_LENGTH_REQUIRED, "an HTTP/1.0 body needs a Content-Length");
    }
    return 0;
}

static int check_head(struct kt_http_parser *p, struct kt_error *err) {
    if (p->llhttp.http_major != 1 || p->llhttp.http_minor > 1)
        return MALFORMED("the HTTP version is not 1.0 or 1.1");
    p->minor = p->llhttp.http_minor;
    p->method = llhttp_method_name((llhttp_method_t)p->llhttp.method);
    struct kt_http_field *host = find_nth(p, "host", 0);
    if (host == NULL && p->minor == 1)
        return MALFORMED("the Host header is missing");
    if (host != NULL && find_nth(p, "host", 1) != NULL)
        return MALFORMED("more than one Host header");
    if (host != NULL && !host_ok(kt_http_value(p, host)))
        return MALFORMED("the Host header is malformed");
    int rc = check_target(p, host, err);
    if (rc == 0)
        rc = check_length(p, err);
    if (rc != 0)
        return rc;
    if (host != NULL && !host_ok(kt_http_value(p, host)))
        return MALFORMED("the host of the request target is malformed");
    bool close, keep, upgrade, websocket;
    list_has(p, "connection", "close", &close);
    list_has(p, "connection", "keep-alive", &keep);
    list_has(p, "connection", "upgrade", &upgrade);
    list_has(p, "upgrade", "websocket", &websocket);
    list_has(p, "expect", "100-continue", &p->expect_continue);
    p->keep_alive = p->minor == 1 ? !close : keep && !close;
    p->wants_upgrade = upgrade && websocket;
    p->expect_continue = p->expect_continue && p->minor == 1;
    return 0;
}

ssize_t kt_http_parse_head(struct kt_http_parser *p, const char *data, size_t n,
                           struct kt_error *err) {
    for (size_t i = 0; i < n; i++) {
        size_t before = p->head.len;
        int rc = scan(p, (unsigned char)data[i], err);
        if (rc < 0)
            return rc;
        if (p->head.len < before)
            continue; /* an empty line before the request line was dropped */
        kt_buf_addc(&p->head, data[i]);
        if (p->head.failed)
            return refuse(p, err, KT_NO_MEMORY, "out of memory");
        if (rc == 0)
            continue;
        llhttp_errno_t e = llhttp_execute(&p->llhttp, p->head.data, p->head.len);
        if (e == HPE_USER)
            return refuse(p, err, KT_HEADERS_TOO_LARGE, "too many header fields");
        if (e != HPE_PAUSED)
            return MALFORMED(e == HPE_OK ? "the head ends nowhere"
                                         : llhttp_get_error_reason(&p->llhttp));
        if (llhttp_get_error_pos(&p->llhttp) != p->head.data + p->head.len)
            return MALFORMED("the head ends ambiguously");
        p->head_done = true;
        p->after_cr = p->in_value = false;
        rc = check_head(p, err);
        if (rc == 0 && p->body_done != (p->length == 0))
            rc = MALFORMED("the body's length is ambiguous");
        return rc < 0 ? rc : (ssize_t)i + 1;
    }
    return (ssize_t)n;
}

/* Trailers are read for their framing, else ignored. Returns as kt_http_parse_body. */
static ssize_t skip_trailers(struct kt_http_parser *p, const char *data, size_t n,
                             struct kt_error *err) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)data[i];
        if (++p->extras > p->headers_max)
            return MALFORMED("chunk extensions or trailers are too large");
        if (c == '\n') {
            if (!p->after_cr || (p->column > 0 && !p->in_value))
                return MALFORMED("a trailer line is malformed");
            if (p->column == 0) {
                p->body_done = true;
                return (ssize_t)i + 1;
            }
            p->column = 0;
            p->after_cr = p->in_value = false;
            continue;
        }
        if (p->after_cr || (c < 0x20 && c != '\t' && c != '\r') || c == 0x7f ||
            (!p->in_value && (c == ' ' || c == '\t')))
            return MALFORMED("a trailer line is malformed");
        if (c == '\r') {
            p->after_cr = true;
            continue;
        }
        p->in_value = p->in_value || (c == ':' && p->column > 0);
        p->column++;
    }
    return (ssize_t)n;
}

ssize_t kt_http_parse_body(struct kt_http_parser *p, const char *data, size_t n, struct kt_buf *out,
                           struct kt_error *err) {
    if (p->body_done || n == 0)
        return 0;
    if (p->failed)
        return MALFORMED("the body is malformed");
    if (p->in_trailers)
        return skip_trailers(p, data, n, err);
    llhttp_resume(&p->llhttp);
    p->body_out = out;
    llhttp_errno_t e = llhttp_execute(&p->llhttp, data, n);
    p->body_out = NULL;
    if (e == HPE_OK)
        return (ssize_t)n;
    if (e == HPE_PAUSED) {
        size_t used = (size_t)(llhttp_get_error_pos(&p->llhttp) - data);
        if (!p->in_trailers)
            return (ssize_t)used;
        ssize_t rest = skip_trailers(p, data + used, n - used, err);
        return rest < 0 ? rest : (ssize_t)used + rest;
    }
    if (out->failed)
        return refuse(p, err, KT_NO_MEMORY, "out of memory");
    return MALFORMED(e == HPE_USER ? "chunk extensions or trailers are too large"
                                   : llhttp_get_error_reason(&p->llhttp));
}

const struct kt_http_field *kt_http_find(const struct kt_http_parser *p, const char *name) {
    return find_nth((struct kt_http_parser *)p, name, 0);
}

struct kt_http_span kt_http_value(const struct kt_http_parser *p, const struct kt_http_field *f) {
    return (struct kt_http_span){p->head.data + f->value, f->value_len};
}
