/* The parser driver: what is accepted, what is refused and as what, whole and byte by byte. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/http_parser.h"

#define HOST "Host: a\r\n"

/* Feeds `text` in pieces of `step` bytes. Returns the code (0: complete), the body in *body and how
 * much of the text was not taken in *rest. */
static int feed(struct kt_http_parser *p, const char *text, size_t len, size_t step,
                struct kt_buf *body, size_t *rest, struct kt_error *err) {
    size_t at = 0;
    while (at < len) {
        size_t n = len - at < step ? len - at : step;
        ssize_t used = p->head_done ? kt_http_parse_body(p, text + at, n, body, err)
                                    : kt_http_parse_head(p, text + at, n, err);
        if (used < 0)
            return (int)-used;
        at += (size_t)used;
        if (p->head_done && p->body_done)
            break;
    }
    *rest = len - at;
    return 0;
}

static const struct {
    const char *text;
    enum kt_code code; /* KT_OK: complete */
} cases[] = {
    {"GET / HTTP/1.1\r\n" HOST "\r\n", KT_OK},
    {"\r\nGET / HTTP/1.1\r\n" HOST "\r\n", KT_OK},
    {"GET / HTTP/1.0\r\n\r\n", KT_OK},
    {"GET http://b:80/x?y HTTP/1.1\r\n" HOST "\r\n", KT_OK},
    {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", KT_OK},
    {"POST / HTTP/1.1\r\n" HOST "\r\n", KT_OK},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", KT_OK},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", KT_OK},
    {"DELETE / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx", KT_OK},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", KT_OK},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
     KT_OK},
    {"GET / HTTP/1.1\r\n" HOST "X-A: 1\r\nX-Forwarded: \r\nA:\r\n\r\n", KT_OK},
    {"GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", KT_OK},
    {"PUT / HTTP/1.0\r\n\r\n", KT_LENGTH_REQUIRED},
    {"GET / HTTP/1.1\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\nHost: a\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\n" HOST "\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\n" HOST "A: b\rC: d\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\n" HOST "A: \001\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\n" HOST "A\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\n" HOST ": b\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\n" HOST "A\xff: b\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/2.0\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.2\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/0.9\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET /\r\n\r\n", KT_MALFORMED_REQUEST},
    {"GET  / HTTP/1.1\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET / HTTP/1.1 \r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET /a b HTTP/1.1\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET /#x HTTP/1.1\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET a HTTP/1.1\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET * HTTP/1.1\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET http:// HTTP/1.1\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"GET http://u@h@/ HTTP/1.1\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"CONNECT a:1 HTTP/1.1\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"BREW / HTTP/1.1\r\n" HOST "\r\n", KT_MALFORMED_REQUEST},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", KT_MALFORMED_REQUEST},
    {"\x16\x03\x01", KT_MALFORMED_REQUEST},
    {"\r\n\r\n\r\n\r\n", KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\nx", KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\nx", KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\nx", KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n\r\nx", KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\nx", KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\nx",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1 1\r\n\r\nx", KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n0\r\n\r\n", KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST
     "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n-1\r\n", KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3;a=b\nabc\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3;a\rbc\r\nabc\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST
     "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n",
     KT_MALFORMED_REQUEST},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\n", KT_MALFORMED_REQUEST},
};

static void test_cases(void **state) {
    (void)state;
    static const size_t steps[] = {1, 7, 1 << 20};
    int failures = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
            struct kt_http_parser p;
            struct kt_buf body = KT_BUF_INIT;
            struct kt_error err = {.code = KT_OK};
            size_t rest = 0;
            kt_http_parser_init(&p, 8192, 16384);
            int code = feed(&p, cases[i].text, strlen(cases[i].text), steps[s], &body, &rest, &err);
            bool complete = p.head_done && p.body_done && rest == 0;
            if (code != (int)cases[i].code || (code == 0 && !complete))
                failures++,
                    print_error(
                        "case %zu step %zu: %s %s, expected %s; complete %d, rest %zu\n%s\n", i,
                        steps[s], kt_code_name((enum kt_code)code), code ? err.message : "",
                        kt_code_name(cases[i].code), complete, rest, cases[i].text);
            kt_buf_free(&body);
            kt_http_parser_free(&p);
        }
    }
    assert_int_equal(failures, 0);
}

/* Whatever the bytes are, how they are cut must not change what is made of them: two readers that
 * disagree about the end of a request are how requests are smuggled. Deterministic mutations of the
 * cases above: bytes changed, removed, doubled, and two cases spliced. */
