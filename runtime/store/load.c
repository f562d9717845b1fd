/* Files that dump.c (or mongodump) made, back into a database: first all of them are read and
 * compared with the summary, then they are written through ordinary commits. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fault.h"
#include "core/files.h"
#include "store/dump.h"
#include "store/names.h"

#define CHUNK (1u << 20)
#define BATCH_BYTES (8u << 20) /* of documents in a commit */
#define METADATA_MAX (1u << 20)

struct load {
    struct kt_engine *e;
    struct kt_call *call;
    const struct kt_limit *limit;
    struct kt_error *err;
    char path[4096], name[KT_NAME_MAX + 1];
    const char *from, *to;
    struct kt_buf docs; /* of the next commit */
};

/* One collection of the summary. */
struct entry {
    int64_t documents, bytes, metadata_bytes;
    const char *sha256, *metadata_sha256;
};

static int rejected(struct load *l, const char *what) {
    return kt_fail(l->err, KT_DATA_REJECTED, "%s: %s", l->path, what);
}

static int set_path(struct load *l, const char *suffix) {
    int n = snprintf(l->path, sizeof l->path, "%s/%s%s", l->call->path, l->name, suffix);
    return n < (int)sizeof l->path ? 0
                                   : kt_fail(l->err, KT_INVALID_ARGUMENT, "the path is too long");
}

static struct kt_commit *once(void *ud) {
    struct kt_commit **next = ud, *commit = *next;
    *next = NULL;
    return commit;
}

static int write_one(struct load *l, struct kt_write *w) {
    struct kt_commit commit = {.writes = w, .count = 1}, *next = &commit;
    int rc = kt_limit_check(l->limit, l->err);
    if (rc == 0) {
        l->e->class->write(l->e, l->call->db, once, &next);
        if ((rc = commit.rc) != 0)
            *l->err = commit.error;
        if (rc == -KT_ALREADY_EXISTS)
            rc = kt_fail(l->err, KT_DATA_REJECTED, "%s/%s.bson: two documents have the same %s",
                         l->call->path, l->name, commit.failed_key);
    }
    return rc;
}

/* ---- documents ---- */

static int flush(struct load *l) {
    struct kt_write w = {.kind = KT_INSERT};
    int rc = 0;
    if (l->docs.failed)
        return kt_fail(l->err, KT_NO_MEMORY, "no memory for the import");
    if (l->docs.len == 0)
        return 0;
    if (kt_fault("store.import"))
        return kt_fail(l->err, KT_STORAGE_FULL, "fault: store.import");
    memcpy(w.coll, l->name, sizeof w.coll);
    w.docs = l->docs;
    l->docs = (struct kt_buf)KT_BUF_INIT;
    rc = write_one(l, &w);
    kt_write_free(&w);
    return rc;
}

/* The document with another project_id, at its place. */
static void move(struct load *l, const bson_t *doc) {
    bson_t out = BSON_INITIALIZER;
    bson_iter_t it;
    bson_iter_init(&it, doc);
    while (bson_iter_next(&it)) {
        if (strcmp(bson_iter_key(&it), "project_id") == 0 && BSON_ITER_HOLDS_UTF8(&it) &&
            strcmp(bson_iter_utf8(&it, NULL), l->from) == 0)
            BSON_APPEND_UTF8(&out, "project_id", l->to);
        else
            bson_append_iter(&out, NULL, 0, &it);
    }
    kt_buf_add(&l->docs, bson_get_data(&out), out.len);
    bson_destroy(&out);
}

static int take(struct load *l, const bson_t *doc, bool store) {
    bson_iter_t it;
    /* Once: what is stored has the same hash as what was looked at, or is dropped. */
    if (!store && !bson_validate(doc, BSON_VALIDATE_UTF8 | BSON_VALIDATE_UTF8_ALLOW_NULL, NULL))
        return rejected(l, "holds what is no BSON document");
    if (!bson_iter_init_find(&it, doc, "_id"))
        return rejected(l, "holds a document without _id");
    if (!store)
        return 0;
    if (l->from != NULL && bson_iter_init_find(&it, doc, "project_id"))
        move(l, doc);
    else
        kt_buf_add(&l->docs, bson_get_data(doc), doc->len);
    return l->docs.len >= BATCH_BYTES ? flush(l) : 0;
}

/* The whole documents at the front of the buffer. */
static int take_all(struct load *l, struct kt_buf *in, bool store, int64_t *documents) {
    size_t at = 0;
    int rc = 0;
    while (rc == 0 && in->len - at >= 5) {
        bson_t doc;
        uint32_t len;
        memcpy(&len, in->data + at, sizeof len);
        len = BSON_UINT32_FROM_LE(len);
        if (len < 5 || len > KT_DOC_MAX)
            return rejected(l, "holds what is no BSON document");
        if (len > in->len - at)
            break;
        if (!bson_init_static(&doc, (const uint8_t *)in->data + at, len))
            return rejected(l, "holds what is no BSON document");
        rc = take(l, &doc, store);
        ++*documents;
        at += len;
    }
    kt_buf_consume(in, at);
    return rc;
}

