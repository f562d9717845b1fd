/* CSV and NDJSON: what is read, what is refused, and that pieces of any size give the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "table/raw.h"
#include "table/rows.h"
#include "table/text.h"

static int seen_column(void *ud, int index, const char *name, size_t n) {
    struct kt_buf *b = ud;
    (void)index;
    kt_buf_addf(b, "<%.*s>", (int)n, name);
    return 0;
}

static int seen_row(void *ud, long long line, const struct kt_slice *cells, int n) {
    struct kt_buf *b = ud;
    kt_buf_addf(b, "\n%lld:", line);
    for (int i = 0; i < n; i++) {
        if (cells[i].p == NULL)
            kt_buf_adds(b, "~|");
        else {
            kt_buf_add(b, cells[i].p, cells[i].n);
            kt_buf_addc(b, '|');
        }
    }
    return 0;
}

/* All that is seen of a text fed in pieces of `step` bytes, errors at the end. */
static char *read_in_steps(enum kt_format format, const char *text, size_t n, size_t step) {
    struct kt_buf b = KT_BUF_INIT;
    struct kt_cell_errors *errors = calloc(1, sizeof(*errors));
    struct kt_row_sink sink = {seen_column, seen_row, &b};
    struct kt_rows *r = kt_rows_new(format, &sink, errors);
    struct kt_error err = {0};
    int rc = 0;
    for (size_t at = 0; at < n && rc == 0; at += step) {
        /* A copy of exactly the bytes, so that reading beyond them is seen. */
        size_t m = n - at < step ? n - at : step;
        char *piece = malloc(m);
        memcpy(piece, text + at, m);
        rc = kt_rows_feed(r, piece, m, &err);
        free(piece);
    }
    if (rc == 0)
        rc = kt_rows_finish(r, &err);
    if (rc != 0)
        kt_buf_addf(&b, "\nFATAL %s: %s", kt_code_name(err.code), err.message);
    for (int i = 0; i < errors->count; i++)
        kt_buf_addf(&b, "\n! %lld %s %s", errors->list[i].line,
                    errors->list[i].column == NULL ? "-" : errors->list[i].column,
                    errors->list[i].code);
    kt_rows_free(r);
    kt_cell_errors_clear(errors);
    free(errors);
    char *out = strdup(kt_buf_cstr(&b));
    kt_buf_free(&b);
    return out;
}

static void expect_n(enum kt_format format, const char *text, size_t n, const char *want) {
    static const size_t steps[] = {1, 2, 3, 7, 1000000};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        char *got = read_in_steps(format, text, n, steps[i]);
        if (strncmp(got, want, strlen(want)) != 0 ||
            (strstr(want, "FATAL") == NULL && strcmp(got, want) != 0))
            fail_msg("in steps of %zu:\n%s\nwanted:\n%s", steps[i], got, want);
        free(got);
    }
}
#define CSV(text, want) expect_n(KT_CSV, text, sizeof(text) - 1, want)
#define NDJSON(text, want) expect_n(KT_NDJSON, text, sizeof(text) - 1, want)

static void reads_csv(void **state) {
    (void)state;
    CSV("a,b\n1,2\n", "<a><b>\n2:1|2|");
    CSV("a,b\n1,2", "<a><b>\n2:1|2|");
    CSV("a,b\r\n1,2\r\n,\r\n", "<a><b>\n2:1|2|\n3:~|~|");
    CSV("\xef\xbb\xbf"
        "a,b\n1,2\n",
        "<a><b>\n2:1|2|");
    CSV("a,b\n\"1\",\"x, \"\"y\"\"\"\n", "<a><b>\n2:1|x, \"y\"|");
    CSV("a,b\r\n\"1\r\n2\",\"\"\r\n3,4\r\n", "<a><b>\n2:1\r\n2|~|\n4:3|4|");
    CSV("\"a\",\"b c\"\n1,2\n", "<a><b c>\n2:1|2|");
    CSV("a,b\n\n1,2\n\r\n3,4\n", "<a><b>\n3:1|2|\n5:3|4|");
    CSV("a\n1\n\n2\n", "<a>\n2:1|\n3:~|\n4:2|");
    CSV("a,b\n", "<a><b>");
    CSV("a,b", "<a><b>");
    CSV("a,b\n\"\"\"\",\"a\"\"\"\n", "<a><b>\n2:\"|a\"|");
}

