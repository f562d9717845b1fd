/* Content-addressed bytes: chunks of at most KT_BLOB_CHUNK in kt_p_blobs, `_id` "hash:i". Chunk 0
 * is written last and says how many there are, so a blob is there whole or not at all.
 *
 * A database that has the document "usage" in kt_p_counters keeps account in the commit of chunk 0:
 * storage_bytes grows by the blob's bytes and `added` by 1, and `removed` must be what it was
 * before the first chunk was written. Who deletes chunks adds to `removed`, under the condition
 * that `added` is what it was when he found them without use (lua/domain/storage.lua). So neither a
 * blob that lacks a chunk nor a count that is wrong can come of a put and a deletion at the same
 * time. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store.h"

#define COUNTERS "kt_p_counters"
#define USAGE "usage"
#define ATTEMPTS 20

/* Where the bytes of a put come from: memory, or a file read anew. */
struct source {
    const char *data;
    size_t len, at;
    int fd;
};

static ssize_t source_read(struct source *s, char *to, size_t n, struct kt_error *err) {
    size_t got = 0;
    if (s->fd < 0) {
        got = s->len - s->at < n ? s->len - s->at : n;
        if (got > 0)
            memcpy(to, s->data + s->at, got);
        s->at += got;
        return (ssize_t)got;
    }
    while (got < n) {
        ssize_t more = read(s->fd, to + got, n - got);
        if (more < 0 && errno == EINTR)
            continue;
        if (more < 0)
            return kt_fail(err, KT_INTERNAL, "reading: %s", strerror(errno));
        if (more == 0)
            break;
        got += (size_t)more;
    }
    return (ssize_t)got;
}

static int source_rewind(struct source *s, struct kt_error *err) {
    s->at = 0;
    if (s->fd >= 0 && lseek(s->fd, 0, SEEK_SET) != 0)
        return kt_fail(err, KT_INTERNAL, "seek: %s", strerror(errno));
    return 0;
}

