/* One write command of several statements, and what its answer says about each. */
#include "store/mongo_command.h"

#include <stdlib.h>
#include <string.h>

#include "core/uuid.h"

void mg_command_start(struct mg_command *m, const struct kt_write *w) {
    m->coll = w->coll;
    m->verb = w->kind == KT_INSERT ? MG_INSERT : w->kind == KT_DELETE ? MG_DELETE : MG_UPDATE;
    m->count = 0;
    bson_init(&m->statements);
}

void mg_command_free(struct mg_command *m) {
    if (m->coll != NULL)
        bson_destroy(&m->statements);
    free(m->refs);
    memset(m, 0, sizeof *m);
}

static int add_ref(struct mg_command *m, struct kt_commit *commit, int write,
                   struct kt_error *err) {
    if ((m->count & (m->count + 1)) == 0) { /* at 1, 3, 7, … and at the first */
        struct mg_ref *more = realloc(m->refs, (size_t)(2 * m->count + 2) * sizeof *more);
        if (more == NULL)
            return kt_fail(err, KT_NO_MEMORY, "write");
        m->refs = more;
    }
    m->refs[m->count++] = (struct mg_ref){commit, write};
    return 0;
}

static int key_of(const struct mg_command *m, char text[16], const char **key) {
    return (int)bson_uint32_to_string((uint32_t)m->count, key, text, 16);
}

int mg_doc_at(const struct kt_buf *docs, size_t *at, bson_t *doc, struct kt_error *err) {
    uint32_t len;
    if (docs->len - *at < 5)
        return kt_fail(err, KT_INVALID_ARGUMENT, "not a BSON document");
    memcpy(&len, docs->data + *at, sizeof len);
    len = BSON_UINT32_FROM_LE(len);
    if (len > docs->len - *at || !bson_init_static(doc, (const uint8_t *)docs->data + *at, len))
        return kt_fail(err, KT_INVALID_ARGUMENT, "not a BSON document");
    *at += len;
    return 0;
}

int mg_command_add_doc(struct mg_command *m, struct kt_commit *commit, int write, const bson_t *doc,
                       struct kt_error *err) {
    char text[16], id[KT_UUID_SIZE];
    const char *key;
    int len = key_of(m, text, &key), rc = add_ref(m, commit, write, err);
    if (rc != 0)
        return rc;
    if (bson_has_field(doc, "_id")) {
        bson_append_document(&m->statements, key, len, doc);
        return 0;
    }
    bson_t whole; /* an id is text wherever we make it */
    kt_uuid7(id);
    bson_append_document_begin(&m->statements, key, len, &whole);
    bson_append_utf8(&whole, "_id", 3, id, -1);
    bson_concat(&whole, doc);
    bson_append_document_end(&m->statements, &whole);
    return 0;
}

/* An upsert by something else than _id makes one, which is text like ours and not an ObjectId. */
static bool wants_id(const struct kt_write *w) {
    for (int i = 0; i < w->filter.count; i++)
        if (strcmp(w->filter.conds[i].path, "_id") == 0)
            return false;
    return w->upsert;
}

/* The `u` of an update, or the `update` of a findAndModify. */
static void add_change(const struct kt_write *w, const char *name, bson_t *out) {
    bson_t change, doc;
    char id[KT_UUID_SIZE];
    size_t at = 0;
    bson_append_document_begin(out, name, -1, &change);
    if (w->kind == KT_UPDATE) {
        bool fresh = wants_id(w);
        if (fresh)
            kt_uuid7(id);
        mg_update(&w->update, fresh ? id : NULL, &change);
    } else if (mg_doc_at(&w->docs, &at, &doc, NULL) == 0)
        bson_concat(&change, &doc);
    bson_append_document_end(out, &change);
}

int mg_command_add(struct mg_command *m, struct kt_commit *commit, int write,
                   struct kt_error *err) {
    const struct kt_write *w = &commit->writes[write];
    char text[16];
    const char *key;
    bson_t statement, q;
    int len = key_of(m, text, &key), rc = add_ref(m, commit, write, err);
    if (rc != 0)
        return rc;
    bson_append_document_begin(&m->statements, key, len, &statement);
    BSON_APPEND_DOCUMENT_BEGIN(&statement, "q", &q);
    mg_filter(&w->filter, &q);
    bson_append_document_end(&statement, &q);
    if (w->kind == KT_DELETE)
        BSON_APPEND_INT32(&statement, "limit", w->many ? 0 : 1);
    else {
        add_change(w, "u", &statement);
        BSON_APPEND_BOOL(&statement, "multi", w->many);
        BSON_APPEND_BOOL(&statement, "upsert", w->upsert);
    }
    bson_append_document_end(&m->statements, &statement);
    return 0;
}

