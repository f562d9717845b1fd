/* A file that an upload is appended to over several requests, as it came, until it is whole. One
 * writer at a time over all processes (flock): what dies lets go of it. All but open, size and
 * close may block long: on a pool thread. */
#pragma once

#include <stdbool.h>

#include "core/err.h"

struct kt_part;

struct kt_part_state {
    long long size;  /* of the file */
    char sha256[65]; /* of what was written through this kt_part; "" unless it hashes */
};

/* The file is made when it is not there, 0600. -KT_CONFLICT in *err: someone else writes it. */
struct kt_part *kt_part_open(const char *path, bool hash, struct kt_error *err);
long long kt_part_size(const struct kt_part *part);
/* Appends all of it, or an unknown part of it on failure. */
int kt_part_write(struct kt_part *part, const char *data, size_t n, struct kt_error *err);
/* On disk when it returns. More may be written later; the hash then goes on. */
int kt_part_sync(struct kt_part *part, struct kt_part_state *out, struct kt_error *err);
/* Back to `size` bytes, for what must not stay. */
int kt_part_cut(struct kt_part *part, long long size, struct kt_error *err);
int kt_part_remove(struct kt_part *part, struct kt_error *err);
void kt_part_close(struct kt_part *part);
