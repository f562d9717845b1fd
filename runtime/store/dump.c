/* A database into files, as mongodump makes them and mongorestore reads them. Each is synced before
 * the answer: who then writes down the summary has a copy that a power cut leaves whole. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/fault.h"
#include "core/json.h"
#include "core/uuid.h"
#include "store/dump.h"

#define BUFFER (1u << 20)

struct dump {
    const char *dir;
    char path[4096], name[KT_NAME_MAX + 1];
    int fd; /* of the collection's .bson; -1: none is open */
    struct kt_buf buf, metadata;
    struct kt_hash hash;
    int64_t documents, bytes, at_ms;
    bson_t list; /* what the summary says of the collections so far */
    uint32_t count;
};

/* ---- sha256, shared with load.c ---- */

int kt_hash_begin(struct kt_hash *h, struct kt_error *err) {
    h->md = EVP_MD_CTX_new();
    if (h->md == NULL || EVP_DigestInit_ex(h->md, EVP_sha256(), NULL) != 1) {
        kt_hash_drop(h);
        return kt_fail(err, KT_NO_MEMORY, "hash");
    }
    return 0;
}

void kt_hash_add(struct kt_hash *h, const void *data, size_t len) {
    EVP_DigestUpdate(h->md, data, len);
}

void kt_hash_end(struct kt_hash *h, char hex[65]) {
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    EVP_DigestFinal_ex(h->md, sum, &n);
    for (unsigned i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    kt_hash_drop(h);
}

void kt_hash_drop(struct kt_hash *h) {
    EVP_MD_CTX_free(h->md);
    h->md = NULL;
}

/* ---- files ---- */

static int file_failed(struct dump *d, struct kt_error *err) {
    return kt_fail(err, kt_code_of_errno(errno), "%s: %s", d->path, strerror(errno));
}

static int open_file(struct dump *d, const char *suffix, struct kt_error *err) {
    if (snprintf(d->path, sizeof d->path, "%s/%s%s", d->dir, d->name, suffix) >=
        (int)sizeof d->path)
        return kt_fail(err, KT_INVALID_ARGUMENT, "the path is too long");
    d->fd = open(d->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return d->fd < 0 ? file_failed(d, err) : 0;
}

static int flush(struct dump *d, struct kt_error *err) {
    size_t at = 0;
    if (d->buf.failed)
        return kt_fail(err, KT_NO_MEMORY, "no memory for the export");
    if (kt_fault("store.export"))
        return kt_fail(err, KT_STORAGE_FULL, "fault: store.export");
    while (at < d->buf.len) {
        ssize_t n = write(d->fd, d->buf.data + at, d->buf.len - at);
        if (n < 0 && errno != EINTR)
            return file_failed(d, err);
        if (n > 0)
            at += (size_t)n;
    }
    /* Now, not all at the end: whoever commits meanwhile would wait behind it. */
    sync_file_range(d->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    kt_hash_add(&d->hash, d->buf.data, d->buf.len);
    d->bytes += (int64_t)d->buf.len;
    kt_buf_clear(&d->buf);
    return 0;
}

/* What is in the buffer, then the end of the file. */
static int close_file(struct dump *d, char hex[65], struct kt_error *err) {
    int rc = flush(d, err);
    if (rc == 0 && fsync(d->fd) != 0)
        rc = file_failed(d, err);
    if (close(d->fd) != 0 && rc == 0)
        rc = file_failed(d, err);
    d->fd = -1;
    kt_hash_end(&d->hash, hex);
    return rc;
}

/* ---- collections ---- */

static void add_index(struct kt_buf *out, const char *name, const bson_t *keys, bool unique) {
    bson_iter_t it;
    kt_buf_adds(out, "{\"v\":{\"$numberInt\":\"2\"},\"key\":{");
    bson_iter_init(&it, keys);
    for (bool first = true; bson_iter_next(&it); first = false) {
        const char *path = bson_iter_key(&it);
        if (!first)
            kt_buf_addc(out, ',');
        kt_json_string(out, path, strlen(path));
        kt_buf_addf(out, ":{\"$numberInt\":\"%lld\"}", (long long)bson_iter_as_int64(&it));
    }
    kt_buf_adds(out, "},\"name\":");
    kt_json_string(out, name, strlen(name));
    kt_buf_adds(out, unique ? ",\"unique\":true}" : "}");
}

/* As mongodump 100.x writes it, in canonical extended JSON. */
static void write_metadata(struct dump *d, const bson_t *indexes) {
    struct kt_buf *out = &d->metadata;
    bson_t id = BSON_INITIALIZER;
    bson_iter_t it, field;
    kt_buf_clear(out);
    kt_buf_adds(out, "{\"options\":{},\"indexes\":[");
    BSON_APPEND_INT32(&id, "_id", 1);
    add_index(out, "_id_", &id, false);
    bson_destroy(&id);
    bson_iter_init(&it, indexes);
    while (bson_iter_next(&it)) {
        const uint8_t *data = NULL;
        uint32_t len = 0;
        const char *name = "";
        bool unique = false;
        bson_t keys = BSON_INITIALIZER;
        if (bson_iter_recurse(&it, &field) && bson_iter_find(&field, "name"))
            name = bson_iter_utf8(&field, NULL);
        if (bson_iter_recurse(&it, &field) && bson_iter_find(&field, "unique"))
            unique = bson_iter_as_bool(&field);
        if (bson_iter_recurse(&it, &field) && bson_iter_find(&field, "key"))
            bson_iter_document(&field, &len, &data);
        if (data != NULL && bson_init_static(&keys, data, len)) {
            kt_buf_addc(out, ',');
            add_index(out, name, &keys, unique);
        }
    }
    /* mongorestore wants 32 hex digits and uses them only when it is told to. */
    char uuid[KT_UUID_SIZE];
    kt_uuid7(uuid);
    kt_buf_addf(out, "],\"uuid\":\"%s\",\"collectionName\":\"%s\",\"type\":\"collection\"}", uuid,
                d->name);
}

static int end_coll(struct dump *d, struct kt_error *err) {
    char hash[65], text[16];
    const char *key;
    bson_t one;
    if (d->fd < 0)
        return 0;
    int rc = close_file(d, hash, err);
    if (rc != 0)
        return rc;
    size_t len = bson_uint32_to_string(d->count++, &key, text, sizeof text);
    bson_append_document_begin(&d->list, key, (int)len, &one);
    BSON_APPEND_UTF8(&one, "name", d->name);
    BSON_APPEND_INT64(&one, "documents", d->documents);
    BSON_APPEND_INT64(&one, "bytes", d->bytes);
    BSON_APPEND_UTF8(&one, "sha256", hash);
    d->bytes = 0;
    if ((rc = open_file(d, ".metadata.json", err)) == 0 &&
        (rc = kt_hash_begin(&d->hash, err)) == 0) {
        kt_buf_add(&d->buf, d->metadata.data, d->metadata.len);
        rc = close_file(d, hash, err);
    }
    BSON_APPEND_INT64(&one, "metadata_bytes", d->bytes);
    BSON_APPEND_UTF8(&one, "metadata_sha256", hash);
    bson_append_document_end(&d->list, &one);
    return rc;
}

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int on_collection(void *ud, const char *name, const bson_t *indexes, struct kt_error *err) {
    struct dump *d = ud;
    int rc = end_coll(d, err);
    if (rc != 0)
        return rc;
    if (d->at_ms == 0)
        d->at_ms = now_ms();
    snprintf(d->name, sizeof d->name, "%s", name);
    d->documents = d->bytes = 0;
    write_metadata(d, indexes);
    if (d->metadata.failed)
        return kt_fail(err, KT_NO_MEMORY, "no memory for the export");
    rc = open_file(d, ".bson", err);
    return rc == 0 ? kt_hash_begin(&d->hash, err) : rc;
}

static int on_document(void *ud, const bson_t *doc, struct kt_error *err) {
    struct dump *d = ud;
    d->documents++;
    kt_buf_add(&d->buf, bson_get_data(doc), doc->len);
    return d->buf.len >= BUFFER ? flush(d, err) : 0;
}

static int sync_dir(struct dump *d, struct kt_error *err) {
    int fd = open(d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(d->path, sizeof d->path, "%s", d->dir);
    int rc = fd < 0 || fsync(fd) != 0 ? file_failed(d, err) : 0;
    if (fd >= 0)
        close(fd);
    return rc;
}

int kt_dump(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit) {
    static const struct kt_scan sink = {on_collection, on_document};
    struct kt_error *err = &call->error;
    struct dump *d = calloc(1, sizeof *d);
    if (d == NULL)
        return kt_fail(err, KT_NO_MEMORY, "export");
    d->dir = call->path;
    d->fd = -1;
    bson_init(&d->list);
    int rc = e->class->scan(e, call->db, &sink, d, limit, err);
    if (rc == 0)
        rc = end_coll(d, err);
    if (rc == 0)
        rc = sync_dir(d, err);
    if (rc == 0) {
        call->summary = bson_new();
        BSON_APPEND_DATE_TIME(call->summary, "at", d->at_ms ? d->at_ms : now_ms());
        BSON_APPEND_ARRAY(call->summary, "collections", &d->list);
    }
    if (d->fd >= 0)
        close(d->fd);
    kt_hash_drop(&d->hash);
    kt_buf_free(&d->buf);
    kt_buf_free(&d->metadata);
    bson_destroy(&d->list);
    free(d);
    return rc;
}
