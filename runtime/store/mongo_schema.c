/* Collections and indexes, which are made outside of transactions. */
#include <string.h>

#include "store/mongo.h"

static int ensure_collection(struct mg_engine *e, mongoc_client_t *client, const char *db,
                             const char *coll, struct kt_error *err) {
    bson_t make = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&make, "create", coll);
    int rc = mg_command(e, client, db, &make, 48 /* NamespaceExists */, err);
    bson_destroy(&make);
    return rc;
}

static int ensure_index(struct mg_engine *e, mongoc_client_t *client, const char *db,
                        const struct kt_write *w, int *number, struct kt_error *err) {
    bson_t command = BSON_INITIALIZER, opts = BSON_INITIALIZER, list, index, key, reply;
    bson_error_t error;
    int rc = 0;
    BSON_APPEND_UTF8(&command, "createIndexes", w->coll);
    BSON_APPEND_ARRAY_BEGIN(&command, "indexes", &list);
    BSON_APPEND_DOCUMENT_BEGIN(&list, "0", &index);
    BSON_APPEND_DOCUMENT_BEGIN(&index, "key", &key);
    mg_sort(&w->keys, &key);
    bson_append_document_end(&index, &key);
    BSON_APPEND_UTF8(&index, "name", w->index);
    if (w->unique)
        BSON_APPEND_BOOL(&index, "unique", true);
    bson_append_document_end(&list, &index);
    bson_append_array_end(&command, &list);
    mongoc_write_concern_append(e->concern, &opts);
    if (!mongoc_client_write_command_with_opts(client, db, &command, &opts, &reply, &error)) {
        *number = error.domain == MONGOC_ERROR_SERVER ? (int)error.code : 0;
        int code = *number != 0 ? mg_code(*number) : 0;
        if (code == KT_CONFLICT)
            rc = kt_fail(err, KT_CONFLICT, "index %s of %s is there with other keys", w->index,
                         w->coll);
        else if (code == KT_ALREADY_EXISTS)
            rc = kt_fail(err, KT_ALREADY_EXISTS, "%s has such a document already (%s)", w->coll,
                         w->index);
        else
            rc = mg_fail(&error, &reply, true, err);
    }
    bson_destroy(&reply);
    bson_destroy(&opts);
    bson_destroy(&command);
    return rc;
}

int mg_ensure(struct mg_engine *e, mongoc_client_t *client, const char *db,
              const struct kt_write *w, int *number, struct kt_error *err) {
    return w->kind == KT_ENSURE_INDEX ? ensure_index(e, client, db, w, number, err)
                                      : ensure_collection(e, client, db, w->coll, err);
}