/* ---- running ---- */

static int refused(struct mg_command *m, int at, int32_t number, const char *text,
                   const bson_iter_t *error, struct mg_fault *fault, struct kt_error *err) {
    const struct mg_ref *ref = &m->refs[at < m->count ? at : 0];
    fault->ref = *ref;
    fault->number = number;
    fault->transient = number == 112;
    int code = mg_code(number);
    if (code != KT_ALREADY_EXISTS)
        return kt_fail(err, (enum kt_code)code, "MongoDB error %d: %.300s", number, text);
    fault->number = 11000;
    mg_dup_key(text, error, fault->key);
    return kt_fail(err, KT_ALREADY_EXISTS, "%s has such a document already (%s)", m->coll,
                   fault->key);
}

/* The first of the reply's writeErrors, if there is one. */
static int write_error(struct mg_command *m, const bson_t *reply, struct mg_fault *fault,
                       struct kt_error *err) {
    bson_iter_t it, item, error;
    int32_t at = 0, number = 0;
    const char *text = "";
    if (!bson_iter_init_find(&it, reply, "writeErrors") || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &item) || !bson_iter_next(&item) ||
        !bson_iter_recurse(&item, &error))
        return 0;
    while (bson_iter_next(&error)) {
        const char *key = bson_iter_key(&error);
        if (strcmp(key, "index") == 0)
            at = (int32_t)bson_iter_as_int64(&error);
        else if (strcmp(key, "code") == 0)
            number = (int32_t)bson_iter_as_int64(&error);
        else if (strcmp(key, "errmsg") == 0 && BSON_ITER_HOLDS_UTF8(&error))
            text = bson_iter_utf8(&error, NULL);
    }
    return refused(m, at, number, text, &item, fault, err);
}

static int64_t number_of(const bson_t *reply, const char *name) {
    bson_iter_t it;
    return bson_iter_init_find(&it, reply, name) ? bson_iter_as_int64(&it) : 0;
}

/* Which statements inserted: their position and the new _id. */
static int take_upserted(struct mg_command *m, const bson_t *reply) {
    bson_iter_t it, item, field;
    int n = 0;
    if (!bson_iter_init_find(&it, reply, "upserted") || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &item))
        return 0;
    while (bson_iter_next(&item)) {
        bson_iter_t id;
        int64_t at = -1;
        bool found = false;
        if (!bson_iter_recurse(&item, &field))
            continue;
        while (bson_iter_next(&field)) {
            if (strcmp(bson_iter_key(&field), "index") == 0)
                at = bson_iter_as_int64(&field);
            else if (strcmp(bson_iter_key(&field), "_id") == 0) {
                id = field;
                found = true;
            }
        }
        if (at < 0 || at >= m->count || !found)
            continue;
        struct kt_write *w = &m->refs[at].commit->writes[m->refs[at].write];
        w->upserted = bson_new();
        bson_append_iter(w->upserted, "_id", 3, &id);
        n++;
    }
    return n;
}

/* What the counts of the whole command say about each statement; false: not enough. */
static bool take_counts(struct mg_command *m, const bson_t *reply) {
    int64_t n = number_of(reply, "n"), modified = number_of(reply, "nModified");
    if (m->verb == MG_INSERT) {
        for (int i = 0; i < m->count; i++)
            m->refs[i].commit->writes[m->refs[i].write].modified++;
        return true;
    }
    int upserted = m->verb == MG_UPDATE ? take_upserted(m, reply) : 0;
    if (m->verb == MG_DELETE)
        modified = n;
    if (m->count == 1) {
        struct kt_write *w = &m->refs[0].commit->writes[m->refs[0].write];
        w->matched = n - upserted;
        w->modified = modified;
        return true;
    }
    /* Each is about one document at most. */
    if (n != m->count || modified != m->count - upserted)
        return false;
    for (int i = 0; i < m->count; i++) {
        struct kt_write *w = &m->refs[i].commit->writes[m->refs[i].write];
        w->matched = w->modified = w->upserted == NULL;
    }
    return true;
}

