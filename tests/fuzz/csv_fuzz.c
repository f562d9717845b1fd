/* CSV and NDJSON (first byte: which): the rows, errors and line numbers do not depend on the pieces;
 * a table that is read without an error, written again as CSV, is read as the same. */
#include "fuzz.h"

#include "core/buf.h"
#include "table/rows.h"

static int on_column(void *ud, int index, const char *name, size_t n) {
    kt_buf_addf(ud, "column %d %zu:", index, n);
    kt_buf_add(ud, name, n);
    return 0;
}

static int on_row(void *ud, long long line, const struct kt_slice *cells, int n) {
    kt_buf_addf(ud, "\nrow %lld:", line);
    for (int i = 0; i < n; i++) {
        kt_buf_addf(ud, " %d:", cells[i].p == NULL ? -1 : (int)cells[i].n);
        if (cells[i].p != NULL)
            kt_buf_add(ud, cells[i].p, cells[i].n);
    }
    return 0;
}

/* All that a reader is told, as text. Returns 0 or the fatal code. */
static int read_all(enum kt_format format, const char *data, size_t size, size_t step,
                    const struct kt_row_sink *more, struct kt_buf *out, bool *clean) {
    struct kt_cell_errors errors = {0};
    struct kt_row_sink sink = {on_column, on_row, out};
    struct kt_rows *rows = kt_rows_new(format, more != NULL ? more : &sink, &errors);
    struct kt_error err = {0};
    int rc = 0;
    for (size_t at = 0; at < size && rc == 0; at += step)
        rc = kt_rows_feed(rows, data + at, size - at < step ? size - at : step, &err);
    if (rc == 0)
        rc = kt_rows_finish(rows, &err);
    FUZZ_CHECK(rc <= 0, "code %d", rc);
    FUZZ_CHECK(errors.count <= KT_ROWS_ERRORS && errors.count <= errors.rejected, "%d errors of %lld",
               errors.count, errors.rejected);
    if (more == NULL) {
        kt_buf_addf(out, "\n%d %s %lld rows, %lld rejected", rc, rc != 0 ? err.message : "",
                    kt_rows_count(rows), errors.rejected);
        for (int i = 0; i < errors.count; i++)
            kt_buf_addf(out, "\n%lld %s %s %s", errors.list[i].line,
                        errors.list[i].column != NULL ? errors.list[i].column : "-",
                        errors.list[i].code, errors.list[i].message);
    }
    *clean = rc == 0 && errors.rejected == 0;
    kt_rows_free(rows);
    kt_cell_errors_clear(&errors);
    return rc;
}

static void quote(struct kt_buf *out, const char *s, size_t n) {
    kt_buf_addc(out, '"');
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '"')
            kt_buf_addc(out, '"');
        kt_buf_addc(out, s[i]);
    }
    kt_buf_addc(out, '"');
}

static int write_column(void *ud, int index, const char *name, size_t n) {
    struct kt_buf *csv = ud;
    if (index > 0)
        kt_buf_addc(csv, ',');
    quote(csv, name, n);
    return 0;
}

static int write_row(void *ud, long long line, const struct kt_slice *cells, int n) {
    struct kt_buf *csv = ud;
    (void)line;
    kt_buf_adds(csv, "\r\n");
    for (int i = 0; i < n; i++) {
        if (i > 0)
            kt_buf_addc(csv, ',');
        if (cells[i].p != NULL)
            quote(csv, cells[i].p, cells[i].n);
    }
    return 0;
}

/* Without the line numbers, which may differ. */
static int plain_row(void *ud, long long line, const struct kt_slice *cells, int n) {
    (void)line;
    return on_row(ud, 0, cells, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const size_t steps[] = {1, 3, 64};
    if (size == 0)
        return 0;
    enum kt_format format = bytes[0] & 1 ? KT_NDJSON : KT_CSV;
    const char *data = (const char *)bytes + 1;
    size--;
    struct kt_buf whole = {0};
    bool clean, again_clean;
    read_all(format, data, size, size + 1, NULL, &whole, &clean);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct kt_buf pieces = {0};
        read_all(format, data, size, steps[i], NULL, &pieces, &again_clean);
        FUZZ_CHECK(pieces.len == whole.len && memcmp(pieces.data, whole.data, whole.len) == 0,
                   "pieces of %zu: %.*s\nwhole: %.*s", steps[i], (int)pieces.len, pieces.data,
                   (int)whole.len, whole.data);
        kt_buf_free(&pieces);
    }
    if (clean && format == KT_CSV) {
        struct kt_buf csv = {0}, first = {0}, second = {0};
        struct kt_row_sink writing = {write_column, write_row, &csv};
        struct kt_row_sink telling = {on_column, plain_row, &first};
        read_all(KT_CSV, data, size, size + 1, &writing, NULL, &clean);
        kt_buf_adds(&csv, "\r\n");
        read_all(KT_CSV, data, size, size + 1, &telling, NULL, &clean);
        telling.ud = &second;
        read_all(KT_CSV, csv.data, csv.len, csv.len, &telling, NULL, &again_clean);
        /* A row of one empty cell is an empty line, which is no row in a table of more columns. */
        FUZZ_CHECK(again_clean && first.len == second.len &&
                       (first.len == 0 || memcmp(first.data, second.data, first.len) == 0),
                   "written again: %.*s\nread: %.*s\nwas: %.*s", (int)csv.len, csv.data,
                   (int)second.len, second.data, (int)first.len, first.data);
        kt_buf_free(&csv);
        kt_buf_free(&first);
        kt_buf_free(&second);
    }
    kt_buf_free(&whole);
    return 0;
}
