/* Text tables as a stream of rows: strict CSV (RFC 4180) and NDJSON, fed in pieces of any size.
 *
 * Memory is bounded by one line (KT_ROWS_LINE) whatever comes in. What is wrong with a cell or a
 * row goes into the error list and reading goes on; what makes the rest unreadable (no header, a
 * column named twice, a quote that never ends, a line too long, UTF-16) is fatal: KT_DATA_REJECTED.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define KT_ROWS_COLUMNS 1024
#define KT_ROWS_LINE (1u << 20) /* bytes of a record, line breaks in quotes included */
#define KT_ROWS_ERRORS 100      /* kept in the list; all are counted */

enum kt_format { KT_CSV, KT_NDJSON };

struct kt_slice {
    const char *p; /* NULL: no value (empty cell, null, absent) */
    size_t n;
};

struct kt_cell_error {
    long long line;
    char *column;     /* NULL: the whole row. Owned by the list */
    const char *code; /* static: "bad_quote" */
    char message[160];
};

struct kt_cell_errors {
    struct kt_cell_error list[KT_ROWS_ERRORS];
    int count;          /* in the list */
    long long rejected; /* cells and rows refused in all */
};
void kt_cell_errors_clear(struct kt_cell_errors *e);
/* column may be NULL (then n is ignored). */
void kt_cell_error_add(struct kt_cell_errors *e, long long line, const char *column, size_t n,
                       const char *code, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

/* Who gets the rows. Both return 0, or -1 when memory is out (fatal no_memory). Slices are valid
 * during the call only. */
struct kt_row_sink {
    /* The next column, number `index`: of the header, or seen first in this NDJSON row. */
    int (*column)(void *ud, int index, const char *name, size_t n);
    /* A good row that starts on `line`; cells beyond n are NULL (columns that came later). */
    int (*row)(void *ud, long long line, const struct kt_slice *cells, int n);
    void *ud;
};

struct kt_rows;

struct kt_rows *kt_rows_new(enum kt_format format, const struct kt_row_sink *sink,
                            struct kt_cell_errors *errors); /* NULL: no memory */
void kt_rows_free(struct kt_rows *r);
/* After a fatal error only kt_rows_free may follow. */
int kt_rows_feed(struct kt_rows *r, const char *data, size_t n, struct kt_error *err);
int kt_rows_finish(struct kt_rows *r, struct kt_error *err);
long long kt_rows_count(const struct kt_rows *r); /* good rows so far */
int kt_rows_columns(const struct kt_rows *r);
const char *kt_rows_column(const struct kt_rows *r, int index); /* terminated */
