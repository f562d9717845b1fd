/* An upload on its way to disk: inflated, hashed, checked line by line, written. Memory is bounded
 * by one line. All calls may block (inflate, write): on a pool thread. */
#pragma once

#include "table/rows.h"

struct kt_ingest;

struct kt_ingest_result {
    long long rows, bytes; /* bytes after Content-Encoding */
    char sha256[65];       /* of those bytes */
    char fed[65];          /* of what kt_ingest_feed read, before Content-Encoding; "" without it */
};

/* `path` is made (or emptied), 0600; NULL: the bytes are only checked. max_bytes 0: no limit. NULL
 * and *err on failure. */
struct kt_ingest *kt_ingest_open(const char *path, enum kt_format format, bool gzip,
                                 long long max_bytes, struct kt_error *err);
/* After an error only kt_ingest_free may follow; it removes the file unless finish succeeded. */
int kt_ingest_write(struct kt_ingest *in, const char *data, size_t n, struct kt_error *err);
/* Write all bytes of a file. */
int kt_ingest_feed(struct kt_ingest *in, const char *path, struct kt_error *err);
/* End of the body: the last line, the end of the gzip stream, fsync. */
int kt_ingest_finish(struct kt_ingest *in, struct kt_ingest_result *out, struct kt_error *err);
const struct kt_rows *kt_ingest_rows(const struct kt_ingest *in);
const struct kt_cell_errors *kt_ingest_errors(const struct kt_ingest *in);
void kt_ingest_free(struct kt_ingest *in);
