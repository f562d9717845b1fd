/* A whole database in one read transaction: with WAL nobody waits for it, but the log is not
 * emptied until it has ended. */
#include <stdio.h>
#include <string.h>

#include "store/sqlite.h"

/* [{name, key, unique}] of a collection; keys are "+path\n-path\n". */
static void describe(const struct sq_coll *coll, bson_t *out) {
    char text[16];
    const char *key;
    uint32_t n = 0;
    for (const struct sq_index *i = coll->indexes; i != NULL; i = i->next) {
        bson_t one, keys;
        size_t len = bson_uint32_to_string(n++, &key, text, sizeof text);
        bson_append_document_begin(out, key, (int)len, &one);
        BSON_APPEND_UTF8(&one, "name", i->name);
        BSON_APPEND_DOCUMENT_BEGIN(&one, "key", &keys);
        for (const char *at = i->keys; *at != '\0';) {
            const char *end = strchr(at, '\n');
            bson_append_int32(&keys, at + 1, (int)(end - at - 1), *at == '-' ? -1 : 1);
            at = end + 1;
        }
        bson_append_document_end(&one, &keys);
        BSON_APPEND_BOOL(&one, "unique", i->unique);
        bson_append_document_end(out, &one);
    }
}

static int scan_coll(struct sq_conn *c, const struct sq_coll *coll, const struct kt_scan *sink,
                     void *ud, struct kt_error *err) {
    char sql[400];
    bson_t indexes, doc;
    int step;
    bson_init(&indexes);
    describe(coll, &indexes);
    int rc = sink->collection(ud, coll->name, &indexes, err);
    bson_destroy(&indexes);
    if (rc != 0)
        return rc;
    snprintf(sql, sizeof sql, "SELECT doc FROM \"c_%s\" ORDER BY id", coll->name);
    sqlite3_stmt *s = sq_prepare(c, sql, err);
    if (s == NULL)
        return -(int)err->code;
    while (rc == 0 && (step = sqlite3_step(s)) != SQLITE_DONE) {
        if (step != SQLITE_ROW)
            rc = sq_fail(c, step, err);
        else if (!sq_doc(s, 0, &doc))
            rc = kt_fail(err, KT_STORE_CORRUPT, "%s holds what is no document", coll->name);
        else if ((rc = kt_limit_check(c->limit, err)) == 0)
            rc = sink->document(ud, &doc, err);
    }
    sq_done(s);
    return rc;
}

/* The catalog is sorted by name, downwards or upwards: by name it is brought. */
static const struct sq_coll *next_coll(const struct sq_coll *all, const struct sq_coll *last) {
    const struct sq_coll *best = NULL;
    for (; all != NULL; all = all->next)
        if ((last == NULL || strcmp(all->name, last->name) > 0) &&
            (best == NULL || strcmp(all->name, best->name) < 0))
            best = all;
    return best;
}

int sq_scan(struct kt_engine *engine, const char *db, const struct kt_scan *sink, void *ud,
            const struct kt_limit *limit, struct kt_error *err) {
    struct sq_engine *e = (struct sq_engine *)engine;
    int rc = 0;
    struct sq_file *f = sq_file_acquire(e, db, err);
    if (f == NULL)
        return -(int)err->code;
    /* A connection of its own: those of the readers are for what is short. */
    struct sq_conn *c = sq_conn_open(f, f->path, false, err);
    if (c == NULL)
        rc = -(int)err->code;
    else if ((rc = sq_exec(c, "BEGIN", err)) == 0) {
        c->limit = limit;
        sq_coll(c, "", &rc, err);
        const struct sq_coll *coll = NULL;
        while (rc == 0 && (coll = next_coll(c->colls, coll)) != NULL)
            rc = scan_coll(c, coll, sink, ud, err);
    }
    sq_conn_close(c);
    sq_file_release(f);
    return rc;
}