int mg_command_run(struct mg_command *m, mongoc_client_t *client, const char *db,
                   const bson_t *opts, int64_t ms, struct mg_fault *fault, struct kt_error *err) {
    static const char *const verbs[] = {"insert", "update", "delete"};
    static const char *const lists[] = {"documents", "updates", "deletes"};
    bson_t command = BSON_INITIALIZER, reply;
    bson_error_t error;
    BSON_APPEND_UTF8(&command, verbs[m->verb], m->coll);
    BSON_APPEND_INT64(&command, "maxTimeMS", ms);
    BSON_APPEND_ARRAY(&command, lists[m->verb], &m->statements);
    bool ok = mongoc_client_write_command_with_opts(client, db, &command, opts, &reply, &error);
    bson_destroy(&command);
    int rc = write_error(m, &reply, fault, err);
    if (rc == 0 && !ok) {
        fault->ref = m->refs[0];
        fault->transient =
            mongoc_error_has_label(&reply, "TransientTransactionError") || error.code == 112;
        if (error.domain == MONGOC_ERROR_SERVER &&
            mg_code((int32_t)error.code) == KT_ALREADY_EXISTS) {
            bson_iter_t it; /* some servers answer so to a single statement */
            bson_iter_init(&it, &reply);
            rc = refused(m, 0, (int32_t)error.code, error.message, &it, fault, err);
        } else {
            fault->number = error.domain == MONGOC_ERROR_SERVER ? (int)error.code : 0;
            rc = mg_fail(&error, &reply, true, err);
        }
    } else if (rc == 0 && !take_counts(m, &reply)) {
        fault->ref = m->refs[0];
        fault->uncounted = true;
        rc = kt_fail(err, KT_CONFLICT, "nothing in %s is as expected any more", m->coll);
    }
    bson_destroy(&reply);
    return rc;
}

int mg_find_and_modify(struct kt_commit *commit, int write, mongoc_client_t *client, const char *db,
                       const bson_t *opts, int64_t ms, struct mg_fault *fault,
                       struct kt_error *err) {
    struct kt_write *w = &commit->writes[write];
    bson_t command = BSON_INITIALIZER, part, reply;
    bson_error_t error;
    bson_iter_t it, state;
    int rc = 0;
    BSON_APPEND_UTF8(&command, "findAndModify", w->coll);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "query", &part);
    mg_filter(&w->filter, &part);
    bson_append_document_end(&command, &part);
    if (w->sort.count > 0) {
        BSON_APPEND_DOCUMENT_BEGIN(&command, "sort", &part);
        mg_sort(&w->sort, &part);
        bson_append_document_end(&command, &part);
    }
    if (w->kind == KT_DELETE)
        BSON_APPEND_BOOL(&command, "remove", true);
    else {
        add_change(w, "update", &command);
        BSON_APPEND_BOOL(&command, "upsert", w->upsert);
        BSON_APPEND_BOOL(&command, "new", w->want_new);
    }
    if (w->fields != NULL) {
        BSON_APPEND_DOCUMENT_BEGIN(&command, "fields", &part);
        mg_fields(w->fields, &part);
        bson_append_document_end(&command, &part);
    }
    BSON_APPEND_INT64(&command, "maxTimeMS", ms);
    bool ok = mongoc_client_write_command_with_opts(client, db, &command, opts, &reply, &error);
    bson_destroy(&command);
    fault->ref = (struct mg_ref){commit, write};
    if (!ok && error.domain == MONGOC_ERROR_SERVER &&
        mg_code((int32_t)error.code) == KT_ALREADY_EXISTS) {
        bson_iter_init(&it, &reply);
        fault->number = 11000;
        mg_dup_key(error.message, &it, fault->key);
        rc = kt_fail(err, KT_ALREADY_EXISTS, "%s has such a document already (%s)", w->coll,
                     fault->key);
    } else if (!ok) {
        fault->number = error.domain == MONGOC_ERROR_SERVER ? (int)error.code : 0;
        fault->transient =
            mongoc_error_has_label(&reply, "TransientTransactionError") || error.code == 112;
        rc = mg_fail(&error, &reply, true, err);
    } else {
        if (bson_iter_init_find(&it, &reply, "lastErrorObject") && BSON_ITER_HOLDS_DOCUMENT(&it) &&
            bson_iter_recurse(&it, &state))
            while (bson_iter_next(&state)) {
                if (strcmp(bson_iter_key(&state), "n") == 0)
                    w->matched = bson_iter_as_int64(&state);
                else if (strcmp(bson_iter_key(&state), "upserted") == 0) {
                    w->upserted = bson_new();
                    bson_append_iter(w->upserted, "_id", 3, &state);
                }
            }
        if (bson_iter_init_find(&it, &reply, "value") && BSON_ITER_HOLDS_DOCUMENT(&it)) {
            uint32_t len;
            const uint8_t *data;
            bson_iter_document(&it, &len, &data);
            w->doc = w->want_doc ? bson_new_from_data(data, len) : NULL;
            w->matched = 1;
        }
        if (w->upserted != NULL)
            w->matched = 0;
        w->modified = w->matched;
    }
    bson_destroy(&reply);
    return rc;
}
