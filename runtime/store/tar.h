/* Files of a folder as a tar, and a tar taken apart: what is in tar_archive.c, the module
 * kontor-tar over libarchive. All of it blocks: for pool threads. One thread at a time an object.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

#define KT_TAR_CHUNK (256u << 10)

struct kt_tar_pack;
struct kt_tar;

struct kt_tar_entry {
    char name[300];   /* as it is there, not checked; cut when longer; "" when it is no text */
    const char *kind; /* "file", "dir", or what else it is, in words ("symbolic link") */
    int64_t size;     /* as announced */
};

struct kt_tar_class {
    /* The files `names` (one after the other, each with its NUL, an empty one at the end; ASCII)
     * below `folder`, which do not change meanwhile. NULL and *err when one is not there. */
    struct kt_tar_pack *(*pack)(const char *folder, const char *names, struct kt_error *err);
    int64_t (*size)(const struct kt_tar_pack *p); /* bytes of the whole tar */
    /* Appends about KT_TAR_CHUNK of it; nothing at its end. */
    int (*read)(struct kt_tar_pack *p, struct kt_buf *out, struct kt_error *err);
    void (*pack_free)(struct kt_tar_pack *p);

    /* A tar, or one in gzip. Looks at *cancelled while it reads: what runs then ends with
     * -KT_CANCELLED. */
    struct kt_tar *(*open)(const char *path, const atomic_bool *cancelled, struct kt_error *err);
    /* 1: the next entry; 0: the end; -KT_DATA_REJECTED: this is no tar, or a damaged one. */
    int (*next)(struct kt_tar *t, struct kt_tar_entry *entry, struct kt_error *err);
    /* The bytes of the entry that next gave into a new file, 0600. -KT_BODY_TOO_LARGE: they are
     * more than max, and nothing behind max was written. */
    int (*extract)(struct kt_tar *t, const char *path, int64_t max, int64_t *size, char sha256[65],
                   struct kt_error *err);
    void (*free)(struct kt_tar *t);
};
