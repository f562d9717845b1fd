/* Whole-file calls that block: for pool threads and commands, never for the loop. */
#pragma once

#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

enum kt_file_kind { KT_FILE_PLAIN, KT_FILE_DIR, KT_FILE_OTHER };

struct kt_file_stat {
    enum kt_file_kind kind;
    int64_t size, mtime_ms;
};

/* Appends the file to *out. KT_BODY_TOO_LARGE when it is longer than max (0: no limit). */
int kt_file_read(const char *path, size_t max, struct kt_buf *out, struct kt_error *err);
/* Whole or not at all, also over a crash: written beside, synced, renamed. Mode 0640. */
int kt_file_write(const char *path, const void *bytes, size_t len, struct kt_error *err);
/* The same with mode 0600 from its first byte on. */
int kt_file_write_private(const char *path, const void *bytes, size_t len, struct kt_error *err);
int kt_file_stat(const char *path, struct kt_file_stat *st, struct kt_error *err);
int kt_file_rename(const char *from, const char *to, struct kt_error *err);
/* A file or a folder with all that is in it; links are removed, not followed. */
int kt_file_remove(const char *path, struct kt_error *err);
/* The names in a folder, sorted bytewise, each with its kind as one byte 'f', 'd' or 'o' before
 * it and a NUL after it; without . and .. */
int kt_file_list(const char *path, struct kt_buf *out, int *count, struct kt_error *err);
