/* One CSV record, strictly as RFC 4180: comma, CRLF or LF, quotes only around a whole cell. */
#include <string.h>

#include "table/rows_impl.h"
#include "table/text.h"

/* A cell in quotes that begins at s (behind the quote). Returns behind the closing quote, NULL when
 * it does not end here. The text is [*from, *from + *n), or in scratch when it held "" pairs. */
static const char *quoted(struct kt_rows *r, const char *s, const char *end, int cell, bool store,
                          long long *lines) {
    const char *from = s;
    bool copied = false;
    size_t at = r->scratch.len;
    for (;;) {
        const char *q = memchr(s, '"', (size_t)(end - s));
        if (q == NULL)
            return NULL;
        for (const char *nl = s; (nl = memchr(nl, '\n', (size_t)(q - nl))) != NULL; nl++)
            ++*lines;
        if (q + 1 < end && q[1] == '"') {
            if (store)
                kt_buf_add(&r->scratch, s, (size_t)(q + 1 - s));
            copied = true;
            s = q + 2;
            continue;
        }
        if (store && copied) {
            kt_buf_add(&r->scratch, s, (size_t)(q - s));
            kt_rows_scratched(r, cell, at);
        } else if (store) {
            kt_rows_plain(r, cell, from, (size_t)(q - from));
        }
        return q + 1;
    }
}

static int header(struct kt_rows *r, int n, struct kt_error *err) {
    for (int i = 0; i < n; i++) {
        struct kt_slice c = r->cells[i];
        if (r->scratched[i])
            c.p = r->scratch.data + (size_t)c.p;
        r->scratched[i] = false;
        const char *bad = c.p == NULL ? NULL : kt_text_check(c.p, c.n);
        if (bad != NULL) {
            return kt_fail(err, KT_DATA_REJECTED, "line 1: the name of column %d is not text (%s)",
                           i + 1, bad);
        }
        if (c.p != NULL && kt_rows_find_column(r, c.p, c.n) >= 0) {
            return kt_fail(err, KT_DATA_REJECTED, "line 1: column \"%.*s\" is there twice",
                           (int)c.n, c.p);
        }
        int rc = kt_rows_add_column(r, c.p, c.n, err);
        if (rc < 0)
            return rc;
    }
    r->header = true;
    return 0;
}

int kt_csv_record(struct kt_rows *r, const char *s, const char *end, bool last, const char **next,
                  struct kt_error *err) {
    const char *begin = s, *bad_at = NULL;
    long long lines = 0;
    int cell = 0, room = r->header ? r->columns : KT_ROWS_COLUMNS;
    bool complete = false;
    r->scratch.len = 0;
    while (!complete) {
        bool store = cell < room;
        if (!store && !r->header) {
            return kt_fail(err, KT_DATA_REJECTED, "line 1: more than %d columns", KT_ROWS_COLUMNS);
        }
        if (s < end && *s == '"') {
            const char *after = quoted(r, s + 1, end, cell, store, &lines);
            if (after == NULL) {
                if (!last)
                    return 0;
                return kt_fail(err, KT_DATA_REJECTED,
                               "line %lld: a quote is opened and never closed", r->line);
            }
            s = after;
            /* What may follow the quote is known with the next byte (or two: CR LF). */
            if (s == end && !last)
                return 0;
            if (s < end && *s == '\r' && s + 1 == end && !last)
                return 0;
            if (s < end && *s == '\r' && (s + 1 == end || s[1] == '\n'))
                s++;
            if (s < end && *s != ',' && *s != '\n') {
                bad_at = s;
                break;
            }
        } else {
            const char *from = s;
            while (s < end && *s != ',' && *s != '\n' && *s != '"')
                s++;
            if (s < end && *s == '"') {
                bad_at = s;
                break;
            }
            if (s == end && !last)
                return 0;
            if (store) {
                size_t n = (size_t)(s - from);
                if (n > 0 && (s == end || *s == '\n') && s[-1] == '\r')
                    n--;
                kt_rows_plain(r, cell, from, n);
            }
        }
        cell++;
        complete = s == end || *s == '\n';
        s += s < end;
    }
    if (bad_at != NULL) { /* go on behind the next line break */
        const char *nl = memchr(bad_at, '\n', (size_t)(end - bad_at));
        if (nl == NULL && !last)
            return 0;
        if (!r->header) {
            return kt_fail(err, KT_DATA_REJECTED, "line 1: a quote inside the name of column %d",
                           cell + 1);
        }
        const char *name = cell < r->columns ? kt_rows_column(r, cell) : NULL;
        kt_cell_error_add(r->errors, r->line + lines, name, name == NULL ? 0 : strlen(name),
                          "bad_quote",
                          "a quote may only enclose a whole cell; the row is left out");
        r->line += lines + 1;
        *next = nl == NULL ? end : nl + 1;
        return 1;
    }
    *next = s;
    long long line = r->line;
    if ((size_t)(s - begin) > KT_ROWS_LINE) {
        return kt_fail(err, KT_DATA_REJECTED, "line %lld is longer than %u bytes", line,
                       KT_ROWS_LINE);
    }
    if (!r->header) {
        int rc = header(r, cell, err);
        r->line += lines + 1;
        return rc < 0 ? rc : 1;
    }
    r->line += lines + 1;
    /* An empty line is a row only where the table has one column. */
    if (cell == 1 && r->columns > 1 && r->cells[0].p == NULL && !r->scratched[0])
        return 1;
    if (cell != r->columns) {
        kt_cell_error_add(r->errors, line, NULL, 0, "ragged_row",
                          "%d cells, the header has %d; the row is left out", cell, r->columns);
        return 1;
    }
    int rc = kt_rows_emit(r, line, cell, err);
    return rc < 0 ? rc : 1;
}
