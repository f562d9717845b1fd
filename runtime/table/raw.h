/* A source file in memory: every column a dictionary of its texts and one code a row. */
#pragma once

#include "table/dict.h"
#include "table/rows.h"

struct kt_raw_column {
    char *name;
    struct kt_dict *dict;
    int32_t *codes; /* rows of them; KT_NULL32: no value, or a bad one (listed in errors) */
};

struct kt_raw {
    long long rows, bytes;
    int columns;
    struct kt_raw_column column[KT_ROWS_COLUMNS];
    int32_t *lines; /* the line a row starts on */
    struct kt_cell_errors errors;
};

/* Read a whole file (mapped, then released). NULL and *err on failure: KT_NOT_FOUND and other
 * errors of the system, KT_DATA_REJECTED when it cannot be read as `format`. */
struct kt_raw *kt_raw_read(const char *path, enum kt_format format, struct kt_error *err);
struct kt_raw *kt_raw_parse(const char *data, size_t n, enum kt_format format,
                            struct kt_error *err);
/* Free the cells; names, lines and errors stay. Pointers into its columns are then dangling. */
void kt_raw_release_cells(struct kt_raw *raw);
void kt_raw_free(struct kt_raw *raw);