static void hex_of(EVP_MD_CTX *md, char out[65]) {
    unsigned char hash[32];
    unsigned int n = 0;
    EVP_DigestFinal_ex(md, hash, &n);
    for (unsigned int i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

static void chunk_id(char out[96], const char *hash, int64_t i) {
    snprintf(out, 96, "%s:%lld", hash, (long long)i);
}

static struct kt_commit *once(void *ud) {
    struct kt_commit **c = ud, *commit = *c;
    *c = NULL;
    return commit;
}

static int filter_int(struct kt_filter *f, const char *path, int64_t n, struct kt_error *err) {
    bson_value_t v = {.value_type = BSON_TYPE_INT64, .value.v_int64 = n};
    return kt_filter_add(f, path, strlen(path), KT_EQ, &v, err);
}

static int filter_text(struct kt_filter *f, const char *path, const char *text,
                       struct kt_error *err) {
    bson_value_t v = {.value_type = BSON_TYPE_UTF8};
    v.value.v_utf8.str = (char *)(uintptr_t)text;
    v.value.v_utf8.len = (uint32_t)strlen(text);
    return kt_filter_add(f, path, strlen(path), KT_EQ, &v, err);
}

static int add_int(struct kt_update *u, const char *path, int64_t n, struct kt_error *err) {
    bson_value_t v = {.value_type = BSON_TYPE_INT64, .value.v_int64 = n};
    return kt_update_add(u, KT_INC, path, strlen(path), &v, err);
}

/* The account's `removed`; -1 when the database keeps none. */
static int read_removed(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit,
                        int64_t *removed) {
    struct kt_read r = {.kind = KT_FIND, .coll = COUNTERS, .limit = 1};
    bson_t doc;
    bson_iter_t it;
    *removed = -1;
    r.limits.until_ns = limit->until_ns;
    int rc = filter_text(&r.filter, "_id", USAGE, &call->error);
    if (rc == 0)
        rc = e->class->read(e, call->db, &r, &call->error);
    if (rc == 0 && r.count > 0 && bson_init_static(&doc, (const uint8_t *)r.out.data, r.out.len)) {
        *removed = 0;
        if (bson_iter_init_find(&it, &doc, "removed"))
            *removed = bson_iter_as_int64(&it);
    }
    kt_read_free(&r);
    return rc;
}

static int add_chunk(struct kt_write *w, const char *hash, int64_t i, const char *data, size_t n,
                     int64_t chunks, int64_t bytes, struct kt_error *err) {
    char id[96];
    bson_t doc;
    *w = (struct kt_write){.kind = KT_INSERT, .coll = KT_BLOB_COLL};
    chunk_id(id, hash, i);
    bson_init(&doc);
    bson_append_utf8(&doc, "_id", 3, id, -1);
    if (i == 0) {
        bson_append_int64(&doc, "bytes", -1, bytes);
        bson_append_int64(&doc, "chunks", -1, chunks);
    }
    bson_append_binary(&doc, "data", 4, BSON_SUBTYPE_BINARY, (const uint8_t *)data, (uint32_t)n);
    kt_buf_add(&w->docs, bson_get_data(&doc), doc.len);
    bson_destroy(&doc);
    return w->docs.failed ? kt_fail(err, KT_NO_MEMORY, "no memory for a chunk") : 0;
}

/* Chunk i; with removed >= 0 (chunk 0) also the account: -KT_CONFLICT when chunks were deleted. */
static int put_chunk(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit,
                     int64_t i, const char *data, size_t n, int64_t chunks, int64_t bytes,
                     int64_t removed) {
    struct kt_write w[2] = {{.kind = KT_UPDATE, .coll = COUNTERS, .must_match = true}};
    struct kt_commit commit = {.writes = removed >= 0 ? w : w + 1, .count = removed >= 0 ? 2 : 1};
    struct kt_commit *next = &commit;
    int rc = kt_limit_check(limit, &call->error);
    if (rc == 0)
        rc = add_chunk(&w[1], call->hash, i, data, n, chunks, bytes, &call->error);
    if (rc == 0 && removed >= 0)
        rc = filter_text(&w[0].filter, "_id", USAGE, &call->error);
    if (rc == 0 && removed >= 0)
        rc = filter_int(&w[0].filter, "removed", removed, &call->error);
    if (rc == 0 && removed >= 0)
        rc = add_int(&w[0].update, "storage_bytes", bytes, &call->error);
    if (rc == 0 && removed >= 0)
        rc = add_int(&w[0].update, "added", 1, &call->error);
    if (rc == 0) {
        e->class->write(e, call->db, once, &next);
        rc = commit.rc;
        if (rc == -KT_ALREADY_EXISTS) /* another upload of the same bytes */
            rc = 0;
        else if (rc != 0)
            call->error = commit.error;
    }
    kt_write_free(&w[0]);
    kt_write_free(&w[1]);
    return rc;
}

/* Chunk i's bytes into `out` (emptied), and of chunk 0 what it says. -KT_NOT_FOUND when absent. */
static int get_chunk(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit,
                     int64_t i, struct kt_buf *out, int64_t *chunks, int64_t *bytes) {
    struct kt_read r = {.kind = KT_FIND, .coll = KT_BLOB_COLL, .limit = 1};
    char text[96];
    bson_t doc;
    bson_iter_t it;
    int rc;
    chunk_id(text, call->hash, i);
    r.limits.until_ns = limit->until_ns;
    if ((rc = kt_limit_check(limit, &call->error)) == 0)
        rc = filter_text(&r.filter, "_id", text, &call->error);
    if (rc == 0)
        rc = e->class->read(e, call->db, &r, &call->error);
    if (rc == 0 && r.count == 0)
        rc = kt_fail(&call->error, KT_NOT_FOUND, "no blob %.64s", call->hash);
    if (rc == 0) {
        const uint8_t *data = NULL;
        uint32_t n = 0;
        kt_buf_clear(out);
        if (!bson_init_static(&doc, (const uint8_t *)r.out.data, r.out.len) ||
            !bson_iter_init_find(&it, &doc, "data") || !BSON_ITER_HOLDS_BINARY(&it))
            rc = kt_fail(&call->error, KT_STORE_CORRUPT, "chunk %s has no data", text);
        else {
            bson_iter_binary(&it, NULL, &n, &data);
            kt_buf_add(out, data, n);
            if (bytes != NULL && bson_iter_init_find(&it, &doc, "bytes"))
                *bytes = bson_iter_as_int64(&it);
            if (chunks != NULL && bson_iter_init_find(&it, &doc, "chunks"))
                *chunks = bson_iter_as_int64(&it);
        }
    }
    kt_read_free(&r);
    return rc;
}

/* Reads all, hashing it; keeps the first chunk, and hands every later one to put_chunk when
 * `store`. */
static int pass(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit,
                struct source *src, char *first, char *chunk, bool store, char hash[65],
                int64_t *bytes, size_t *first_len) {
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int64_t i = 0;
    int rc = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1
                 ? source_rewind(src, &call->error)
                 : kt_fail(&call->error, KT_NO_MEMORY, "hash");
    *bytes = 0;
    while (rc == 0) {
        char *to = i == 0 ? first : chunk;
        ssize_t n = source_read(src, to, KT_BLOB_CHUNK, &call->error);
        if (n < 0)
            rc = (int)n;
        else if ((rc = kt_limit_check(limit, &call->error)) == 0) {
            EVP_DigestUpdate(md, to, (size_t)n);
            *bytes += n;
            if (i == 0)
                *first_len = (size_t)n;
            else if (n > 0 && store)
                rc = put_chunk(e, call, limit, i, to, (size_t)n, 0, 0, -1);
            i++;
            if (n < (ssize_t)KT_BLOB_CHUNK)
                break;
        }
    }
    if (rc == 0)
        hex_of(md, hash);
    EVP_MD_CTX_free(md);
    return rc;
}

int kt_blob_put(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit) {
    struct source src = {.data = call->out.data, .len = call->out.len, .fd = -1};
    char *first = malloc(KT_BLOB_CHUNK), *chunk = malloc(KT_BLOB_CHUNK), again[65] = "";
    struct kt_buf there = KT_BUF_INIT;
    int64_t bytes = 0;
    size_t first_len = 0;
    int rc = 0;
    if (first == NULL || chunk == NULL) {
        rc = kt_fail(&call->error, KT_NO_MEMORY, "blob");
        goto out;
    }
    if (call->path != NULL && (src.fd = open(call->path, O_RDONLY | O_CLOEXEC)) < 0) {
        rc = kt_fail(&call->error, kt_code_of_errno(errno), "%s: %s", call->path, strerror(errno));
        goto out;
    }
    rc = pass(e, call, limit, &src, first, chunk, false, call->hash, &bytes, &first_len);
    call->size = bytes;
    if (rc != 0)
        goto out;
    rc = get_chunk(e, call, limit, 0, &there, NULL, NULL);
    if (rc != -KT_NOT_FOUND) /* there already, or an error */
        goto out;
    for (int left = ATTEMPTS; left > 0; left--) {
        int64_t removed;
        if ((rc = read_removed(e, call, limit, &removed)) != 0)
            break;
        /* A file may have changed between the passes: then nothing ever refers to its chunks. */
        rc = pass(e, call, limit, &src, first, chunk, true, again, &bytes, &first_len);
        if (rc == 0 && strcmp(again, call->hash) != 0) {
            rc = kt_fail(&call->error, KT_CONFLICT, "%s changed while it was stored", call->path);
            break;
        }
        if (rc == 0)
            rc = put_chunk(e, call, limit, 0, first, first_len,
                           (bytes + KT_BLOB_CHUNK - 1) / KT_BLOB_CHUNK, bytes, removed);
        if (rc != -KT_CONFLICT) /* else chunks were deleted meanwhile: perhaps some of these */
            break;
    }
out:
    if (src.fd >= 0)
        close(src.fd);
    kt_buf_free(&there);
    free(first);
    free(chunk);
    return rc;
}

/* Every chunk in order to `sink`, checked against the hash. */
static int walk(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit,
                int (*sink)(struct kt_call *call, const struct kt_buf *chunk, void *ud), void *ud) {
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    struct kt_buf chunk = KT_BUF_INIT;
    int64_t chunks = 0, bytes = 0, limit_bytes = call->size;
    char hash[65];
    int rc = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1
                 ? get_chunk(e, call, limit, 0, &chunk, &chunks, &bytes)
                 : kt_fail(&call->error, KT_NO_MEMORY, "hash");
    if (rc == 0 && call->kind == KT_CALL_BLOB_GET && limit_bytes > 0 && bytes > limit_bytes)
        rc = kt_fail(&call->error, KT_BODY_TOO_LARGE, "the blob has %lld bytes, %lld are allowed",
                     (long long)bytes, (long long)limit_bytes);
    for (int64_t i = 0; rc == 0; i++) {
        if (i > 0)
            rc = get_chunk(e, call, limit, i, &chunk, NULL, NULL);
        if (rc == 0) {
            EVP_DigestUpdate(md, chunk.data, chunk.len);
            rc =
                chunk.failed ? kt_fail(&call->error, KT_NO_MEMORY, "blob") : sink(call, &chunk, ud);
        }
        if (i + 1 >= chunks)
            break;
    }
    if (rc == 0) {
        hex_of(md, hash);
        if (strcmp(hash, call->hash) != 0)
            rc = kt_fail(&call->error, KT_STORE_CORRUPT, "blob %.64s has other bytes", call->hash);
        call->size = bytes;
    } else if (rc == -KT_NOT_FOUND && chunks > 0)
        rc = kt_fail(&call->error, KT_STORE_CORRUPT, "blob %.64s lacks a chunk", call->hash);
    EVP_MD_CTX_free(md);
    kt_buf_free(&chunk);
    return rc;
}

static int to_memory(struct kt_call *call, const struct kt_buf *chunk, void *ud) {
    (void)ud;
    kt_buf_add(&call->out, chunk->data, chunk->len);
    return call->out.failed ? kt_fail(&call->error, KT_NO_MEMORY, "blob") : 0;
}

int kt_blob_get(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit) {
    return walk(e, call, limit, to_memory, NULL);
}

static int to_file(struct kt_call *call, const struct kt_buf *chunk, void *ud) {
    const int *fd = ud;
    size_t at = 0;
    while (at < chunk->len) {
        ssize_t n = write(*fd, chunk->data + at, chunk->len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kt_fail(&call->error, kt_code_of_errno(errno), "%s: %s", call->path,
                           strerror(errno));
        at += (size_t)n;
    }
    return 0;
}

int kt_blob_to_file(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit) {
    char temp[4096];
    if (snprintf(temp, sizeof temp, "%s.XXXXXX", call->path) >= (int)sizeof temp)
        return kt_fail(&call->error, KT_INVALID_ARGUMENT, "the path is too long");
    int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0)
        return kt_fail(&call->error, kt_code_of_errno(errno), "%s: %s", temp, strerror(errno));
    int rc = walk(e, call, limit, to_file, &fd);
    if (close(fd) != 0 && rc == 0)
        rc = kt_fail(&call->error, kt_code_of_errno(errno), "%s: %s", temp, strerror(errno));
    if (rc == 0 && rename(temp, call->path) != 0)
        rc = kt_fail(&call->error, kt_code_of_errno(errno), "%s: %s", call->path, strerror(errno));
    if (rc != 0)
        unlink(temp);
    return rc;
}
