/* tar.h over libarchive, a module of its own: libarchive brings libxml2, ICU and libstdc++, which
 * would cost every process 2 MiB and a fifth of its time to start. */
#include "store/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/dump.h"

extern const struct kt_tar_class kt_tar_libarchive;

static int failed(const char *path, struct kt_error *err) {
    return kt_fail(err, kt_code_of_errno(errno), "%s: %s", path, strerror(errno));
}

/* ---- a folder as a tar ---- */

struct kt_tar_pack {
    char *folder, *names;
    const char *at; /* the name that is being written */
    int fd;         /* its file; -1: its header is not yet written */
    int64_t left;   /* of it */
    int64_t size, sent;
    struct archive *a;
    struct kt_buf *out; /* of the call that runs; NULL: bytes are only counted */
    bool ended, given_up;
    char block[65536];
};

static la_ssize_t on_bytes(struct archive *a, void *ud, const void *bytes, size_t n) {
    struct kt_tar_pack *p = ud;
    if (p->given_up) {
        archive_set_error(a, ECANCELED, "given up");
        return -1;
    }
    p->sent += (int64_t)n;
    if (p->out != NULL)
        kt_buf_add(p->out, bytes, n);
    return (la_ssize_t)n;
}

static int archive_failed(struct archive *a, struct kt_error *err) {
    const char *why = a != NULL ? archive_error_string(a) : NULL;
    return kt_fail(err, a == NULL || archive_errno(a) == ENOMEM ? KT_NO_MEMORY : KT_INTERNAL,
                   "tar: %s", why != NULL ? why : "no memory");
}

/* Plain ustar as long as that says it; a size of 8 GiB and more gets a pax header. */
static int open_writer(struct kt_tar_pack *p, struct archive **a, struct kt_error *err) {
    *a = archive_write_new();
    if (*a != NULL && archive_write_set_format_pax_restricted(*a) == ARCHIVE_OK &&
        archive_write_set_bytes_per_block(*a, 0) == ARCHIVE_OK &&
        archive_write_open(*a, p, NULL, on_bytes, NULL) == ARCHIVE_OK)
        return 0;
    int rc = archive_failed(*a, err);
    archive_write_free(*a);
    *a = NULL;
    return rc;
}

/* In the middle of an entry: closing alone would write what it lacks as zeros, freeing alone leaks
 * (archive_write_fail too). */
static void give_up(struct kt_tar_pack *p, struct archive *a) {
    p->given_up = true;
    archive_write_close(a);
    archive_write_free(a);
    p->given_up = false;
}

static int path_of(const struct kt_tar_pack *p, char *path, size_t size, struct kt_error *err) {
    if (snprintf(path, size, "%s/%s", p->folder, p->at) < (int)size)
        return 0;
    return kt_fail(err, KT_INVALID_ARGUMENT, "the path is too long");
}

static int write_header(struct archive *a, const char *name, const struct stat *st,
                        struct kt_error *err) {
    struct archive_entry *e = archive_entry_new();
    int rc = -1;
    if (e != NULL) {
        archive_entry_set_pathname(e, name);
        archive_entry_set_filetype(e, AE_IFREG);
        archive_entry_set_perm(e, 0644);
        archive_entry_set_mtime(e, st->st_mtime, 0);
        archive_entry_set_size(e, st->st_size);
        rc = archive_write_header(a, e);
        archive_entry_free(e);
    }
    return rc == ARCHIVE_OK ? 0 : archive_failed(e != NULL ? a : NULL, err);
}

/* What the file p->at takes in the tar. Its header is written by a writer that is then given up,
 * because only libarchive knows how long one is. */
static int count_file(struct kt_tar_pack *p, struct kt_error *err) {
    char path[4096];
    struct stat st;
    struct archive *a;
    int rc = path_of(p, path, sizeof path, err);
    if (rc != 0)
        return rc;
    if (stat(path, &st) != 0)
        return failed(path, err);
    if (!S_ISREG(st.st_mode))
        return kt_fail(err, KT_INVALID_ARGUMENT, "%s is not a file", path);
    if ((rc = open_writer(p, &a, err)) != 0)
        return rc;
    rc = write_header(a, p->at, &st, err);
    give_up(p, a);
    p->sent += (st.st_size + 511) / 512 * 512;
    return rc;
}

static void pack_free(struct kt_tar_pack *p) {
    if (p == NULL)
        return;
    if (p->fd >= 0)
        close(p->fd);
    if (p->a != NULL)
        give_up(p, p->a);
    free(p->folder);
    free(p->names);
    free(p);
}

