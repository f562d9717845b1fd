/* Shared by rows.c, csv.c and ndjson.c alone. */
#pragma once

#include "core/buf.h"
#include "table/rows.h"

struct kt_rows {
    enum kt_format format;
    struct kt_row_sink sink;
    struct kt_cell_errors *errors;
    struct kt_buf carry; /* the unfinished record between two feeds */
    struct kt_buf names; /* names of the columns, each terminated */
    uint32_t name_at[KT_ROWS_COLUMNS];
    uint16_t name_len[KT_ROWS_COLUMNS];
    int columns;
    bool header; /* seen (CSV), or the first object was good (NDJSON) */
    bool started;
    long long line, rows; /* line: of the next record */
    struct kt_slice cells[KT_ROWS_COLUMNS];
    struct kt_buf scratch; /* texts that had to be unescaped; slices hold offsets until the end */
    bool scratched[KT_ROWS_COLUMNS];
};

/* One record of [s, end): 1 done (*next behind it), 0 not complete, negative: -code. `last`: there
 * is no more data. */
int kt_csv_record(struct kt_rows *r, const char *s, const char *end, bool last, const char **next,
                  struct kt_error *err);
int kt_ndjson_record(struct kt_rows *r, const char *s, const char *end, bool last,
                     const char **next, struct kt_error *err);

/* A new column; refuses more than KT_ROWS_COLUMNS. */
int kt_rows_add_column(struct kt_rows *r, const char *name, size_t n, struct kt_error *err);
int kt_rows_find_column(const struct kt_rows *r, const char *name, size_t n); /* -1: none */
/* cells[i] is the text that begins at scratch offset `at`. */
static inline void kt_rows_scratched(struct kt_rows *r, int i, size_t at) {
    r->cells[i] = (struct kt_slice){(const char *)at, r->scratch.len - at};
    r->scratched[i] = true;
}
/* cells[i] is the text [p, p + n) of the data; empty is NULL. */
static inline void kt_rows_plain(struct kt_rows *r, int i, const char *p, size_t n) {
    r->cells[i] = (struct kt_slice){n == 0 ? NULL : p, n};
    r->scratched[i] = false;
}
/* Hand cells[0..n) to the sink. */
int kt_rows_emit(struct kt_rows *r, long long line, int n, struct kt_error *err);