static void names_what_is_wrong_with_csv(void **state) {
    (void)state;
    CSV("a,b\n1\n1,2,3\n4,5\n", "<a><b>\n4:4|5|\n! 2 - ragged_row\n! 3 - ragged_row");
    CSV("a,b\n1,x\"y\n\"1\"2,3\n4,5\n", "<a><b>\n4:4|5|\n! 2 b bad_quote\n! 3 a bad_quote");
    CSV("a,b\n\"x\ny\" z,1\n4,5\n", "<a><b>\n4:4|5|\n! 3 a bad_quote");
    CSV("", "\nFATAL data_rejected: there is no header line");
    CSV("a,a\n1,2\n", "<a>\nFATAL data_rejected: line 1: column \"a\" is there twice");
    CSV("a,\n1,2\n", "<a>\nFATAL data_rejected: line 1: column 2 has no name");
    CSV("a,b\n1,\"2\n3,4\n",
        "<a><b>\nFATAL data_rejected: line 2: a quote is opened and never closed");
    CSV("\xff\xfe"
        "a\0,\0",
        "\nFATAL data_rejected: the file is UTF-16");
    CSV("a,\xc3\x28\n", "<a>\nFATAL data_rejected: line 1: the name of column 2 is not text");
    CSV("a,b\0c\n",
        "<a>\nFATAL data_rejected: line 1: the name of column 2 is not text (nul_byte)");
    CSV("a,x\"y\n", "\nFATAL data_rejected: line 1: a quote inside the name of column 2");
}

static void reads_ndjson(void **state) {
    (void)state;
    NDJSON("{\"a\":1.10,\"b\":\"x\"}\n{\"b\":null,\"c\":true}\n\n{}\n",
           "<a><b>\n1:1.10|x|<c>\n2:~|~|true|\n4:~|~|~|");
    NDJSON(" { \"a\" : -1e5 , \"b\" : \"\\u00e9\\ud83d\\ude00\\n\\\"\" } \r\n",
           "<a><b>\n1:-1e5|\xc3\xa9\xf0\x9f\x98\x80\n\"|");
    /* Beyond what a double holds: the digits come through as they are. */
    NDJSON("{\"a\":12345678901234567890.123456789012345678}",
           "<a>\n1:12345678901234567890.123456789012345678|");
}

static void names_what_is_wrong_with_ndjson(void **state) {
    (void)state;
    NDJSON("{\"a\":1}\nnope\n{\"a\":01}\n{\"a\":1,}\n{\"a\":1,\"a\":2}\n{\"a\":1}x\n{\"a\":"
           "\"\\ud800\"}\n{\"a\":2}\n",
           "<a>\n1:1|\n8:2|\n! 2 - bad_json\n! 3 - bad_json\n! 4 - bad_json\n! 5 - bad_json\n! 6 - "
           "bad_json\n! 7 - bad_json");
    NDJSON("{\"a\":{\"x\":[1,\"]\"]},\"b\":2}\n", "<a><b>\n1:~|2|\n! 1 a not_flat");
    NDJSON("[1]\n", "\nFATAL data_rejected: line 1: an object is wanted");
    NDJSON("\n\n", "\nFATAL data_rejected: there is no JSON object");
    NDJSON("{\"a\":1}\n{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
           "[[[[[[[\n",
           "<a>\n1:1|\n! 2 - bad_json");
}

/* What costs without end elsewhere must end soon here, whatever follows. */
static void bounds_what_one_line_costs(void **state) {
    (void)state;
    struct kt_buf text = KT_BUF_INIT;
    for (int i = 0; i < 1000000; i++)
        kt_buf_addc(&text, ',');
    char *got = read_in_steps(KT_CSV, text.data, text.len, 65536);
    assert_non_null(strstr(got, "FATAL data_rejected: line 1: more than 1024 columns"));
    free(got);
    kt_buf_clear(&text);
    kt_buf_adds(&text, "a,b\n");
    for (int i = 0; i < 1000000; i++)
        kt_buf_addc(&text, ',');
    kt_buf_adds(&text, "\n1,2\n");
    got = read_in_steps(KT_CSV, text.data, text.len, 65536);
    assert_string_equal(got, "<a><b>\n3:1|2|\n! 2 - ragged_row");
    free(got);
    kt_buf_clear(&text);
    kt_buf_adds(&text, "a\n\"");
    for (int i = 0; i < 3000000; i++)
        kt_buf_addc(&text, 'x');
    for (int format = KT_CSV; format <= KT_NDJSON; format++) {
        if (format == KT_NDJSON)
            memcpy(text.data, "{\"a", 3);
        got = read_in_steps(format, text.data, text.len, 65536);
        assert_non_null(strstr(got, "is longer than 1048576 bytes"));
        free(got);
    }
    kt_buf_free(&text);
}