static uint32_t next_random(uint32_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static size_t mutate(char *out, size_t size, uint32_t *seed) {
    static const char interesting[] = "\r\n\t :,;0123456789abcdefx-+\0\x7f\xff";
    size_t count = sizeof cases / sizeof *cases;
    const char *a = cases[next_random(seed) % count].text,
               *b = cases[next_random(seed) % count].text;
    size_t len = strlen(a);
    memcpy(out, a, len);
    if (next_random(seed) % 3 == 0) { /* the head of one and the tail of another */
        size_t keep = next_random(seed) % (len + 1), from = next_random(seed) % strlen(b);
        len = keep + strlen(b) - from;
        memcpy(out + keep, b + from, len - keep);
    }
    for (uint32_t n = next_random(seed) % 4; n > 0 && len > 1 && len < size - 1; n--) {
        size_t at = next_random(seed) % len;
        switch (next_random(seed) % 3) {
        case 0:
            out[at] = interesting[next_random(seed) % (sizeof interesting - 1)];
            break;
        case 1:
            memmove(out + at, out + at + 1, --len - at);
            break;
        default:
            memmove(out + at + 1, out + at, len++ - at);
            break;
        }
    }
    return len;
}

static void test_cuts_do_not_matter(void **state) {
    (void)state;
    uint32_t seed = 2463534242u;
    int accepted = 0, refused = 0;
    for (int round = 0; round < 20000; round++) {
        char text[1024];
        size_t len = mutate(text, sizeof text, &seed);
        size_t steps[] = {len + 1, 1, 1 + next_random(&seed) % 9};
        struct kt_buf bodies[3] = {KT_BUF_INIT, KT_BUF_INIT, KT_BUF_INIT};
        int codes[3];
        size_t rests[3] = {0, 0, 0};
        bool done[3];
        for (int i = 0; i < 3; i++) {
            struct kt_http_parser p;
            struct kt_error err;
            kt_http_parser_init(&p, 100, 200);
            codes[i] = feed(&p, text, len, steps[i], &bodies[i], &rests[i], &err);
            done[i] = p.head_done && p.body_done;
            kt_http_parser_free(&p);
        }
        accepted += codes[0] == 0 && done[0];
        refused += codes[0] != 0;
        for (int i = 1; i < 3; i++) {
            bool same = codes[i] == codes[0] && done[i] == done[0];
            if (codes[0] == 0)
                same = same && rests[i] == rests[0] && bodies[i].len == bodies[0].len &&
                       (bodies[0].len == 0 ||
                        memcmp(bodies[i].data, bodies[0].data, bodies[0].len) == 0);
            if (!same)
                fail_msg("round %d, pieces of %zu: %s, done %d, rest %zu; whole: %s, done %d, rest "
                         "%zu\n%.*s",
                         round, steps[i], kt_code_name((enum kt_code)codes[i]), done[i], rests[i],
                         kt_code_name((enum kt_code)codes[0]), done[0], rests[0], (int)len, text);
        }
        for (int i = 0; i < 3; i++)
            kt_buf_free(&bodies[i]);
    }
    assert_true(accepted > 1000 && refused > 1000);
}

static void test_nul(void **state) {
    (void)state;
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n";
    struct kt_http_parser p;
    struct kt_error err;
    kt_http_parser_init(&p, 8192, 16384);
    assert_int_equal(kt_http_parse_head(&p, text, sizeof text - 1, &err), -KT_MALFORMED_REQUEST);
    kt_http_parser_free(&p);
}

static void expect_span(struct kt_http_span s, const char *text) {
    assert_int_equal(s.len, strlen(text));
    assert_memory_equal(s.data, text, s.len);
}

static void test_fields(void **state) {
    (void)state;
    static const char text[] = "PATCH /a%2Fb//c?x=1?y HTTP/1.1\r\nHOST: h:8\r\n"
                               "X-Two:\t a \t b \t\r\nx-two: c\r\nExpect: 100-Continue\r\n"
                               "Connection: x, close\r\nContent-Length: 05\r\n\r\nabcdeGET";
    struct kt_http_parser p;
    struct kt_error err;
    struct kt_buf body = KT_BUF_INIT;
    size_t rest = 0;
    kt_http_parser_init(&p, 8192, 16384);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(feed(&p, text, sizeof text - 1, round == 1 ? 1 : 1000, &body, &rest, &err),
                         0);
        assert_int_equal(rest, 3);
        assert_string_equal(p.method, "PATCH");
        expect_span(p.target, "/a%2Fb//c?x=1?y");
        expect_span(p.path, "/a%2Fb//c");
        expect_span(p.query, "x=1?y");
        assert_int_equal(p.field_count, 6);
        expect_span(kt_http_value(&p, kt_http_find(&p, "host")), "h:8");
        expect_span(kt_http_value(&p, kt_http_find(&p, "x-two")), "a \t b");
        assert_null(kt_http_find(&p, "x-tw"));
        assert_true(p.expect_continue);
        assert_false(p.keep_alive);
        assert_false(p.wants_upgrade);
        assert_int_equal(p.length, 5);
        assert_int_equal(body.len, 5);
        assert_memory_equal(body.data, "abcde", 5);
        kt_buf_clear(&body);
        kt_http_parser_reset(&p);
    }
    kt_buf_free(&body);
    kt_http_parser_free(&p);
}