static int compare(struct load *l, int64_t bytes, int64_t want_bytes, const char *hash,
                   const char *want) {
    char text[120];
    snprintf(text, sizeof text, "has %lld bytes, the manifest says %lld", (long long)bytes,
             (long long)want_bytes);
    if (bytes != want_bytes)
        return rejected(l, text);
    return strcmp(hash, want) == 0 ? 0 : rejected(l, "has another sha256 than the manifest says");
}

/* Reads <name>.bson from end to end; its documents go to the store when `store`. */
static int documents(struct load *l, const struct entry *want, bool store) {
    struct kt_hash h = {0};
    struct kt_buf in = KT_BUF_INIT;
    int64_t bytes = 0, n_docs = 0;
    char hash[65], text[120];
    int rc = set_path(l, ".bson");
    int fd = rc == 0 ? open(l->path, O_RDONLY | O_CLOEXEC) : -1;
    if (rc == 0 && fd < 0)
        rc = errno == ENOENT
                 ? rejected(l, "is missing")
                 : kt_fail(l->err, kt_code_of_errno(errno), "%s: %s", l->path, strerror(errno));
    if (rc == 0)
        rc = kt_hash_begin(&h, l->err);
    while (rc == 0 && (rc = kt_limit_check(l->limit, l->err)) == 0) {
        char *to = kt_buf_reserve(&in, CHUNK);
        ssize_t n = to != NULL ? read(fd, to, CHUNK) : 0;
        if (to == NULL)
            rc = kt_fail(l->err, KT_NO_MEMORY, "no memory for the import");
        else if (n < 0 && errno != EINTR)
            rc = kt_fail(l->err, kt_code_of_errno(errno), "%s: %s", l->path, strerror(errno));
        else if (n == 0)
            break;
        else if (n > 0) {
            kt_hash_add(&h, to, (size_t)n);
            in.len += (size_t)n;
            bytes += n;
            rc = take_all(l, &in, store, &n_docs);
        }
    }
    if (rc == 0) {
        kt_hash_end(&h, hash);
        rc = compare(l, bytes, want->bytes, hash, want->sha256);
    }
    if (rc == 0 && in.len > 0)
        rc = rejected(l, "ends within a document");
    snprintf(text, sizeof text, "has %lld documents, the manifest says %lld", (long long)n_docs,
             (long long)want->documents);
    if (rc == 0 && n_docs != want->documents)
        rc = rejected(l, text);
    if (rc == 0 && store)
        rc = flush(l);
    kt_hash_drop(&h);
    kt_buf_free(&in);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* ---- metadata ---- */

static int make_index(struct load *l, bson_iter_t *index) {
    struct kt_write w = {.kind = KT_ENSURE_INDEX};
    bson_iter_t field, key;
    const char *name = "";
    int rc = 0;
    memcpy(w.coll, l->name, sizeof w.coll);
    if (bson_iter_recurse(index, &field) && bson_iter_find(&field, "name") &&
        BSON_ITER_HOLDS_UTF8(&field))
        name = bson_iter_utf8(&field, NULL);
    if (strcmp(name, "_id_") == 0)
        return 0;
    if (kt_coll_name_check(name, strlen(name), NULL) != 0)
        return rejected(l, "has an index of a name that is none of ours");
    snprintf(w.index, sizeof w.index, "%s", name);
    if (bson_iter_recurse(index, &field) && bson_iter_find(&field, "unique"))
        w.unique = bson_iter_as_bool(&field);
    if (!bson_iter_recurse(index, &field) || !bson_iter_find(&field, "key") ||
        !BSON_ITER_HOLDS_DOCUMENT(&field) || !bson_iter_recurse(&field, &key))
        return rejected(l, "has an index without keys");
    while (rc == 0 && bson_iter_next(&key)) {
        int64_t way = bson_iter_as_int64(&key);
        const char *path = bson_iter_key(&key);
        rc = way == 1 || way == -1 ? kt_sort_add(&w.keys, path, strlen(path), way < 0, l->err)
                                   : rejected(l, "has an index of a kind that is none of ours");
    }
    if (rc == 0)
        rc = write_one(l, &w);
    kt_write_free(&w);
    return rc;
}

/* Reads and compares <name>.metadata.json; `store`: makes the collection and its indexes. */
static int metadata(struct load *l, const struct entry *want, bool store) {
    struct kt_buf text = KT_BUF_INIT;
    struct kt_hash h = {0};
    bson_error_t error;
    bson_iter_t it, index;
    char hash[65];
    int rc = set_path(l, ".metadata.json");
    if (rc == 0 && (rc = kt_file_read(l->path, METADATA_MAX, &text, l->err)) != 0)
        rc = rejected(l, rc == -KT_NOT_FOUND ? "is missing" : "cannot be read");
    if (rc == 0 && (rc = kt_hash_begin(&h, l->err)) == 0) {
        kt_hash_add(&h, text.data, text.len);
        kt_hash_end(&h, hash);
        rc = compare(l, (int64_t)text.len, want->metadata_bytes, hash, want->metadata_sha256);
    }
    bson_t *doc =
        rc == 0 ? bson_new_from_json((const uint8_t *)text.data, (ssize_t)text.len, &error) : NULL;
    if (rc == 0 &&
        (doc == NULL || !bson_iter_init_find(&it, doc, "indexes") || !BSON_ITER_HOLDS_ARRAY(&it)))
        rc = rejected(l, "is not the metadata of a collection");
    if (rc == 0 && store) {
        struct kt_write w = {.kind = KT_ENSURE_COLLECTION};
        memcpy(w.coll, l->name, sizeof w.coll);
        rc = write_one(l, &w);
        bson_iter_recurse(&it, &index);
        while (rc == 0 && bson_iter_next(&index))
            rc = make_index(l, &index);
    }
    if (doc != NULL)
        bson_destroy(doc);
    kt_buf_free(&text);
    return rc;
}

/* ---- all of it ---- */

static const char *text_of(const bson_iter_t *parent, const char *name) {
    bson_iter_t it;
    return bson_iter_recurse(parent, &it) && bson_iter_find(&it, name) && BSON_ITER_HOLDS_UTF8(&it)
               ? bson_iter_utf8(&it, NULL)
               : "";
}

static int64_t int_of(const bson_iter_t *parent, const char *name) {
    bson_iter_t it;
    return bson_iter_recurse(parent, &it) && bson_iter_find(&it, name) ? bson_iter_as_int64(&it)
                                                                       : -1;
}

static bool left_out(const bson_t *summary, const char *name) {
    bson_iter_t it, item;
    if (!bson_iter_init_find(&it, summary, "leave_out") || !bson_iter_recurse(&it, &item))
        return false;
    while (bson_iter_next(&item))
        if (BSON_ITER_HOLDS_UTF8(&item) && strcmp(bson_iter_utf8(&item, NULL), name) == 0)
            return true;
    return false;
}

static int pass(struct load *l, bool store) {
    bson_iter_t it, item;
    int rc = 0;
    if (!bson_iter_init_find(&it, l->call->summary, "collections") ||
        !bson_iter_recurse(&it, &item))
        return kt_fail(l->err, KT_DATA_REJECTED, "%s: the manifest names no collections",
                       l->call->path);
    while (rc == 0 && bson_iter_next(&item)) {
        const char *name = text_of(&item, "name");
        struct entry want = {int_of(&item, "documents"), int_of(&item, "bytes"),
                             int_of(&item, "metadata_bytes"), text_of(&item, "sha256"),
                             text_of(&item, "metadata_sha256")};
        if (kt_coll_name_check(name, strlen(name), NULL) != 0)
            return kt_fail(l->err, KT_DATA_REJECTED,
                           "%s: the manifest names a collection that is none of ours",
                           l->call->path);
        memcpy(l->name, name, strlen(name) + 1);
        if (store && left_out(l->call->summary, name))
            continue;
        rc = documents(l, &want, store);
        if (rc == 0)
            rc = metadata(l, &want, store);
    }
    return rc;
}

int kt_load(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit) {
    struct load *l = calloc(1, sizeof *l);
    bson_iter_t it;
    if (l == NULL)
        return kt_fail(&call->error, KT_NO_MEMORY, "import");
    l->e = e;
    l->call = call;
    l->limit = limit;
    l->err = &call->error;
    if (bson_iter_init_find(&it, call->summary, "from") && BSON_ITER_HOLDS_UTF8(&it))
        l->from = bson_iter_utf8(&it, NULL);
    if (bson_iter_init_find(&it, call->summary, "to") && BSON_ITER_HOLDS_UTF8(&it))
        l->to = bson_iter_utf8(&it, NULL);
    if (l->to == NULL)
        l->from = NULL;
    int rc = pass(l, false);
    /* Between the passes a file may change: the second compares again, and what it wrote is dropped
     * by whoever made the database. */
    if (rc == 0 && call->kind == KT_CALL_IMPORT)
        rc = pass(l, true);
    kt_buf_free(&l->docs);
    free(l);
    return rc;
}
