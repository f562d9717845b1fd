#include "table/rows.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table/rows_impl.h"

void kt_cell_errors_clear(struct kt_cell_errors *e) {
    for (int i = 0; i < e->count; i++)
        free(e->list[i].column);
    e->count = 0;
    e->rejected = 0;
}

void kt_cell_error_add(struct kt_cell_errors *e, long long line, const char *column, size_t n,
                       const char *code, const char *fmt, ...) {
    e->rejected++;
    if (e->count == KT_ROWS_ERRORS)
        return;
    struct kt_cell_error *x = &e->list[e->count++];
    x->line = line;
    x->code = code;
    x->column = column == NULL ? NULL : strndup(column, n);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(x->message, sizeof(x->message), fmt, ap);
    va_end(ap);
}

struct kt_rows *kt_rows_new(enum kt_format format, const struct kt_row_sink *sink,
                            struct kt_cell_errors *errors) {
    struct kt_rows *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return NULL;
    r->format = format;
    r->sink = *sink;
    r->errors = errors;
    r->line = 1;
    return r;
}

void kt_rows_free(struct kt_rows *r) {
    if (r == NULL)
        return;
    kt_buf_free(&r->carry);
    kt_buf_free(&r->names);
    kt_buf_free(&r->scratch);
    free(r);
}

long long kt_rows_count(const struct kt_rows *r) {
    return r->rows;
}
int kt_rows_columns(const struct kt_rows *r) {
    return r->columns;
}
const char *kt_rows_column(const struct kt_rows *r, int index) {
    return r->names.data + r->name_at[index];
}

int kt_rows_find_column(const struct kt_rows *r, const char *name, size_t n) {
    for (int i = 0; i < r->columns; i++) {
        if (r->name_len[i] == n && memcmp(r->names.data + r->name_at[i], name, n) == 0)
            return i;
    }
    return -1;
}

int kt_rows_add_column(struct kt_rows *r, const char *name, size_t n, struct kt_error *err) {
    if (r->columns == KT_ROWS_COLUMNS) {
        return kt_fail(err, KT_DATA_REJECTED, "line %lld: more than %d columns", r->line,
                       KT_ROWS_COLUMNS);
    }
    if (n == 0) {
        return kt_fail(err, KT_DATA_REJECTED, "line %lld: column %d has no name", r->line,
                       r->columns + 1);
    }
    if (n > 255) {
        return kt_fail(err, KT_DATA_REJECTED,
                       "line %lld: the name of column %d is longer than "
                       "255 bytes",
                       r->line, r->columns + 1);
    }
    r->name_at[r->columns] = (uint32_t)r->names.len;
    r->name_len[r->columns] = (uint16_t)n;
    kt_buf_add(&r->names, name, n);
    kt_buf_addc(&r->names, 0);
    if (r->names.failed || r->sink.column(r->sink.ud, r->columns, name, n) < 0) {
        return kt_fail(err, KT_NO_MEMORY, "out of memory");
    }
    r->columns++;
    return 0;
}

int kt_rows_emit(struct kt_rows *r, long long line, int n, struct kt_error *err) {
    if (r->scratch.failed)
        return kt_fail(err, KT_NO_MEMORY, "out of memory");
    if (r->scratch.len > 0) {
        for (int i = 0; i < n; i++) {
            if (!r->scratched[i])
                continue;
            r->cells[i].p = r->scratch.data + (size_t)r->cells[i].p;
            r->scratched[i] = false;
        }
    }
    if (r->sink.row(r->sink.ud, line, r->cells, n) < 0) {
        return kt_fail(err, KT_NO_MEMORY, "out of memory");
    }
    r->rows++;
    return 0;
}

static int records(struct kt_rows *r, const char *s, const char *end, bool last, const char **rest,
                   struct kt_error *err) {
    int (*record)(struct kt_rows *, const char *, const char *, bool, const char **,
                  struct kt_error *) = r->format == KT_CSV ? kt_csv_record : kt_ndjson_record;
    int rc = 1;
    while (s < end && (rc = record(r, s, end, last, &s, err)) == 1) {
    }
    *rest = s;
    if (rc < 0)
        return rc;
    if ((size_t)(end - s) > KT_ROWS_LINE) {
        return kt_fail(err, KT_DATA_REJECTED, "line %lld is longer than %u bytes", r->line,
                       KT_ROWS_LINE);
    }
    return 0;
}

/* The first bytes: a UTF-8 mark is skipped, UTF-16 is refused by name. 0: not enough seen yet. */
static int skip_mark(struct kt_rows *r, const char **s, const char *end, bool last,
                     struct kt_error *err) {
    size_t n = (size_t)(end - *s);
    const unsigned char *b = (const unsigned char *)*s;
    if (n >= 2 && ((b[0] == 0xff && b[1] == 0xfe) || (b[0] == 0xfe && b[1] == 0xff))) {
        return kt_fail(err, KT_DATA_REJECTED, "the file is UTF-16; UTF-8 is wanted");
    }
    if (!last && n > 0 && n < (b[0] == 0xef ? 3 : b[0] >= 0xfe ? 2 : 1))
        return 0;
    if (n >= 3 && memcmp(b, "\xef\xbb\xbf", 3) == 0)
        *s += 3;
    r->started = true;
    return 1;
}

static int run(struct kt_rows *r, const char *s, const char *end, bool last, const char **rest,
               struct kt_error *err) {
    *rest = s;
    if (!r->started) {
        int rc = skip_mark(r, &s, end, last, err);
        if (rc <= 0)
            return rc;
    }
    return records(r, s, end, last, rest, err);
}

int kt_rows_feed(struct kt_rows *r, const char *data, size_t n, struct kt_error *err) {
    const char *rest;
    int rc;
    if (r->carry.len == 0) {
        rc = run(r, data, data + n, false, &rest, err);
        if (rc == 0)
            kt_buf_add(&r->carry, rest, (size_t)(data + n - rest));
    } else {
        /* In pieces, so that one large feed does not copy itself whole into the carry. */
        rc = 0;
        while (n > 0 && rc == 0) {
            size_t part = n < 65536 ? n : 65536;
            kt_buf_add(&r->carry, data, part);
            if (r->carry.failed)
                break;
            data += part;
            n -= part;
            rc = run(r, r->carry.data, r->carry.data + r->carry.len, false, &rest, err);
            if (rc == 0)
                kt_buf_consume(&r->carry, (size_t)(rest - r->carry.data));
            if (rc == 0 && r->carry.len == 0 && n > 0)
                return kt_rows_feed(r, data, n, err);
        }
    }
    if (rc == 0 && r->carry.failed)
        rc = kt_fail(err, KT_NO_MEMORY, "out of memory");
    return rc;
}

int kt_rows_finish(struct kt_rows *r, struct kt_error *err) {
    const char *s = r->carry.data == NULL ? "" : r->carry.data, *rest;
    int rc = run(r, s, s + r->carry.len, true, &rest, err);
    if (rc < 0)
        return rc;
    if (!r->header) {
        return r->format == KT_CSV ? kt_fail(err, KT_DATA_REJECTED, "there is no header line")
                                   : kt_fail(err, KT_DATA_REJECTED, "there is no JSON object");
    }
    return 0;
}