static void test_absolute_form_replaces_host(void **state) {
    (void)state;
    static const char text[] = "GET http://other:81/p?q HTTP/1.1\r\nHost: h\r\n\r\n";
    struct kt_http_parser p;
    struct kt_error err;
    kt_http_parser_init(&p, 8192, 16384);
    assert_int_equal(kt_http_parse_head(&p, text, sizeof text - 1, &err), sizeof text - 1);
    expect_span(kt_http_value(&p, kt_http_find(&p, "host")), "other:81");
    expect_span(p.path, "/p");
    expect_span(p.query, "q");
    kt_http_parser_free(&p);
}

/* Bounds, each at the last size that passes and the first that does not. */
static int with_sizes(size_t target, size_t value, int fields) {
    struct kt_buf text = KT_BUF_INIT;
    kt_buf_adds(&text, "GET /");
    for (size_t i = 1; i < target; i++)
        kt_buf_addc(&text, 'a');
    kt_buf_adds(&text, " HTTP/1.1\r\nHost: a\r\n");
    for (int i = 1; i < fields; i++)
        kt_buf_adds(&text, "A: b\r\n");
    if (value > 0) {
        kt_buf_adds(&text, "V: ");
        for (size_t i = 0; i < value; i++)
            kt_buf_addc(&text, 'v');
        kt_buf_adds(&text, "\r\n");
    }
    kt_buf_adds(&text, "\r\n");
    struct kt_http_parser p;
    struct kt_error err;
    kt_http_parser_init(&p, 8192, 16384);
    ssize_t used = kt_http_parse_head(&p, text.data, text.len, &err);
    bool done = p.head_done;
    kt_http_parser_free(&p);
    kt_buf_free(&text);
    assert_true(used < 0 || done);
    return used < 0 ? (int)-used : 0;
}

static void test_bounds(void **state) {
    (void)state;
    assert_int_equal(with_sizes(8192, 0, 1), 0);
    assert_int_equal(with_sizes(8193, 0, 1), KT_URI_TOO_LONG);
    assert_int_equal(with_sizes(100000, 0, 1), KT_URI_TOO_LONG);
    assert_int_equal(with_sizes(1, 5000, 1), 0);
    assert_int_equal(with_sizes(1, 16384 - 9 - 3, 1), 0);
    assert_int_equal(with_sizes(1, 16384 - 9 - 3 + 1, 1), KT_HEADERS_TOO_LARGE);
    assert_int_equal(with_sizes(8192, 16384 - 9 - 3, 1), 0);
    assert_int_equal(with_sizes(1, 0, 100), 0);
    assert_int_equal(with_sizes(1, 0, 101), KT_HEADERS_TOO_LARGE);
}

static void test_trailers_and_extensions_are_bounded(void **state) {
    (void)state;
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const char *const pieces[] = {"1;a=bbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\nx\r\n",
                                         "Trailer-Name: vvvvvvvvvvvvvvvvvvvvvv\r\n"};
    for (int i = 0; i < 2; i++) {
        struct kt_http_parser p;
        struct kt_error err;
        struct kt_buf body = KT_BUF_INIT;
        kt_http_parser_init(&p, 8192, 1024);
        assert_int_equal(kt_http_parse_head(&p, head, sizeof head - 1, &err), sizeof head - 1);
        if (i == 1)
            assert_int_equal(kt_http_parse_body(&p, "0\r\n", 3, &body, &err), 3);
        ssize_t used = 0;
        for (int n = 0; n < 100 && used >= 0; n++)
            used = kt_http_parse_body(&p, pieces[i], strlen(pieces[i]), &body, &err);
        assert_int_equal(used, -KT_MALFORMED_REQUEST);
        kt_buf_free(&body);
        kt_http_parser_free(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_cuts_do_not_matter),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_absolute_form_replaces_host),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_trailers_and_extensions_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