static struct kt_tar_pack *pack(const char *folder, const char *names, struct kt_error *err) {
    struct kt_tar_pack *p = calloc(1, sizeof *p);
    size_t len = 1;
    for (const char *at = names; *at != '\0'; at += strlen(at) + 1)
        len = (size_t)(at - names) + strlen(at) + 2;
    if (p != NULL) {
        p->fd = -1;
        p->folder = strdup(folder);
        p->names = malloc(len);
    }
    if (p == NULL || p->folder == NULL || p->names == NULL) {
        kt_fail(err, KT_NO_MEMORY, "no memory");
        pack_free(p);
        return NULL;
    }
    memcpy(p->names, names, len);
    p->names[len - 1] = '\0';
    int rc = 0;
    for (p->at = p->names; rc == 0 && *p->at != '\0'; p->at += strlen(p->at) + 1)
        rc = count_file(p, err);
    p->size = p->sent + 1024; /* the two blocks of zeros at its end */
    p->sent = 0;
    p->at = p->names;
    if (rc != 0 || open_writer(p, &p->a, err) != 0) {
        pack_free(p);
        return NULL;
    }
    return p;
}

static int64_t pack_size(const struct kt_tar_pack *p) {
    return p->size;
}

static int begin_file(struct kt_tar_pack *p, struct kt_error *err) {
    char path[4096];
    struct stat st;
    int rc = path_of(p, path, sizeof path, err);
    if (rc != 0)
        return rc;
    p->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (p->fd < 0 || fstat(p->fd, &st) != 0)
        return failed(path, err);
    p->left = st.st_size;
    return write_header(p->a, p->at, &st, err);
}

static int end_file(struct kt_tar_pack *p, struct kt_error *err) {
    close(p->fd);
    p->fd = -1;
    p->at += strlen(p->at) + 1;
    return archive_write_finish_entry(p->a) == ARCHIVE_OK ? 0 : archive_failed(p->a, err);
}

static int add_bytes(struct kt_tar_pack *p, struct kt_error *err) {
    size_t want = p->left < (int64_t)sizeof p->block ? (size_t)p->left : sizeof p->block;
    ssize_t n = read(p->fd, p->block, want);
    if (n < 0 && errno == EINTR)
        return 0;
    if (n < 0)
        return failed(p->at, err);
    if (n == 0)
        return kt_fail(err, KT_INTERNAL, "%s has become shorter", p->at);
    if (archive_write_data(p->a, p->block, (size_t)n) != n)
        return archive_failed(p->a, err);
    p->left -= n;
    return 0;
}

static int pack_read(struct kt_tar_pack *p, struct kt_buf *out, struct kt_error *err) {
    int rc = 0;
    p->out = out;
    while (rc == 0 && !p->ended && out->len < KT_TAR_CHUNK && !out->failed) {
        if (p->fd < 0 && *p->at != '\0')
            rc = begin_file(p, err);
        else if (p->fd >= 0)
            rc = p->left > 0 ? add_bytes(p, err) : end_file(p, err);
        else {
            p->ended = true;
            if (archive_write_close(p->a) != ARCHIVE_OK)
                rc = archive_failed(p->a, err);
            else if (p->sent != p->size)
                rc = kt_fail(err, KT_INTERNAL, "the tar has %lld bytes, not %lld",
                             (long long)p->sent, (long long)p->size);
        }
    }
    p->out = NULL;
    if (rc == 0 && out->failed)
        rc = kt_fail(err, KT_NO_MEMORY, "no memory");
    return rc;
}

/* ---- a tar taken apart ---- */

struct kt_tar {
    struct archive *a;
    const atomic_bool *cancelled;
    int fd, entries;
    int read_errno; /* its own file could not be read */
    char block[KT_TAR_CHUNK];
};

static la_ssize_t on_read(struct archive *a, void *ud, const void **bytes) {
    struct kt_tar *t = ud;
    ssize_t n = -1;
    *bytes = t->block;
    if (atomic_load(t->cancelled))
        archive_set_error(a, ECANCELED, "cancelled");
    else {
        do
            n = read(t->fd, t->block, sizeof t->block);
        while (n < 0 && errno == EINTR);
        if (n < 0) {
            t->read_errno = errno;
            archive_set_error(a, errno, "%s", strerror(errno));
        }
    }
    return n;
}

/* `what`: "the tar" or the entry's bytes. */
static int damaged(struct kt_tar *t, const char *what, struct kt_error *err) {
    const char *why = archive_error_string(t->a);
    if (atomic_load(t->cancelled))
        return kt_fail(err, KT_CANCELLED, "cancelled");
    if (t->read_errno != 0 || archive_errno(t->a) == ENOMEM)
        return kt_fail(err, kt_code_of_errno(t->read_errno != 0 ? t->read_errno : ENOMEM),
                       "reading a tar: %s", why != NULL ? why : "");
    return kt_fail(err, KT_DATA_REJECTED, "%s cannot be read: %s", what,
                   why != NULL ? why : "it is damaged");
}