/* Text made of what the readers look at, in all orders: nothing crashes, pieces do not matter. */
static void takes_any_bytes(void **state) {
    (void)state;
    static const char *const parts[] = {
        "a", ",",       "\n", "\r",  "\"",   "\"\"", "{",        "}", ":",           "[",
        "]", "\\u00e9", "\\", "1.5", "true", "\xc3", "\xc3\xa9", " ", "{\"a\":1}\n", "\"a\":"};
    uint64_t seed = 42;
    for (int round = 0; round < 3000; round++) {
        struct kt_buf text = KT_BUF_INIT;
        kt_buf_adds(&text, round % 2 ? "a,b\n" : "{\"a\":1}\n");
        int n = 1 + round % 40;
        for (int i = 0; i < n; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            kt_buf_adds(&text, parts[(seed >> 33) % (sizeof(parts) / sizeof(parts[0]))]);
        }
        enum kt_format format = round % 2 ? KT_CSV : KT_NDJSON;
        char *whole = read_in_steps(format, text.data, text.len, text.len);
        for (size_t step = 1; step < 4; step++) {
            char *pieces = read_in_steps(format, text.data, text.len, step);
            assert_string_equal(whole, pieces);
            free(pieces);
        }
        struct kt_error err;
        kt_raw_free(kt_raw_parse(text.data, text.len, format, &err));
        free(whole);
        kt_buf_free(&text);
    }
}

static void keeps_bad_cells_apart(void **state) {
    (void)state;
    static const char text[] = "a,b\nx,\xc3\x28\n\0y,ok\nx,\xc3\xa9\n";
    struct kt_error err;
    struct kt_raw *raw = kt_raw_parse(text, sizeof(text) - 1, KT_CSV, &err);
    assert_non_null(raw);
    assert_int_equal(raw->rows, 3);
    assert_int_equal(raw->errors.rejected, 2);
    assert_string_equal(raw->errors.list[0].code, "not_utf8");
    assert_int_equal(raw->errors.list[0].line, 2);
    assert_string_equal(raw->errors.list[0].column, "b");
    assert_string_equal(raw->errors.list[1].code, "nul_byte");
    assert_true(raw->column[1].codes[0] < 0 && raw->column[0].codes[0] >= 0);
    assert_int_equal(raw->column[0].codes[0], raw->column[0].codes[2]);
    assert_int_equal(kt_dict_count(raw->column[1].dict), 2);
    kt_raw_free(raw);
    assert_null(kt_raw_read("/nonexistent/x.csv", KT_CSV, &err));
    assert_int_equal(err.code, KT_NOT_FOUND);
    assert_null(kt_raw_read("/tmp", KT_CSV, &err));
}

static void checks_and_normalises_text(void **state) {
    (void)state;
    assert_null(kt_text_check("plain text, longer than eight", 29));
    assert_null(kt_text_check("\xf0\x9f\x98\x80", 4));
    static const char *const bad[] = {"\x80",         "\xc0\xaf",         "\xe0\x80\xaf",
                                      "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                                      "abcdefgh\xc3"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_string_equal(kt_text_check(bad[i], strlen(bad[i])), "not_utf8");
    assert_string_equal(kt_text_check("12345678\0", 9), "nul_byte");
    static const struct {
        const char *text, *norm;
    } cases[] = {{"r-0012/a", "R0012A"},
                 {"000123", "123"},
                 {"0", ""},
                 {" - ", ""},
                 {"\xc3\xa9t\xc3\xa9", "\xc3\x89T\xc3\x89"},
                 {"\xe2\x80\x93"
                  "1",
                  "1"},
                 {"A1", "A1"},
                 {"\xd1\x8f", "\xd0\xaf"},
                 {"\xce\xb1\xcf\x82", "\xce\x91\xce\xa3"},
                 {"00-0a", "A"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kt_buf b = KT_BUF_INIT;
        kt_text_norm(cases[i].text, strlen(cases[i].text), &b);
        assert_string_equal(kt_buf_cstr(&b), cases[i].norm);
        struct kt_buf again = KT_BUF_INIT;
        kt_text_norm(kt_buf_cstr(&b), b.len, &again);
        assert_string_equal(kt_buf_cstr(&again), cases[i].norm);
        kt_buf_free(&b);
        kt_buf_free(&again);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_csv),
        cmocka_unit_test(names_what_is_wrong_with_csv),
        cmocka_unit_test(reads_ndjson),
        cmocka_unit_test(names_what_is_wrong_with_ndjson),
        cmocka_unit_test(bounds_what_one_line_costs),
        cmocka_unit_test(takes_any_bytes),
        cmocka_unit_test(keeps_bad_cells_apart),
        cmocka_unit_test(checks_and_normalises_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
