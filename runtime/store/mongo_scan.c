/* A whole database at one point of time: a transaction that only reads. Nobody waits for it, and it
 * may last as long as the server lets one (transactionLifetimeLimitSeconds, a minute when nobody
 * changed it). A snapshot session could last longer, but the servers that we test on give each of
 * its reads a point of its own. Names and indexes are read before, as servers give them in no
 * transaction. */
#include <stdlib.h>
#include <string.h>

#include "store/mongo.h"

struct coll {
    char *name;
    bson_t indexes;
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct coll *)a)->name, ((const struct coll *)b)->name);
}

static int read_indexes(mongoc_client_t *client, const char *db, struct coll *c,
                        struct kt_error *err) {
    bson_error_t error;
    const bson_t *index;
    uint32_t n = 0;
    mongoc_collection_t *coll = mongoc_client_get_collection(client, db, c->name);
    mongoc_cursor_t *cursor = mongoc_collection_find_indexes_with_opts(coll, NULL);
    bson_init(&c->indexes);
    while (mongoc_cursor_next(cursor, &index)) {
        bson_iter_t it;
        bson_t one;
        char text[16];
        const char *key, *name = NULL;
        if (bson_iter_init_find(&it, index, "name") && BSON_ITER_HOLDS_UTF8(&it))
            name = bson_iter_utf8(&it, NULL);
        if (name == NULL || strcmp(name, "_id_") == 0)
            continue;
        size_t len = bson_uint32_to_string(n++, &key, text, sizeof text);
        bson_append_document_begin(&c->indexes, key, (int)len, &one);
        BSON_APPEND_UTF8(&one, "name", name);
        if (bson_iter_init_find(&it, index, "key"))
            bson_append_iter(&one, "key", 3, &it);
        BSON_APPEND_BOOL(&one, "unique",
                         bson_iter_init_find(&it, index, "unique") && bson_iter_as_bool(&it));
        bson_append_document_end(&c->indexes, &one);
    }
    int rc = mongoc_cursor_error(cursor, &error) ? mg_fail(&error, NULL, false, err) : 0;
    mongoc_cursor_destroy(cursor);
    mongoc_collection_destroy(coll);
    return rc;
}

/* The collections with their indexes, by name. NULL: *err, when it says so, else there are none. */
static struct coll *read_colls(mongoc_client_t *client, const char *db, int *n,
                               struct kt_error *err) {
    bson_error_t error;
    mongoc_database_t *base = mongoc_client_get_database(client, db);
    char **names = mongoc_database_get_collection_names_with_opts(base, NULL, &error);
    struct coll *all = NULL;
    int rc = 0, count = 0;
    *n = 0;
    if (names == NULL)
        rc = mg_fail(&error, NULL, false, err);
    while (rc == 0 && names[count] != NULL)
        count++;
    if (count > 0 && (all = calloc((size_t)count, sizeof *all)) == NULL)
        rc = kt_fail(err, KT_NO_MEMORY, "scan");
    for (int i = 0; rc == 0 && i < count; i++) {
        if (strncmp(names[i], "system.", 7) == 0)
            continue;
        all[*n].name = strdup(names[i]);
        rc = all[*n].name ? read_indexes(client, db, &all[*n], err)
                          : kt_fail(err, KT_NO_MEMORY, "scan");
        *n += all[*n].name != NULL;
    }
    if (names != NULL)
        bson_strfreev(names);
    mongoc_database_destroy(base);
    if (*n > 0)
        qsort(all, (size_t)*n, sizeof *all, by_name);
    if (rc != 0)
        *n = -*n - 1; /* failed, with -n - 1 to be freed */
    return all;
}

static void free_colls(struct coll *colls, int n) {
    for (int i = 0; i < n; i++) {
        free(colls[i].name);
        bson_destroy(&colls[i].indexes);
    }
    free(colls);
}

static int scan_coll(mongoc_client_t *client, const char *db, const struct coll *c,
                     const bson_t *opts, const struct kt_scan *sink, void *ud,
                     const struct kt_limit *limit, struct kt_error *err) {
    bson_t all = BSON_INITIALIZER;
    const bson_t *doc, *reply;
    bson_error_t error;
    int rc = sink->collection(ud, c->name, &c->indexes, err);
    if (rc != 0)
        return rc;
    mongoc_collection_t *coll = mongoc_client_get_collection(client, db, c->name);
    /* The session says what is read; the URL's concern (majority) would contradict it. */
    mongoc_read_concern_t *none = mongoc_read_concern_new();
    mongoc_collection_set_read_concern(coll, none);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(coll, &all, opts, NULL);
    while (rc == 0 && mongoc_cursor_next(cursor, &doc))
        if ((rc = kt_limit_check(limit, err)) == 0)
            rc = sink->document(ud, doc, err);
    if (rc == 0 && mongoc_cursor_error_document(cursor, &error, &reply))
        rc = error.code == 251 || error.code == 290 /* it took too long */
                 ? kt_fail(err, KT_TOO_SLOW,
                           "MongoDB ended the reading of %s: raise transactionLifetimeLimitSeconds",
                           db)
                 : mg_fail(&error, reply, false, err);
    mongoc_cursor_destroy(cursor);
    mongoc_read_concern_destroy(none);
    mongoc_collection_destroy(coll);
    return rc;
}

static mongoc_client_session_t *begin(struct mg_engine *e, mongoc_client_t *client, bson_t *opts,
                                      struct kt_error *err) {
    bson_error_t error;
    bson_t sort;
    mongoc_session_opt_t *with = mongoc_session_opts_new();
    mongoc_session_opts_set_causal_consistency(with, false);
    mongoc_client_session_t *session = mongoc_client_start_session(client, with, &error);
    mongoc_session_opts_destroy(with);
    BSON_APPEND_DOCUMENT_BEGIN(opts, "sort", &sort);
    BSON_APPEND_INT32(&sort, "_id", 1);
    bson_append_document_end(opts, &sort);
    if (session != NULL && mongoc_client_session_start_transaction(session, e->txn_opts, &error) &&
        mongoc_client_session_append(session, opts, &error))
        return session;
    mg_fail(&error, NULL, false, err);
    if (session != NULL)
        mongoc_client_session_destroy(session);
    return NULL;
}

int mg_scan(struct kt_engine *engine, const char *db, const struct kt_scan *sink, void *ud,
            const struct kt_limit *limit, struct kt_error *err) {
    struct mg_engine *e = (struct mg_engine *)engine;
    bson_t opts = BSON_INITIALIZER;
    int n = 0;
    mongoc_client_t *client = mg_get(e, db, err);
    if (client == NULL)
        return -(int)err->code;
    struct coll *colls = NULL;
    int rc;
    do {
        free_colls(colls, n);
        n = 0;
        colls = (rc = mg_known(e, client, db, err)) == 0 ? read_colls(client, db, &n, err) : NULL;
        if (n < 0) {
            n = -n - 1;
            rc = -(int)err->code;
        }
    } while (rc != 0 && mg_renew(e, &client, err));
    if (rc != 0)
        rc = -(int)err->code;
    mongoc_client_session_t *session = rc == 0 ? begin(e, client, &opts, err) : NULL;
    if (rc == 0 && session == NULL)
        rc = -(int)err->code;
    for (int i = 0; rc == 0 && i < n; i++)
        rc = scan_coll(client, db, &colls[i], &opts, sink, ud, limit, err);
    if (session != NULL)
        mongoc_client_session_destroy(session); /* ends a transaction that only read */
    free_colls(colls, n);
    bson_destroy(&opts);
    mg_put(e, client);
    return rc;
}