static void tar_free(struct kt_tar *t) {
    if (t == NULL)
        return;
    archive_read_free(t->a);
    if (t->fd >= 0)
        close(t->fd);
    free(t);
}

static struct kt_tar *tar_open(const char *path, const atomic_bool *cancelled,
                               struct kt_error *err) {
    unsigned char magic[2] = {0, 0};
    struct kt_tar *t = calloc(1, sizeof *t);
    if (t == NULL) {
        kt_fail(err, KT_NO_MEMORY, "no memory");
        return NULL;
    }
    t->cancelled = cancelled;
    t->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (t->fd < 0 || pread(t->fd, magic, 2, 0) < 0) {
        failed(path, err);
        tar_free(t);
        return NULL;
    }
    t->a = archive_read_new();
    int rc = t->a != NULL ? archive_read_support_format_tar(t->a) : ARCHIVE_FATAL;
    /* Exactly one layer: left to choose, libarchive would inflate gzip in gzip in gzip. */
    if (rc == ARCHIVE_OK && magic[0] == 0x1f && magic[1] == 0x8b)
        rc = archive_read_append_filter(t->a, ARCHIVE_FILTER_GZIP);
    if (rc != ARCHIVE_OK) {
        archive_failed(t->a, err);
        tar_free(t);
        return NULL;
    }
    if (archive_read_open(t->a, t, NULL, on_read, NULL) != ARCHIVE_OK) {
        damaged(t, "the tar", err);
        tar_free(t);
        return NULL;
    }
    return t;
}

static const char *kind_of(struct archive_entry *e) {
    if (archive_entry_hardlink(e) != NULL)
        return "hard link";
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        return archive_entry_sparse_count(e) > 0 ? "sparse file" : "file";
    case AE_IFDIR:
        return "dir";
    case AE_IFLNK:
        return "symbolic link";
    case AE_IFIFO:
        return "pipe";
    default:
        return "device";
    }
}

static int tar_next(struct kt_tar *t, struct kt_tar_entry *entry, struct kt_error *err) {
    struct archive_entry *e;
    char what[48];
    int rc = archive_read_next_header(t->a, &e);
    if (rc == ARCHIVE_EOF)
        return 0;
    snprintf(what, sizeof what, t->entries == 0 ? "the tar" : "the tar behind entry %d",
             t->entries);
    if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) /* a warning: a text of another character set */
        return damaged(t, what, err);
    const char *name = archive_entry_pathname(e);
    if (name == NULL)
        name = archive_entry_pathname_utf8(e);
    snprintf(entry->name, sizeof entry->name, "%s", name != NULL ? name : "");
    entry->kind = kind_of(e);
    entry->size = archive_entry_size(e);
    t->entries++;
    return 1;
}

static int write_all(int fd, const char *path, const char *bytes, size_t n, struct kt_error *err) {
    while (n > 0) {
        ssize_t w = write(fd, bytes, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return failed(path, err);
        bytes += w;
        n -= (size_t)w;
    }
    return 0;
}

static int tar_extract(struct kt_tar *t, const char *path, int64_t max, int64_t *size,
                       char sha256[65], struct kt_error *err) {
    struct kt_hash hash = {0};
    int rc = kt_hash_begin(&hash, err), fd = -1;
    *size = 0;
    if (rc == 0 && (fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0)
        rc = failed(path, err);
    while (rc == 0) {
        const void *bytes;
        size_t n;
        la_int64_t at;
        int got = archive_read_data_block(t->a, &bytes, &n, &at);
        if (got == ARCHIVE_EOF)
            break;
        if (got != ARCHIVE_OK || at != *size)
            rc = damaged(t, "its content", err);
        else if (atomic_load(t->cancelled))
            rc = kt_fail(err, KT_CANCELLED, "cancelled");
        else if ((int64_t)n > max - *size)
            rc = kt_fail(err, KT_BODY_TOO_LARGE, "more than %lld bytes", (long long)max);
        else if ((rc = write_all(fd, path, bytes, n, err)) == 0) {
            kt_hash_add(&hash, bytes, n);
            *size += (int64_t)n;
        }
    }
    if (fd >= 0 && close(fd) != 0 && rc == 0)
        rc = failed(path, err);
    if (rc == 0)
        kt_hash_end(&hash, sha256);
    else
        kt_hash_drop(&hash);
    return rc;
}

const struct kt_tar_class kt_tar_libarchive = {pack,     pack_size, pack_read,   pack_free,
                                               tar_open, tar_next,  tar_extract, tar_free};
